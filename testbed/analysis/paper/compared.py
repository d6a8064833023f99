"""The slides' listings beside live logs, as tables: line for line, and in one summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.analysis.paper.live import MEASURER_PCR, LiveEntry, LiveLog
from testbed.analysis.paper.slides import BesideSlide, LineState, SlideLine, SlideListing
from testbed.analysis.paper.typeset import PaperTable
from testbed.attest.finding import counted
from testbed.attest.log.rules import Rule

# As many entries of a live log as the longest listing that can be read.
SHOWN = 25
_DIGITS = 16
# Letters of what an entry says: a launch has all its arguments.
_LETTERS = 72
_HEADER = ("line", "PCR", "digest", "name", "rule", "content", "container", "remark")
_LIVE = ("entry", "PCR", "digest", "what it says", "rule", "content", "container", "quote")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideComparison:
    """One listing, what its bytes show in words, and the live entries beside it: ``None`` where there is no log."""

    listing: SlideListing
    shows: tuple[str, ...]
    beside: tuple[tuple[BesideSlide, LiveLog | None], ...]


def compare(listings: Sequence[SlideListing], live: Mapping[str, LiveLog]) -> tuple[SlideComparison, ...]:
    """Put each listing beside the logs of the measurers that its slide is about."""
    return tuple(
        SlideComparison(
            listing=listing,
            shows=tuple(shows(listing)),
            beside=tuple((beside, live.get(beside.measurer)) for beside in listing.slide.beside),
        )
        for listing in listings
    )


def shows(listing: SlideListing) -> list[str]:
    """Return in words what the bytes of a listing show: its damage, and what its digests bind."""
    states = listing.states
    fates = f"{states[LineState.REPAIRED]} repaired, {states[LineState.NOT_READ]} not read"
    said = [f"{listing.damaged} of {counted(len(listing.lines), 'line')} damaged ({fates})"]
    groups = Counter((line.rule, line.bits, line.bound) for line in listing.lines if line.namespaced)
    for (rule, bits, bound), count in sorted(groups.items(), key=lambda item: (item[0][0], -(item[0][1] or 0))):
        lines = counted(count, "namespaced line")
        if rule is Rule.UNKNOWN:
            said.append(f"{lines}: the rule is unknown, because no line has the plain digest of the path")
        else:
            said.append(f"{lines} by rule {rule}: {bits} bits of the content bound, namespace {_bound(bound)}")
    plain = sum(not line.namespaced and line.pcr is not None for line in listing.lines)
    if plain:
        said.append(f"{counted(plain, 'line')} of the host's IMA: the whole content digest, no container named")
    return said


def slide_table(comparison: SlideComparison) -> PaperTable:
    """Return the lines of a listing: each as it was read, and what its digest binds."""
    listing = comparison.listing
    return PaperTable(
        name=f"slide-{listing.slide.name}",
        caption=f"Slide: {listing.slide.title}. What its {len(listing.lines)} lines prove.",
        header=_HEADER,
        rows=tuple(map(_slide_row, listing.lines)),
        code=frozenset({2, 3}),
        right=frozenset({0, 1}),
    )


def live_table(comparison: SlideComparison, number: int) -> PaperTable | None:
    """Return the live entries beside a listing; ``None`` if there is no log of that measurer."""
    beside, log = comparison.beside[number]
    if log is None:
        return None
    shown = log.picked(beside.pick, SHOWN)
    most = f"{len(shown)} of {counted(len(log.entries), 'entry', 'entries')}"
    return PaperTable(
        name=f"live-{comparison.listing.slide.name}-{beside.measurer}",
        caption=f"{beside.measurer}, {beside.why}: {beside.pick} ({most}, workload {log.workload}, run {log.run})",
        header=_LIVE,
        rows=tuple(map(_live_row, shown)),
        code=frozenset({2, 3}),
        right=frozenset({0, 1}),
    )


def summary_table(comparisons: Sequence[SlideComparison]) -> PaperTable:
    """Return one row for each listing: what its slide claims, what its bytes show, what live measurers give."""
    rows = []
    for comparison in comparisons:
        slide = comparison.listing.slide
        live = "; ".join(_live_words(beside, log) for beside, log in comparison.beside)
        rows.append((slide.title, slide.means, "; ".join(comparison.shows), live))
    return PaperTable(
        name="slides",
        caption="The log listings of the slides: what they claim, what their bytes show, what live containers give.",
        header=("slide", "claims", "its bytes show", "live containers give"),
        rows=tuple(rows),
        wide={0: 0.13, 1: 0.17, 2: 0.31, 3: 0.31},
    )


def binding_groups(log: LiveLog) -> Counter[tuple[int | None, bool]]:
    """Return how many entries on PCR 11 bind so many bits of content, and whether their container."""
    return Counter((one.bits, one.bound) for one in log.measured if one.namespaced)


def _live_words(beside: BesideSlide, log: LiveLog | None) -> str:
    if log is None:
        return f"{beside.measurer}: no log in this data"
    groups = binding_groups(log)
    bound = "; ".join(
        f"{counted(count, 'entry', 'entries')} with {'unknown' if bits is None else bits} bits of content, "
        f"container {_bound(bound)}"
        for (bits, bound), count in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0] or 0))
    )
    kinds = f" ({', '.join(log.kinds)})" if log.kinds else ""
    what = bound or f"no entry on PCR {MEASURER_PCR}"
    return f"{beside.measurer}, {counted(log.containers, 'container')}: {what}; verdict {log.judgement}{kinds}"


def _slide_row(line: SlideLine) -> tuple[str, ...]:
    remark = f"{line.state}: {line.remark}" if line.state is not LineState.AS_PRINTED else line.remark
    if line.pcr is None:
        return (f"{line.number}", "", "", "", "", "", "", remark)
    return (
        f"{line.number}",
        f"{line.pcr}",
        line.digest[:_DIGITS],
        line.name,
        line.rule.value,
        _bits(line.bits),
        _named(line.namespaced, line.bits, line.bound),
        remark,
    )


def _live_row(live: LiveEntry) -> tuple[str, ...]:
    one = live.entry
    said = one.says if one.kind == live.rule else one.name
    said = said if len(said) <= _LETTERS else f"{said[:_LETTERS]}..."
    covered = {None: "unknown", True: "attested", False: "unattested"}[one.attested]
    return (
        f"{one.number}",
        f"{one.pcr}",
        one.digest[:_DIGITS],
        said,
        live.rule,
        _bits(live.bits),
        _named(live.namespaced, live.bits, live.bound),
        covered,
    )


def _bits(bits: int | None) -> str:
    return "unknown" if bits is None else f"{bits} bits"


def _named(namespaced: bool, bits: int | None, bound: bool) -> str:
    if not namespaced:
        return "none"
    return "unknown" if bits is None else _bound(bound)


def _bound(bound: bool) -> str:
    return "bound" if bound else "not bound"

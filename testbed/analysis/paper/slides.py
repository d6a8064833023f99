"""The log listings of the slides "In Containers We Trust?": each line, and what its bytes prove.

The lines are data (``tests/golden/slides``). Nothing about them is stated here: a line is read, or repaired by one
character if it then fits its digest, and its rule is inferred as ``testbed semantics`` does it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.attest.decoded.as_text import escaped
from testbed.attest.finding import BadEvidence
from testbed.attest.log.ascii import Line, damaged
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.repair import repair
from testbed.attest.log.rules import Measured, Rule, infer, is_namespaced, split_name
from testbed.attest.log.text import read_lines
from testbed.errors import EvidenceError


class LineState(enum.StrEnum):
    """Whether a line of a slide fits its template digest."""

    AS_PRINTED = "as printed"
    REPAIRED = "repaired"
    NOT_READ = "not read"


class Pick(enum.StrEnum):
    """Which entries of a live log stand beside a slide: the last ones, those of the measurer, of one container."""

    LAST = "the last entries"
    MEASURER = "the entries on PCR 11"
    CONTAINER = "the entries of one container"


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideSlide:
    """Live entries that stand beside a listing: of which measurer, which of them, and why."""

    measurer: str
    pick: Pick
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideText:
    """A listing as its slide introduces it. ``says``: the slide's own words; ``means``: what they claim."""

    name: str
    title: str
    says: str
    means: str
    beside: tuple[BesideSlide, ...]


SAME_RULE = "the same rule, from live containers"
OURS = "what the slide intends, by this project's measurer"
SLIDES: tuple[SlideText, ...] = (
    SlideText(
        name="host-and-container-in-one-log",
        title="The Need for Namespace Support",
        says="Which of these measurements are from a container?",
        means="Plain IMA does not log which container executed a file.",
        beside=(
            BesideSlide(measurer="ima-exec", pick=Pick.LAST, why="plain IMA, from live containers"),
            BesideSlide(measurer="container-file", pick=Pick.CONTAINER, why=OURS),
        ),
    ),
    SlideText(
        name="namespaced-files",
        title="Logging Namespaces File Integrity Measurements",
        says="Enabling Container Attestation: A Preliminary Approach. Extending Linux IMA to Containers",
        means="An entry on PCR 11 measures a file, and says in which namespace it was executed.",
        beside=(
            BesideSlide(measurer="prototype-file", pick=Pick.MEASURER, why=SAME_RULE),
            BesideSlide(measurer="container-file", pick=Pick.CONTAINER, why=OURS),
        ),
    ),
    SlideText(
        name="container-files-unreadable",
        title="Measuring Container File Integrity",
        says="The addition of these namespaced measurements adds to an already large log...",
        means="Measuring each file for each namespace makes the log long.",
        beside=(
            BesideSlide(measurer="prototype-file", pick=Pick.MEASURER, why=SAME_RULE),
            BesideSlide(measurer="container-file", pick=Pick.CONTAINER, why=OURS),
        ),
    ),
    SlideText(
        name="image-digest",
        title="Extending the IMA log with Image Digests",
        says="Measuring Container Image Integrity in the Kernel",
        means="An entry on PCR 11 measures the whole image of a container.",
        beside=(
            BesideSlide(measurer="prototype-image", pick=Pick.MEASURER, why=SAME_RULE),
            BesideSlide(measurer="container-image", pick=Pick.CONTAINER, why=OURS),
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLine:
    """One line of a slide that looks like an entry.

    ``number``: of the line in its file, from 1. ``text``: as it is on the slide. ``remark``: what was repaired, or why
    it was not read. ``pcr name digest`` are those of the read line. ``bits``: how many bits of the content its digest
    binds, ``None`` if that is not known. ``namespaced``: whether its name has a namespace; ``bound``: whether its
    digest binds that namespace.
    """

    number: int
    text: str
    state: LineState
    remark: str = ""
    pcr: int | None = None
    name: str = ""
    digest: str = ""
    rule: Rule = Rule.UNKNOWN
    bits: int | None = None
    namespaced: bool = False
    bound: bool = False
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideListing:
    """One listing: its introduction, its text as it is on the slide, and its lines."""

    slide: SlideText
    text: str
    lines: tuple[SlideLine, ...]

    @property
    def states(self) -> Counter[LineState]:
        """How many lines have each state."""
        return Counter(line.state for line in self.lines)

    @property
    def damaged(self) -> int:
        """How many lines do not fit their digest as they are printed."""
        return sum(line.state is not LineState.AS_PRINTED for line in self.lines)


def read(directory: Path) -> tuple[SlideListing, ...]:
    """Read the listings from ``directory``, a file each.

    The plain digests of all listings are used for each. Raises ``EvidenceError`` if a file is missing.
    """
    data = {slide.name: _bytes(directory / f"{slide.name}.txt") for slide in SLIDES}
    lines = {
        name: [_read(line) for line in read_lines(text) if line.entry or line.problem] for name, text in data.items()
    }
    known = _plain(one for listed in lines.values() for one in listed)
    return tuple(
        SlideListing(
            slide=slide,
            text="\n".join(escaped(line) for line in data[slide.name].rstrip(b"\n").split(b"\n")),
            lines=tuple(_line(one, known) for one in lines[slide.name]),
        )
        for slide in SLIDES
    )


def shared_digests(listings: Iterable[SlideListing]) -> dict[str, frozenset[str]]:
    """Return the digests that stand for several namespaces, each with these namespaces."""
    seen: dict[str, set[str]] = {}
    for listing in listings:
        for line in listing.lines:
            parts = split_name(line.name.encode()) if line.namespaced else None
            if parts is not None and parts[1] is not None:
                seen.setdefault(line.digest, set()).add(parts[0].decode())
    return {digest: frozenset(namespaces) for digest, namespaces in seen.items() if len(namespaces) > 1}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EvidenceError(f"{path}: no such file; expected a listing of the slides", "name its directory") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A line as it is on the slide, and what was read of it, after a repair if that was needed."""

    number: int
    text: str
    state: LineState
    remark: str
    pcr: int = 0
    fields: Fields | None = None


def _read(line: Line) -> _Read:
    text, state, remark, number = escaped(line.raw), LineState.AS_PRINTED, line.cleaned, line.number
    if damaged(line):
        repaired = repair(line.raw)
        if repaired is None:
            why = str(line.problem or "").removeprefix(line.where).lstrip(": ")
            return _Read(number=number, text=text, state=LineState.NOT_READ, remark=_short(why))
        (line, remark), state = repaired, LineState.REPAIRED
    try:
        fields = None if line.entry is None else parse_fields(line.entry)
    except BadEvidence as error:
        return _Read(number=number, text=text, state=LineState.NOT_READ, remark=error.message)
    if line.entry is None or fields is None:
        return _Read(number=number, text=text, state=LineState.NOT_READ, remark=_short(str(line.problem)))
    return _Read(number=number, text=text, state=state, remark=remark, pcr=line.entry.pcr, fields=fields)


def _plain(lines: Iterable[_Read]) -> dict[bytes, list[bytes]]:
    known: dict[bytes, list[bytes]] = {}
    for one in lines:
        if one.fields is not None and one.fields.of_file and not is_namespaced(one.fields.name):
            known.setdefault(one.fields.name, []).append(one.fields.digest)
    return known


def _line(one: _Read, known: Mapping[bytes, list[bytes]]) -> SlideLine:
    if one.fields is None:
        return SlideLine(number=one.number, text=one.text, state=one.state, remark=one.remark)
    name, digest = one.fields.name, one.fields.digest
    inferred = infer(Measured(where="", pcr=one.pcr, name=name, algorithm=one.fields.algorithm, digest=digest), known)
    return SlideLine(
        number=one.number,
        text=one.text,
        state=one.state,
        remark=one.remark,
        pcr=one.pcr,
        name=escaped(name),
        digest=digest.hex(),
        rule=inferred.rule,
        bits=inferred.bits,
        namespaced=is_namespaced(name),
        bound=inferred.namespace_bound,
        explanation=inferred.explanation,
    )


def _short(why: str, limit: int = 60) -> str:
    """Return the beginning of a reason: it repeats the line, which stands beside it."""
    head = why.partition(", got ")[0]
    return head if len(head) <= limit else f"{head[:limit]}..."

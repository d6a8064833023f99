"""The log of a run for a page: entries with their containers' colours, the replay of each PCR, a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed.attest.decoded.decode import DecodedEntry, decode_bundle
from testbed.attest.finding import BadEvidence
from testbed.attest.registers import PCRS, pcr_register
from testbed.attest.verdict import Verdict

# Entries on one page: more would make a browser slow.
PART = 2000
# Containers are coloured in turn; each also has its number in words.
COLOURS = 8
LAUNCH = "ctr-launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayStep:
    """One step of a PCR's replay: the entry, and what the PCR holds before and after it, hex."""

    number: int
    before: str
    extension: str
    after: str
    attested: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A part of a log: ``number`` from 1, whether it is the ``last``, and ``broken``: why the log ends here."""

    number: int
    entries: tuple[DecodedEntry, ...]
    replay: Mapping[int, tuple[ReplayStep, ...]]
    last: bool
    broken: str = ""


@dataclass(slots=True)
class LogSummary:
    """What is known after a whole log was read. Filled by ``parts`` as it goes.

    ``ends``: by PCR, the last entry that the quote covers, as (number, part). ``launches``: by container, its launch.
    ``colours``: by container.
    """

    entries: int = 0
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)
    launches: dict[str, DecodedEntry] = field(default_factory=dict)
    colours: dict[str, int] = field(default_factory=dict)
    parts: int = 0


def parts(bundle: Path, verdict: Verdict, summary: LogSummary, size: int = PART) -> Iterator[LogPart]:
    """Yield a bundle's log, ``size`` entries at a time; at least one part. Nothing is raised for a bad log."""
    held = {pcr: pcr_register(pcr, "sha256").start.hex() for pcr in range(PCRS)}
    broken: list[str] = []
    waiting: list[DecodedEntry] = []
    for entry in _readable(decode_bundle(bundle, verdict.attested), broken):
        if len(waiting) == size:
            yield _part(waiting, held, summary, last=False)
            waiting = []
        waiting.append(entry)
    yield _part(waiting, held, summary, last=True, broken=broken[0] if broken else "")


def _readable(entries: Iterable[DecodedEntry], broken: list[str]) -> Iterator[DecodedEntry]:
    try:
        yield from entries
    except BadEvidence as error:
        broken.append(error.message)


def _part(
    entries: list[DecodedEntry], held: dict[int, str], summary: LogSummary, *, last: bool, broken: str = ""
) -> LogPart:
    summary.parts += 1
    summary.entries += len(entries)
    replay: dict[int, list[ReplayStep]] = {}
    for entry in entries:
        if entry.attested:
            summary.ends[entry.pcr] = (entry.number, summary.parts)
        if entry.container is not None:
            summary.colours.setdefault(entry.container, len(summary.colours) % COLOURS)
            if entry.kind == LAUNCH:
                summary.launches.setdefault(entry.container, entry)
        if entry.value:
            step = ReplayStep(
                number=entry.number,
                before=held[entry.pcr],
                extension=entry.extension,
                after=entry.value,
                attested=entry.attested,
            )
            replay.setdefault(entry.pcr, []).append(step)
            held[entry.pcr] = entry.value
    shown = {pcr: tuple(steps) for pcr, steps in sorted(replay.items())}
    return LogPart(number=summary.parts, entries=tuple(entries), replay=shown, last=last, broken=broken)

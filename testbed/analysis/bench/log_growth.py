"""The counts of ``bench log``: the cost of an entry at each length, and where the hash table matters. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.analysis.bench.prices import EventCost, summarize

# Of IMA's hash table of entries (IMA_HASH_BITS in security/integrity/ima/ima.h): no kernel makes it larger.
BUCKETS = 1024
# What a lookup may be of an entry's price before it counts.
SHARE = 0.1
_COLUMNS = (
    *("entries", "a new entry", "one that is there", "a new file in a container"),
    *("reading the log, an entry", "memory, an entry"),
)
# Of two points every line is straight.
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """What was counted with so many entries in the log.

    ``entry_bytes``: memory that one entry took since the length before, ``None`` where those were too few.
    """

    entries: int
    rows: tuple[EventCost, ...]
    entry_bytes: float | None

    def cost(self, event: str) -> float | None:
        """Return the median of an event, in guest instructions; the write that asks the kernel for it is taken off."""
        medians = {row.event: row.median for row in self.rows}
        if event not in medians:
            return None
        return medians[event] - (medians["write"] if event in ("entry", "again") else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A line through the prices of a new entry: ``base`` without a lookup, and ``step`` for each entry it passes."""

    base: float
    step: float

    @property
    def matters_from(self) -> float:
        """The length at which passing the others is ``SHARE`` of what an entry costs without them."""
        return SHARE * self.base / self.step * BUCKETS


def length(arm: str, entries: int, text: str, entry_bytes: float | None) -> Length:
    """Return what the lines ``EVENT SIZE VALUE`` of ``text`` say, counted in an arm with so many entries in the log."""
    return Length(entries=entries, rows=tuple(summarize(arm, text)), entry_bytes=entry_bytes)


def lookup(lengths: Sequence[Length]) -> Lookup | None:
    """Fit the line; ``None`` if there are too few lengths or no growth."""
    points = [(counted.entries / BUCKETS, cost) for counted in lengths if (cost := counted.cost("entry")) is not None]
    if len(points) < _FEWEST:
        return None
    line = statistics.linear_regression(*zip(*points, strict=True))
    return Lookup(base=line.intercept, step=line.slope) if line.slope > 0 else None


def markdown(lengths: Sequence[Length]) -> str:
    """Return the table, a row per length, and the cost of the hash table."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---|---|---|---|---|",
    ]
    for counted in lengths:
        read = counted.cost("read")
        cells = (
            *(_shown(counted.cost(event)) for event in ("entry", "again", "new-file")),
            _shown(None if read is None else read / counted.entries),
            "" if counted.entry_bytes is None else f"{counted.entry_bytes:,.0f} B",
        )
        lines.append(f"| {counted.entries:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_said(lookup(lengths))])


def _shown(count: float | None) -> str:
    return "" if count is None else f"{count:,.0f}"


def _said(line: Lookup | None) -> list[str]:
    if line is None:
        return ["Too few lengths, or no growth: the cost of the hash table is unknown."]
    price = f"A new entry costs {line.base:,.0f} instructions, and {line.step:,.1f} for each entry of its bucket"
    since = f"from about {line.matters_from:,.0f} entries on that is more than {SHARE:.0%} of the price"
    return [f"{price} (one of {BUCKETS:,}), all of which are passed: {since}."]

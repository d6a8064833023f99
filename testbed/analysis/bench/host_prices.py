"""What the counts of the host's events say: what attached hooks cost, and whether they keep their targets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from testbed.analysis.bench.prices import EventCost, Ratio, find, summarize

_BASE = "none"
# Guest instructions that one run of a hook's program may add.
HOOK_TARGET = 250.0
# What an event may cost at most over ``none``; the others are demanded nothing of but the price of each hook.
TARGETS: Mapping[str, float] = {
    "host-open-read": 1.12,
    "host-open-write": 1.12,
    "host-create-unlink": 1.05,
    "host-fork": 1.02,
    "host-execve": 1.02,
}
# Less often than this a hook did not fire at the event: a task's exit was seen by the next count.
_FIRES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounts:
    """What was counted in one arm: lines ``EVENT SIZE VALUE``, and by event how many BPF programs run at one."""

    arm: str
    text: str
    fired: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPrice:
    """What an arm adds to one event of the host, in guest instructions.

    ``noise``: half of the middle half of one event. ``fired``: programs that run at it. ``each``: what one of them
    adds, ``None`` where none runs.
    """

    arm: str
    event: str
    base: float
    added: float
    noise: float
    fired: float

    @property
    def steady(self) -> bool:
        """Whether one event varies by less than half of what its hooks may add."""
        return self.noise <= HOOK_TARGET * self.fired / 2

    @property
    def each(self) -> float | None:
        """What one program adds."""
        return self.added / self.fired if self.fired >= _FIRES else None


def rows_of(counted: Iterable[HostCounts]) -> list[EventCost]:
    """Return a row for each arm and event."""
    return [row for one in counted for row in summarize(one.arm, one.text)]


def prices(counted: Sequence[HostCounts]) -> list[HostPrice]:
    """Return a price for each event and each arm but ``none``."""
    listed, rows = [], rows_of(counted)
    fired = {one.arm: one.fired for one in counted}
    for row in rows:
        base = find(rows, _BASE, row.event)
        if row.arm != _BASE and base:
            runs = fired[row.arm].get(row.event, 0.0)
            added = row.median - base.median
            noise = (base.high - base.low) / 2
            listed.append(
                HostPrice(arm=row.arm, event=row.event, base=base.median, added=added, noise=noise, fired=runs)
            )
    return listed


def ratios(listed: Sequence[HostPrice]) -> list[Ratio]:
    """Return what is demanded: of each event over ``none``, and of each hook that fires, in instructions."""
    over = [
        Ratio(
            name=f"{price.arm}: {price.event} over {_BASE}",
            value=1 + price.added / price.base,
            target=TARGETS.get(price.event),
        )
        for price in listed
    ]
    hooks = [
        Ratio(
            name=f"{price.arm}: instructions of a hook at {price.event}",
            value=price.each,
            target=HOOK_TARGET if price.steady else None,
        )
        for price in listed
        if price.each is not None
    ]
    return over + hooks


def markdown(listed: Sequence[HostPrice]) -> str:
    """Return the table: what each arm adds to each event, and the targets."""
    header = [
        *("event of the host", "arm", "guest instructions", "one varies by"),
        *("hooks add", "over none", "programs that run", "a program adds"),
    ]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [
        f"| {price.event} | {price.arm} | {price.base:,.0f} | ±{price.noise:,.0f} | {price.added:+,.0f} "
        f"| {100 * price.added / price.base:+.1f} % | {price.fired:.1f} "
        f"| {'' if price.each is None else f'{price.each:+,.0f}'} |"
        for price in sorted(listed, key=lambda price: price.event)
    ]
    lines += ["", "| of the host | value | target |", "|---|---|---|"]
    lines += [
        f"| {ratio.name} | {ratio.value:,.4g} | at most {ratio.target:g}: {'kept' if ratio.ok else 'NOT KEPT'} |"
        for ratio in ratios(listed)
        if ratio.target is not None
    ]
    return "\n".join(lines)

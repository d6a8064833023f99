"""What a start of a container costs whose content is known: ratios to no measurement, and their targets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from testbed.analysis.bench.prices import EventCost, Price, Ratio, find, image_costs

# A start of a container of one static program, over no measurement.
FILE_TARGET = 1.02
DRIFT_TARGET = 1.015
# Millions of instructions that a second start of the largest tree takes more than one of the smallest.
AGAIN_TARGET = 0.05
# The start and the launch: what binds a container to its image.
ENTRIES_TARGET = 2
_IMAGE, _FILE = "container-image", "container-file"
_MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """``over_none``, ``entries``: what is demanded of an arm at most, ``None`` if nothing is."""

    name: str
    over_none: float | None = None
    entries: float | None = None


_ARMS = (
    _Arm(name=_FILE, over_none=FILE_TARGET),
    _Arm(name=_IMAGE),
    _Arm(name="container-drift", over_none=DRIFT_TARGET, entries=ENTRIES_TARGET),
)


def ratios(rows: Sequence[EventCost]) -> list[Ratio]:
    """Return what such a start costs in each arm that was run, over none, and how many entries it makes."""
    found = [one for arm in _ARMS for one in (_over_none(rows, arm), _entries(rows, arm)) if one]
    return found + [one for one in (_table_share(rows), _again(rows)) if one]


def prices(rows: Sequence[EventCost]) -> list[Price]:
    """Return what each arm adds to such a start, and what one more mount adds to its launch."""
    bare = find(rows, "none", "container")
    added = [
        Price(
            name=f"known start: {arm.name}",
            cost=cost.median - bare.median,
            base=bare.median,
            noise=(bare.high - bare.low) / 2,
        )
        for arm in _ARMS
        if bare and (cost := find(rows, arm.name, "container"))
    ]
    mount = _mount(rows)
    return [*added, mount] if mount else added


def _over_none(rows: Sequence[EventCost], arm: _Arm) -> Ratio | None:
    cost, bare = find(rows, arm.name, "container"), find(rows, "none", "container")
    if not cost or not bare:
        return None
    name = f"{arm.name}: start of a container of known content over none"
    return Ratio(name=name, value=cost.median / bare.median, target=arm.over_none)


def _entries(rows: Sequence[EventCost], arm: _Arm) -> Ratio | None:
    entries = find(rows, arm.name, "entries")
    if not entries:
        return None
    return Ratio(name=f"{arm.name}: entries of such a start", value=entries.median, target=arm.entries)


def _launch(rows: Sequence[EventCost], mounts: int) -> EventCost | None:
    """Return what the image and the launch add to a start, with so many mounts more than usual."""
    image, file = (find(rows, arm, "container", mounts) for arm in (_IMAGE, _FILE))
    if not image or not file:
        return None
    noise = (file.high - file.low) / 2
    cost = image.median - file.median
    return EventCost(
        arm=_IMAGE, event="launch", size=mounts, median=cost, low=cost - noise, high=cost + noise, n=image.n
    )


def _mount(rows: Sequence[EventCost]) -> Price | None:
    """Return what a mount costs in the launch: of starts with some more mounts and with none, image over file."""
    sizes = sorted({row.size for row in rows if row.event == "container"})
    launches = [one for size in sizes if (one := _launch(rows, size))]
    if len(launches) < len(("few", "many")):
        return None
    few, many = launches[0], launches[-1]
    more = many.size - few.size
    noise = (many.high - many.low + few.high - few.low) / (2 * more)
    return Price(
        name="launch: a mount in its table", cost=(many.median - few.median) / more, base=few.median, noise=noise
    )


def _table_share(rows: Sequence[EventCost]) -> Ratio | None:
    mount, mounts = _mount(rows), find(rows, _IMAGE, "mounts")
    if not mount or not mounts:
        return None
    name = f"{_IMAGE}: share of the {mounts.median:.0f} mounts of the table in what its launch adds"
    return Ratio(name=name, value=mount.cost * mounts.median / mount.base)


def _again(rows: Sequence[EventCost]) -> Ratio | None:
    costs = image_costs(rows, "again-files")
    if len(costs) < len(("few", "many")):
        return None
    few, many = min(costs), max(costs)
    name = f"{_IMAGE}: millions that a second start of {many:,} files takes more than one of {few:,}"
    return Ratio(name=name, value=(costs[many] - costs[few]) / _MILLION, target=AGAIN_TARGET)

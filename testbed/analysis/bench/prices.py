"""What the counts of ``bench`` say: the price of each event, and whether the measurer keeps its targets. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The hooks alone, which decide nothing, and a file that is known.
HOOK_TARGET = 1.007
HOT_TARGET = 1.03
HOT_TARGET_6_1 = 1.04
COLD_TARGET = 1.15
LINE_TARGET = 0.01
# What reads no bytes: its price per byte over the price of a hashed byte. The pages of a file are dropped once after
# fs-verity was enabled, which takes two thousand instructions for each page of 4096 bytes.
FLAT_TARGET = 0.02
_MEBIBYTE = 1 << 20
# Of two points every line is straight.
_FEWEST = 3
_IMAGE_EVENTS = ("image-files", "again-files", "image-bytes", "again-bytes", "image-verity", "again-verity")
# Their size is a number of mounts that a container has beside the usual ones.
OF_MOUNTS = ("container", "entries", "mounts")
_PRICED = ("container-file", "container-image", "prototype-file")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCost:
    """What one event cost in one arm, in guest instructions. ``size``: bytes of the file, 0 where it means nothing."""

    arm: str
    event: str
    size: int
    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One number that matters. ``target``: what it may be at most, ``None`` where nothing is demanded."""

    name: str
    value: float
    target: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the target is kept."""
        return self.target is None or self.value <= self.target


def summarize(arm: str, text: str) -> list[EventCost]:
    """Return a row for each event and size of the lines ``EVENT SIZE VALUE`` that ``bench`` printed."""
    values: dict[tuple[str, int], list[int]] = {}
    for line in text.splitlines():
        event, size, value = line.split()
        values.setdefault((event, int(size)), []).append(int(value))
    return [_row(arm, event, size, counts) for (event, size), counts in values.items()]


def _row(arm: str, event: str, size: int, values: list[int]) -> EventCost:
    # The middle half: a timer tick that falls into an event costs as much as some events do.
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    median = statistics.median(values)
    return EventCost(arm=arm, event=event, size=size, median=median, low=low, high=high, n=len(values))


def find(rows: Iterable[EventCost], arm: str, event: str, size: int = 0) -> EventCost | None:
    """Return the row of this arm, event and size."""
    return next((row for row in rows if (row.arm, row.event, row.size) == (arm, event, size)), None)


def hot_target(release: str) -> float:
    """Return what a known file may cost on a kernel: a start costs a fifth less on 6.1, before the measurer."""
    return HOT_TARGET_6_1 if release.startswith("6.1.") else HOT_TARGET


def ratios(rows: Sequence[EventCost], hot: float = HOT_TARGET) -> list[Ratio]:
    """Return the ratios of every arm that was run; one whose parts are missing is left out. ``hot``: its target."""
    all_ratios = []
    bare, hooks = find(rows, "none", "start"), find(rows, "hooks-only", "start")
    if bare and hooks:
        name = "hooks-only: fork+exec+exit over none"
        all_ratios.append(Ratio(name=name, value=hooks.median / bare.median, target=HOOK_TARGET))
    for arm in _PRICED:
        target = arm != "prototype-file"
        known = _over(rows, arm, "start")
        if known is not None:
            name = f"{arm}: fork+exec+exit of a known program over hooks-only"
            all_ratios.append(Ratio(name=name, value=known, target=hot if target else None))
        for size in _cold_sizes(rows):
            cold = _added(rows, arm, "map-cold", size)
            floor = find(rows, "container-file", "floor", size)
            if cold is not None and floor:
                wanted = COLD_TARGET if target and size == _MEBIBYTE else None
                name = f"{arm}: cold file of {human(size)} over the kernel's SHA-256 of its cached pages"
                all_ratios.append(Ratio(name=name, value=cold / floor.median, target=wanted))
    all_ratios += [line for event in ("image-files", "image-bytes") if (line := _linear(rows, event))]
    return all_ratios + [flat for event in ("image-verity", "again-bytes") if (flat := _flat(rows, event))]


def _linear(rows: Sequence[EventCost], event: str) -> Ratio | None:
    """Return how far an image's digest is from costing the same for each file, or byte: 1 - r²."""
    costs = image_costs(rows, event)
    if len(costs) < _FEWEST:
        return None
    r = statistics.correlation(list(costs), list(costs.values()))
    return Ratio(name=f"container-image: 1 - r² of {event}", value=1 - r * r, target=LINE_TARGET)


def _flat(rows: Sequence[EventCost], event: str) -> Ratio | None:
    """Return what a byte costs where none should be read, over what it costs where all are."""
    read, spared = image_costs(rows, "image-bytes"), image_costs(rows, event)
    if min(len(read), len(spared)) < _FEWEST:
        return None
    of_all, of_none = (statistics.linear_regression(list(x), list(x.values())).slope for x in (read, spared))
    name = f"container-image: a byte of {event} over a byte of image-bytes"
    return Ratio(name=name, value=abs(of_none) / of_all, target=FLAT_TARGET)


def image_costs(rows: Sequence[EventCost], event: str) -> dict[int, float]:
    """Return what an image adds to a start of a container, by its size; nothing if an arm was not run."""
    sizes = sorted({row.size for row in rows if row.event == event})
    pairs = {n: (find(rows, "container-image", event, n), find(rows, "container-file", event, n)) for n in sizes}
    return {n: image.median - base.median for n, (image, base) in pairs.items() if image and base}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a step of the ladder adds to an event. ``base``: the event without it; ``noise``: half its middle half."""

    name: str
    cost: float
    base: float
    noise: float


def prices(rows: Sequence[EventCost]) -> list[Price]:
    """Return what the hooks and what the measurer add to an event that hashes nothing."""
    all_prices = []
    for name, arm, base, event in (
        ("hook alone: one executable mapping", "hooks-only", "none", "map-hot"),
        ("hook alone: fork+exec+exit", "hooks-only", "none", "start"),
        ("hot hit: one executable mapping", "container-file", "hooks-only", "map-hot"),
        ("hot hit: fork+exec+exit", "container-file", "hooks-only", "start"),
    ):
        with_step, without = find(rows, arm, event), find(rows, base, event)
        if with_step and without:
            noise = (without.high - without.low) / 2
            all_prices.append(
                Price(name=name, cost=with_step.median - without.median, base=without.median, noise=noise)
            )
    return all_prices + [price for event in _IMAGE_EVENTS for price in _image_prices(rows, event)]


def _image_prices(rows: Sequence[EventCost], event: str) -> list[Price]:
    of_images = []
    for size, cost in image_costs(rows, event).items():
        base = find(rows, "container-file", event, size)
        assert base
        name = f"image: {event}, {_sized(event, size)}"
        of_images.append(Price(name=name, cost=cost, base=base.median, noise=(base.high - base.low) / 2))
    return of_images


def _sized(event: str, size: int) -> str:
    if event in OF_MOUNTS:
        return f"{size} more mounts" if size else ""
    return f"{size} files" if event.endswith("-files") else human(size)


def markdown(
    rows: Sequence[EventCost], hot: float = HOT_TARGET, *, priced: Sequence[Price] = (), judged: Sequence[Ratio] = ()
) -> str:
    """Return the tables of the page: counts, prices, ratios. ``priced`` and ``judged``: what is listed beside ours."""
    lines = ["| event | bytes (or files) | arm | guest instructions | middle half | n |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.event} | {_sized(row.event, row.size)} | {row.arm} "
        f"| {row.median:,.0f} | {row.low:,.0f} to {row.high:,.0f} | {row.n} |"
        for row in sorted(rows, key=lambda row: (row.event, row.size))
    ]
    lines += ["", "| price | guest instructions | of | one event varies by |", "|---|---|---|---|"]
    lines += [
        f"| {price.name} | {price.cost:+,.0f} | {price.base:,.0f} | ±{price.noise:,.0f} |"
        for price in (*prices(rows), *priced)
    ]
    lines += ["", "| ratio | value | target |", "|---|---|---|"]
    all_ratios = (*ratios(rows, hot), *judged)
    lines += [f"| {ratio.name} | {ratio.value:.4f} | {_target(ratio)} |" for ratio in all_ratios]
    return "\n".join(lines)


def human(size: int) -> str:
    """Return a size of a file in the largest unit in which it is whole; nothing for 0."""
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} B" if size else ""


def _target(ratio: Ratio) -> str:
    if ratio.target is None:
        return ""
    return f"at most {ratio.target:g}: {'kept' if ratio.ok else 'NOT KEPT'}"


def _cold_sizes(rows: Sequence[EventCost]) -> list[int]:
    return sorted({row.size for row in rows if row.event == "map-cold"})


def _over(rows: Sequence[EventCost], arm: str, event: str) -> float | None:
    cost, base = find(rows, arm, event), find(rows, "hooks-only", event)
    return cost.median / base.median if cost and base else None


def _added(rows: Sequence[EventCost], arm: str, event: str, size: int) -> float | None:
    cost, base = find(rows, arm, event, size), find(rows, "hooks-only", event, size)
    return cost.median - base.median if cost and base else None

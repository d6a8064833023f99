"""Each fitted price beside the count of single events that ``testbed bench measurer --json`` gave.

The two share no workload and no method: a price is fitted to whole workloads, a single event is counted by itself. The
counts are files ``measurer-KERNEL.json`` in the directory ``bench`` beside the campaign, with their digests in its
``SHA256SUMS``.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis.bench.prices import EventCost, find, image_costs
from testbed.analysis.tables.costmodel import Fit
from testbed.errors import EvidenceError
from testbed.files import open_plain

DIRECTORY = "bench"
SUMS = "SHA256SUMS"
COLUMNS = ("kernel", "step", "event", "price", "low", "high", "single_low", "single_high", "apart", "how", "unit")
# Of two sizes every line is straight.
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleCounts:
    """What single events cost on one kernel. ``digest``: SHA-256 of the file, hex; ``facts``: of the machine."""

    kernel: str
    rows: tuple[EventCost, ...]
    digest: str
    facts: Mapping[str, Any]


Range = tuple[float, float]


def read(campaign: Path, kernel: str) -> SingleCounts | None:
    """Return the counts beside a campaign's directory; ``None`` if there are none of this kernel.

    Raises ``EvidenceError`` if the file is damaged or is not the one whose digest stands beside it.
    """
    path = campaign.parent / DIRECTORY / f"measurer-{kernel}.json"
    if "/" in kernel or not path.is_file():
        return None
    raw = _bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    expected = dict(_sums(path.parent / SUMS)).get(path.name)
    if digest != expected:
        raise EvidenceError(
            f"{path}: SHA-256 is {digest}, expected {expected or 'a line'} in {SUMS}",
            f"count again with `testbed bench measurer --kernel {kernel} --json`, and `sha256sum` it into {SUMS}",
        )
    names = {field.name for field in fields(EventCost)}
    try:
        said = json.loads(raw)
        rows = tuple(EventCost(**{name: row[name] for name in names}) for row in said["rows"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(f"{path}: expected the JSON of `testbed bench measurer --json`, got {error!r}") from error
    facts = {name: value for name, value in said.items() if name not in {"rows", "ratios"}}
    return SingleCounts(kernel=kernel, rows=rows, digest=digest, facts=facts)


def _bytes(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read()


def _sums(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_file():
        for line in _bytes(path).decode(errors="replace").splitlines():
            digest, _, name = line.partition("  ")
            yield name, digest


def checked(fits: Sequence[Fit], counts: Mapping[str, SingleCounts]) -> pd.DataFrame:
    """Return one row per price: ``price low high``, and the single event's count, from ``single_low`` to ``_high``.

    ``apart``: how far the price lies from that range, relative; 0 within it. Without a count of this event: missing.
    """
    listed: list[dict[str, Any]] = []
    for fit in fits:
        rows = counts[fit.kernel].rows if fit.kernel in counts else ()
        for term, price in fit.prices.items():
            how, count = _COUNTS.get((_family(fit), term), ("no such single event", _none))
            low, high = count(rows) or (float("nan"), float("nan"))
            if term == "files" and "extends" in fit.prices:
                # The single event has both.
                extend, how = fit.prices["extends"].center, f"{how}, less the price of its extend"
                low, high = low - extend, high - extend
            bounds = price.interval
            listed.append(
                {"kernel": fit.kernel, "step": fit.step.name, "event": term, "unit": fit.unit, "how": how}
                | {
                    "price": price.center,
                    "low": bounds.low if bounds else None,
                    "high": bounds.high if bounds else None,
                }
                | {"single_low": low, "single_high": high, "apart": _apart(price.center, low, high)}
            )
    return pd.DataFrame(listed, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[3:9], "float64"))


def _family(fit: Fit) -> str:
    """Return whose code the event runs: a byte that plain IMA hashes is another event than one of the module."""
    return "container" if fit.step.native else fit.step.name


def _apart(price: float, low: float, high: float) -> float:
    if pd.isna(low):
        return float("nan")
    nearest = min(max(price, low), high)
    return price / nearest - 1 if nearest else float("nan")


def _none(_: Sequence[EventCost]) -> Range | None:
    return None


def _hooks(rows: Sequence[EventCost]) -> Range | None:
    return _added(rows, "hooks-only", "none")


def _known(rows: Sequence[EventCost]) -> Range | None:
    return _added(rows, "container-file", "hooks-only")


def _added(rows: Sequence[EventCost], arm: str, base: str) -> Range | None:
    """Return what an arm adds to one decision: in a mapping, and in a start, which has two of them."""
    pairs = [
        (find(rows, arm, event), find(rows, base, event), count) for event, count in (("map-hot", 1), ("start", 2))
    ]
    costs = [(one.median - other.median) / count for one, other, count in pairs if one and other]
    return (min(costs), max(costs)) if costs else None


def _cold(rows: Sequence[EventCost]) -> dict[int, float]:
    """Return what ``container-file`` adds to mapping a new file, by its size in bytes."""
    sizes = sorted({row.size for row in rows if row.event == "map-cold"})
    pairs = {n: (find(rows, "container-file", "map-cold", n), find(rows, "hooks-only", "map-cold", n)) for n in sizes}
    return {n: one.median - other.median for n, (one, other) in pairs.items() if one and other}


def _slope(costs: Mapping[int, float]) -> float | None:
    """Return the cost of one more of what the keys count."""
    if len(costs) < _FEWEST:
        return None
    return statistics.linear_regression(list(costs), list(costs.values())).slope


def _byte(rows: Sequence[EventCost]) -> Range | None:
    slope = _slope(_cold(rows))
    return None if slope is None else (slope, slope)


def _file(rows: Sequence[EventCost]) -> Range | None:
    """Return what the smallest new file costs beside its bytes."""
    costs, slope = _cold(rows), _slope(_cold(rows))
    if slope is None:
        return None
    least = min(costs)
    return (costs[least] - slope * least,) * 2


def _walked(rows: Sequence[EventCost]) -> Range | None:
    slope = _slope(image_costs(rows, "again-files"))
    return None if slope is None else (slope, slope)


def _launch(rows: Sequence[EventCost]) -> Range | None:
    """Return what a start of the smallest known image adds beside its names."""
    costs = image_costs(rows, "again-files")
    slope = _slope(costs)
    return None if slope is None else (costs[min(costs)] - slope * min(costs),) * 2


def _image_byte(rows: Sequence[EventCost]) -> Range | None:
    slope = _slope(image_costs(rows, "image-bytes"))
    return None if slope is None else (slope, slope)


def _image_file(rows: Sequence[EventCost]) -> Range | None:
    """Return what one more file of an image costs beside its bytes; the files of this event have 1 KiB each."""
    slope, byte = _slope(image_costs(rows, "image-files")), _image_byte(rows)
    return None if slope is None or byte is None else (slope - 1024 * byte[0],) * 2


_COUNTS: Mapping[tuple[str, str], tuple[str, Callable[[Sequence[EventCost]], Range | None]]] = {
    ("container", "decisions"): ("hook alone: from a mapping to half a fork, exec and exit", _hooks),
    ("container", "lookups"): ("known file: from a mapping to half a fork, exec and exit", _known),
    ("container", "bytes"): ("new files: slope over their size", _byte),
    ("container", "files"): ("the smallest new file without its bytes", _file),
    ("container", "walked"): ("later start: slope over the files of the image", _walked),
    ("container", "launches"): ("later start of the smallest image without its names", _launch),
    ("container", "image_bytes"): ("first start: slope over the bytes of the image", _image_byte),
    ("container", "image_files"): ("first start: slope over the files of the image, without their bytes", _image_file),
}

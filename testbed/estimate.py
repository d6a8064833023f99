"""How long a plan will take, and how much disk: from what earlier runs took, otherwise from defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from testbed.errors import EvidenceError
from testbed.plan import Cell
from testbed.record import Record, Status, Tier
from testbed.rundir import Campaign, read_plan, records

# Seconds of host time on two cores, without an earlier run.
BOOT = {Tier.ICOUNT: 50.0, Tier.TCG: 45.0, Tier.KVM: 15.0}
_RUN = {Tier.ICOUNT: 16.0, Tier.TCG: 16.0, Tier.KVM: 8.0}
# Bytes: a run's directory; a saved machine with the overlays of one clone.
_RUN_BYTES = 400 << 10
_SAVE_BYTES = 800 << 20
# Campaigns that are looked at, the newest first.
_CAMPAIGNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Medians of host seconds: of runs by tier, workload and measurer, of boots by tier."""

    runs: Mapping[tuple[str, str, str], float]
    boots: Mapping[str, float]

    def seconds(self, tier: Tier, workload: str, measurer: str) -> tuple[float, bool]:
        """Return what a run will take, and whether there is an earlier run like it."""
        exact = self.runs.get((tier, workload, measurer))
        if exact is not None:
            return exact, True
        alike = [value for (of, name, _), value in self.runs.items() if (of, name) == (tier, workload)]
        return (median(alike) if alike else _RUN[tier]), False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEstimate:
    """The estimate. ``seen``: how many of the ``runs`` have an earlier run like them; ``size`` in bytes."""

    runs: int
    boots: int
    seen: int
    minutes: float
    size: int


def history(results: Path) -> History:
    """Read what earlier runs below ``results`` took; what cannot be read is ignored."""
    runs: dict[tuple[str, str, str], list[float]] = {}
    boots: dict[str, list[float]] = {}
    for campaign in _newest(results):
        try:
            names = _names(campaign)
            for _, record in records(campaign):
                _learn(record, names, runs, boots)
        except (EvidenceError, OSError):  # also what another process moves meanwhile
            continue
    return History(
        runs={key: median(values) for key, values in runs.items()},
        boots={key: median(values) for key, values in boots.items()},
    )


def estimate(tier: Tier, todo: Iterable[Sequence[Cell]], known: History, machines: int) -> PlanEstimate:
    """Return what running ``todo``, cells block by block, will take with so many ``machines`` at a time."""
    boot = known.boots.get(tier, BOOT[tier])
    loads = []
    runs = seen = 0
    for cells in todo:
        each = [known.seconds(tier, cell.workload, cell.measurer) for cell in cells]
        runs += len(each)
        seen += sum(like for _, like in each)
        if each:
            loads.append(boot + sum(seconds for seconds, _ in each))
    return PlanEstimate(
        runs=runs,
        boots=len(loads),
        seen=seen,
        minutes=_makespan(loads, machines) / 60,
        size=runs * _RUN_BYTES + min(machines, len(loads)) * _SAVE_BYTES,
    )


def _makespan(loads: Iterable[float], machines: int) -> float:
    """Return when the last of ``machines`` ends that take the blocks one after the other."""
    ends = [0.0] * machines
    for load in loads:
        ends[ends.index(min(ends))] += load
    return max(ends)


def _newest(results: Path) -> list[Campaign]:
    plans = sorted(results.glob("*/plan.json"), key=_written, reverse=True)
    return [Campaign(path=path.parent) for path in plans[:_CAMPAIGNS]]


def _written(path: Path) -> float:
    """Return when a file was written, 0 if it is gone by now."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _names(campaign: Campaign) -> dict[str, tuple[str, str]]:
    return {cell.id: (cell.workload, cell.measurer) for cell in read_plan(campaign).cells}


def _learn(record: Record, names: Mapping[str, tuple[str, str]], runs: dict[Any, Any], boots: dict[Any, Any]) -> None:
    tier = record.facts.get("tier")
    if record.status is Status.OK and record.cell_id in names and tier:
        runs.setdefault((tier, *names[record.cell_id]), []).append(record.seconds)
        if record.facts.get("start", "restore") == "restore" and record.facts.get("boot_seconds"):
            boots.setdefault(tier, []).append(record.facts["boot_seconds"])

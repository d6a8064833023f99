"""From a campaign's directory to tables: one row a sample (``rows.parquet``), one row a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.errors import EvidenceError, IncompatibleRuns
from testbed.plan import Cell, Plan
from testbed.record import Record, Status
from testbed.rundir import Campaign, read_plan, records

# Runs of one campaign that differ in one of these must not be pooled. Names of ``Record.facts``.
CHECKED_FACTS = ("tier", "qemu_version", "cpu_model", "images")
# Facts that become columns; further ones stay in the record.
FACT_COLUMNS = ("tier", "boot_id", "clone_id", "kernel_release", "qemu_version", "cpu_model")
_AXES = ("kernel", "runtime", "measurer", "workload", "attack")
_TYPES = {
    **dict.fromkeys(("campaign", "cell", *_AXES, "previous", "status", "reason", "metric", "unit"), "string"),
    **dict.fromkeys(FACT_COLUMNS, "string"),
    **dict.fromkeys(("block", "position", "attempt", "iteration"), "Int64"),
    "warmup": "boolean",
    "value": "float64",
}
ROW_COLUMNS = (
    *("campaign", "cell", *_AXES, "block", "position", "previous", "attempt", "status", "reason"),
    *FACT_COLUMNS,
    *("metric", "unit", "value", "iteration", "warmup"),
)


def rows(campaign: Campaign) -> pd.DataFrame:
    """Return one row a sample, typed; a run without samples is one row without a value.

    Raises ``EvidenceError`` for a record of no planned cell, ``IncompatibleRuns`` if the records' checked facts differ.
    """
    plan = read_plan(campaign)
    found = list(current(campaign))
    check_facts(plan, found)
    cells = {cell.id: cell for cell in plan.cells}
    listed = (row for path, record in found for row in _rows_of(plan, _cell(cells, path, record), record))
    return pd.DataFrame(listed, columns=list(ROW_COLUMNS)).astype({name: _TYPES[name] for name in ROW_COLUMNS})


def runs(campaign: Campaign) -> pd.DataFrame:
    """Return one row a planned run; ``status`` is missing where the run has no record.

    ``counters`` and ``facts`` are mappings, ``path`` the run's directory.
    """
    plan = read_plan(campaign)
    found = {(record.cell_id, record.block): (path, record) for path, record in current(campaign)}
    listed = []
    for block in plan.blocks:
        for cell in block.cells:
            path, record = found.get((cell.id, block.index), (campaign.run_path(cell, block), None))
            listed.append(_axes(cell) | {"cell": cell.id, "block": block.index, "path": path} | _state(record))
    return pd.DataFrame(listed)


def current(campaign: Campaign) -> Iterator[tuple[Path, Record]]:
    """Yield each run's directory and record, without earlier attempts (``NAME~1``): these may be of another boot."""
    yield from ((path, record) for path, record in records(campaign) if "~" not in path.name)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write beside, then rename."""
    spare = path.with_name(f".part-{path.name}")
    table.to_parquet(spare, engine="pyarrow", index=False)
    spare.rename(path)


def check_facts(plan: Plan, found: Iterable[tuple[Path, Record]]) -> None:
    """Raise ``IncompatibleRuns`` if two runs of a campaign differ in a checked fact, or one in the planned tier.

    Runs of one block and kernel must also be clones of one boot: an arm of another boot is no pair of the others.

    A run that failed may have died before it could tell a fact; one that succeeded must tell each that others tell
    (but not every image: it need not use every one).
    """
    first: dict[str, tuple[Path | None, Any]] = {"tier": (None, str(plan.tier))}
    kernels = {cell.id: cell.kernel for cell in plan.cells}
    told = [
        (path, record, dict(_checked(record.facts, f"{kernels.get(record.cell_id)} in block {record.block}")))
        for path, record in found
    ]
    duties = {name for _, _, facts in told for name in facts if name in CHECKED_FACTS} | {"tier"}
    for path, record, facts in told:
        for name in sorted(facts.keys() | (duties if record.status is Status.OK else set())):
            got = facts.get(name)
            where, expected = first.setdefault(name, (path, got))
            if got != expected:
                raise IncompatibleRuns(
                    f"{path}: {name} is {got!r}, but {where or 'the plan'} has {expected!r}",
                    "these runs must not be pooled: run the campaign again with one set of tools and images",
                )


def _checked(facts: Mapping[str, Any], boot: str) -> Iterator[tuple[str, Any]]:
    """Yield the checked facts; of a mapping (``images``) each value apart, as not every run uses every image."""
    if facts.get("boot_id") is not None:
        yield f"boot_id of {boot}", facts["boot_id"]
    for name in CHECKED_FACTS:
        value = facts.get(name)
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif value is not None:
            yield name, value


def _cell(cells: Mapping[str, Cell], path: Path, record: Record) -> Cell:
    try:
        return cells[record.cell_id]
    except KeyError:
        raise EvidenceError(
            f"{path}: cell {record.cell_id!r} is not in plan.json", "do not copy runs from one campaign to another"
        ) from None


def _axes(cell: Cell) -> dict[str, Any]:
    return {axis: getattr(cell, axis) for axis in _AXES}


def _rows_of(plan: Plan, cell: Cell, record: Record) -> Iterator[dict[str, Any]]:
    run = {
        "campaign": plan.campaign,
        "cell": cell.id,
        **_axes(cell),
        "block": record.block,
        "position": record.position,
        "previous": record.previous,
        "attempt": record.attempt,
        "status": str(record.status),
        "reason": record.reason,
        **{name: record.facts.get(name) for name in FACT_COLUMNS},
    }
    for sample in record.samples:
        yield run | {
            "metric": sample.metric,
            "unit": sample.unit,
            "value": sample.value,
            "iteration": sample.iteration,
            "warmup": sample.warmup,
        }
    if not record.samples:
        yield run


def _state(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {"status": None, "reason": "no record", "attempt": 0, "counters": {}, "facts": {}, "record": None}
    return {
        "status": str(record.status),
        "reason": record.reason,
        "attempt": record.attempt,
        "counters": record.counters,
        "facts": record.facts,
        "record": record,
    }

"""From a campaign's directory to tables: one row per sample (``rows.parquet``), one row per run.

Earlier attempts of a run (``NAME~1``) are rows too, but not ``current``: they may be of another boot, or disturbed, and
no contrast uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis.tables import worst_check
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.errors import EvidenceError, IncompatibleRuns
from testbed.plan import Cell, Plan
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign, retired

# Runs of one campaign that differ in one of these must not be pooled. Names of ``Record.facts``.
CHECKED_FACTS = ("tier", "qemu_version", "cpu_model", "images")
# Facts that become columns; further ones stay in the record.
FACT_COLUMNS = ("tier", "boot_id", "clone_id", "kernel_release", "qemu_version", "cpu_model")
FILE = "rows.parquet"
_AXES = ("kernel", "runtime", "measurer", "workload", "attack")
_TYPES = {
    **dict.fromkeys(("campaign", "cell", "run", *_AXES, "previous", "status", "reason", "metric", "unit"), "string"),
    **dict.fromkeys((*FACT_COLUMNS, "oracle"), "string"),
    **dict.fromkeys(("block", "position", "attempt", "iteration"), "Int64"),
    **dict.fromkeys(("warmup", "current"), "boolean"),
    **dict.fromkeys(("value", "operations"), "float64"),
}
ROW_COLUMNS = (
    *("campaign", "cell", "run", *_AXES, "block", "position", "previous", "attempt", "current", "status", "reason"),
    "oracle",
    *FACT_COLUMNS,
    *("metric", "unit", "value", "iteration", "warmup", "operations"),
)


def rows(loaded: LoadedCampaign, checks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per sample, typed; a run without samples is one row without a value.

    ``checks``: of ``checks.checks``; without it those of ``checks.parquet``, if that is there. ``oracle`` is the worst
    verdict on the run (``ok`` ``unexpected`` ``missed``), ``unjudged`` if the run is not in the table, and missing
    if there is no table. ``operations``: how many the iteration did, 1 if it does not say.
    ``current``: not an earlier attempt.

    Raises ``EvidenceError`` for a record of no planned cell, ``IncompatibleRuns`` if the records' checked facts differ.
    """
    plan, cells = loaded.plan, loaded.cells
    check_facts(plan, loaded.current, clones=_clones(loaded.facts))
    judged = worst_check.read(loaded.campaign.path) if checks is None else checks
    verdicts = None if judged is None else worst_check.worst(judged)
    listed: list[dict[str, Any]] = []
    for path, record in loaded.records:
        run = {
            "run": path.name,
            "current": not retired(path),
            # The verdict on a run says nothing about its earlier attempts.
            "oracle": None if verdicts is None else verdicts.get(path.name, worst_check.UNJUDGED),
        }
        listed += (run | row for row in _rows_of(plan, _cell(cells, path, record), record))
    return pd.DataFrame(listed, columns=list(ROW_COLUMNS)).astype({name: _TYPES[name] for name in ROW_COLUMNS})


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that may be compared: good, not an earlier attempt, and judged ``ok`` by the oracle.

    Without a table of checks every good run counts; code that shows such numbers must say so.
    """
    trusted = rows["oracle"].isna() | (rows["oracle"] == str(CheckVerdict.OK))
    return rows[(rows["status"] == str(Status.OK)) & rows["current"].astype(bool) & trusted]


def runs(loaded: LoadedCampaign) -> pd.DataFrame:
    """Return one row per planned run; ``status`` is missing where the run has no record.

    ``counters`` and ``facts`` are mappings, ``path`` the run's directory.
    """
    by_cell = {(record.cell_id, record.block): (path, record) for path, record in loaded.current}
    listed = []
    for block in loaded.plan.blocks:
        for cell in block.cells:
            path, record = by_cell.get((cell.id, block.index), (loaded.campaign.run_path(cell, block), None))
            place = {"cell": cell.id, "block": block.index, "build": block.build, "path": path}
            listed.append(_axes(cell) | place | _state(record))
    return pd.DataFrame(listed)


def check_facts(plan: Plan, recorded: Iterable[tuple[Path, Record]], *, clones: bool = True) -> None:
    """Raise ``IncompatibleRuns`` if two runs of a campaign differ in a checked fact, or one in the planned tier.

    With ``clones``, runs of one block and kernel must also be clones of one boot, because an arm of another boot cannot
    be paired with the others. An experiment that boots for each run sets it to ``False``.

    A failed run may have ended before it recorded a fact. A successful one must have each fact that others have, except
    for images, because it need not use every one.
    """
    first: dict[str, tuple[Path | None, Any]] = {"tier": (None, str(plan.tier))}
    kernels = {cell.id: cell.kernel for cell in plan.cells}
    checked = [
        (path, record, dict(_checked(record.facts, _boot(kernels, record) if clones else None)))
        for path, record in recorded
    ]
    duties = {name for _, _, facts in checked for name in facts if name in CHECKED_FACTS} | {"tier"}
    for path, record, facts in checked:
        for name in sorted(facts.keys() | (duties if record.status is Status.OK else set())):
            value = facts.get(name)
            where, expected = first.setdefault(name, (path, value))
            if value != expected:
                raise IncompatibleRuns(
                    f"{path}: {name} is {value!r}, but {where or 'the plan'} has {expected!r}",
                    "these runs must not be pooled: run the campaign again with one set of tools and images",
                )


def _boot(kernels: Mapping[str, str], record: Record) -> str:
    return f"{kernels.get(record.cell_id)} in block {record.block}"


def _clones(facts: Mapping[str, Any]) -> bool:
    """Whether the arms of a block are restored from one boot, as they are unless the experiment asks otherwise."""
    wish = facts.get("experiment") or {}
    return bool(wish.get("start", "restore") == "restore")


def _checked(facts: Mapping[str, Any], boot: str | None) -> Iterator[tuple[str, Any]]:
    """Yield the checked facts; of a mapping (``images``) each value apart, as not every run uses every image."""
    if boot is not None and facts.get("boot_id") is not None:
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
    operations = {
        operation.iteration: operation.value for operation in record.samples if operation.metric == "operations"
    }
    for sample in record.samples:
        yield run | {
            "metric": sample.metric,
            "unit": sample.unit,
            "value": sample.value,
            "iteration": sample.iteration,
            "warmup": sample.warmup,
            "operations": operations.get(sample.iteration, 1.0),
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

"""The report's part on the length of a run: after how long a run the overhead is below 1 %."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.models.runlength import LIMIT
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.tables import Tables

_HEADER = (
    *("workload", "measurer", "a start takes", "a start adds", "an operation takes", "an operation adds"),
    f"below {100 * LIMIT:g} % after",
)
_WHAT = (
    "A start is paid once. A run of N operations costs the measured start and N times the measured operation, of the "
    "baseline and of what a measurer adds. This is arithmetic with two measured numbers: no run of that length was "
    "measured, and a program that executes new files later pays for them then."
)


def section(tables: Tables, figures: Mapping[str, str]) -> list[str]:
    """Return the lines on run length; none where nothing was measured."""
    table = tables.lengths
    if table.empty:
        return []
    lines = ["## How long a container runs", "", _WHAT, ""]
    lines += markdown.picture(figures, "run-length", "overhead against the length of a run")
    running, others = table[table["base"] > 0], table[table["base"] == 0]
    if len(running):
        lines += [*markdown.table(_HEADER, _running(running)), ""]
    if len(others):
        shown = markdown.table(("workload", "measurer", "an iteration takes", "it adds", _HEADER[-1]), _others(others))
        title = "Other workloads: how long a run must be if it executes nothing new"
        lines += [*markdown.folded(title, shown), ""]
    return lines


def _ordered(table: pd.DataFrame) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = table.to_dict("records")
    return sorted(rows, key=lambda row: (row["workload"], row["kernel"], row["runtime"], climb(str(row["treatment"]))))


def _running(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    for row in _ordered(table):
        yield (
            f"`{row['workload']}`",
            f"`{row['treatment']}`",
            words.size(row["start_base"], _short(row)),
            words.amount(row["start_cost"], row["start_low"], row["start_high"], _short(row)),
            words.size(row["base"], _short(row)),
            words.amount(row["cost"], row["cost_low"], row["cost_high"], _short(row)),
            _after(row),
        )


def _others(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    for row in _ordered(table):
        yield (
            f"`{row['workload']}`",
            f"`{row['treatment']}`",
            words.size(row["start_base"], _short(row)),
            words.amount(row["start_cost"], row["start_low"], row["start_high"], _short(row)),
            _after(row),
        )


def _after(row: Mapping[Any, Any]) -> str:
    """Return after how many operations, or how long a run, with the ends of the intervals."""
    ends = [row[name] for name in ("even", "even_least", "even_most")]
    if not math.isfinite(ends[0]):
        return "never, by these numbers"
    if ends[0] <= row["start_base"]:
        return "its start"
    if row["base"] > 0:
        counts = [_count(max(0.0, (end - row["start_base"]) / row["base"])) for end in ends]
        return f"{counts[0]} {_plural(str(row['workload']))} [{counts[1]}, {counts[2]}]"
    sizes = [words.size(end, _short(row)) if math.isfinite(end) else "never" for end in ends]
    return f"{sizes[0]} [{sizes[1]}, {sizes[2]}]"


def _count(number: float) -> str:
    return f"{float(f'{number:.3g}'):,.0f}" if math.isfinite(number) else "never"


def _plural(workload: str) -> str:
    return f"{metrics.operation_of(workload) or 'operation'}s"


def _short(row: Mapping[Any, Any]) -> str:
    return "instr." if row["unit"] == "instructions" else str(row["unit"])

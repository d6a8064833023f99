"""The report's table of single system calls: a row for each kind that the workload ``calls`` makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables


def section(tables: Tables) -> list[str]:
    """Return the table's lines, nothing if no system calls were counted."""
    found = {metric: table for metric in metrics.SINGLE if len(table := tables.ladders.get(metric, pd.DataFrame()))}
    if not found:
        return []
    arms = sorted({str(arm) for table in found.values() for arm in table["treatment"]}, key=climb)
    lines = [_line(metrics.SINGLE[metric], group, arms) for metric, table in found.items() for group in _strata(table)]
    return [
        f"**One system call**, over `{tables.question.baseline}`: what an arm adds, and its overhead, with intervals:",
        "",
        *markdown.table(("system call", "baseline", *(f"`{arm}`" for arm in arms), "A/A, %"), lines),
        "",
    ]


def _strata(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [group for _, group in table.groupby(list(STRATUM))]


def _line(name: str, group: pd.DataFrame, arms: list[str]) -> list[object]:
    first = group.iloc[0]
    by_arm = {str(row["treatment"]): _cell(row) for row in group.to_dict("records")}
    floor = words.bounds(first["floor_low"], first["floor_high"]) if first["floor_n"] else "none"
    return [
        f"{name}, {first['kernel']}, {first['runtime']}",
        words.size(first["base"], first["unit"]),
        *map(by_arm.get, arms),
        floor,
    ]


def _cell(row: Mapping[Any, Any]) -> str:
    added = words.amount(row["cost"], row["cost_low"], row["cost_high"], row["unit"])
    ratio = words.overhead(row["ratio"], row["low"], row["high"])
    return f"{added}; {ratio} ({words.conclusion(row['verdict'], row['delta'])})"

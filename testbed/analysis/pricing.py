"""The report's part on overhead: the ladder, the A/A, the logs' growth, and what to doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, metrics, words
from testbed.analysis.ladder import STRATUM, Question, climb
from testbed.record import Status

_HEADER = ("workload", "measurer", "overhead, 95 % interval", "n", "verdict", "cost of one operation", "baseline")
_LOG_METRICS = ("ima_entries", "ima_log_bytes", "log_entries")


def section(
    ladders: Mapping[str, pd.DataFrame], question: Question, rows: pd.DataFrame, figures: tuple[str, ...]
) -> list[str]:
    """Return the lines on overhead: a table a metric that means something on this tier, the primary one first."""
    lines = ["## Overhead", "", metrics.MEANING[question.tier], ""]
    filled = {metric: table for metric, table in ladders.items() if len(table)}
    if not filled:
        lines.append(f"No overhead is claimed: {_why_none(question, rows)}.")
    for metric, table in filled.items():
        reading = metrics.reading(metric, question.tier)
        assert reading is not None, "a ladder exists only for a metric that means something on its tier"
        lines += [f"**{reading.label}**, over `{question.baseline}`:", ""]
        lines += [*markdown.table(_HEADER, (_row(row) for row in table.to_dict("records"))), ""]
        lines += [*(_noise(row, question) for row in table.drop_duplicates(list(STRATUM)).to_dict("records")), ""]
    lines += [f"![overhead over {question.baseline}]({path})" for path in figures if path.endswith(".png")]
    return [*lines, "", *_logs(rows)]


def doubts(ladders: Mapping[str, pd.DataFrame], question: Question) -> list[str]:
    """Return what a reader should hold against the numbers."""
    lines: list[str] = []
    table = ladders.get(metrics.PRIMARY)
    if table is None or table.empty:
        return lines
    fewest = int(table["n"].min())
    if fewest < 6:
        lines.append(f"n = {fewest}: below 6 blocks there is no 95 % interval, and so no verdict.")
    elif fewest < 12:
        lines.append(
            f"n = {fewest}: intervals only. The smallest possible exact p is {2 / 2**fewest:.3f}, so nothing is "
            "corrected for the number of comparisons: read each interval by itself."
        )
    if (table["floor_n"] == 0).any():
        lines.append(f"No A/A: without `{question.duplicate}` an effect cannot be told from noise.")
    delta = question.delta
    wide = table[(table["floor_low"] < 1 - delta) | (table["floor_high"] > 1 + delta)]
    if len(wide) and fewest >= 6:
        lines.append(f"The A/A interval is wider than δ = ±{100 * delta:g} %: the noise is larger than what is asked.")
    lines.append("The order of arms in a block is shuffled by the recorded seed, not balanced over blocks.")
    return lines


def _why_none(question: Question, rows: pd.DataFrame) -> str:
    if not metrics.readable(question.tier):
        return "on this tier no clock means anything"
    if rows.empty or question.baseline not in set(rows.loc[rows["status"] == str(Status.OK), "measurer"]):
        return f"no good run of the baseline `{question.baseline}`"
    return "no block has both the baseline and another arm"


def _row(row: Mapping[Any, Any]) -> tuple[object, ...]:
    return (
        _stratum(row),
        f"`{row['treatment']}`",
        words.overhead(row["ratio"], row["low"], row["high"]),
        row["n"],
        words.conclusion(row["verdict"], row["delta"]),
        words.amount(row["cost"], row["cost_low"], row["cost_high"], row["unit"]),
        words.size(row["base"], row["unit"]),
    )


def _stratum(row: Mapping[Any, Any]) -> str:
    return f"`{row['workload']}` ({row['kernel']}, {row['runtime']})"


def _noise(row: Mapping[Any, Any], question: Question) -> str:
    if row["floor_n"] == 0:
        return f"A/A of {_stratum(row)}: none, no block has both `{question.baseline}` and `{question.duplicate}`."
    told = words.overhead(row["floor"], row["floor_low"], row["floor_high"])
    pair = f"`{question.duplicate}` over `{question.baseline}`"
    return f"A/A of {_stratum(row)}: {pair} {told}, n = {row['floor_n']}."


def _logs(rows: pd.DataFrame) -> list[str]:
    """Say how the log grew: a cost that no clock shows."""
    good = rows[
        (rows["status"] == str(Status.OK))
        & rows["current"].astype(bool)
        & (rows["metric"].isin(_LOG_METRICS))
        & ~rows["warmup"].fillna(value=False).astype(bool)
    ]
    if good.empty:
        return []
    medians = good.groupby([*_LOG_KEY, "metric"])["value"].median().unstack("metric")  # noqa: PD010 - grouped already
    grown, lines = list(medians.columns), medians.reset_index().to_dict("records")
    lines.sort(key=lambda line: (line["workload"], line["attack"], climb(line["measurer"])))
    cells = ([*(f"`{line[name]}`" for name in _LOG_KEY), *(f"{line[name]:g}" for name in grown)] for line in lines)
    header = (*_LOG_KEY, *grown)
    return [
        "How the log grew, median over timed iterations of good runs (a cost too):",
        "",
        *markdown.table(header, cells),
    ]


_LOG_KEY = ("workload", "attack", "measurer")

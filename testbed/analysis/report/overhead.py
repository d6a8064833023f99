"""The report's part on overhead: the ladder, the A/A, what grows in memory, and the reasons for doubt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.report import absolute, single
from testbed.analysis.report.how_it_went import balance
from testbed.analysis.report.variance import grown, levels, noise, outside
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, Question, climb
from testbed.analysis.tables.tables import Tables
from testbed.record import Status, Tier
from testbed.spec import TUNED

_HEADER = (
    *("workload", "measurer", "overhead, 95 % interval", "n", "verdict"),
    *("cost of one operation", "baseline", "noise (A/A of)", "detectable effect (80 % power)"),
)
_WEIGHT = (
    "The mean is of these workloads, which were chosen and are no sample of anything: each has the same weight. It is "
    "taken in each block; its interval is over the blocks."
)
# More strata than this are shown as a matrix first.
_FEW = 3
_MARKS = {
    Conclusion.NO_DETECTABLE_OVERHEAD: " (no detectable overhead)",
    Conclusion.OVERHEAD_BELOW_DELTA: " (below δ)",
    Conclusion.SPEED_UP: " **(speed-up)**",
    Conclusion.SPEED_UP_BELOW_DELTA: " (speed-up, below δ)",
    Conclusion.INCONCLUSIVE: " (inconclusive)",
    Conclusion.INVALID: " **(INVALID)**",
}


def section(tables: Tables, figures: Mapping[str, str]) -> list[str]:
    """Return the lines on overhead: a table for each metric that is meaningful on this tier, the primary one first."""
    question = tables.question
    lines = ["## Overhead", "", metrics.MEANING[question.tier], ""]
    lines += [] if question.command_line == TUNED else [metrics.AS_SHIPPED, ""]
    lines += absolute.lines(tables)
    lines += markdown.picture(figures, "overhead", f"overhead over {question.baseline}")
    filled = {metric: table for metric, table in tables.ladders.items() if len(table)}
    if not filled:
        lines.append(f"No overhead is claimed: {_why_none(question, tables.rows)}.")
    for metric, table in filled.items():
        if metric in metrics.SINGLE:
            continue
        reading = metrics.reading(metric, question.tier)
        assert reading is not None, "a ladder exists only for a metric that means something on its tier"
        lines += [f"**{reading.label}**, over `{question.baseline}`:", ""]
        primary = metric == metrics.PRIMARY
        if _many(table):
            lines += [*_matrix(table, tables.overall if primary else tables.overall.iloc[:0]), ""]
        every = _every(table)
        lines += [*(markdown.folded("Every measurer with its absolute cost", every) if _many(table) else every), ""]
        lines += [*_noise(table, question), ""]
        if primary:
            lines += markdown.picture(figures, "blocks", "every block of every arm")
            lines += [*noise.section(tables), *outside.section(table)]
    lines += [*levels.section(tables), "", *single.section(tables), *_operations(tables), ""]
    for name in ("starts", "scaling"):
        lines += markdown.picture(figures, name, name)
    more = grown.lines(tables.rows)
    fold = len(tables.ladder.drop_duplicates(list(STRATUM))) > _FEW
    return [*lines, *(markdown.folded("What grew: log, kernel memory, page cache", more) if fold and more else more)]


def doubts(tables: Tables) -> list[str]:
    """Return the reasons to doubt the numbers."""
    lines: list[str] = []
    table, question = tables.ladder, tables.question
    if table.empty:
        return lines
    fewest = int(table["n"].min())
    if fewest < 6:
        lines.append(f"n = {fewest}: below 6 blocks there is no 95 % interval and no verdict.")
    elif fewest < 12:
        lines.append(
            f"n = {fewest}: intervals only. The smallest possible exact p is {2 / 2**fewest:.3f}, so nothing can be "
            "corrected for the number of comparisons. Read each interval by itself."
        )
    if (table["floor_n"] == 0).any():
        lines.append(f"No A/A: without `{question.duplicate}` an effect cannot be distinguished from noise.")
    delta = question.delta
    wide = table[(table["floor_low"] < 1 - delta) | (table["floor_high"] > 1 + delta)]
    if len(wide) and fewest >= 6:
        lines.append(f"The A/A interval is wider than δ = ±{100 * delta:g} %: the noise is larger than the margin.")
    lines += [*_biased(table, question), *_unsteady(table)]
    lines += list(_other_methods(tables.methods))
    order = balance(tables.plan)
    return lines if order.ok else [*lines, order.words]


def _many(table: pd.DataFrame) -> bool:
    return len(table.drop_duplicates(list(STRATUM))) > _FEW


def _matrix(table: pd.DataFrame, overall: pd.DataFrame) -> list[str]:
    """Show a row for each workload and a column for each arm; the last column is the A/A."""
    arms = sorted(set(table["treatment"]), key=climb)
    lines = []
    for key, group in table.groupby(list(STRATUM)):
        row = group.iloc[0]
        cells = {contrast["treatment"]: _cell(contrast) for contrast in group.to_dict("records")}
        floor = words.bounds(row["floor_low"], row["floor_high"]) if row["floor_n"] else "none"
        lines.append(
            [_named(dict(zip(STRATUM, key, strict=True)), table), *(cells.get(arm, "") for arm in arms), floor]
        )
    for key, group in overall.groupby(["kernel", "runtime"]):
        means = {
            contrast["treatment"]: words.overhead(contrast["ratio"], contrast["low"], contrast["high"])
            for contrast in group.to_dict("records")
        }
        count = int(group["workloads"].max())
        where = ", ".join(map(str, key)) if len(overall.drop_duplicates(["kernel", "runtime"])) > 1 else ""
        lines.append(
            [
                f"geometric mean of {count}, each weighs 1/{count} {where}".strip(),
                *(means.get(arm, "") for arm in arms),
                "",
            ]
        )
    return [
        *markdown.table(("workload", *(f"`{arm}`" for arm in arms), "A/A, %"), lines),
        "",
        "No remark means OVERHEAD: above the noise, and not below δ." + (f" {_WEIGHT}" if len(overall) else ""),
        *_apart(overall),
    ]


def _apart(overall: pd.DataFrame) -> Iterator[str]:
    intervals = [
        f"`{row['treatment']}` {words.bounds(row['apart_low'], row['apart_high'])}"
        for row in overall.to_dict("records")
        if math.isfinite(row["apart_high"])
    ]
    if intervals:
        shown = ", ".join(intervals)
        yield f"If workloads did not share their boots, its interval in % would be (bootstrap within each): {shown}."


def _cell(row: Mapping[Any, Any]) -> str:
    return words.overhead(row["ratio"], row["low"], row["high"]) + _MARKS.get(row["verdict"], "")


def _why_none(question: Question, rows: pd.DataFrame) -> str:
    if not metrics.readable(question.tier):
        return "this tier has no meaningful clock"
    if rows.empty or question.baseline not in set(rows.loc[rows["status"] == str(Status.OK), "measurer"]):
        return f"no good run of the baseline `{question.baseline}`"
    return "no block has both the baseline and another arm"


def _row(row: Mapping[Any, Any]) -> tuple[object, ...]:
    return (
        _stratum(row),
        f"`{row['treatment']}`",
        words.overhead(row["ratio"], row["low"], row["high"]),
        row["n"],
        _verdict(row),
        words.amount(row["cost"], row["cost_low"], row["cost_high"], row["unit"]),
        words.size(row["base"], row["unit"]),
        f"{words.bounds(row['noise_low'], row['noise_high'])} of `{row['noise_of']}`" if row["noise_of"] else "none",
        f"{100 * math.expm1(row['mde']):.2g} %" if math.isfinite(row["mde"]) else "nothing",
    )


def _every(table: pd.DataFrame) -> list[str]:
    """Show every contrast; p only where enough blocks exist to correct it for the number of workloads."""
    rows: list[dict[Any, Any]] = table.to_dict("records")
    has_p = bool(table["p_adjusted"].notna().any())
    header = (*_HEADER, "p", "p, Holm") if has_p else _HEADER
    shown = ((*_row(row), *((_p(row["p"]), _p(row["p_adjusted"])) if has_p else ())) for row in rows)
    lines = [*markdown.table(header, shown), ""]
    sentence = "*Detectable effect*: the smallest true overhead that 80 % of such campaigns detect, with this noise."
    return [*lines, sentence]


def _p(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.2g}"


def _verdict(row: Mapping[Any, Any]) -> str:
    """Return the verdict; of an inconclusive one also how many blocks would settle it."""
    conclusion = words.conclusion(row["verdict"], row["delta"])
    settled = row["verdict"] == Conclusion.INCONCLUSIVE and not pd.isna(row["settles"])
    return f"{conclusion}; {int(row['settles'])} blocks would settle it" if settled else conclusion


def _named(row: Mapping[Any, Any], table: pd.DataFrame) -> str:
    """Name a workload, with kernel and runtime where the table has several."""
    extra = [str(row[name]) for name in ("kernel", "runtime") if len(set(table[name])) > 1]
    return f"`{row['workload']}`" + (f" ({', '.join(extra)})" if extra else "")


def _stratum(row: Mapping[Any, Any]) -> str:
    return f"`{row['workload']}` ({row['kernel']}, {row['runtime']})"


def _noise(table: pd.DataFrame, question: Question) -> Iterator[str]:
    """Say what the A/A of each workload is. Of many workloads the matrix says it, except for those without an A/A."""
    for row in table.drop_duplicates(list(STRATUM)).to_dict("records"):
        if row["floor_n"] == 0:
            both = f"`{question.baseline}` and `{question.duplicate}`"
            yield f"A/A of {_stratum(row)}: none, no block has both {both}."
        elif not _many(table):
            floor = words.overhead(row["floor"], row["floor_low"], row["floor_high"])
            pair = f"`{question.duplicate}` over `{question.baseline}`"
            yield f"A/A of {_stratum(row)}: {pair} {floor}, n = {row['floor_n']}."


def _operations(tables: Tables) -> list[str]:
    """Say what an operation is where it is not the iteration, and which numbers of servers are not shown."""
    names = sorted({str(name) for name in tables.ladder["workload"]})
    operations = [
        f"`{name}` {operation}" for name in names if (operation := metrics.operation_of(name)) not in ("", "iteration")
    ]
    lines = [f"An operation is: {'; '.join(operations)}. For other workloads it is an iteration."] if operations else []
    served = sorted(set(tables.rows["metric"].dropna()) & set(metrics.SERVED))
    if served and tables.question.tier is not Tier.KVM:
        shown = ", ".join(f"`{name}`" for name in served)
        lines.append(
            f"Recorded but not shown: {shown}. The guest's clock measures them, and on tier {tables.question.tier} it "
            "is not time, so they are not comparable."
        )
    return lines


def _other_methods(table: pd.DataFrame) -> Iterator[str]:
    """Name each contrast for which another method gives another verdict."""
    for key, group in table[~table["agree"].astype(bool)].groupby([*STRATUM, "treatment"]):
        stratum = dict(zip((*STRATUM, "treatment"), key, strict=True))
        verdicts = "; ".join(
            f"{row['method']}: {words.overhead(row['ratio'], row['low'], row['high'])}, {row['verdict']}"
            for row in group.to_dict("records")
        )
        yield f"Methods disagree about `{stratum['treatment']}` on {_stratum(stratum)}: {verdicts}."


def _biased(table: pd.DataFrame, question: Question) -> Iterator[str]:
    """Name each workload whose A/A excludes 0."""
    for row in table.drop_duplicates(list(STRATUM)).to_dict("records"):
        if row["floor_n"] and (row["floor_low"] > 1 or row["floor_high"] < 1):
            yield (
                f"`{question.duplicate}` differs from `{question.baseline}` on {_stratum(row)}: A/A "
                f"{words.bounds(row['floor_low'], row['floor_high'])} %, n = {row['floor_n']}. The same arm differs "
                "from itself, so its contrasts are INVALID. Run more blocks: chance does not stay, a bias does."
            )


def _unsteady(table: pd.DataFrame) -> Iterator[str]:
    """Say where the A/A is wider than expected of such a workload. No verdict uses these margins."""
    for steady, margin in metrics.EXPECTED_FLOOR.items():
        beyond = [
            f"`{row['workload']}`"
            for row in table.drop_duplicates(list(STRATUM)).to_dict("records")
            if row["floor_n"] >= 6 and metrics.is_steady(str(row["workload"])) is steady and _reach(row) > margin
        ]
        kind = "steady workloads" if steady else "servers (several processes that wait for each other)"
        if beyond:
            yield f"The A/A of {kind} should lie within ±{100 * margin:g} %. It is wider for {', '.join(beyond)}."


def _reach(row: Mapping[Any, Any]) -> float:
    return max(abs(float(row["floor_low"]) - 1), abs(float(row["floor_high"]) - 1))

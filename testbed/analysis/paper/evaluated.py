"""The numbers that the slides leave out, as tables: overhead, prices, entries at a start, correctness of evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from testbed.analysis import words
from testbed.analysis.paper.typeset import PaperTable
from testbed.analysis.report import absolute
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.attest.finding import FindingKind
from testbed.record import Tier

# Findings that say that a log has not exactly what ran.
WRONG = (
    FindingKind.MISSING,
    FindingKind.GHOST,
    FindingKind.MISATTRIBUTED,
    FindingKind.WRONG_DIGEST,
    FindingKind.STALE,
)
ENTRIES = ("measurer", "workload", "first", "starts", "entries", "files", "runs")
EVIDENCE = ("measurer", "workload", "runs", "expected", "trusted", "promised", "wrong", "kinds")


def costs(tables: Tables) -> PaperTable | None:
    """Return what one operation costs, absolute, with the baseline; ``None`` if the tier has no overhead."""
    known = absolute.operations(tables)
    if not known:
        return None
    arms = sorted(set(tables.ladder["treatment"]), key=climb)
    rows = [
        (f"{one.what} ({one.how})".replace("`", ""), one.base, *(one.costs.get(arm, "") for arm in arms))
        for one in known
    ]
    unit = "instructions" if tables.question.tier is Tier.ICOUNT else "time"
    return PaperTable(
        name="costs",
        caption=f"What a measurer adds to one operation, in {unit}, with the 95 % interval over the blocks and the "
        f"percentage of the baseline (campaign {tables.plan.campaign}).",
        header=("operation", tables.question.baseline, *arms),
        rows=tuple(rows),
        right=frozenset(range(1, len(arms) + 2)),
    )


def overhead(tables: Tables) -> PaperTable | None:
    """Return each workload's overhead by arm, with intervals and A/A; ``None`` if the tier has no overhead."""
    table = tables.ladder
    if table.empty:
        return None
    arms = sorted(set(table["treatment"]), key=climb)
    rows = []
    for key, group in table.groupby(list(STRATUM)):
        cells = {row["treatment"]: _overhead_words(row) for row in _records(group)}
        first = group.iloc[0]
        bounds = words.bounds(first["floor_low"], first["floor_high"]).replace(words.NO_INTERVAL, "no interval")
        floor = bounds if first["floor_n"] else "none"
        rows.append((str(key[2]), *(cells.get(arm, "") for arm in arms), floor))
    means = {row["treatment"]: _overhead_words(row) for row in _records(tables.overall)}
    if means:
        count = int(tables.overall["workloads"].max())
        rows.append((f"geometric mean, each of {count} weighs 1/{count}", *(means.get(arm, "") for arm in arms), ""))
    return PaperTable(
        name="overhead",
        caption=f"Overhead over {tables.question.baseline} in guest instructions, 95 % interval over the blocks "
        f"(campaign {tables.plan.campaign}).",
        header=("workload", *arms, "A/A, %"),
        rows=tuple(rows),
        right=frozenset(range(1, len(arms) + 2)),
    )


def prices(tables: Tables) -> PaperTable | None:
    """Return the price of each event of each step; ``None`` if nothing was fitted."""
    rows = [
        (fit.step.title, fit.step.arm, term, words.amount(price.center, *ends(price.interval), fit.unit))
        for fit in tables.fits
        for term, price in fit.prices.items()
    ]
    if not rows:
        return None
    return PaperTable(
        name="prices",
        caption=f"What one event costs: fitted prices, 95 % interval (campaign {tables.plan.campaign}).",
        header=("step of the ladder", "measurer", "event", "price"),
        rows=tuple(rows),
        right=frozenset({3}),
    )


def entries(tables: Tables) -> pd.DataFrame:
    """Return one row per (measurer, workload, first): what one start of a container adds, median over the runs.

    ``first``: the first iteration in its machine. ``entries``: of the log; each is one extend in each PCR bank.
    """
    known = tables.events[(tables.events["attack"] == "none") & (tables.events["starts"] > 0)]
    listed = [
        {
            "measurer": measurer,
            "workload": workload,
            "first": bool(first),
            "starts": float(group["starts"].median()),
            "entries": float((group["extends"] / group["starts"]).median()),
            "files": float((group["files"] / group["starts"]).median()),
            "runs": len(group),
        }
        for (measurer, workload, first), group in known.assign(first=known["iteration"] == 0).groupby(
            ["measurer", "workload", "first"]
        )
    ]
    table = pd.DataFrame(listed, columns=list(ENTRIES)).dropna(subset=["entries"])
    return table.sort_values(["workload", "measurer", "first"], key=_order).reset_index(drop=True)


def entries_table(tables: Tables) -> PaperTable | None:
    """Return the entries of a start by workload and measurer: of the first iteration, then of a later one."""
    known = entries(tables)
    if known.empty:
        return None
    arms = sorted(set(known["measurer"]), key=climb)
    rows = []
    for workload, group in known.groupby("workload"):
        cells = []
        for arm in arms:
            mine = group[group["measurer"] == arm]
            both = (mine.loc[mine["first"] == first, "entries"] for first in (True, False))
            cells.append(" / ".join(f"{values.iloc[0]:.4g}" for values in both if len(values)))
        rows.append((str(workload), *cells))
    return PaperTable(
        name="entries",
        caption="Entries of the log that one start of a container adds (each is an extend in each PCR bank): first "
        f"iteration / later one; median over the runs (campaign {tables.plan.campaign}).",
        header=("workload", *arms),
        rows=tuple(rows),
        right=frozenset(range(1, len(arms) + 1)),
    )


def evidence(checks: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (measurer, workload): how its runs were judged. ``checks`` of ``checks.checks``.

    ``expected``: runs whose findings are the expected ones. ``trusted``: runs with a good verdict. ``promised``: median
    number of entries that the ground truth demands. ``wrong``: findings of ``WRONG`` in all runs. ``kinds``: the other
    kinds of findings.
    """
    listed = [
        {
            "measurer": measurer,
            "workload": workload,
            "runs": len(group),
            "expected": int((group["verdict"] == str(CheckVerdict.OK)).sum()),
            "trusted": int((group["judgement"] == "trusted").sum()),
            "promised": float(group["promised"].median()),
            "wrong": sum(kind in WRONG for kind in _kinds(group)),
            "kinds": ", ".join(sorted({kind for kind in _kinds(group) if kind not in WRONG})),
        }
        for (measurer, workload), group in checks[checks["attack"] == "none"].groupby(["measurer", "workload"])
    ]
    table = pd.DataFrame(listed, columns=list(EVIDENCE))
    return table.sort_values(["workload", "measurer"], key=_order).reset_index(drop=True)


def evidence_table(checks: pd.DataFrame, campaign: str) -> PaperTable:
    """Return how the runs of each measurer were judged, all workloads together."""
    known = evidence(checks)
    rows = []
    for arm in sorted(set(known["measurer"]), key=climb):
        mine = known[known["measurer"] == arm]
        spans = mine["promised"].dropna()
        promised = f"{spans.min():.0f} to {spans.max():.0f}" if len(spans) else "unknown"
        kinds = sorted({kind for kinds in mine["kinds"] for kind in kinds.split(", ") if kind})
        rows.append(
            (
                arm,
                f"{mine['runs'].sum()}",
                f"{mine['expected'].sum()}",
                f"{mine['trusted'].sum()}",
                promised,
                f"{mine['wrong'].sum()}",
                ", ".join(kinds) or "none",
            )
        )
    return PaperTable(
        name="correctness",
        caption="Correctness of the evidence: each log against what its containers really executed. Wrong entries are "
        f"missing, extra, stale, or of another container or content (campaign {campaign}).",
        header=(
            "measurer",
            "runs",
            "as expected",
            "trusted",
            "entries demanded a run",
            "wrong entries",
            "other findings",
        ),
        rows=tuple(rows),
        right=frozenset({1, 2, 3, 4, 5}),
    )


def _overhead_words(row: dict[Any, Any]) -> str:
    """Return an overhead with its interval; the usual words for a missing one are too long for a cell."""
    return words.overhead(row["ratio"], row["low"], row["high"]).replace(words.NO_INTERVAL, "no interval")


def _kinds(group: pd.DataFrame) -> list[str]:
    return [str(finding["kind"]) for findings in group["findings"] for finding in findings]


def ends(interval: object) -> tuple[float, float]:
    """Return the ends of an interval; infinite ones where there is none."""
    low, high = getattr(interval, "low", -math.inf), getattr(interval, "high", math.inf)
    return float(low), float(high)


def _order(column: pd.Series[str]) -> pd.Series[str]:
    """Sort measurers by their rung; other columns as they are."""
    if column.name != "measurer":
        return column
    return column.map(lambda name: "{:020d} {}".format(*climb(str(name))))


def _records(table: pd.DataFrame) -> Iterable[dict[Any, Any]]:
    return table.to_dict("records")

"""What tests the prices: single events, the null model, and how much of the hooks' cost their price explains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.models import bench_check
from testbed.analysis.statistics import effect
from testbed.analysis.tables.costmodel import STAND_INS, Fit
from testbed.analysis.tables.holdout import MARGIN, HoldoutRole
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables

_NONE = (
    "No count of single events is beside this campaign. `testbed bench measurer --json` makes one; docs/statistics.md "
    f"says how it belongs into `{bench_check.DIRECTORY}/`."
)
_HEADER = ("step", "event", "fitted price", "single event", "fitted / single - 1", "how the single event is counted")


def bench(tables: Tables) -> list[str]:
    """Return the lines that compare each price with the count of single events."""
    lines = ["### The prices beside single events", ""]
    if not tables.bench:
        return [
            *lines,
            _NONE,
        ]
    for kernel, counts in tables.bench.items():
        release = str(counts.facts.get("kernel_release", kernel))
        lines.append(
            f"Single events were counted by `testbed bench measurer` on {markdown.code(release)}; SHA-256 of that "
            f"file: `{counts.digest}`. It shares no workload and no method with the fit. The prices of this campaign "
            f"are {_farthest(tables.checked)}."
        )
    return [*lines, "", *markdown.table(_HEADER, _rows(tables.checked))]


def _farthest(table: pd.DataFrame) -> str:
    known = table.dropna(subset=["apart"])
    if known.empty:
        return "of other events"
    apart = known["apart"].abs()
    worst = known.iloc[int(apart.to_numpy().argmax())]
    return (
        f"{100 * apart.median():.2g} % apart from it in the median of {len(known)} events, and at most "
        f"{100 * apart.max():.2g} % (`{worst['event']}` of the step `{worst['step']}`)"
    )


def _rows(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    for row in table.to_dict("records"):
        low, high = (row[name] if pd.notna(row[name]) else sign for name, sign in (("low", -_INF), ("high", _INF)))
        known = pd.notna(row["single_low"])
        yield (
            str(row["step"]),
            f"`{row['event']}`",
            words.amount(row["price"], low, high, "instr." if row["unit"] == "instructions" else row["unit"]),
            _range(row["single_low"], row["single_high"]) if known else "",
            f"{words.signed(100 * row['apart'], 1)} %" if known else "",
            str(row["how"]),
        )


_INF = float("inf")


def _range(low: float, high: float) -> str:
    ends = [words.size(value, "instr.") for value in (low, high)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def null(table: pd.DataFrame) -> Iterator[str]:
    """Yield what the null model predicts, a line for each arm. ``table``: of ``holdout.predictions``."""
    unseen = table[table["role"] != str(HoldoutRole.OUTSIDE)]
    for arm, group in sorted(unseen.groupby("arm"), key=lambda pair: climb(str(pair[0]))):
        known = group.dropna(subset=["null_ratio"])
        if known.empty:
            yield f"`{arm}`: it hashes nothing in a timed iteration, so the null model says nothing."
            continue
        errors = [100 * (known[name] - 1).abs() for name in ("ratio", "null_ratio")]
        worst = known.iloc[int(errors[1].to_numpy().argmax())]
        better = "less" if errors[0].median() < errors[1].median() else "NOT less"
        own, of_null = (f"{one.median():.2g} %" for one in errors)
        yield (
            f"`{arm}`, null model: {int(known['null_within'].sum())} of {len(known)} within ±{100 * MARGIN:g} %; "
            f"median error {of_null}, worst `{worst['workload']}` {worst['null_ratio']:.3f}. The cost model's median "
            f"error is {own}, {better} than that."
        )


def hooks(tables: Tables) -> Iterator[str]:
    """Yield what the hooks were priced by, and which share of their cost that explains."""
    for fit in tables.fits:
        wanted = [term for term in fit.step.terms if term in STAND_INS]
        for term in wanted:
            used = term if term in fit.prices else STAND_INS[term]
            if used in fit.prices:
                yield _explained(tables, fit, used, counted=used == term)


def _explained(tables: Tables, fit: Fit, used: str, *, counted: bool) -> str:
    table = tables.observed[fit.step.name]
    mine = table[(table["kernel"] == fit.kernel) & table["workload"].isin(fit.workloads)]
    shares: list[float] = []
    for _, group in mine.groupby(list(STRATUM)):
        added = effect.estimate(group["added"].to_numpy(dtype=float)).center
        if added > 0:
            shares.append(100 * fit.prices[used].center * float(group[used].mean()) / added)
    ends = f"{min(shares):.3g} to {max(shares):.3g} %" if shares else "an unknown share"
    what = "the number of runs of its programs" if counted else "decisions, as no run counts are known"
    why = (
        "" if counted else " A campaign with `bpf_stats = true` counts runs: `testbed report --runs-of DIR` reads them."
    )
    return f"The step *{fit.step.title}* is priced by {what}. By workload, this explains {ends} of its cost.{why}"


def apart(checked: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the prices that are farther from their single event than the model's own margin."""
    rows: list[dict[Any, Any]] = checked[checked["apart"].abs() > MARGIN].to_dict("records")
    return rows

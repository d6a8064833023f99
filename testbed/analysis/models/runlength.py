"""Overhead against the length of a run: a start is paid once, so its share falls as the container runs on.

Of a workload that also counts what it used once it ran (``cpu_running``), the iteration is divided: ``n`` operations
cost what one costs while it runs, and the rest is the start. A run of N operations then costs start + N x operation, of
the baseline and of what an arm adds. For other workloads it is only known how long a run must be if nothing new is
executed in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.statistics import effect
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import STRATUM, Question, baseline_of, contrasts

# Below this share of the baseline an overhead is said to be over.
LIMIT = 0.01
RUNNING = "cpu_running"
COLUMNS = (
    *(*STRATUM, "treatment", "operations", "start_base", "start_cost", "start_low", "start_high"),
    *("base", "cost", "cost_low", "cost_high", "even", "even_least", "even_most", "n", "unit"),
)


def lengths(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, treatment): a start and one operation, and where 1 % is reached.

    ``operations``: of the measured iteration. ``start_base start_cost`` (with ``start_low start_high``): of a start,
    the baseline and what is added; ``base cost`` (with ``cost_low cost_high``): of one operation once it runs, 0 where
    no such count exists. ``even``: baseline instructions after which the overhead is below ``LIMIT``; ``even_least
    even_most``: by the ends of the intervals; inf where it never is.
    """
    whole, running = (metrics.reading(metric, question.tier) for metric in (metrics.PRIMARY, RUNNING))
    if whole is None or running is None:
        return pd.DataFrame(columns=list(COLUMNS))
    each = {
        (*contrast.stratum.values(), contrast.treatment): contrast for contrast in contrasts(rows, question, RUNNING)
    }
    counts = _operations(rows)
    listed: list[dict[str, Any]] = []
    for contrast in contrasts(rows, question, metrics.PRIMARY):
        key = (*contrast.stratum.values(), contrast.treatment)
        operations = float(counts.get(key[:-1], 1.0))
        base = pd.Series(baseline_of(contrast.arms, contrast.bases), index=contrast.arms.index) * operations
        added = contrast.arms[contrast.treatment] * operations - base
        alone = each.get(key)
        if alone is not None:
            one = pd.Series(baseline_of(alone.arms, alone.bases), index=alone.arms.index)
            more = alone.arms[contrast.treatment] - one
            base, added = (base - operations * one).dropna(), (added - operations * more).dropna()
        else:
            one = more = pd.Series(0.0, index=base.index)
        listed.append(
            contrast.stratum
            | {"treatment": contrast.treatment, "operations": operations, "unit": whole.unit, "n": len(added)}
            | _row(base, added, one, more, divided=alone is not None)
        )
    return pd.DataFrame(listed, columns=list(COLUMNS))


def _operations(rows: pd.DataFrame) -> dict[tuple[str, ...], float]:
    good = frames.counted(rows[(rows["attack"] == "none") & (rows["metric"] == metrics.PRIMARY)])
    timed = good[~good["warmup"].fillna(value=False).astype(bool)]
    grouped = timed.groupby(list(STRATUM))["operations"].median()
    table = grouped.reset_index().to_dict("records")
    return {tuple(str(row[name]) for name in STRATUM): float(row["operations"]) for row in table}


def _row(base: pd.Series, added: pd.Series, one: pd.Series, more: pd.Series, *, divided: bool) -> dict[str, Any]:
    start, start_low, start_high = _ends(added)
    cost, low, high = _ends(more)
    first, each = float(np.median(base)), float(np.median(one))
    # A run that is not divided goes on as it began: its share falls with the instructions alone.
    evens = [
        _even(first, cost_of_start, each if divided else 1.0, cost_of_one)
        for cost_of_start, cost_of_one in ((start, cost), (start_low, low), (start_high, high))
    ]
    return {
        "start_base": first,
        "start_cost": start,
        "start_low": start_low,
        "start_high": start_high,
        "base": each,
        "cost": cost,
        "cost_low": low,
        "cost_high": high,
        **dict(zip(("even", "even_least", "even_most"), evens, strict=True)),
    }


def _ends(values: pd.Series) -> tuple[float, float, float]:
    seen = effect.estimate(values.to_numpy(dtype=float))
    bounds = seen.interval or effect.Interval(low=float("-inf"), high=float("inf"))
    return seen.center, bounds.low, bounds.high


def _even(base: float, start: float, each: float, cost: float) -> float:
    """Return the baseline's instructions of the shortest run whose overhead is below ``LIMIT``."""
    if not (np.isfinite(start) and np.isfinite(cost)):
        return float("inf") if start > 0 or cost > 0 else base
    if start <= LIMIT * base:
        return base if cost <= LIMIT * each else float("inf")
    if cost >= LIMIT * each:
        return float("inf")
    number = (start - LIMIT * base) / (LIMIT * each - cost)
    return base + number * each


def overhead(row: dict[Any, Any], length: np.ndarray, which: str = "") -> np.ndarray:
    """Return the overhead of runs of these lengths (baseline instructions), as a share.

    ``row``: of ``lengths``; ``which``: ``_low`` or ``_high`` for the ends of the intervals.
    """
    each = row["base"] or 1.0
    number = np.maximum(length - row["start_base"], 0) / each
    share: np.ndarray = (row[f"start{which or '_cost'}"] + number * row[f"cost{which}"]) / length
    return share

"""The report's part on how the campaign went: the order of arms, rejected runs, how far boots differ."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from testbed.analysis import markdown
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, Question, arm_values, baseline_of
from testbed.plan import Cell, Plan
from testbed.record import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How often an arm had a position, and followed another arm, over the blocks: fewest and most of all pairs.

    ``strata``: over how many workloads it was counted. It counts planned orders, which resuming does not change.
    """

    places: tuple[int, int]
    followers: tuple[int, int]
    strata: int

    @property
    def ok(self) -> bool:
        """Whether each arm is equally often at each position and after each other arm."""
        return self.places[0] == self.places[1] and self.followers[0] == self.followers[1]

    @property
    def words(self) -> str:
        """The result as a sentence."""
        if self.ok:
            return (
                f"The order of arms is balanced: for each workload, every arm has every position "
                f"{_times(self.places[0])} and follows every other arm {_times(self.followers[0])}."
            )
        return (
            f"The order of arms is not balanced: for a workload, an arm has a position {_span(self.places)} times and "
            f"follows another arm {_span(self.followers)} times."
        )


def balance(plan: Plan) -> Balance:
    """Count positions and followers in the planned order, for the arms of each workload."""
    orders: dict[tuple[str, ...], list[list[str]]] = {}
    for block in plan.blocks:
        of_block: dict[tuple[str, ...], list[str]] = {}
        for cell in block.cells:
            of_block.setdefault(_stratum(cell), []).append(cell.measurer)
        for stratum, arms in of_block.items():
            orders.setdefault(stratum, []).append(arms)
    places, followers = [], []
    for blocks in orders.values():
        arms = sorted({arm for order in blocks for arm in order})
        at = Counter((arm, place) for order in blocks for place, arm in enumerate(order))
        after = Counter(pair for order in blocks for pair in itertools.pairwise(order))
        places += [at[arm, place] for arm in arms for place in range(len(arms))]
        followers += [after[first, then] for first in arms for then in arms if first != then]
    return Balance(
        places=(min(places, default=0), max(places, default=0)),
        followers=(min(followers, default=0), max(followers, default=0)),
        strata=len(orders),
    )


def attempts(rows: pd.DataFrame) -> list[str]:
    """Return the lines on rejected runs: one row for each arm, with how its attempts ended."""
    aside = rows[~rows["current"].astype(bool)].drop_duplicates("run")
    if aside.empty:
        return ["No run was rejected: every number is of a first attempt."]
    header = ("measurer", "repeated", *(str(status) for status in Status), "reasons")
    cells = (
        "These runs were rejected and repeated without looking at their results. None of them is used. (If one arm is "
        "disturbed, all arms of its workload are repeated.)"
    )
    return [
        cells,
        "",
        *markdown.table(header, _put_aside(aside)),
        "",
        "If the shares of rejected runs are unequal, a measurer itself causes noise.",
    ]


def boots(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload): how far its baseline differs from boot to boot.

    ``sd``: standard deviation of the logarithm over blocks; ``span``: largest over smallest, less 1; ``n`` blocks. It
    cancels in each ratio; a comparison across boots would have it as noise.
    """
    listed: list[dict[str, Any]] = []
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    clean = rows[(rows["attack"] == "none") & (rows["metric"] == metrics.PRIMARY)]
    for key, group in clean.groupby(list(STRATUM)) if reading is not None else ():
        assert reading is not None, "there is nothing to group without one"
        values = arm_values(group, metrics.PRIMARY, reading)
        bases = [arm for arm in (question.baseline, question.duplicate) if arm in values]
        if question.baseline not in bases:
            continue
        logs = pd.Series(baseline_of(values, bases)).dropna().map(math.log)
        if len(logs) > 1:
            spread = {"sd": float(logs.std()), "span": math.expm1(float(logs.max() - logs.min())), "n": len(logs)}
            listed.append(dict(zip(STRATUM, map(str, key), strict=True)) | spread)
    return pd.DataFrame(listed, columns=[*STRATUM, "sd", "span", "n"])


def section(plan: Plan, rows: pd.DataFrame, question: Question) -> list[str]:
    """Return the lines on how the campaign went."""
    lines = ["## How it went", "", balance(plan).words, "", *attempts(rows), ""]
    spread = boots(rows, question)
    if spread.empty:
        return lines
    lines += ["How much the baseline differs from boot to boot. Each ratio is of one boot, so this cancels:", ""]
    cells = (
        (f"`{row['workload']}`", row["n"], f"{100 * row['sd']:.3f} %", f"{100 * row['span']:.3f} %")
        for row in spread.to_dict("records")
    )
    return [*lines, *markdown.table(("workload", "boots", "standard deviation", "largest over smallest"), cells)]


def _put_aside(aside: pd.DataFrame) -> Iterator[list[object]]:
    for arm, group in aside.groupby("measurer"):
        reasons = Counter(str(reason).split(":")[0] for reason in group["reason"] if reason)
        counts = [int((group["status"] == str(status)).sum()) for status in Status]
        listed = ", ".join(f"{markdown.code(reason)} x{count}" for reason, count in sorted(reasons.items()))
        yield [f"`{arm}`", len(group), *counts, listed or "none"]


def _stratum(cell: Cell) -> tuple[str, ...]:
    return cell.kernel, cell.runtime, cell.workload, cell.attack


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"

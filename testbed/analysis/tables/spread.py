"""Every block of every contrast: how much an arm's overhead varies, beside how much the same arm twice does.

The floor of a verdict comes of the baseline that runs twice. Whether a treated arm repeats as well as the baseline is
another question, and this table answers it: its own blocks about their estimate, and the arm twice where it ran twice.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from testbed.analysis.statistics import effect
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, Question, arm_values, climb, contrasts

_TWIN = re.compile(r"(?P<first>.*\D)\d+")
COLUMNS = (*STRATUM, "arm", "over", "kind", "block", "log", "center")


class SpreadKind(enum.StrEnum):
    """What a row compares: an arm with the baseline, or an arm with itself."""

    EFFECT = "effect"
    TWICE = "twice"


def twin_of(arm: str, arms: Collection[str]) -> str | None:
    """Return the arm that this one repeats under another name: ``none`` of ``none2``; ``None`` if it repeats none."""
    found = _TWIN.fullmatch(arm)
    return found["first"] if found and found["first"] in arms else None


def spread(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, arm, block): ``log`` of the ratio of ``arm`` to ``over``.

    ``center``: the estimate over the blocks; of an arm twice it should be 0. For the primary metric.
    """
    listed: list[dict[str, Any]] = []
    for contrast in contrasts(rows, question):
        logs = pd.Series(contrast.logs, index=contrast.arms.index)
        pair = {"arm": contrast.treatment, "over": question.baseline, "kind": str(SpreadKind.EFFECT)}
        listed += _blocks(contrast.stratum | pair, logs)
    listed += _twice(rows, question)
    table = pd.DataFrame(listed, columns=list(COLUMNS))
    order = table["arm"].map(lambda arm: climb(str(arm))[0])
    return table.assign(order=order).sort_values([*STRATUM, "order", "arm", "block"])[list(COLUMNS)]


def _twice(rows: pd.DataFrame, question: Question) -> Iterator[dict[str, Any]]:
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    if reading is None:
        return
    clean = rows[(rows["attack"] == "none") & rows["current"].astype(bool)]
    for key, group in clean.groupby(list(STRATUM)):
        values = arm_values(group, metrics.PRIMARY, reading)
        arms = [str(arm) for arm in values]
        pairs = {arm: first for arm in arms if (first := twin_of(arm, arms))}
        if question.duplicate in arms and question.baseline in arms:
            pairs[question.duplicate] = question.baseline
        for arm, over in pairs.items():
            both = values[[arm, over]].dropna()
            logs = pd.Series(effect.log_ratio(both[arm], both[over]), index=both.index)
            stratum = dict(zip(STRATUM, map(str, key), strict=True))
            yield from _blocks(stratum | {"arm": arm, "over": over, "kind": str(SpreadKind.TWICE)}, logs)


def _blocks(named: dict[str, Any], logs: pd.Series) -> Iterator[dict[str, Any]]:
    if logs.empty:
        return
    center = effect.estimate(logs.to_numpy(dtype=float)).center
    for block, log in logs.items():
        yield named | {"block": block, "log": log, "center": center}

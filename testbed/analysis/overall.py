"""One number over all workloads: the geometric mean of their ratios, never of percentages."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from testbed.analysis import metrics, stats
from testbed.analysis.ladder import STRATUM, Question, arm_values, climb

COLUMNS = ("kernel", "runtime", "treatment", "ratio", "low", "high", "n", "workloads")


def effects(rows: pd.DataFrame, question: Question, metric: str = metrics.PRIMARY) -> pd.DataFrame:
    """Return one row a (kernel, runtime, workload, treatment, block): ``effect``, ln of its ratio to the baseline."""
    reading = metrics.reading(metric, question.tier)
    listed: list[pd.DataFrame] = []
    if reading is None:
        return pd.DataFrame(columns=[*STRATUM, "treatment", "block", "effect"])
    clean = rows[(rows["attack"] == "none") & (rows["metric"] == metric)]
    for key, group in clean.groupby(list(STRATUM)):
        values = arm_values(group, metric, reading)
        bases = [arm for arm in (question.baseline, question.duplicate) if arm in values]
        if question.baseline not in values:
            continue
        for treatment in set(map(str, values)) - {question.baseline, question.duplicate}:
            complete = values[[*bases, treatment]].dropna()
            if len(complete):
                logs = stats.log_ratio(complete[treatment], *(complete[base] for base in bases))
                named = dict(zip(STRATUM, map(str, key), strict=True)) | {"treatment": treatment}
                listed.append(pd.DataFrame({"block": complete.index, "effect": logs, **named}))
    return pd.concat(listed, ignore_index=True) if listed else pd.DataFrame(columns=[*STRATUM, "treatment", "block"])


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a (kernel, runtime, treatment): the geometric mean over its workloads, with its 95 % interval.

    ``table`` of ``effects``. The unit is the block here too: the workloads of a block share its boot, so the mean is
    taken in each block and the interval over the blocks. A block that lost one of the workloads is left out.
    """
    listed: list[dict[str, Any]] = []
    for key, group in table.groupby(["kernel", "runtime", "treatment"]) if len(table) else ():
        wide = group.pivot_table(index="block", columns="workload", values="effect").dropna()
        if wide.empty or wide.shape[1] < 2:
            continue
        found = stats.estimate(wide.mean(axis=1))
        bounds = found.interval or stats.Interval(low=-math.inf, high=math.inf)
        kernel, runtime, treatment = map(str, key)
        listed.append(
            {
                "kernel": kernel,
                "runtime": runtime,
                "treatment": treatment,
                "ratio": math.exp(found.center),
                "low": math.exp(bounds.low),
                "high": math.exp(bounds.high),
                "n": found.n,
                "workloads": wide.shape[1],
            }
        )
    listed.sort(key=lambda row: (row["kernel"], row["runtime"], climb(row["treatment"])))
    return pd.DataFrame(listed, columns=list(COLUMNS))

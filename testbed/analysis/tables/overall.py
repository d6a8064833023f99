"""All contrasts of a campaign together: one number over all workloads, and what other methods give."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from testbed import progress
from testbed.analysis.statistics import multiple, sensitivity
from testbed.analysis.tables.ladder import STRATUM, Contrast, climb

OVERALL = ("kernel", "runtime", "treatment", "ratio", "low", "high", "n", "workloads", "apart_low", "apart_high")
METHODS = (*STRATUM, "treatment", "method", "ratio", "low", "high", "verdict", "agree")


def overall(contrasts: list[Contrast]) -> pd.DataFrame:
    """Return one row per (kernel, runtime, treatment): the geometric mean over its workloads, with its 95 % interval.

    The unit is the block here too: the workloads of a block share its boot. A block that lost one of the workloads is
    left out. ``apart_low apart_high``: the interval if they did not, by a bootstrap within each workload, which has
    those blocks too. Of a single workload there is no row.
    """
    groups: dict[tuple[str, str, str], dict[str, pd.Series[float]]] = {}
    for contrast in contrasts:
        key = (str(contrast.stratum["kernel"]), str(contrast.stratum["runtime"]), contrast.treatment)
        logs = pd.Series(contrast.logs, index=contrast.arms.index)
        groups.setdefault(key, {})[str(contrast.stratum["workload"])] = logs
    listed: list[dict[str, Any]] = []
    for key in sorted(groups, key=lambda key: (key[0], key[1], climb(key[2]))):
        wide = pd.DataFrame(groups[key]).dropna()
        if len(wide) and wide.shape[1] > 1:
            mean = multiple.geometric_mean({str(name): wide[name] for name in wide}, together=True)
            apart = multiple.geometric_mean(groups[key])
            kernel, runtime, treatment = key
            listed.append(
                {"kernel": kernel, "runtime": runtime, "treatment": treatment, "n": len(wide)}
                | {name: getattr(mean, name) for name in ("ratio", "low", "high", "workloads")}
                | {"apart_low": apart.low, "apart_high": apart.high}
            )
    return pd.DataFrame(listed, columns=list(OVERALL))


def methods(contrasts: list[Contrast], delta: float) -> pd.DataFrame:
    """Return one row per (contrast, method): the estimate of each method; ``agree``: all give one verdict."""
    listed: list[dict[str, Any]] = []
    for contrast in progress.each(contrasts, "other methods", unit="contrasts"):
        bases = (contrast.arms[base] for base in contrast.bases)
        results = sensitivity.rows(
            contrast.arms[contrast.treatment], *bases, floor=contrast.floor, delta=delta, losses=contrast.losses
        )
        agree = sensitivity.disagreement(results) is None
        for row in results:
            bounds = row.estimate.interval
            listed.append(
                contrast.stratum
                | {"treatment": contrast.treatment, "method": row.method, "ratio": math.exp(row.estimate.center)}
                | {
                    "low": math.exp(bounds.low) if bounds else 0.0,
                    "high": math.exp(bounds.high) if bounds else math.inf,
                }
                | {"verdict": row.verdict, "agree": agree}
            )
    return pd.DataFrame(listed, columns=list(METHODS))

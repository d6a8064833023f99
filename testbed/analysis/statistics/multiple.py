"""Several workloads at once: p-values of one claim corrected for their number, and the mean of their ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import effect, power

# A claim is about one measurer on one kernel and runtime; its workloads are what is looked at several times.
CLAIM = ("kernel", "runtime", "treatment", "metric")
RESAMPLES = 1999
_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRatio:
    """The geometric mean of the ratios of ``workloads`` workloads, and its 95 % interval."""

    ratio: float
    low: float
    high: float
    workloads: int


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for their number, in the order given (Holm, Scandinavian Journal of Statistics 6, 1979).

    The chance that any true null has an adjusted p of at most 0.05 is at most 5 %, however the tests depend on each
    other. Raises ``ValueError`` for what is no probability.
    """
    raw = np.asarray(p, dtype=np.float64)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError("a p-value is between 0 and 1")
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def adjust(ladder: pd.DataFrame) -> pd.DataFrame:
    """Return a ladder (``tables.ladder``) with a column ``p_adjusted``: Holm over the workloads of each claim.

    NaN in the whole claim if one of its workloads has fewer than 12 blocks: leaving it out would make the others look
    better than they are.
    """
    adjusted = pd.Series(math.nan, index=ladder.index, dtype="float64")
    for _, claim in ladder.groupby(list(CLAIM)):
        if (claim["n"] >= effect.MIN_FOR_P).all():
            adjusted[claim.index] = holm(claim["p"].astype(float))
    return ladder.assign(p_adjusted=adjusted)


def geometric_mean(effects: Mapping[str, ArrayLike], *, together: bool = False, seed: int = _SEED) -> MeanRatio:
    """Return the mean of workloads' ratios: e to the mean of their Hodges-Lehmann estimates.

    ``effects``: the blocks' logarithms of each workload (``effect.log_ratio``). The interval is a percentile bootstrap
    of blocks within each workload, the same for the same seed; infinite where a workload has fewer than 6 blocks.
    ``together``: the workloads share their boots, and a boot may favour an arm on all of them. Then the mean of a block
    is the unit, with the exact interval, and all need the same blocks in the same order. Raises ``ValueError`` for no
    workload, or for shared blocks that are not equally many.
    """
    logs = [np.asarray(values, dtype=np.float64) for values in effects.values()]
    sizes = {len(values) for values in logs}
    if not sizes or 0 in sizes:
        raise ValueError("no workload, or one without a complete block: no mean")
    if together and len(sizes) > 1:
        raise ValueError(f"workloads that share their blocks have equally many, not {sorted(sizes)}")
    if together or len(logs) == 1:
        whole = effect.estimate(np.mean(logs, axis=0))
        center, bounds = whole.center, whole.interval
    else:
        center = float(np.mean([effect.estimate(values).center for values in logs]))
        bounds = _bootstrap(logs, np.random.default_rng(seed)) if min(sizes) >= power.MIN_BLOCKS else None
    low, high = (bounds.low, bounds.high) if bounds else (-math.inf, math.inf)
    return MeanRatio(ratio=math.exp(center), low=math.exp(low), high=math.exp(high), workloads=len(logs))


def _bootstrap(logs: list[NDArray[np.float64]], random: np.random.Generator) -> effect.Interval:
    low, high = np.quantile(np.mean([_resampled(values, random) for values in logs], axis=0), [0.025, 0.975])
    return effect.Interval(low=float(low), high=float(high))


def _resampled(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return the estimates of resampled blocks.

    A resample varies (n-1)/n as much as a sample does, which matters at n = 6; so the blocks are first pulled apart.
    """
    n = len(values)
    center = effect.estimate(values).center
    wider = center + (values - center) * math.sqrt(n / (n - 1))
    picks = random.integers(n, size=(RESAMPLES, n))
    rows, columns = np.triu_indices(n)
    estimates: NDArray[np.float64] = np.median((wider[picks[:, rows]] + wider[picks[:, columns]]) / 2, axis=1)
    return estimates

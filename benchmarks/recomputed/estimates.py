"""Estimate, interval and verdict of one contrast, as docs/statistics.md defines them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from recomputed.samples import Samples, geometric

# No floor is below what the clock of icount resolves.
RESOLUTION = 1e-4


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval; without one, both ends are NaN."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def scaled(self, factor: float) -> Number:
        """Return it in another unit."""
        return Number(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Contrast:
    """An arm against the baseline on one workload. ``logs``: D of each block.

    ``own``: A/A intervals of the baseline and of the arm itself, as far as they ran twice. ``noise``: those of which
    the widest is the arm's floor.
    """

    logs: npt.NDArray[np.float64]
    own: tuple[Number, ...]
    noise: tuple[Number, ...]
    failed: float
    rejected: float


@functools.cache
def rank(n: int, alpha: float) -> int:
    """Return the largest k with P(T <= k-1) <= alpha/2 for the signed-rank statistic T of n values; 0 if none.

    Each rank is in T or not. So the number of ways to reach each T is the product of the polynomials 1 + x^rank.
    """
    ways = np.ones(1, dtype=object)
    for value in range(1, n + 1):
        ways = np.convolve(ways, np.array([1] + [0] * (value - 1) + [1], dtype=object))
    below = np.cumsum(ways)
    return int(sum(1 for way in below if way * 2 <= alpha * 2**n))


def hodges_lehmann(values: npt.ArrayLike, alpha: float = 0.05) -> Number:
    """Return the median of the means of all pairs, and the exact interval."""
    data = np.asarray(values, dtype=float)
    means = np.sort([(a + b) / 2 for i, a in enumerate(data) for b in data[i:]])
    k = rank(len(data), alpha)
    low, high = (means[k - 1], means[len(means) - k]) if k else (-math.inf, math.inf)
    return Number(float(np.median(means)), float(low), float(high))


def percent(logarithm: Number) -> Number:
    """Return an effect (natural logarithm of a ratio) as overhead in percent."""
    return Number(*(100 * (math.exp(end) - 1) if end < math.inf else end for end in _ends(logarithm)))


def _ends(number: Number) -> tuple[float, float, float]:
    return number.value, number.low, number.high


@functools.cache
def contrast(samples: Samples, metric: str, arm: str, workload: str) -> Contrast | None:
    """Return D and A of each block; ``None`` where the arm has no complete block on this workload."""
    table = samples.values(metric, workload)
    bases = [name for name in (samples.baseline, samples.duplicate) if name in table]
    if arm not in table or samples.baseline not in bases:
        return None
    complete = table[[*bases, arm]].dropna()
    if complete.empty:
        return None
    logs = np.log(complete[arm].to_numpy(dtype=float)) - np.log(geometric(complete[bases]).to_numpy())
    failed, rejected = samples.lost(workload, frozenset({*bases, arm}))
    again = {str(name): same(samples, metric, workload, str(name)) for name in table}
    twice = {name: hodges_lehmann(values) for name, values in again.items() if len(values)}
    own = tuple(twice[name] for name in (samples.baseline, arm) if name in twice)
    noise = own if arm in twice else tuple(twice.values())
    return Contrast(logs=logs, own=own, noise=noise, failed=failed, rejected=rejected)


@functools.cache
def same(samples: Samples, metric: str, workload: str, arm: str = "") -> npt.NDArray[np.float64]:
    """Return A of each block: the logarithm of what an arm's second run differs by; empty if it did not run twice.

    ``arm``: by default the baseline. The second run of another arm has its name, and a 2 behind it.
    """
    table = samples.values(metric, workload)
    first = arm or samples.baseline
    second = samples.duplicate if first == samples.baseline else f"{first}2"
    if not {first, second} <= set(table):
        return np.array([])
    pairs = table[[first, second]].dropna().to_numpy(dtype=float)
    logs: npt.NDArray[np.float64] = np.log(pairs[:, 1]) - np.log(pairs[:, 0])
    return logs


@functools.cache
def cost(samples: Samples, metric: str, arm: str, workload: str) -> Number | None:
    """Return what one operation costs more, in instructions: the estimate of the differences of the blocks."""
    table = samples.values(metric, workload)
    bases = [name for name in (samples.baseline, samples.duplicate) if name in table]
    if arm not in table or not bases:
        return None
    complete = table[[*bases, arm]].dropna()
    return hodges_lehmann(complete[arm] - geometric(complete[bases])) if len(complete) else None


@functools.cache
def base(samples: Samples, metric: str, workload: str) -> float:
    """Return the baseline of one operation in instructions: the median over the blocks."""
    table = samples.values(metric, workload)
    bases = [name for name in (samples.baseline, samples.duplicate) if name in table]
    return float(geometric(table[bases].dropna()).median())


@functools.cache
def mean(samples: Samples, metric: str, arm: str) -> Number | None:
    """Return the geometric mean of the ratios of all workloads, as overhead: the mean of each block is the unit."""
    logs = {}
    for workload in samples.workloads:
        table = samples.values(metric, workload)
        bases = [name for name in (samples.baseline, samples.duplicate) if name in table]
        if arm in table and samples.baseline in bases:
            complete = table[[*bases, arm]].dropna()
            logs[workload] = np.log(complete[arm]) - np.log(geometric(complete[bases]))
    if not logs:
        return None
    blocks = pd.DataFrame(logs).dropna()
    return percent(hodges_lehmann(blocks.mean(axis=1)))


def verdict(found: Contrast, delta: float) -> str:
    """Return the verdict in the words of docs/statistics.md."""
    effect, narrow = hodges_lehmann(found.logs), hodges_lehmann(found.logs, alpha=0.10)
    biased = any(floor.low > 0 or floor.high < 0 for floor in found.own)
    if found.failed > 0.05 or found.rejected > 0.40 or biased:
        return "INVALID"
    height = max([RESOLUTION, *(max(abs(floor.low), abs(floor.high)) for floor in found.noise)])
    if not found.noise:
        return "INCONCLUSIVE"
    if not math.isfinite(height + effect.high + narrow.high):
        return "INCONCLUSIVE"
    equal = math.log(1 - delta) < narrow.low and narrow.high < math.log(1 + delta)
    if abs(effect.value) > height and (effect.low > 0 or effect.high < 0):
        return ("OVERHEAD" if effect.low > 0 else "SPEED-UP") + (", below δ" if equal else "")
    return "NO DETECTABLE OVERHEAD" if equal else "INCONCLUSIVE"


def p_value(logs: npt.NDArray[np.float64]) -> float:
    """Return the two-sided p of Wilcoxon's exact signed-rank test, by scipy."""
    return float(scipy.stats.wilcoxon(logs, method="exact").pvalue)

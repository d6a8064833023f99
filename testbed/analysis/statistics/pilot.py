"""What a pilot is asked before a campaign: is it warm, where does the variance sit, is a restore like a boot? Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import effect, power
from testbed.analysis.statistics.effect import EffectEstimate, Floor, Interval

# The warning is looked at once for each workload and arm, so it must be rare where nothing is wrong.
_ALARM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Kendall's ``tau`` (-1 to 1) of values against the number of their iteration, and its two-sided ``p``."""

    tau: float
    p: float

    @property
    def warns(self) -> bool:
        """Whether iterations still become faster or slower: raise ``warmups``, delete nothing."""
        return self.p < _ALARM


def trend(iterations: ArrayLike) -> Trend:
    """Return whether the timed iterations of a block have a trend; shaped (blocks, iterations), in order.

    Pairs are compared within blocks only and counted over all of them, with the variance that this sum has (Kendall,
    *Rank Correlation Methods*, 4th edition, section 4 on ties). Ranks of several blocks in one list would be compared
    across blocks too: at 6 blocks of 3 that warns of nothing three times as often as 1 %. Without pairs that differ,
    ``tau`` is 0 and ``p`` 1. Raises ``ValueError`` for what is no table.
    """
    values = np.asarray(iterations, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError("expected a table of numbers, a row a block and a column an iteration")
    first, second = np.triu_indices(values.shape[1], k=1)
    signs = np.sign(values[:, second] - values[:, first])
    variance = sum(_tau_variance(row) for row in values)
    if not variance:
        return Trend(tau=0.0, p=1.0)
    score = float(signs.sum())
    taus = math.sqrt(float(np.abs(signs).sum()) * signs.size)
    return Trend(tau=score / taus, p=2 * float(scipy.stats.norm.sf(abs(score) / math.sqrt(variance))))


def _tau_variance(row: NDArray[np.float64]) -> float:
    """Return the variance of the sum of the signs of all pairs, given the ties."""
    n, (_, ties) = len(row), np.unique(row, return_counts=True)
    return float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Where the variance sits, from the innermost level (iterations) outwards (runs, boots).

    ``variance``: what each level adds by itself (T squared; at or below 0: nothing). ``repeats``: how often to repeat
    at each level but the outermost; ``None``: the level around it adds nothing, so repeat as often as you like here.
    """

    variance: tuple[float, ...]
    repeats: tuple[int | None, ...]


def levels(values: ArrayLike, costs: Sequence[float]) -> Levels:
    """Return where the variance sits and how to share out a given time (Kalibera and Jones, ISMM 2013).

    ``values``: of a pilot, an axis a level, the outermost first, each at least 2 long. ``costs``: seconds of one more
    repetition at each level, the innermost first: an iteration, then what a new run adds, then a new boot. Raises
    ``ValueError`` for shapes that do not fit, and for costs that are not above 0.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != len(costs) or min(data.shape, default=0) < 2 or min(costs, default=0) <= 0:
        raise ValueError("expected an axis, at least 2 long, and a cost above 0 for each level")
    biased: list[float] = []
    means, counts = data, data.shape[::-1]
    while means.ndim:
        biased.append(float(np.mean(means.var(axis=-1, ddof=1))))
        means = means.mean(axis=-1)
    added = [own - (biased[level - 1] / counts[level - 1] if level else 0.0) for level, own in enumerate(biased)]
    repeats = [_repeats(added[i], added[i + 1], costs[i + 1] / costs[i]) for i in range(len(costs) - 1)]
    return Levels(variance=tuple(added), repeats=tuple(repeats))


def _repeats(inner: float, outer: float, cost: float) -> int | None:
    if outer <= 0:
        return None
    return max(1, math.ceil(math.sqrt(cost * max(inner, 0.0) / outer)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Blocks that were booted anew for each run against blocks of restores from one saved machine.

    ``ratio``: of boots to restores (logarithm), the median of all pairs' differences with its exact rank-sum interval.
    ``boot`` and ``restore``: standard deviations of the logarithms. ``spread``: their ratio, ``spread_interval`` its
    95 % F interval, which holds for logarithms that are about normal. No interval below 6 values on either side.
    """

    ratio: EffectEstimate
    boot: float
    restore: float
    spread: float
    spread_interval: Interval | None

    def alike(self, floor: Floor) -> bool | None:
        """Whether both give the same medians as far as the A/A can tell; ``None`` if it cannot tell anything."""
        return None if floor.height is None else abs(self.ratio.center) <= floor.height


def starts(boot: ArrayLike, restore: ArrayLike) -> Starts:
    """Compare the blocks' values (above 0) of both ways to start. They are other boots, so nothing is paired.

    Raises ``ValueError`` for fewer than 2 values on a side, and for values that have no logarithm.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (boot, restore)]
    if min(len(side) for side in sides) < 2 or not all(np.isfinite(side).all() and (side > 0).all() for side in sides):
        raise ValueError("expected at least 2 values above 0 of each way to start")
    booted, restored = np.log(sides[0]), np.log(sides[1])
    # Equal numbers have a mean that is rounded, and so a deviation that is not 0.
    spreads = [float(np.std(logs, ddof=1)) if np.ptp(logs) else 0.0 for logs in (booted, restored)]
    enough = min(len(booted), len(restored)) >= power.MIN_BLOCKS
    spread = spreads[0] / spreads[1] if spreads[1] else math.inf if spreads[0] else 1.0
    bounds = None
    if enough and all(spreads):
        law = scipy.stats.f(len(booted) - 1, len(restored) - 1)
        bounds = Interval(low=spread / math.sqrt(law.ppf(0.975)), high=spread / math.sqrt(law.ppf(0.025)))
    return Starts(
        ratio=_shift(booted, restored, enough=enough),
        boot=spreads[0],
        restore=spreads[1],
        spread=spread,
        spread_interval=bounds,
    )


def _shift(first: NDArray[np.float64], second: NDArray[np.float64], *, enough: bool) -> EffectEstimate:
    """Return Hodges and Lehmann's shift between two samples (Hollander, Wolfe, Chicken, sections 4.2 and 4.3)."""
    pairs = np.sort((first[:, None] - second[None, :]).ravel())
    law = np.cumsum(rank_sum_law(len(first), len(second)))
    wide, narrow = (
        _between(pairs, int(np.searchsorted(law, (1 - confidence) / 2, side="right"))) if enough else None
        for confidence in (effect.CONFIDENCE, effect.EQUIVALENCE_CONFIDENCE)
    )
    return EffectEstimate(center=float(np.median(pairs)), interval=wide, narrow=narrow, n=min(len(first), len(second)))


def _between(pairs: NDArray[np.float64], k: int) -> Interval | None:
    return Interval(low=float(pairs[k - 1]), high=float(pairs[-k])) if k else None


@functools.lru_cache
def rank_sum_law(first: int, second: int) -> NDArray[np.float64]:
    """Return P(U = u), u = 0 .. first x second, of Mann and Whitney's statistic of two samples of one law.

    The greatest of all values is of the first sample, and then beats all of the second, or of the second.
    """
    if not first or not second:
        return np.ones(1)
    law = np.zeros(first * second + 1)
    of_first, of_second = rank_sum_law(first - 1, second), rank_sum_law(first, second - 1)
    law[second:] += of_first * first / (first + second)
    law[: len(of_second)] += of_second * second / (first + second)
    return law

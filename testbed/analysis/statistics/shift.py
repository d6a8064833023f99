"""How far one sample lies above another that is not paired with it, as the blocks of two kernels are not. Pure."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import effect, power
from testbed.analysis.statistics.effect import EffectEstimate, Interval


def shift(first: ArrayLike, second: ArrayLike) -> EffectEstimate:
    """Return Hodges and Lehmann's shift of ``first`` over ``second``, with the exact rank-sum interval.

    It is the median of all differences (Hollander, Wolfe, Chicken, *Nonparametric Statistical Methods*, 3rd edition,
    sections 4.2 and 4.3). No interval below 6 values on either side. Raises ``ValueError`` for an empty sample, and
    for values that are not finite.
    """
    above, below = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if not (len(above) and len(below) and np.isfinite(above).all() and np.isfinite(below).all()):
        raise ValueError("expected at least one finite value in each sample")
    n = min(len(above), len(below))
    pairs = np.sort((above[:, None] - below[None, :]).ravel())
    law = np.cumsum(rank_sum_law(len(above), len(below)))
    wide, narrow = (
        _between(pairs, int(np.searchsorted(law, (1 - confidence) / 2, side="right")))
        if n >= power.MIN_BLOCKS
        else None
        for confidence in (effect.CONFIDENCE, effect.EQUIVALENCE_CONFIDENCE)
    )
    return EffectEstimate(center=float(np.median(pairs)), interval=wide, narrow=narrow, n=n)


def _between(pairs: NDArray[np.float64], k: int) -> Interval | None:
    return Interval(low=float(pairs[k - 1]), high=float(pairs[-k])) if k else None


@functools.lru_cache
def rank_sum_law(first: int, second: int) -> NDArray[np.float64]:
    """Return P(U = u), u = 0 .. first x second, of Mann and Whitney's statistic of two samples of one law.

    The greatest of all values is of the first sample, and then exceeds all of the second, or it is of the second.
    """
    if not first or not second:
        return np.ones(1)
    law = np.zeros(first * second + 1)
    of_first, of_second = rank_sum_law(first - 1, second), rank_sum_law(first, second - 1)
    law[second:] += of_first * first / (first + second)
    law[: len(of_second)] += of_second * second / (first + second)
    return law

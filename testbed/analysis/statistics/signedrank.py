"""The exact law of Wilcoxon's signed-rank statistic, and what follows from it for one sample of blocks. Pure.

The number of Walsh averages (means of two values, each value with itself too) above 0 is the statistic, so one sorted
list of them gives the estimate (its median), the interval (two of its members) and the test (Hollander, Wolfe, Chicken,
*Nonparametric Statistical Methods*, 3rd edition, sections 3.1 to 3.3).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray


def signed_rank_law(n: int) -> NDArray[np.float64]:
    """Return P(T = t), t = 0 .. n(n+1)/2, of the signed-rank statistic of ``n`` values symmetric about 0.

    Rank r adds r or nothing, each with probability 1/2; so the law of n ranks is that of n-1, half of it shifted by n.
    Exact up to the rounding of doubles (each step is one addition and one halving).
    """
    law = np.ones(1)
    for rank in range(1, n + 1):
        wider = np.zeros(len(law) + rank)
        wider[: len(law)] += law / 2
        wider[rank:] += law / 2
        law = wider
    return law


@functools.lru_cache
def interval_rank(n: int, confidence: float) -> int | None:
    """Return the largest k with P(T <= k-1) <= (1 - confidence) / 2.

    The k-th smallest and the k-th largest Walsh average bound the centre. ``None``: there is no such k, even the two
    outermost averages miss it too often (below n = 6 for 95 %).
    """
    k = int(np.searchsorted(_at_most(n), (1 - confidence) / 2, side="right"))
    return k or None


def walsh_averages(values: ArrayLike) -> NDArray[np.float64]:
    """Return the means of all pairs, each value with itself too, sorted."""
    data = np.asarray(values, dtype=np.float64)
    rows, columns = _pairs(len(data))
    return np.sort((data[rows] + data[columns]) / 2)


@functools.lru_cache
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.triu_indices(n)
    return rows, columns


@functools.lru_cache
def _at_most(n: int) -> NDArray[np.float64]:
    """Return P(T <= t)."""
    return np.cumsum(signed_rank_law(n))


def p_value(averages: ArrayLike, n: int) -> float:
    """Return the two-sided p of Wilcoxon's exact signed-rank test against 0, from the Walsh averages of ``n`` values.

    The averages below 0 are the statistic. One that is 0 counts against either side: never smaller than it should be,
    and the exact reverse of the interval.
    """
    data = np.asarray(averages, dtype=np.float64)
    least = min(int((data <= 0).sum()), int((data >= 0).sum()))
    return min(1.0, 2 * float(_at_most(n)[least]))

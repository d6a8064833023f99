"""What a pilot answers before a campaign: are the iterations warm, and how many blocks are needed? Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import power

# A report asks once for each workload and arm, so a false warning must be rare.
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
        raise ValueError("expected a table of numbers, a row per block and a column per iteration")
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
class BlocksNeeded:
    """How many blocks a campaign needs, from the spreads of a pilot (standard deviations of logarithms).

    ``detectable``: the smallest effect (logarithm) that as many blocks as the pilot's ``n`` detect with 80 % power;
    infinite below 6. ``to_find``: blocks that detect the wanted effect, ``None`` if no number does. ``to_equate``:
    blocks that show an arm without overhead to lie within delta.
    """

    n: int
    spread: float
    aa_spread: float
    detectable: float
    to_find: int | None
    to_equate: int | None


def blocks_needed(
    logs: ArrayLike, aa_spread: float, *, wanted: float, delta: float, resolution: float = 0.0
) -> BlocksNeeded:
    """Return how many blocks detect an effect of ``wanted``, and how many show equality within ``delta`` (relative).

    ``logs``: the pilot's blocks (``effect.log_ratio``); ``aa_spread``: that of its A/A. Raises ``ValueError`` for fewer
    than 2 blocks, which have no spread, and for values that are not finite.
    """
    values = np.asarray(logs, dtype=np.float64)
    if len(values) < 2 or not np.isfinite([*values, aa_spread]).all():
        raise ValueError("expected at least 2 blocks, and finite values")
    spread = float(np.std(values, ddof=1))
    return BlocksNeeded(
        n=len(values),
        spread=spread,
        aa_spread=aa_spread,
        detectable=power.mde(spread, len(values), floor=resolution, aa_spread=aa_spread),
        to_find=power.blocks_to_find(math.log1p(wanted), spread, aa_spread=aa_spread, resolution=resolution),
        to_equate=power.blocks_to_equate(math.log1p(delta), spread),
    )

"""The smallest effect that a number of blocks detects, and the blocks that an answer needs. Pure and deterministic.

The usual formula, (t.975 + t.80) s / sqrt(0.955 n), promises 80 % and gives 65 % at n = 6, as the exact interval of few
blocks is wider than a t interval; and as a verdict also asks that the effect exceeds the A/A floor, it gives 20 to 40 %
at any n. So nothing is approximated here: the intervals of seeded samples are computed once for each n by the same
estimator, and as a true effect only shifts them, the smallest shift that gives the verdict in 80 % of them is the
answer. The samples follow the normal law and that of Laplace, and the worse of the two counts: long tails are harmless
to the estimator where there are many blocks, but of 6 blocks the outermost bound the interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from testbed.analysis.statistics.signedrank import interval_rank, walsh_averages

POWER = 0.80
MIN_BLOCKS = 6
_SAMPLES = 4000
# Beyond so many blocks intervals shrink as t intervals do, and samples would take long.
_LARGE = 24
_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Estimates and interval ends of samples with standard deviation 1, a value per sample."""

    center: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    narrow_low: NDArray[np.float64]
    narrow_high: NDArray[np.float64]


def mde(spread: float, n: int, *, floor: float = 0.0, aa_spread: float = 0.0) -> float:
    """Return the smallest true effect that ``n`` blocks find as OVERHEAD with 80 % power; infinite below 6 blocks.

    ``spread``: standard deviation of the blocks' effects, in the same unit as the result (logarithms for ratios).
    ``floor``: height of the A/A that the effect must exceed, where it is known. ``aa_spread``: standard deviation of
    the blocks' A/A where it is not, as before a campaign: then campaigns lost to a biased A/A count as not found.
    """
    if n < MIN_BLOCKS or not math.isfinite(spread):
        return math.inf
    size, worst = _shrink(n), 0.0
    for effect, same in _drawn(min(n, _LARGE)):
        height = np.maximum(np.maximum(np.abs(same.low), np.abs(same.high)) * aa_spread * size, floor)
        needed = np.maximum(-effect.low * spread * size, height - effect.center * spread * size)
        if aa_spread:
            needed = np.where((same.low > 0) | (same.high < 0), math.inf, needed)
        worst = max(worst, _reached(needed))
    return worst


def margin(spread: float, n: int, *, truth: float = 0.0) -> float:
    """Return the smallest margin within which ``n`` blocks show ``truth`` to lie, with 80 % power; infinite below 6."""
    if n < MIN_BLOCKS or not math.isfinite(spread):
        return math.inf
    size = spread * _shrink(n)
    return max(
        _reached(np.maximum(truth + drawn.narrow_high * size, -truth - drawn.narrow_low * size))
        for drawn, _ in _drawn(min(n, _LARGE))
    )


def blocks_to_find(effect: float, spread: float, *, aa_spread: float = 0.0, resolution: float = 0.0) -> int | None:
    """Return the fewest blocks that find a true ``effect`` with 80 % power; ``None`` if it is below the resolution."""
    if abs(effect) <= resolution:
        return None
    return _fewest(lambda n: mde(spread, n, floor=resolution, aa_spread=aa_spread) <= abs(effect))


def blocks_to_equate(delta: float, spread: float, *, truth: float = 0.0) -> int | None:
    """Return the fewest blocks that show a true effect of ``truth`` to lie within ``delta``, with 80 % power.

    ``None`` if it does not lie within, or if a million blocks are too few.
    """
    if abs(truth) >= delta:
        return None
    return _fewest(lambda n: margin(spread, n, truth=truth) <= delta)


def settles(
    center: float, *, spread: float, n: int, delta: float, aa_spread: float, resolution: float = 0.0
) -> int | None:
    """Return how many blocks would give a verdict with 80 % power if the truth is ``center``: always more than ``n``.

    Whichever is less: to find it, or to show it within ``delta``. ``None``: neither would.
    """
    if not math.isfinite(spread):
        return None
    ways = (
        blocks_to_find(center, spread, aa_spread=aa_spread, resolution=resolution),
        blocks_to_equate(-math.log1p(-delta) if center < 0 else math.log1p(delta), spread, truth=center),
    )
    known = [way for way in ways if way is not None]
    return max(n + 1, min(known)) if known else None


def _reached(needed: NDArray[np.float64]) -> float:
    """Return what is enough for 80 % of the samples."""
    return float(np.quantile(needed, POWER, method="higher"))


def _shrink(n: int) -> float:
    """Return what the ends of the drawn samples are multiplied by: 1 where samples of that size are drawn."""
    return _textbook(n) / _textbook(_LARGE) if n > _LARGE else 1.0


@functools.cache
def _textbook(n: int) -> float:
    return float(np.sum(scipy.stats.t.ppf([0.975, POWER], n - 1))) / math.sqrt(n)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the least n that is enough, by halving: more blocks are never less."""
    if not enough(_MOST):
        return None
    few, many = MIN_BLOCKS - 1, _MOST
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


@functools.cache
def _drawn(n: int) -> tuple[tuple[_Drawn, _Drawn], ...]:
    """Return, for each law, seeded samples of ``n`` blocks of an effect and of an A/A, with standard deviation 1."""
    random = np.random.default_rng(n)
    shape = (2, _SAMPLES, n)
    laws = (random.normal(size=shape), random.laplace(scale=math.sqrt(0.5), size=shape))
    return tuple((_ends(effect), _ends(same)) for effect, same in laws)


def _ends(samples: NDArray[np.float64]) -> _Drawn:
    n = samples.shape[1]
    averages = np.array([walsh_averages(sample) for sample in samples])
    wide, narrow = interval_rank(n, 0.95), interval_rank(n, 0.90)
    assert wide is not None
    assert narrow is not None
    return _Drawn(
        center=np.median(averages, axis=1),
        low=averages[:, wide - 1],
        high=averages[:, -wide],
        narrow_low=averages[:, narrow - 1],
        narrow_high=averages[:, -narrow],
    )

"""Overhead as a ratio with its interval. Pure functions. The unit is a block (one boot), never an iteration.

::

    D_b = ln(m_arm,b / sqrt(m_none,b * m_none2,b))      the effect of an arm in block b
    A_b = ln(m_none2,b / m_none,b)                      what the same arm twice differs by (A/A)

Everything is done on logarithms, so that twice as slow and twice as fast are equally far from 1. The estimate is that
of Hodges and Lehmann (Annals of Mathematical Statistics 34, 1963), its interval the inverted exact signed-rank test of
Wilcoxon (Hollander, Wolfe, Chicken, *Nonparametric Statistical Methods*, 3rd edition, section 3.3).
``docs/statistics.md`` says why.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import power
from testbed.analysis.statistics.signedrank import interval_rank, p_value, walsh_averages

CONFIDENCE = 0.95
# Two one-sided tests at 5 % are an interval of 90 % inside the margin.
EQUIVALENCE_CONFIDENCE = 0.90
# The smallest exact p of 6 blocks is 0.031. Below 12 blocks none could stay below 0.05 after correction.
MIN_FOR_P = 12
MAX_FAILED = 0.05
MAX_REJECTED = 0.40


class Conclusion(enum.StrEnum):
    """The verdict on an arm. The two "below δ" are both an effect and equivalence: real, but small."""

    INVALID = "INVALID"
    OVERHEAD = "OVERHEAD"
    OVERHEAD_BELOW_DELTA = "OVERHEAD, below δ"
    SPEED_UP = "SPEED-UP"
    SPEED_UP_BELOW_DELTA = "SPEED-UP, below δ"
    NO_DETECTABLE_OVERHEAD = "NO DETECTABLE OVERHEAD"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval. An end can be infinite, never absent."""

    low: float
    high: float

    def inside(self, low: float, high: float) -> bool:
        """Whether all of it lies strictly between the two."""
        return low < self.low and self.high < high


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectEstimate:
    """A Hodges-Lehmann estimate with both intervals; ``None`` where so few blocks cannot bound it.

    ``spread``: the blocks' standard deviation, NaN of one block. ``p``: of the two-sided exact signed-rank test against
    0, at most 0.05 exactly where the 95 % interval leaves 0 out.
    """

    center: float
    interval: Interval | None
    narrow: Interval | None
    n: int
    spread: float = math.nan
    p: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the A/A shows: ``estimate`` of A (logarithm) and the ``resolution`` of the tier's clock.

    No effect below the resolution is claimed. It excuses no bias: an A/A that excludes 0 shows that the same arm
    differs from itself, however little. ``suspects``: the A/A of each arm that is compared, any of which can show a
    bias; by default ``estimate``.
    """

    estimate: EffectEstimate
    resolution: float
    suspects: tuple[EffectEstimate, ...] = ()

    @property
    def height(self) -> float | None:
        """The larger absolute end of the A/A interval, at least the resolution; ``None`` without an interval."""
        interval = self.estimate.interval
        return None if interval is None else max(abs(interval.low), abs(interval.high), self.resolution)

    @property
    def biased(self) -> bool:
        """Whether the same arm run twice differs: then the experiment is biased, and nothing follows from it."""
        intervals = (one.interval for one in self.suspects or (self.estimate,))
        return any(one is not None and (one.low > 0 or one.high < 0) for one in intervals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Shares of the planned blocks, 0 to 1, that failed and that were rejected (blind to the outcome)."""

    failed: float = 0.0
    rejected: float = 0.0

    @property
    def too_many(self) -> bool:
        """Whether the remaining blocks are no longer a fair sample."""
        return self.failed > MAX_FAILED or self.rejected > MAX_REJECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What an arm costs: ``ratio`` to the baseline (1.05 is 5 % more) in ``n`` blocks.

    ``low`` and ``high`` are the 95 % interval, infinite where ``n`` is too small for one: never a number without it.
    ``p``: raw, ``None`` below 12 blocks. ``spread``: standard deviation of the blocks' logarithms. ``mde``: smallest
    true effect (logarithm) that as many blocks with this spread and this floor find in 80 % of campaigns; infinite if
    they find none. ``settles``: how many blocks would end an INCONCLUSIVE; ``None`` elsewhere, or if nothing would.
    """

    metric: str
    baseline: str
    treatment: str
    ratio: float
    low: float
    high: float
    n: int
    verdict: Conclusion
    p: float | None = None
    spread: float = math.nan
    mde: float = math.inf
    settles: int | None = None


def arm_value(timed: Sequence[float]) -> float:
    """Return the value of an arm in one block: the median of its timed iterations. Raises ``ValueError`` for none."""
    if not timed:
        raise ValueError("an arm without a timed iteration has no value")
    return float(median(timed))


def log_ratio(treatment: ArrayLike, *baselines: ArrayLike) -> NDArray[np.float64]:
    """Return ln(treatment / geometric mean of the baselines) block by block.

    All sequences have the same blocks in the same order. Raises ``ValueError`` for values that have no logarithm.
    """
    values = np.stack([np.asarray(arm, dtype=np.float64) for arm in (treatment, *baselines)])
    if len(values) < 2:
        raise ValueError("a ratio needs a baseline")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("a ratio needs finite values above 0")
    logs = np.log(values)
    effect: NDArray[np.float64] = logs[0] - logs[1:].mean(axis=0)
    return effect


def estimate(values: ArrayLike) -> EffectEstimate:
    """Return the Hodges-Lehmann estimate of the centre of the blocks' values. Raises ``ValueError`` for no value."""
    n = np.size(values)
    if n == 0:
        raise ValueError("no complete block, nothing to estimate")
    averages = walsh_averages(values)
    return EffectEstimate(
        center=float(np.median(averages)),
        interval=_bounds(averages, n, CONFIDENCE),
        narrow=_bounds(averages, n, EQUIVALENCE_CONFIDENCE),
        n=n,
        spread=float(np.std(np.sort(values), ddof=1)) if n > 1 else math.nan,
        p=p_value(averages, n),
    )


def _bounds(averages: NDArray[np.float64], n: int, confidence: float) -> Interval | None:
    k = interval_rank(n, confidence)
    return None if k is None else Interval(low=float(averages[k - 1]), high=float(averages[-k]))


def conclude(effect: EffectEstimate, floor: Floor | None, *, delta: float, losses: Losses = Losses()) -> Conclusion:
    """Return the verdict on ``effect`` (logarithm). ``delta``: below this relative overhead two arms count as equal.

    Without an A/A (``floor``) an effect cannot be distinguished from noise, so there is no verdict.
    """
    if losses.too_many or (floor is not None and floor.biased):
        return Conclusion.INVALID
    if floor is None or floor.height is None or effect.interval is None or effect.narrow is None:
        return Conclusion.INCONCLUSIVE
    equal = effect.narrow.inside(math.log1p(-delta), math.log1p(delta))
    above = abs(effect.center) > floor.height
    if above and effect.interval.low > 0:
        return Conclusion.OVERHEAD_BELOW_DELTA if equal else Conclusion.OVERHEAD
    if above and effect.interval.high < 0:
        return Conclusion.SPEED_UP_BELOW_DELTA if equal else Conclusion.SPEED_UP
    return Conclusion.NO_DETECTABLE_OVERHEAD if equal else Conclusion.INCONCLUSIVE


def overhead(
    effect: EffectEstimate,
    floor: Floor | None,
    *,
    metric: str,
    baseline: str,
    treatment: str,
    delta: float,
    losses: Losses = Losses(),
) -> Overhead:
    """Return the effect as a ratio with its interval and its verdict."""
    bounds = effect.interval or Interval(low=-math.inf, high=math.inf)
    verdict = conclude(effect, floor, delta=delta, losses=losses)
    return Overhead(
        metric=metric,
        baseline=baseline,
        treatment=treatment,
        ratio=math.exp(effect.center),
        low=math.exp(bounds.low),
        high=math.exp(bounds.high),
        n=effect.n,
        verdict=verdict,
        p=effect.p if effect.n >= MIN_FOR_P else None,
        spread=effect.spread,
        mde=math.inf
        if floor is None or floor.height is None
        else power.mde(effect.spread, effect.n, floor=floor.height),
        settles=_settles(effect, floor, delta) if verdict is Conclusion.INCONCLUSIVE else None,
    )


def _settles(effect: EffectEstimate, floor: Floor | None, delta: float) -> int | None:
    """Return how many blocks would settle it, if the truth is what was estimated. Without an A/A none would."""
    if floor is None:
        return None
    return power.settles(
        effect.center,
        spread=effect.spread,
        n=effect.n,
        delta=delta,
        aa_spread=floor.estimate.spread,
        resolution=floor.resolution,
    )


def percent(ratio: float) -> float:
    """Return a ratio as overhead in percent: 1.05 is 5, 0.5 is -50."""
    return 100 * (ratio - 1)

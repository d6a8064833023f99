"""The same contrasts by other methods, and the verdict that each would give. Pure, seeded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.statistics import effect, power
from testbed.analysis.statistics.effect import Conclusion, EffectEstimate, Floor, Interval, Losses

RESAMPLES = 9999
_SEED = 1
_NOTHING_LOST = Losses()


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """What one ``method`` makes of an effect: its estimate (logarithm) and the verdict that would follow."""

    method: str
    estimate: EffectEstimate
    verdict: Conclusion


def rows(
    treatment: ArrayLike,
    *baselines: ArrayLike,
    floor: Floor | None,
    delta: float,
    losses: Losses = _NOTHING_LOST,
    seed: int = _SEED,
) -> tuple[MethodResult, ...]:
    """Return what the estimator of the report, a bootstrap of medians and a t interval make of the same blocks.

    The arguments are those of ``effect.log_ratio`` and ``effect.conclude``; the first row is the report's. Below 6
    blocks no method has an interval.
    """
    logs = effect.log_ratio(treatment, *baselines)
    on = np.asarray(treatment, dtype=np.float64)
    ways = {
        "Hodges-Lehmann, exact signed-rank interval": effect.estimate(logs),
        "ratio of medians, paired BCa bootstrap": ratio_of_medians(on, on / np.exp(logs), seed=seed),
        "mean of logarithms, t interval": mean_of_logs(logs),
    }
    return tuple(
        MethodResult(method=method, estimate=way, verdict=effect.conclude(way, floor, delta=delta, losses=losses))
        for method, way in ways.items()
    )


def disagreement(results: Iterable[MethodResult]) -> str | None:
    """Return a line for a reader if not all methods give the same verdict."""
    listed = list(results)
    if len({row.verdict for row in listed}) < 2:
        return None
    return "methods disagree: " + "; ".join(f"{row.method}: {row.verdict}" for row in listed)


def ratio_of_medians(treatment: ArrayLike, baseline: ArrayLike, *, seed: int = _SEED) -> EffectEstimate:
    """Return ln(median of the treatment / median of the baseline), with BCa intervals over resampled blocks.

    Both have the same blocks in the same order (Efron, Journal of the American Statistical Association 82, 1987).
    """
    pair = np.stack([np.asarray(arm, dtype=np.float64) for arm in (treatment, baseline)])
    n = pair.shape[1]
    wide = narrow = None
    if n >= power.MIN_BLOCKS:
        wide, narrow = _bca(pair, seed)
    return EffectEstimate(center=float(_of_medians(*pair)), interval=wide, narrow=narrow, n=n)


def mean_of_logs(logs: ArrayLike) -> EffectEstimate:
    """Return the mean of the blocks' logarithms with Student's t intervals."""
    values = np.asarray(logs, dtype=np.float64)
    n, center = len(values), float(np.mean(values))
    if n < power.MIN_BLOCKS:
        return EffectEstimate(center=center, interval=None, narrow=None, n=n)
    spread = float(values.std(ddof=1))
    halves = [
        float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
        for confidence in (effect.CONFIDENCE, effect.EQUIVALENCE_CONFIDENCE)
    ]
    wide, narrow = (Interval(low=center - half, high=center + half) for half in halves)
    return EffectEstimate(center=center, interval=wide, narrow=narrow, n=n, spread=spread)


def _of_medians(treatment: NDArray[np.float64], baseline: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.log(np.median(treatment, axis=axis) / np.median(baseline, axis=axis))
    return ratio


def _bca(pair: NDArray[np.float64], seed: int) -> tuple[Interval, Interval]:
    """Return the 95 % and the 90 % interval, of the same resamples."""
    drawn = scipy.stats.bootstrap(
        tuple(pair),
        _of_medians,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    wide, narrow = (
        _corrected(pair, drawn, confidence) for confidence in (effect.CONFIDENCE, effect.EQUIVALENCE_CONFIDENCE)
    )
    return wide, narrow


def _corrected(pair: NDArray[np.float64], drawn: Any, confidence: float) -> Interval:
    """Return the BCa interval, or that of percentiles where leaving out any one block leaves the medians as they are.

    Then there is no acceleration to correct for, and scipy says NaN. Counts of instructions can be that equal.
    """
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            bounds = scipy.stats.bootstrap(
                tuple(pair),
                _of_medians,
                paired=True,
                vectorized=True,
                n_resamples=0,
                bootstrap_result=drawn,
                confidence_level=confidence,
                method=method,
            ).confidence_interval
        if np.isfinite(bounds).all():
            break
    return Interval(low=float(bounds.low), high=float(bounds.high))

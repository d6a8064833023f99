"""The other estimators are scipy's, and a disagreement is reported."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from testbed.analysis.statistics import effect, sensitivity
from testbed.analysis.statistics.effect import Conclusion, Floor, Interval, Losses

RANDOM = np.random.default_rng(5)
NONE, NONE2 = np.exp(RANDOM.normal(0, 0.004, (2, 12)))
ON = 1.03 * np.exp(RANDOM.normal(0, 0.004, 12))
FLOOR = Floor(estimate=effect.estimate(effect.log_ratio(NONE2, NONE)), resolution=0.0)
FLAT = Floor(estimate=effect.estimate([0.0] * 12), resolution=1e-4)


def of_medians(on: NDArray[np.float64], off: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.median(on, axis=axis) / np.median(off, axis=axis))
    return logs


@pytest.mark.parametrize("name", ["interval", "narrow"])
def test_bootstrap_is_that_of_scipy(name: str) -> None:
    got = getattr(sensitivity.ratio_of_medians(ON, NONE, seed=3), name)
    want = scipy.stats.bootstrap(
        (ON, NONE),
        of_medians,
        paired=True,
        n_resamples=9999,
        confidence_level={"interval": 0.95, "narrow": 0.90}[name],
        method="BCa",
        random_state=np.random.default_rng(3),
    ).confidence_interval
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


@pytest.mark.parametrize(("name", "confidence"), [("interval", 0.95), ("narrow", 0.90)])
def test_t_interval_is_that_of_scipy(name: str, confidence: float) -> None:
    logs = np.log(ON / NONE)
    got = getattr(sensitivity.mean_of_logs(logs), name)
    want = scipy.stats.ttest_1samp(logs, 0).confidence_interval(confidence)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_the_first_row_is_the_reports_own() -> None:
    first, *others = sensitivity.rows(ON, NONE, NONE2, floor=FLOOR, delta=0.02)
    assert first.estimate == effect.estimate(effect.log_ratio(ON, NONE, NONE2))
    assert first.verdict == effect.conclude(first.estimate, FLOOR, delta=0.02)
    assert len(others) == 2


def test_quiet_blocks_are_seen_alike_by_all() -> None:
    found = sensitivity.rows(ON, NONE, NONE2, floor=FLOOR, delta=0.02)
    assert {row.verdict for row in found} == {Conclusion.OVERHEAD}
    assert all(row.estimate.center == pytest.approx(math.log(1.03), abs=0.005) for row in found)
    assert sensitivity.disagreement(found) is None


def test_the_ratio_of_medians_is_to_both_baselines() -> None:
    _, medians, _ = sensitivity.rows(ON, NONE, NONE2, floor=FLOOR, delta=0.02)
    assert medians.estimate.center == pytest.approx(of_medians(ON, np.sqrt(NONE * NONE2)))


def test_a_spike_makes_them_disagree_and_that_is_told() -> None:
    """One block of twelve takes half as long again: the t interval alone reaches 0."""
    spiky = ON.copy()
    spiky[0] *= 1.5
    found = sensitivity.rows(spiky, NONE, NONE2, floor=FLOOR, delta=0.02)
    assert [row.verdict for row in found] == [Conclusion.OVERHEAD, Conclusion.OVERHEAD, Conclusion.INCONCLUSIVE]
    told = sensitivity.disagreement(found)
    assert told is not None
    assert "t interval: INCONCLUSIVE" in told


def test_losses_invalidate_each_row() -> None:
    found = sensitivity.rows(ON, NONE, NONE2, floor=FLOOR, delta=0.02, losses=Losses(failed=0.5))
    assert {row.verdict for row in found} == {Conclusion.INVALID}


def test_few_blocks_have_no_interval_by_any_method() -> None:
    for row in sensitivity.rows(ON[:5], NONE[:5], NONE2[:5], floor=FLAT, delta=0.02):
        assert (row.estimate.interval, row.verdict) == (None, Conclusion.INCONCLUSIVE)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (sensitivity.ratio_of_medians(ON, NONE, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.interval != other.interval


@pytest.mark.parametrize(
    ("on", "low", "high"), [([2.0] * 6, math.log(2), math.log(2)), ([1.0] * 5 + [2.0], 0.0, math.log(2))]
)
def test_equal_counts_have_an_interval_too(on: list[float], low: float, high: float) -> None:
    """The bootstrap cannot be accelerated where no block matters by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds = sensitivity.ratio_of_medians(on, [1.0] * 6).interval
    assert bounds is not None
    assert low <= bounds.low <= bounds.high <= high
    assert sensitivity.mean_of_logs([math.log(2)] * 6).interval == Interval(low=math.log(2), high=math.log(2))

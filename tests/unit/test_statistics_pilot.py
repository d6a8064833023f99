"""What a pilot says, against scipy, by hand, and in seeded simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from testbed.analysis.statistics import pilot, power

TIED = [3.0, 1.0, 1.0, 2.0, 5.0, 5.0, 4.0, 7.0]
PLAIN = [3.0, 1.0, 1.5, 2.0, 5.0, 5.5, 4.0, 7.0]


def test_trend_of_one_block_is_kendalls_tau() -> None:
    want = scipy.stats.kendalltau(range(8), PLAIN, method="asymptotic")
    got = pilot.trend([PLAIN])
    assert (got.tau, got.p) == pytest.approx((want.statistic, want.pvalue))


def test_trend_of_one_block_with_ties_is_that_of_scipy() -> None:
    want = scipy.stats.kendalltau(range(8), TIED, method="asymptotic")
    got = pilot.trend([TIED])
    assert (got.tau, got.p) == pytest.approx((want.statistic, want.pvalue))


def test_blocks_are_added_up_and_not_compared() -> None:
    """What lies between blocks, here a factor of 10, is no trend; and two blocks say more than one."""
    one, two = pilot.trend([PLAIN]), pilot.trend([PLAIN, [10 * v for v in PLAIN]])
    assert two.tau == pytest.approx(one.tau)
    assert two.p < one.p
    opposed = pilot.trend([PLAIN, PLAIN[::-1]])
    assert (opposed.tau, opposed.p) == (0, 1)


@pytest.mark.parametrize(("blocks", "iterations"), [(6, 3), (6, 5), (12, 5), (6, 10)])
def test_what_is_warm_is_seldom_warned_of(blocks: int, iterations: int) -> None:
    """2000 pilots whose blocks differ by far: 1 %, give or take 3 standard errors."""
    random = np.random.default_rng(8)
    pilots = random.normal(size=(2000, blocks, iterations)) + 5 * random.normal(size=(2000, blocks, 1))
    assert 0.002 <= np.mean([pilot.trend(values).warns for values in pilots]) <= 0.0167


def test_what_is_not_warm_is_warned_of() -> None:
    random = np.random.default_rng(9)
    cooling = np.array([1.0, 0.3, 0.1, 0.0, 0.0]) + random.normal(0, 0.1, size=(6, 5))
    got = pilot.trend(cooling)
    assert got.warns
    assert got.tau < -0.3


@pytest.mark.parametrize("values", [[[1.0], [2.0]], [[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0, 1.0]]])
def test_no_pair_that_differs_is_no_trend(values: list[list[float]]) -> None:
    assert pilot.trend(values) == pilot.Trend(tau=0, p=1)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1.0, math.nan]]])
def test_trend_of_what_is_no_table(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="table"):
        pilot.trend(bad)


def test_blocks_needed_are_those_of_the_power_of_the_pilots_spread() -> None:
    logs = [0.011, 0.009, 0.012, 0.008, 0.010, 0.0105, 0.0095]
    spread = float(np.std(logs, ddof=1))
    got = pilot.blocks_needed(logs, 0.002, wanted=0.01, delta=0.005, resolution=1e-4)
    assert got.spread == pytest.approx(spread)
    assert got.detectable == power.mde(spread, 7, floor=1e-4, aa_spread=0.002)
    assert got.to_find == power.blocks_to_find(math.log1p(0.01), spread, aa_spread=0.002, resolution=1e-4)
    assert got.to_equate == power.blocks_to_equate(math.log1p(0.005), spread)


def test_more_noise_needs_more_blocks() -> None:
    logs = np.random.default_rng(3).normal(0, 0.01, 8)
    quiet, noisy = (pilot.blocks_needed(scale * logs, scale * 0.01, wanted=0.02, delta=0.02) for scale in (0.3, 1.0))
    assert quiet.to_find is not None
    assert noisy.to_find is not None
    assert quiet.to_find < noisy.to_find


@pytest.mark.parametrize(("logs", "aa_spread"), [([0.1], 0.1), ([0.1, math.nan], 0.1), ([0.1, 0.2], math.nan)])
def test_what_has_no_spread_needs_no_number_of_blocks(logs: list[float], aa_spread: float) -> None:
    with pytest.raises(ValueError, match="2 blocks"):
        pilot.blocks_needed(logs, aa_spread, wanted=0.01, delta=0.01)

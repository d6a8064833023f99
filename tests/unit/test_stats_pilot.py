"""What a pilot says, against scipy, by hand, and in seeded simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from testbed.analysis.statistics import effect, pilot
from testbed.analysis.statistics.effect import Floor, Interval

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


def test_levels_by_hand() -> None:
    """Two boots of two iterations: within 2 and 8, mean 5; means 1 and 12, variance 60.5; 60.5 - 5/2 = 58."""
    got = pilot.levels([[0.0, 2.0], [10.0, 14.0]], [1.0, 60.0])
    assert got.variance == pytest.approx((5.0, 58.0))
    assert got.repeats == (math.ceil(math.sqrt(60 * 5 / 58)),)


def drawn(sizes: tuple[int, ...], spreads: tuple[float, ...], seed: int = 4) -> np.ndarray:
    """Levels outermost first."""
    random = np.random.default_rng(seed)
    total = np.zeros(sizes)
    for level, spread in enumerate(spreads):
        shape = sizes[: level + 1] + (1,) * (len(sizes) - level - 1)
        total = total + random.normal(0, spread, shape)
    return total


def test_levels_find_what_each_adds() -> None:
    got = pilot.levels(drawn((400, 20, 20), (3.0, 2.0, 1.0)), [1.0, 10.0, 100.0])
    assert got.variance == pytest.approx((1.0, 4.0, 9.0), rel=0.15)
    assert got.repeats == (math.ceil(math.sqrt(10 / 4)), math.ceil(math.sqrt(10 * 4 / 9)))


def test_variances_of_levels_are_unbiased_also_in_a_small_pilot() -> None:
    found = np.mean(
        [pilot.levels(drawn((4, 3, 2), (3.0, 2.0, 1.0), seed), [1, 1, 1]).variance for seed in range(800)], axis=0
    )
    assert found == pytest.approx((1.0, 4.0, 9.0), rel=0.1)


def test_a_level_that_adds_nothing_needs_no_repeats() -> None:
    """All boots have the same mean: repeat inside, as often as you like."""
    got = pilot.levels([[0.0, 2.0], [2.0, 0.0]], [1.0, 60.0])
    assert got.variance[1] <= 0
    assert got.repeats == (None,)


def test_iterations_that_are_all_equal_are_run_once() -> None:
    assert pilot.levels([[1.0, 1.0], [2.0, 2.0]], [1.0, 60.0]).repeats == (1,)


@pytest.mark.parametrize(
    ("values", "costs"),
    [([[1.0, 2.0]], [1.0, 2.0]), ([1.0, 2.0], [1.0, 2.0]), ([[1.0, 2.0], [1.0, 2.0]], [1.0, 0.0]), (1.0, [])],
)
def test_levels_of_what_is_no_pilot(values: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="each level"):
        pilot.levels(values, costs)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 5), (6, 6), (9, 4)])
def test_rank_sum_law_is_that_of_scipys_test(first: int, second: int) -> None:
    law = np.cumsum(pilot.rank_sum_law(first, second))
    assert law[-1] == pytest.approx(1)
    for wins in range(first * second + 1):
        # The first sample's values each beat as many of the second (0, 1, 2 ..) as adds up to `wins`.
        beaten = [min(second, max(0, wins - second * n)) for n in range(first)]
        a, b = [k + 0.5 + 0.01 * n for n, k in enumerate(beaten)], [1.0 + k for k in range(second)]
        want = scipy.stats.mannwhitneyu(a, b, alternative="less", method="exact")
        assert want.statistic == wins
        assert law[wins] == pytest.approx(want.pvalue)


@pytest.mark.parametrize("sizes", [(6, 6), (6, 24), (12, 7)])
def test_interval_is_what_scipys_rank_sum_test_does_not_reject(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(sizes))
    boot, restore = random.normal(0.3, 1, sizes[0]), random.normal(0, 1, sizes[1])
    interval = pilot.starts(np.exp(boot), np.exp(restore)).ratio.interval
    assert interval is not None
    for end, inwards in ((interval.low, 1), (interval.high, -1)):
        inside = scipy.stats.mannwhitneyu(boot - end - inwards * 1e-9, restore, method="exact").pvalue
        outside = scipy.stats.mannwhitneyu(boot - end + inwards * 1e-9, restore, method="exact").pvalue
        assert inside > 0.05 >= outside


def test_boots_that_differ_more_than_restores_are_seen() -> None:
    random = np.random.default_rng(2)
    got = pilot.starts(np.exp(random.normal(0, 0.03, 24)), np.exp(random.normal(0, 0.01, 24)))
    assert got.spread == pytest.approx(got.boot / got.restore)
    assert got.spread_interval is not None
    assert 1 < got.spread_interval.low < 3 < got.spread_interval.high


def test_spread_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(6)
    hits = 0
    for _ in range(400):
        bounds = pilot.starts(np.exp(random.normal(0, 0.02, 6)), np.exp(random.normal(0, 0.01, 9))).spread_interval
        assert bounds is not None
        hits += bounds.low <= 2 <= bounds.high
    assert 0.92 <= hits / 400 <= 0.98


def test_medians_are_alike_within_the_floor_only() -> None:
    floor = Floor(estimate=effect.estimate([-0.01, 0.01, 0.0, 0.005, -0.005, 0.002]), resolution=0.0)
    restore = [1.0, 1.001, 1.002, 0.999, 0.998, 1.0]
    assert pilot.starts([1.005 * v for v in restore], restore).alike(floor) is True
    assert pilot.starts([1.02 * v for v in restore], restore).alike(floor) is False
    assert pilot.starts(restore, restore).alike(Floor(estimate=effect.estimate([0.0]), resolution=0.0)) is None


def test_few_starts_have_no_interval() -> None:
    got = pilot.starts([1.0, 2.0, 3.0], [1.0] * 6)
    assert (got.ratio.interval, got.spread, got.spread_interval) == (None, math.inf, None)


def test_starts_that_are_all_equal() -> None:
    got = pilot.starts([2.0] * 6, [1.0] * 6)
    assert got.ratio.interval == Interval(low=math.log(2), high=math.log(2))
    assert (got.spread, got.spread_interval) == (1, None)


@pytest.mark.parametrize("bad", [[1.0], [1.0, 0.0], [1.0, math.nan]])
def test_starts_without_logarithms(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        pilot.starts(bad, [1.0, 2.0])

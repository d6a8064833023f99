"""The estimator against brute force, against scipy, under its symmetries, and in a seeded simulation."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from testbed.analysis.statistics import effect as stats
from testbed.analysis.statistics import signedrank
from testbed.analysis.statistics.effect import Conclusion, EffectEstimate, Floor, Interval, Losses

EFFECTS = st.lists(st.floats(min_value=-3, max_value=3).map(lambda x: round(x, 6)), min_size=6, max_size=24)
DELTA = 0.005


@pytest.mark.parametrize("n", range(1, 11))
def test_law_is_that_of_all_sign_patterns(n: int) -> None:
    counted = [0] * (n * (n + 1) // 2 + 1)
    for signs in itertools.product((0, 1), repeat=n):
        counted[sum(rank for rank, sign in enumerate(signs, 1) if sign)] += 1
    assert signedrank.signed_rank_law(n) == pytest.approx(np.array(counted) / 2**n, abs=1e-15)


def test_law_of_many_blocks_still_sums_to_one() -> None:
    assert signedrank.signed_rank_law(200).sum() == pytest.approx(1)


# Hollander, Wolfe, Chicken, table A.4: the smallest t with P(T >= t) <= 0.025 for these n; k = M - t + 1.
@pytest.mark.parametrize(("n", "t"), [(6, 21), (7, 26), (8, 33), (9, 40), (10, 47), (12, 65), (15, 95)])
def test_rank_is_the_published_critical_value(n: int, t: int) -> None:
    assert signedrank.interval_rank(n, 0.95) == n * (n + 1) // 2 - t + 1


@pytest.mark.parametrize(("n", "confidence"), [(1, 0.95), (5, 0.95), (1, 0.90), (4, 0.90)])
def test_too_few_blocks_have_no_interval(n: int, confidence: float) -> None:
    assert signedrank.interval_rank(n, confidence) is None


@pytest.mark.parametrize(("n", "confidence"), [(6, 0.95), (5, 0.90)])
def test_smallest_n_with_an_interval_has_the_outermost_averages(n: int, confidence: float) -> None:
    assert signedrank.interval_rank(n, confidence) == 1


@pytest.mark.parametrize("n", [6, 7, 10, 17, 24])
def test_interval_is_what_scipys_test_does_not_reject(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    interval = stats.estimate(values).interval
    assert interval is not None
    for end, inwards in ((interval.low, 1), (interval.high, -1)):
        inside = scipy.stats.wilcoxon(values - (end + inwards * 1e-9), method="exact").pvalue
        outside = scipy.stats.wilcoxon(values - (end - inwards * 1e-9), method="exact").pvalue
        assert inside > 0.05 >= outside


@pytest.mark.parametrize("n", [1, 2, 5, 6, 12, 24, 40])
@pytest.mark.parametrize("shift", [0.0, 0.5, -2.0])
def test_p_is_that_of_scipy(n: int, shift: float) -> None:
    values = np.random.default_rng(n).normal(shift, 1, n)
    assert stats.estimate(values).p == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)


def test_p_of_blocks_that_do_not_differ_at_all_is_one() -> None:
    assert stats.estimate([0.0] * 6).p == 1


TIED = st.lists(st.integers(min_value=-3, max_value=3).map(float), min_size=6, max_size=16)


@given(TIED | EFFECTS)
def test_p_and_interval_say_the_same_also_of_ties_and_zeros(values: list[float]) -> None:
    got = stats.estimate(values)
    assert got.interval is not None
    assert (got.p <= 0.05) == (got.interval.low > 0 or got.interval.high < 0)


def test_estimate_is_the_median_of_all_pairs() -> None:
    values = [0.1, 0.4, -0.2, 0.35, 5.0, 0.3]
    pairs = [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]
    assert stats.estimate(values).center == pytest.approx(np.median(pairs))


def test_interval_of_six_is_from_the_least_to_the_greatest() -> None:
    assert stats.estimate([3, 1, 2, 6, 5, 4]).interval == Interval(low=1, high=6)


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="no complete block"):
        stats.estimate([])


@given(EFFECTS)
def test_turning_the_sign_turns_the_interval(values: list[float]) -> None:
    there, back = stats.estimate(values), stats.estimate([-value for value in values])
    assert there.interval is not None
    assert back.interval is not None
    assert back.center == pytest.approx(-there.center)
    assert (back.interval.low, back.interval.high) == pytest.approx((-there.interval.high, -there.interval.low))


@given(EFFECTS, st.floats(min_value=-2, max_value=2))
def test_a_shift_shifts_all(values: list[float], shift: float) -> None:
    before, after = stats.estimate(values), stats.estimate([value + shift for value in values])
    assert before.interval is not None
    assert after.interval is not None
    assert after.center == pytest.approx(before.center + shift)
    assert after.interval.low == pytest.approx(before.interval.low + shift)


@given(EFFECTS)
def test_the_order_of_blocks_does_not_matter(values: list[float]) -> None:
    assert stats.estimate(values) == stats.estimate(sorted(values))


@given(EFFECTS)
def test_intervals_nest_around_the_center(values: list[float]) -> None:
    got = stats.estimate(values)
    assert got.interval is not None
    assert got.narrow is not None
    assert got.interval.low <= got.narrow.low <= got.center <= got.narrow.high <= got.interval.high


POSITIVE = st.lists(st.floats(min_value=0.1, max_value=100), min_size=6, max_size=6)


@given(POSITIVE, POSITIVE, POSITIVE, st.floats(min_value=1e-6, max_value=1e9))
def test_the_unit_does_not_matter(on: list[float], off: list[float], off2: list[float], unit: float) -> None:
    scaled = stats.log_ratio(*([value * unit for value in arm] for arm in (on, off, off2)))
    assert scaled == pytest.approx(stats.log_ratio(on, off, off2), abs=1e-9)


def test_log_ratio_uses_both_baselines() -> None:
    assert stats.log_ratio([8.0], [1.0], [4.0])[0] == pytest.approx(math.log(8 / 2))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_log_ratio_refuses_what_has_no_logarithm(bad: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        stats.log_ratio([1.0, 2.0], [1.0, bad])


def test_log_ratio_needs_a_baseline() -> None:
    with pytest.raises(ValueError, match="baseline"):
        stats.log_ratio([1.0])


def test_arm_value_is_the_median() -> None:
    assert stats.arm_value([1, 100, 3]) == 3
    with pytest.raises(ValueError, match="timed iteration"):
        stats.arm_value([])


@pytest.mark.parametrize("n", [6, 12])
def test_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    """1500 seeded campaigns with spikes in 5 % of blocks: at least 95 %, less 3 standard errors (1.7 %)."""
    random = np.random.default_rng(20231113)
    spikes = random.choice([0.0, 0.08], p=[0.95, 0.05], size=(1500, n)) * random.choice([-1, 1], size=(1500, n))
    campaigns = 0.02 + random.normal(0, 0.014, size=(1500, n)) + spikes
    intervals = [stats.estimate(values).interval for values in campaigns]
    covered = sum(i is not None and i.low <= 0.02 <= i.high for i in intervals) / len(intervals)
    assert 0.933 <= covered <= 0.995


def _estimate(low: float, high: float, *, n: int = 6) -> EffectEstimate:
    middle, half = (low + high) / 2, (high - low) / 2
    narrow = Interval(low=middle - 0.8 * half, high=middle + 0.8 * half)
    return EffectEstimate(center=middle, interval=Interval(low=low, high=high), narrow=narrow, n=n)


QUIET = Floor(estimate=_estimate(-0.0003, 0.0002), resolution=0.0001)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.010, 0.020, Conclusion.OVERHEAD),
        (0.001, 0.003, Conclusion.OVERHEAD_BELOW_DELTA),
        (-0.020, -0.010, Conclusion.SPEED_UP),
        (-0.003, -0.001, Conclusion.SPEED_UP_BELOW_DELTA),
        (-0.001, 0.001, Conclusion.NO_DETECTABLE_OVERHEAD),
        (-0.010, 0.020, Conclusion.INCONCLUSIVE),
        # Above 0, but not above what the same arm twice shows.
        (0.0001, 0.0003, Conclusion.NO_DETECTABLE_OVERHEAD),
    ],
)
def test_conclusion(low: float, high: float, expected: Conclusion) -> None:
    assert stats.conclude(_estimate(low, high), QUIET, delta=DELTA) == expected


def test_overhead_within_a_noisy_floor_is_not_claimed() -> None:
    noisy = Floor(estimate=_estimate(-0.03, 0.03), resolution=0.0)
    assert stats.conclude(_estimate(0.01, 0.02), noisy, delta=DELTA) == Conclusion.INCONCLUSIVE


@pytest.mark.parametrize("ends", [(0.001, 0.002), (-0.002, -0.001)])
def test_a_biased_floor_invalidates(ends: tuple[float, float]) -> None:
    biased = Floor(estimate=_estimate(*ends), resolution=0.0001)
    assert stats.conclude(_estimate(0.5, 0.6), biased, delta=DELTA) == Conclusion.INVALID


@pytest.mark.parametrize("ends", [(0.00001, 0.00008), (-0.00008, -0.00001), (0.00007, 0.00530)])
def test_the_clocks_resolution_excuses_no_bias(ends: tuple[float, float]) -> None:
    """The last: a server whose duplicate was above the baseline in all of six blocks, in one of them by 0.007 %."""
    tiny = Floor(estimate=_estimate(*ends), resolution=0.0001)
    assert tiny.biased
    assert tiny.height == max(0.0001, *map(abs, ends))
    assert stats.conclude(_estimate(0.5, 0.6), tiny, delta=DELTA) == Conclusion.INVALID


def test_no_effect_below_the_resolution_is_claimed() -> None:
    exact = Floor(estimate=_estimate(-0.00001, 0.00001), resolution=0.0001)
    assert exact.height == 0.0001
    assert stats.conclude(_estimate(0.00005, 0.00009), exact, delta=DELTA) == Conclusion.NO_DETECTABLE_OVERHEAD
    assert stats.conclude(_estimate(0.00015, 0.00019), exact, delta=DELTA) == Conclusion.OVERHEAD_BELOW_DELTA


def test_six_blocks_of_one_sign_are_a_bias_and_five_are_none() -> None:
    """Real values of two servers, in percent: of six boots all on one side, and one on the other."""
    above = [0.0107, 0.0636, 0.5293, 0.0069, 0.0906, 0.2139]
    both = [0.1517, -0.0843, -0.3067, -0.4254, -0.4390, -0.1225]
    for values, biased in ((above, True), (both, False), (above[:5], False)):
        assert Floor(estimate=stats.estimate([v / 100 for v in values]), resolution=0.0001).biased is biased


@pytest.mark.parametrize(
    ("losses", "invalid"),
    [
        (Losses(failed=0.05), False),
        (Losses(failed=0.06), True),
        (Losses(rejected=0.4), False),
        (Losses(rejected=0.41), True),
    ],
)
def test_too_many_lost_blocks_invalidate(losses: Losses, invalid: bool) -> None:
    got = stats.conclude(_estimate(0.5, 0.6), QUIET, delta=DELTA, losses=losses)
    assert (got == Conclusion.INVALID) == invalid


def test_without_the_baseline_twice_nothing_is_concluded() -> None:
    assert stats.conclude(_estimate(0.5, 0.6), None, delta=DELTA) == Conclusion.INCONCLUSIVE


def test_five_blocks_conclude_nothing_though_the_narrow_interval_exists() -> None:
    effect = stats.estimate([0.0001, 0.0002, -0.0001, 0.0, 0.0001])
    assert effect.narrow is not None
    assert stats.conclude(effect, QUIET, delta=DELTA) == Conclusion.INCONCLUSIVE


def test_overhead_is_a_ratio_and_its_interval() -> None:
    got = stats.overhead(
        _estimate(math.log(1.5), math.log(1.5)), QUIET, metric="cpu", baseline="none", treatment="x", delta=DELTA
    )
    assert (got.ratio, got.low, got.high, got.n) == pytest.approx((1.5, 1.5, 1.5, 6))
    assert stats.percent(got.ratio) == pytest.approx(50)


def test_without_the_baseline_twice_an_overhead_has_numbers_and_no_promise() -> None:
    got = stats.overhead(stats.estimate([0.1] * 6), None, metric="cpu", baseline="none", treatment="x", delta=DELTA)
    assert (got.verdict, got.mde, got.settles) == (Conclusion.INCONCLUSIVE, math.inf, None)
    assert got.ratio == pytest.approx(math.exp(0.1))


def test_overhead_of_too_few_blocks_is_unbounded() -> None:
    got = stats.overhead(stats.estimate([0.1] * 5), QUIET, metric="cpu", baseline="none", treatment="x", delta=DELTA)
    assert (got.low, got.high, got.verdict) == (0, math.inf, Conclusion.INCONCLUSIVE)


def test_null_campaigns_are_seldom_called_overhead() -> None:
    """Truth 0, icount-like noise, n = 6: the two-sided level is 3.1 %; the floor makes it smaller still."""
    random = np.random.default_rng(7)
    false = 0
    for _ in range(600):
        none, none2, same = np.exp(random.normal(0, 0.0004, size=(3, 6)))
        floor = Floor(estimate=stats.estimate(stats.log_ratio(none2, none)), resolution=1e-4)
        effect = stats.estimate(stats.log_ratio(same, none, none2))
        verdict = stats.conclude(effect, floor, delta=DELTA)
        false += verdict not in {Conclusion.NO_DETECTABLE_OVERHEAD, Conclusion.INVALID}
    assert false / 600 < 0.05


def test_the_spread_is_that_of_a_sample_and_one_block_has_none() -> None:
    values = [0.01, 0.02, 0.04, -0.03]
    assert stats.estimate(values).spread == pytest.approx(statistics.stdev(values))
    assert math.isnan(stats.estimate([0.01]).spread)


@pytest.mark.parametrize(("n", "known"), [(11, False), (12, True), (13, True)])
def test_a_p_is_shown_of_twelve_blocks(n: int, known: bool) -> None:
    effect = stats.estimate(np.linspace(0.01, 0.02, n))
    got = stats.overhead(effect, QUIET, metric="cpu", baseline="none", treatment="x", delta=DELTA)
    assert got.p == (pytest.approx(2 / 2**n) if known else None)


@pytest.mark.parametrize("ends", [(0.0, 0.002), (-0.002, 0.0), (0.0, 0.0)])
def test_an_end_at_zero_is_no_bias(ends: tuple[float, float]) -> None:
    assert not Floor(estimate=_estimate(*ends), resolution=0.0001).biased


def test_what_only_reaches_a_bound_is_not_beyond_it() -> None:
    """An effect as high as the floor is not above it, an interval that ends at 0 or at the margin is not past that."""
    floor = Floor(estimate=_estimate(-0.25, 0.25), resolution=0.0)
    for sign in (1, -1):
        at = _estimate(*sorted((sign * 0.125, sign * 0.375)))
        assert abs(at.center) == floor.height
        assert stats.conclude(at, floor, delta=DELTA) == Conclusion.INCONCLUSIVE
        from_zero = _estimate(*sorted((0.0, sign * 1.0)))
        assert stats.conclude(from_zero, floor, delta=DELTA) == Conclusion.INCONCLUSIVE
    for low, high in ((math.log1p(-DELTA), 0.0), (0.0, math.log1p(DELTA))):
        wide = Interval(low=-1.0, high=1.0)
        margin = EffectEstimate(center=0.0, interval=wide, narrow=Interval(low=low, high=high), n=6)
        assert stats.conclude(margin, QUIET, delta=DELTA) == Conclusion.INCONCLUSIVE

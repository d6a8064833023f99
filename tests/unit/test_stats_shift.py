"""The shift between samples that are not paired, against scipy's rank-sum test."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from testbed.analysis.statistics.effect import Interval
from testbed.analysis.statistics.shift import rank_sum_law, shift


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 5), (6, 6), (9, 4)])
def test_rank_sum_law_is_that_of_scipys_test(first: int, second: int) -> None:
    law = np.cumsum(rank_sum_law(first, second))
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
    interval = shift(boot, restore).interval
    assert interval is not None
    for end, inwards in ((interval.low, 1), (interval.high, -1)):
        inside = scipy.stats.mannwhitneyu(boot - end - inwards * 1e-9, restore, method="exact").pvalue
        outside = scipy.stats.mannwhitneyu(boot - end + inwards * 1e-9, restore, method="exact").pvalue
        assert inside > 0.05 >= outside


def test_few_values_have_no_interval() -> None:
    got = shift([1.0, 2.0, 3.0], [1.0] * 6)
    assert (got.center, got.interval, got.n) == (1.0, None, 3)


def test_values_that_are_all_equal() -> None:
    assert shift([2.0] * 6, [1.0] * 6).interval == Interval(low=1.0, high=1.0)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_sample(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite value in each"):
        shift(bad, [1.0, 2.0])

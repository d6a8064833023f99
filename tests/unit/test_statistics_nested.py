"""Blocks within builds: against formulas written out, and against campaigns whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from testbed.analysis.statistics import nested


def test_the_estimates_are_those_of_a_one_way_analysis_of_variance() -> None:
    first, second, third = [1.0, 2.0, 3.0], [4.0, 6.0], [2.0, 2.0, 5.0, 3.0]
    seen = nested.levels([first, second, third])
    f = stats.f_oneway(first, second, third).statistic
    within = (2.0 + 2.0 + 6.0) / 6
    each = (9 - (9 + 4 + 16) / 9) / 2
    assert seen.within == pytest.approx(math.sqrt(within))
    assert seen.between == pytest.approx(math.sqrt((f - 1) * within / each))
    assert seen.apart == pytest.approx(5.0 - 2.0)
    low, high = stats.t.interval(0.95, 2, loc=10 / 3, scale=np.std([2.0, 5.0, 3.0], ddof=1) / math.sqrt(3))
    assert [seen.interval.low, seen.interval.high] == pytest.approx([low, high])


def test_two_builds_bound_almost_nothing() -> None:
    seen = nested.levels([[0.0, 0.0], [0.01, 0.01]])
    assert seen.within == 0
    assert seen.between == pytest.approx(0.01 / math.sqrt(2))
    # 12.7 is Student's t with one degree of freedom.
    assert seen.interval.high - seen.interval.low == pytest.approx(12.706 * 0.01, rel=1e-3)


def test_builds_that_do_not_differ_have_no_spread_of_their_own() -> None:
    seen = nested.levels([[0.0, 1.0, 2.0], [0.5, 1.0, 1.5]])
    assert seen.between == 0
    assert seen.apart == 0


def test_a_single_block_for_each_build_cannot_be_told_from_its_build() -> None:
    seen = nested.levels([[0.0], [1.0]])
    assert math.isnan(seen.within)
    assert seen.between == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], []]])
def test_one_build_or_an_empty_one_is_refused(groups: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least two builds"):
        nested.levels(groups)


def test_an_interval_over_builds_covers_the_truth_where_one_over_blocks_does_not() -> None:
    dice = np.random.default_rng(7)
    over_builds = over_blocks = 0
    campaigns = 400
    for _ in range(campaigns):
        effects = dice.normal(0, 1.0, 3)
        blocks = [effect + dice.normal(0, 0.2, 8) for effect in effects]
        seen = nested.levels(blocks).interval
        over_builds += seen.low <= 0 <= seen.high
        every = np.concatenate(blocks)
        reach = stats.t.ppf(0.975, len(every) - 1) * every.std(ddof=1) / math.sqrt(len(every))
        over_blocks += abs(every.mean()) <= reach
    assert 0.92 <= over_builds / campaigns <= 0.98
    assert over_blocks / campaigns < 0.7

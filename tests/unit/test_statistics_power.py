"""What so many blocks can find, against closed forms where there are some."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from testbed.analysis.statistics import effect as stats
from testbed.analysis.statistics import power
from testbed.analysis.statistics.effect import Conclusion, Floor


def textbook(spread: float, n: int) -> float:
    """(t.975 + t.80) s / sqrt(0.955 n), right for many normal blocks and no floor."""
    t = scipy.stats.t(n - 1)
    return float((t.ppf(0.975) + t.ppf(0.80)) * spread / math.sqrt(0.955 * n))


def test_six_blocks_find_what_leaves_all_six_above_zero() -> None:
    """The interval is from the least to the greatest; all six are above 0 with probability Phi(x)^6."""
    exact = scipy.stats.norm.ppf(0.8 ** (1 / 6))
    assert 0.98 * exact <= power.mde(1.0, 6) <= 1.06 * exact


@pytest.mark.parametrize("n", [15, 24, 60, 200])
def test_many_blocks_find_what_the_textbook_says(n: int) -> None:
    assert power.mde(1.0, n) == pytest.approx(textbook(1.0, n), rel=0.05)


def test_beyond_the_largest_sample_an_effect_shrinks_as_a_t_interval_does() -> None:
    assert power.mde(1.0, 60) / power.mde(1.0, 24) == pytest.approx(textbook(1.0, 60) / textbook(1.0, 24), rel=1e-9)


def test_few_blocks_find_less_than_the_textbook_says() -> None:
    assert power.mde(1.0, 6) > 1.2 * textbook(1.0, 6)


def test_a_floor_must_be_exceeded() -> None:
    assert power.mde(0.0, 6, floor=0.01) == 0.01
    assert 0.01 < power.mde(0.001, 6, floor=0.01) < 0.011
    assert power.mde(0.02, 6, floor=0.001) == power.mde(0.02, 6)


def test_a_floor_that_is_not_known_yet_costs_more() -> None:
    assert power.mde(1.0, 12, aa_spread=1.15) > 1.3 * power.mde(1.0, 12)


@pytest.mark.parametrize("n", [1, 5])
def test_below_six_blocks_nothing_is_found(n: int) -> None:
    assert power.mde(0.01, n) == math.inf
    assert power.margin(0.01, n) == math.inf


def test_one_block_has_no_spread_and_finds_nothing() -> None:
    assert power.mde(math.nan, 6) == math.inf
    assert power.settles(0.01, spread=math.nan, n=1, delta=0.02, aa_spread=math.nan) is None


def test_twice_the_spread_finds_twice_the_effect() -> None:
    assert power.mde(0.02, 8, aa_spread=0.022) == pytest.approx(2 * power.mde(0.01, 8, aa_spread=0.011))
    assert power.margin(0.02, 8) == pytest.approx(2 * power.margin(0.01, 8))


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0, 4.0])
def test_fewest_blocks_are_enough_and_one_less_is_not(effect: float) -> None:
    n = power.blocks_to_find(effect, 2.0, aa_spread=2.3)
    assert n is not None
    assert power.mde(2.0, n, aa_spread=2.3) <= effect < power.mde(2.0, n - 1, aa_spread=2.3)


@pytest.mark.parametrize(("delta", "truth"), [(1.0, 0.0), (2.0, 0.0), (2.0, 1.0), (2.0, -1.0)])
def test_fewest_blocks_that_show_equality(delta: float, truth: float) -> None:
    n = power.blocks_to_equate(delta, 2.0, truth=truth)
    assert n is not None
    assert power.margin(2.0, n, truth=truth) <= delta < power.margin(2.0, n - 1, truth=truth)


def test_equality_takes_what_two_one_sided_z_tests_take_and_a_little_more() -> None:
    """(z.95 + z.90)^2 (s/d)^2 = 8.6 (s/d)^2 for known variance, over the estimator's efficiency of 0.955."""
    n = power.blocks_to_equate(0.1, 1.0)
    assert n is not None
    assert 856 / 0.955 * 0.95 < n < 856 / 0.955 * 1.10


def test_what_no_number_of_blocks_can_do() -> None:
    assert power.blocks_to_equate(0.02, 0.01, truth=0.02) is None
    assert power.blocks_to_find(0.0, 0.01) is None
    assert power.blocks_to_find(0.0001, 0.01, resolution=0.0001) is None
    assert power.blocks_to_find(1e-9, 1.0) is None
    assert power.blocks_to_find(0.5, 0.0) == 6


def campaign(truth: float, n: int, seed: int) -> stats.Overhead:
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.02, size=(3, n)))
    none, none2, on = noise * np.array([[1], [1], [math.exp(truth)]])
    floor = Floor(estimate=stats.estimate(stats.log_ratio(none2, none)), resolution=0.0)
    effect = stats.estimate(stats.log_ratio(on, none, none2))
    return stats.overhead(effect, floor, metric="cpu", baseline="none", treatment="on", delta=0.02)


@pytest.mark.parametrize("truth", [0.0, 0.01, 0.02, 0.03])
def test_inconclusive_says_how_many_blocks_would_settle_it(truth: float) -> None:
    results = [campaign(truth, 6, seed) for seed in range(20)]
    open_ones = [r for r in results if r.verdict == Conclusion.INCONCLUSIVE]
    assert len(open_ones) >= 10
    assert all(r.settles is not None and r.settles > r.n for r in open_ones)
    assert all(r.settles is None for r in results if r.verdict != Conclusion.INCONCLUSIVE)


def test_so_many_blocks_settle_it() -> None:
    """Where the truth is what was estimated: 80 % of campaigns of that size end with a verdict, less 3 errors."""
    n = power.settles(0.018, spread=0.0245, n=6, delta=0.02, aa_spread=0.0283)
    assert n is not None
    ended = [
        campaign(0.018, n, seed).verdict not in {Conclusion.INCONCLUSIVE, Conclusion.INVALID} for seed in range(300)
    ]
    assert 0.73 <= np.mean(ended) <= 0.95


def test_an_overhead_tells_its_spread_p_and_what_it_could_have_found() -> None:
    few, many = campaign(0.05, 6, 1), campaign(0.05, 12, 1)
    assert few.p is None
    assert many.p == pytest.approx(many.p, abs=0.01)
    assert many.mde < few.mde < math.inf
    assert 0.01 < few.spread < 0.05


def test_the_page_on_statistics_has_these_numbers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", page, flags=re.MULTILINE)
    assert len(rows) == 6
    for n, *told in rows:
        known = (
            power.mde(1.0, int(n)),
            power.mde(1.0, int(n), aa_spread=math.sqrt(2 / 1.5)),
            power.margin(1.0, int(n)),
        )
        assert [float(number) for number in told] == pytest.approx(known, abs=0.006)

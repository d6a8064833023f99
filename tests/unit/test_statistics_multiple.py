"""Holm against its definition by closed testing, and the mean of ratios with its interval."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from testbed.analysis.statistics import effect as stats
from testbed.analysis.statistics import multiple

P_VALUES = st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=6)


def closed(p: list[float]) -> list[float]:
    """The closure of Bonferroni: a null is as unlikely as the likeliest intersection of nulls that it is part of."""
    sets = [set(s) for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


@given(P_VALUES)
def test_holm_is_closed_bonferroni(p: list[float]) -> None:
    assert multiple.holm(p) == pytest.approx(closed(p))


def test_holm_of_an_example() -> None:
    """0.005 x 4, 0.01 x 3, then 0.03 x 2, and 0.04 is not below the one before it."""
    assert multiple.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        multiple.holm([0.5, bad])


def ladder(*rows: tuple[str, str, int, float | None]) -> pd.DataFrame:
    names = ("treatment", "workload", "n", "p")
    fixed = {"kernel": "debian-6.12", "runtime": "crun", "metric": "cpu"}
    return pd.DataFrame([fixed | dict(zip(names, list[Any](row), strict=True)) for row in rows])


def test_each_claim_is_adjusted_by_itself() -> None:
    table = ladder(("a", "x", 12, 0.01), ("b", "x", 12, 0.02), ("a", "y", 12, 0.03), ("a", "z", 12, 0.5))
    assert list(multiple.adjust(table)["p_adjusted"]) == pytest.approx([0.03, 0.02, 0.06, 0.5])


def test_few_blocks_have_no_adjusted_p_and_do_not_leave_the_claim_quietly() -> None:
    table = ladder(("a", "x", 12, 0.01), ("a", "y", 11, None), ("b", "x", 12, 0.02))
    adjusted = multiple.adjust(table)["p_adjusted"]
    assert list(adjusted.isna()) == [True, True, False]


def test_a_ladder_without_rows_is_adjusted_too() -> None:
    table = ladder(("a", "x", 12, 0.01)).iloc[:0]
    assert list(multiple.adjust(table).columns) == [*table.columns, "p_adjusted"]


def test_mean_is_of_ratios_and_not_of_percentages() -> None:
    twice_and_half = {"twice": [math.log(2)] * 6, "half": [math.log(0.5)] * 6}
    got = multiple.geometric_mean(twice_and_half)
    assert (got.ratio, got.low, got.high, got.workloads) == pytest.approx((1, 1, 1, 2))


def test_mean_is_the_same_for_the_same_seed_only() -> None:
    effects = {str(i): np.random.default_rng(i).normal(0.02, 0.01, 6) for i in range(3)}
    first, again, other = (multiple.geometric_mean(effects, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.ratio == other.ratio
    assert first.low != other.low


@pytest.mark.parametrize("together", [True, False])
def test_mean_of_one_workload_is_its_own_estimate(together: bool) -> None:
    values = [0.01, 0.02, 0.04, 0.015, 0.03, 0.0]
    effect, got = stats.estimate(values), multiple.geometric_mean({"one": values}, together=together)
    assert effect.interval is not None
    assert (got.ratio, got.low, got.high) == pytest.approx(
        (math.exp(effect.center), math.exp(effect.interval.low), math.exp(effect.interval.high))
    )


def test_too_few_blocks_have_no_bounds() -> None:
    got = multiple.geometric_mean({"a": [0.1] * 6, "b": [0.1] * 5})
    assert (got.low, got.high) == (0, math.inf)


@pytest.mark.parametrize("n", [6, 7, 24])
def test_six_blocks_and_more_have_bounds(n: int) -> None:
    values = np.linspace(0.09, 0.11, n)
    got = multiple.geometric_mean({"a": values, "b": values})
    assert 1.05 < got.low < got.ratio < got.high < 1.15


@pytest.mark.parametrize("effects", [{}, {"a": []}])
def test_no_workload_has_no_mean(effects: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="no workload"):
        multiple.geometric_mean(effects)


def test_workloads_that_share_blocks_have_equally_many() -> None:
    with pytest.raises(ValueError, match=r"\[6, 7\]"):
        multiple.geometric_mean({"a": [0.1] * 6, "b": [0.1] * 7}, together=True)


def covered(*, shared: float, together: bool) -> float:
    """How often the interval covers the truth, 4 workloads in 6 blocks; ``shared``: what a boot does to all of them."""
    random = np.random.default_rng(11)
    hits = 0
    for campaign in range(300):
        boot = random.normal(0, shared, 6)
        effects = {str(i): 0.02 + boot + random.normal(0, 0.01, 6) for i in range(4)}
        got = multiple.geometric_mean(effects, together=together, seed=campaign)
        hits += got.low <= math.exp(0.02) <= got.high
    return hits / 300


def test_bootstrap_covers_the_truth_of_workloads_that_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiple, "RESAMPLES", 499)
    assert covered(shared=0.0, together=False) >= 0.93


def test_what_a_boot_does_to_all_workloads_needs_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiple, "RESAMPLES", 499)
    assert covered(shared=0.02, together=True) >= 0.93
    assert covered(shared=0.02, together=False) < 0.85


def test_blocks_are_pulled_apart_before_they_are_drawn_from() -> None:
    """By sqrt(n / (n - 1)): a resample of n values varies less than a sample does, by that factor."""

    class Always:
        """Draws the last block alone, each time."""

        def integers(self, n: int, size: tuple[int, int]) -> NDArray[np.int64]:
            return np.full(size, n - 1)

    values = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.0])
    center = stats.estimate(values).center
    got: Any = multiple._resampled(values, Always())  # type: ignore[arg-type]
    assert set(got.round(12)) == {round(center + (1.0 - center) * math.sqrt(6 / 5), 12)}

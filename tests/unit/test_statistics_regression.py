"""The fit against numpy and scipy, and predictions of what it did not see."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats

from testbed.analysis.statistics import effect, regression
from testbed.analysis.statistics.regression import CONSTANT, Form

TRUE = {"files": 22_000.0, "extends": 90_000.0, "bytes": 30.0}
FORM = Form(events=("files", "extends", "bytes"))
SIMPLE = Form(events=("files",), constant=True)


def table(blocks: int = 6, *, noise: float = 0.002, seed: int = 1) -> pd.DataFrame:
    """Eight workloads with counts of their own, the same in each block; a boot makes all of its rows 1 % dearer."""
    random = np.random.default_rng(seed)
    counts = pd.DataFrame(
        {
            "workload": [f"w{n}" for n in range(8)],
            "files": random.integers(1, 40, 8),
            "extends": random.integers(1, 9, 8),
            "bytes": random.integers(10_000, 3_000_000, 8),
        }
    )
    rows = pd.concat([counts.assign(block=block, boot=random.normal(1, 0.01)) for block in range(blocks)])
    exact = sum(rows[event] * price for event, price in TRUE.items())
    return rows.assign(cost=exact * rows["boot"] * random.normal(1, noise, len(rows))).reset_index(drop=True)


def test_simple_fit_of_a_block_is_that_of_linregress() -> None:
    rows = table()
    model = regression.fit(rows, SIMPLE)
    for block, (constant, slope) in zip(model.blocks, model.fits, strict=True):
        of_block = rows[rows["block"] == block]
        want = scipy.stats.linregress(of_block["files"], of_block["cost"])
        assert (constant, slope) == pytest.approx((want.intercept, want.slope))


def test_fit_of_a_block_is_that_of_numpy() -> None:
    rows = table()
    model = regression.fit(rows, FORM)
    for block, fit in zip(model.blocks, model.fits, strict=True):
        of_block = rows[rows["block"] == block]
        assert fit == pytest.approx(np.linalg.lstsq(of_block[list(FORM.events)].to_numpy(float), of_block["cost"])[0])


def test_weights_are_those_of_the_residuals() -> None:
    rows = table().assign(share=lambda t: 1 / t["cost"])
    of_block = rows[rows["block"] == 0]
    counts = of_block[list(FORM.events)].to_numpy(float)
    want = np.linalg.lstsq(counts / of_block["cost"].to_numpy()[:, None], np.ones(len(of_block)))[0]
    got = regression.fit(rows, Form(events=FORM.events, weight="share")).fits[0]
    assert got == pytest.approx(want)
    assert got != pytest.approx(regression.fit(rows, FORM).fits[0], rel=1e-6)


def test_bounded_fit_is_that_of_nnls() -> None:
    """The data want a negative price for extends."""
    rows = table().assign(cost=lambda t: 30.0 * t["bytes"] - 50_000.0 * t["extends"])
    bounded = Form(events=FORM.events, nonnegative=frozenset(FORM.events))
    assert regression.fit(rows, FORM).fits[0][1] < 0
    got = regression.fit(rows, bounded)
    for block, fit in zip(got.blocks, got.fits, strict=True):
        of_block = rows[rows["block"] == block]
        counts = of_block[list(FORM.events)].to_numpy(float)
        size = counts.max(axis=0)
        assert fit == pytest.approx(scipy.optimize.nnls(counts / size, of_block["cost"].to_numpy())[0] / size)
        assert fit[1] == 0


def test_only_what_is_named_is_bounded() -> None:
    rows = table().assign(cost=lambda t: -100.0 * t["files"] - 50.0 * t["extends"] + 30.0 * t["bytes"])
    got = regression.fit(rows, Form(events=FORM.events, nonnegative=frozenset({"extends"}))).fits[0]
    assert got[1] == 0
    assert got[0] < 0


def test_coefficients_are_estimated_over_blocks() -> None:
    model = regression.fit(table(), FORM)
    for n, (term, got) in enumerate(model.coefficients.items()):
        assert got == effect.estimate(model.fits[:, n])
        assert got.interval is not None
        assert got.interval.low <= TRUE[term] <= got.interval.high


def test_intervals_are_as_wide_as_boots_differ_not_as_rows_do() -> None:
    """Each row doubled is no news: the same intervals. As if rows were units they would shrink."""
    once = table()
    twice = pd.concat([once, once])
    assert regression.fit(twice, FORM).fits == pytest.approx(regression.fit(once, FORM).fits)


def test_interval_of_a_coefficient_covers_it_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(120):
        interval = regression.fit(table(noise=0.02, seed=seed), FORM).coefficients["bytes"].interval
        assert interval is not None
        hits += interval.low <= TRUE["bytes"] <= interval.high
    assert 0.92 <= hits / 120 < 1


def test_fewer_than_six_blocks_have_no_interval() -> None:
    assert regression.fit(table(5), FORM).coefficients["bytes"].interval is None


def test_a_constant_is_a_term() -> None:
    rows = table(noise=0.0).assign(cost=lambda t: 7e5 + 1000.0 * t["files"])
    model = regression.fit(rows, SIMPLE)
    assert list(model.coefficients) == [CONSTANT, "files"]
    assert model.coefficients[CONSTANT].center == pytest.approx(7e5)
    (predicted,) = model.predict(pd.DataFrame({"files": [10]}))
    assert predicted.center == pytest.approx(7e5 + 10_000)


def test_prediction_is_of_each_blocks_own_fit() -> None:
    model = regression.fit(table(), FORM)
    new = pd.DataFrame({"files": [3, 100], "extends": [1, 50], "bytes": [5e5, 1e8]})
    for row, got in zip(new.to_numpy(), model.predict(new), strict=True):
        assert got == effect.estimate(model.fits @ row)


def test_what_was_not_seen_is_predicted() -> None:
    got = regression.held_out(table(), FORM, by="workload")
    assert list(got["workload"]) == [f"w{n}" for n in range(8)]
    assert (got["error"].abs() < 0.02).all()
    assert (got["low"] <= got["predicted"]).all()
    assert (got["predicted"] <= got["high"]).all()
    assert (got["n"] == 6).all()


def test_held_out_is_not_in_the_fit() -> None:
    """One workload costs twice what its events do: the others say half of it, whatever it says itself."""
    rows = table(noise=0.0)
    rows.loc[rows["workload"] == "w3", "cost"] *= 2
    got = regression.held_out(rows, FORM, by="workload").set_index("workload")
    assert got.loc["w3", "error"] == pytest.approx(-0.5, abs=1e-6)
    others = regression.fit(rows[rows["workload"] != "w3"], FORM)
    (predicted,) = others.predict(rows[(rows["workload"] == "w3") & (rows["block"] == 0)])
    assert predicted.interval is not None
    (found,) = got.loc[["w3"], ["predicted", "low", "high"]].to_numpy().tolist()
    assert found == pytest.approx([predicted.center, predicted.interval.low, predicted.interval.high])


def test_error_is_of_the_same_block() -> None:
    """Boots differ by 1 %; that is no error of a model which was fitted in the same boot."""
    got = regression.held_out(table(noise=0.0), FORM, by="workload")
    assert got["error"].to_numpy() == pytest.approx(0, abs=1e-9)
    assert (got["high"] - got["low"] > 0.005 * got["measured"]).all()


def test_arms_of_a_workload_are_told_apart() -> None:
    rows = pd.concat(
        [
            table().assign(measurer="file"),
            table(seed=2).assign(measurer="image"),
        ]
    )
    got = regression.held_out(rows, FORM, by="workload", keys=["measurer"])
    assert len(got) == 16
    with pytest.raises(ValueError, match="several rows of one block"):
        regression.held_out(rows, FORM, by="workload")


def test_a_block_that_lost_too_much_is_left_out() -> None:
    rows = table()
    lame = rows[(rows["block"] != 2) | (rows["workload"].isin(["w0", "w1"]))]
    assert regression.fit(lame, FORM).blocks == (0, 1, 3, 4, 5)
    assert (regression.held_out(lame, FORM, by="workload")["n"] == 5).all()


def test_terms_that_cannot_be_told_apart() -> None:
    twin = table().assign(extends=lambda t: 2 * t["files"])
    with pytest.raises(ValueError, match="rows that separate files, extends, bytes"):
        regression.fit(twin, FORM)
    never = table().assign(extends=0)
    with pytest.raises(ValueError, match="rows that separate"):
        regression.fit(never, FORM)


def test_terms_that_are_hard_to_tell_apart_show_in_the_condition() -> None:
    rows = table()
    alike = rows.assign(extends=rows["files"] + (rows["workload"] == "w0") * 0.1)
    assert regression.fit(rows, FORM).condition < 10
    assert regression.fit(alike, FORM).condition > 30


def test_counts_of_very_different_size_are_no_twins() -> None:
    huge = table(noise=0.0).assign(bytes=lambda t: t["bytes"] * 1e9, cost=lambda t: 1e9 * t["cost"])
    assert regression.fit(huge, FORM).coefficients["bytes"].center == pytest.approx(TRUE["bytes"], rel=0.02)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.assign(cost=t["cost"].where(t.index != 3)), "row 3"),
        (lambda t: t.assign(files=t["files"].astype(float).replace(t["files"][0], math.inf)), "row 0"),
        (lambda t: t.assign(share=0.0), "row 0"),
        (lambda t: t.assign(share=-1.0), "row 0"),
    ],
)
def test_what_is_no_number_is_refused(spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    rows = spoil(table().assign(share=1.0))
    with pytest.raises(ValueError, match=message):
        regression.fit(rows, Form(events=FORM.events, weight="share"))


def test_a_bound_on_a_term_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no term bites"):
        regression.fit(table(), Form(events=("bytes",), nonnegative=frozenset({"bites"})))


def test_a_cost_of_nothing_has_no_relative_error() -> None:
    rows = table()
    rows.loc[rows["workload"] == "w3", "cost"] = 0.0
    with pytest.raises(ValueError, match="w3"):
        regression.held_out(rows, FORM, by="workload")

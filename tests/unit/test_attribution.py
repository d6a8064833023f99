"""Prices of events: found where the truth is known, not claimed where it cannot be, and tested on what was not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from fake_campaign import PRICES, RUNGS, WORKLOADS, Change, Shape, added, build, keep

from testbed.analysis import figures
from testbed.analysis.models import runlength
from testbed.analysis.tables import attribution, costmodel, events, frames, holdout, ladder
from testbed.analysis.tables.events import Sum, Truth
from testbed.analysis.tables.ladder import Question
from testbed.plan import Cell
from testbed.record import Record, Tier
from testbed.rundir import Campaign, load

QUESTION = Question(tier=Tier.ICOUNT)


def truth(workloads: Mapping[str, Shape] = WORKLOADS) -> Truth:
    return Truth(
        code=lambda one: Sum(files=workloads[one.workload].files, bytes=workloads[one.workload].bytes),
        tree=lambda image: Sum(files=workloads[image].image_files, bytes=workloads[image].image_bytes),
    )


def _campaign(
    root: Path, workloads: Mapping[str, Shape] = WORKLOADS, change: Change = keep, **options: object
) -> Campaign:
    return build(root, **({"arms": RUNGS} | options), workloads=workloads, change=change)  # type: ignore[arg-type]


def _observed(campaign: Campaign, workloads: Mapping[str, Shape] = WORKLOADS) -> dict[str, pd.DataFrame]:
    return holdout.observe(frames.rows(load(campaign)), events.events(load(campaign), truth(workloads)), QUESTION)


def _fits(observed: Mapping[str, pd.DataFrame]) -> dict[str, costmodel.Fit]:
    return {fit.step.name: fit for fit in holdout.fits(observed, QUESTION)}


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A campaign as it is meant to be, read once for all tests that change nothing in it."""

    campaign: Campaign
    rows: pd.DataFrame
    events: pd.DataFrame
    observed: dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    campaign = _campaign(tmp_path_factory.mktemp("plain"), noise=1e-5)
    rows, table = frames.rows(load(campaign)), events.events(load(campaign), truth())
    return Plain(campaign=campaign, rows=rows, events=table, observed=holdout.observe(rows, table, QUESTION))


def test_events_of_an_iteration(plain: Plain) -> None:
    table = plain.events.set_index(["measurer", "workload", "iteration"])
    shape = WORKLOADS["python-start"]
    for number in (0, 1):
        row = table.xs(("container-image", "python-start", number)).iloc[0]
        assert row["starts"] == shape.starts
        assert row["files"] == shape.starts * shape.files
        assert row["bytes"] == shape.starts * shape.bytes
        assert row["lookups"] == shape.starts * shape.lookups
        assert row["decisions"] == shape.starts * (shape.lookups + shape.files)
        # An entry a file, one that the container began, one a launch, and once the image's.
        assert row["extends"] == shape.starts * (shape.files + 2) + (number == 0)
        assert row["launches"] == shape.starts
        assert row["walked"] == (shape.starts - (number == 0)) * shape.image_files
        assert row["image_files"] == shape.image_files * (number == 0)
        assert row["image_bytes"] == shape.image_bytes * (number == 0)
    hooks = table.xs(("hooks-only", "python-start", 1)).iloc[0]
    assert (hooks["files"], hooks["decisions"]) == (0, shape.starts * (shape.lookups + shape.files))


def test_both_sources_of_events_must_agree(tmp_path: Path, plain: Plain) -> None:
    def change(cell: Cell, record: Record) -> Record:
        wrong = cell.measurer == "container-file" and cell.workload == "mmap" and record.block < 2
        return replace(record, counters=record.counters | {"files": 7}) if wrong else record

    assert events.disagreements(plain.events) == []
    assert events.agreed(plain.events) == 2 * 6 * len(WORKLOADS)
    few = {name: WORKLOADS[name] for name in ("mmap", "redis")}
    table = events.events(load(_campaign(tmp_path, few, change)), truth())
    assert events.disagreements(table) == [
        "`container-file` on `mmap` counted 7 files, the images say 24 (2 runs)",
    ]
    assert events.agreed(table) == 2 * 6 * len(few) - 2


def test_without_images_the_counters_are_believed(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path, {name: WORKLOADS[name] for name in ("mmap", "redis")}, blocks=1)
    table = events.read(load(campaign))
    assert events.agreed(table) == 0
    ima = table[(table["measurer"] == "ima-exec") & (table["workload"] == "mmap")]
    assert set(ima["files"]) == {float(WORKLOADS["mmap"].files)}
    events.events(load(campaign), truth()).to_parquet(campaign.path / events.FILE)
    assert events.agreed(events.read(load(campaign))) > 0


@pytest.mark.parametrize(
    ("step", "term", "price"),
    [
        ("file", "bytes", "byte"),
        ("file", "lookups", "lookup"),
        ("launch", "walked", "walked"),
        ("launch", "launches", "launch"),
        ("image", "image_bytes", "image_byte"),
        ("image", "image_files", "image_file"),
        ("ima", "bytes", "ima_byte"),
    ],
)
def test_true_prices_are_found(plain: Plain, step: str, term: str, price: str) -> None:
    true = PRICES[price] + (PRICES["extend"] if price == "launch" else 0)
    found = _fits(plain.observed)[step].prices[term]
    assert found.center == pytest.approx(true, rel=0.06)
    assert found.interval is not None
    assert found.interval.low <= found.center <= found.interval.high


def test_a_file_and_its_extend_are_told_together_and_it_is_said(plain: Plain) -> None:
    # With one start each, there is an extend for each file and one more.
    table = plain.observed["file"]
    alike = table[~table["cold"] & ~table["workload"].isin(("python-start", "start-warm"))]
    (step,) = (step for step in costmodel.steps() if step.name == "file")
    fit = costmodel.fit(alike, step, "debian-6.12", "instructions")
    assert fit is not None
    assert set(fit.prices) == {"bytes", "files", "lookups"}
    assert "grows together" in fit.given_up["extends"] or "contains 0" in fit.given_up["extends"]
    assert fit.prices["files"].center == pytest.approx(PRICES["file"] + PRICES["extend"], rel=0.05)


def test_they_are_told_apart_where_workloads_differ_enough_in_them(tmp_path: Path) -> None:
    family = {
        f"files-{files}-{starts}": Shape(files=files, starts=starts, bytes=size, lookups=lookups, base=1e8)
        for files, starts, size, lookups in (
            *((1, 60, 40_000, 30), (2, 40, 90_000, 900), (100, 1, 800_000, 50), (40, 2, 8_000_000, 10)),
            *((3, 30, 500_000, 400), (0, 80, 0, 700)),
        )
    }
    fit = _fits(_observed(_campaign(tmp_path, family, noise=1e-7), family))["file"]
    assert fit.given_up == {}
    assert fit.prices["files"].center == pytest.approx(PRICES["file"], rel=0.05)
    assert fit.prices["extends"].center == pytest.approx(PRICES["extend"], rel=0.05)


def test_a_price_below_nothing_is_given_up(plain: Plain) -> None:
    table = plain.observed["file"]
    wrong = table.assign(added=table["added"] - 3000 * table["lookups"])
    (step,) = (step for step in costmodel.steps() if step.name == "file")
    fit = costmodel.fit(wrong[~wrong["cold"]], step, "debian-6.12", "instructions")
    assert fit is not None
    assert fit.given_up["lookups"] == "its price would be below 0"
    assert all(price.center >= 0 for price in fit.prices.values())


def test_the_rule_that_splits_is_the_alphabet() -> None:
    assert holdout.split(["d", "b", "a", "c", "e", "a"]) == (("a", "c", "e"), ("b", "d"))


def test_workloads_that_were_not_seen_are_predicted(plain: Plain) -> None:
    table = holdout.predictions(plain.rows, plain.observed, QUESTION)
    assert set(table["arm"]) == {"ima-exec", "container-file", "container-image"}
    assert set(table["workload"]) == set(WORKLOADS)
    for row in table.to_dict("records"):
        assert row["workload"] not in row["fitted_on"].split(", ")
    roles = table[table["arm"] == "container-file"].set_index("workload")["role"]
    assert roles["start-cold"] == holdout.HoldoutRole.OUTSIDE
    assert list(roles.drop("start-cold"))[:4] == ["held out after the swap", "held out"] * 2
    assert table["within"].all()
    assert table["ratio"].between(0.98, 1.02).all()
    true = added(WORKLOADS["compile"], "container-image")
    one = table[(table["arm"] == "container-image") & (table["workload"] == "compile")].iloc[0]
    assert one["observed"] == pytest.approx(true, rel=0.01)
    assert one["low"] < one["observed"] < one["high"]


def test_a_workload_that_costs_otherwise_is_seen_to_be_missed(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        odd = cell.workload == "mmap" and cell.measurer == "container-file"
        dear = tuple(replace(one, value=2 * one.value) if one.metric == "cpu" else one for one in record.samples)
        return replace(record, samples=dear) if odd else record

    campaign = _campaign(tmp_path, change=change)
    table = holdout.predictions(frames.rows(load(campaign)), _observed(campaign), QUESTION)
    missed = table[(table["arm"] == "container-file") & (table["workload"] == "mmap")].iloc[0]
    assert not missed["within"]
    assert missed["ratio"] < 0.9


def test_too_few_workloads_are_no_test(tmp_path: Path) -> None:
    few = {name: WORKLOADS[name] for name in ("archive", "compile", "mmap")}
    campaign = _campaign(tmp_path, few)
    assert holdout.predictions(frames.rows(load(campaign)), _observed(campaign, few), QUESTION).empty


def test_without_the_hooks_arm_the_model_stands_on_the_baseline(tmp_path: Path) -> None:
    arms = tuple(arm for arm in RUNGS if arm != "hooks-only")
    campaign = _campaign(tmp_path, arms=arms)
    observed = _observed(campaign)
    assert set(observed["file"]["over"]) == {"none"}
    assert _fits(observed)["file"].prices["lookups"].center == pytest.approx(
        PRICES["lookup"] + PRICES["hook"], rel=0.05
    )
    assert holdout.predictions(frames.rows(load(campaign)), observed, QUESTION)["within"].all()


def test_parts_sum_to_what_was_added(plain: Plain) -> None:
    table = attribution.parts(plain.observed, list(_fits(plain.observed).values()), "instructions")
    assert set(table["part"]) == set(attribution.PARTS) - {attribution.OUTSIDE}
    shares = table.groupby("workload")["share"].sum()
    assert list(shares) == pytest.approx([1.0] * len(WORKLOADS))
    one = table[table["workload"] == "compile"].set_index("part")
    shape = WORKLOADS["compile"]
    assert one.loc["hash", "value"] == pytest.approx(PRICES["byte"] * shape.bytes, rel=0.01)
    assert one["low"]["hash"] < one["value"]["hash"] < one["high"]["hash"]
    assert one["value"].sum() == pytest.approx(added(shape, "container-image"), rel=0.01)
    assert one.loc["hooks", "base"] == pytest.approx(shape.base, rel=0.01)
    assert one["share"].abs()["rest"] < 0.01


def test_what_runs_outside_of_the_cgroup_is_a_part_beside_the_sum(plain: Plain) -> None:
    known = attribution.parts(plain.observed, list(_fits(plain.observed).values()), "instructions")
    primary = ladder.ladder(plain.rows, QUESTION)
    assert attribution.with_outside(known, primary, runlength.lengths(plain.rows, QUESTION)) is known
    recorded = primary.assign(elsewhere=50.0, elsewhere_low=40.0, elsewhere_high=60.0)
    table = attribution.with_outside(known, recorded, runlength.lengths(plain.rows, QUESTION))
    mine = table[(table["workload"] == "nginx") & (table["part"] == attribution.OUTSIDE)]
    number = WORKLOADS["nginx"].operations
    assert list(mine[["value", "low", "high"]].iloc[0]) == [50.0 * number, 40.0 * number, 60.0 * number]
    inside = table[table["part"] != attribution.OUTSIDE]
    assert list(inside.groupby("workload")["share"].sum()) == pytest.approx([1.0] * len(WORKLOADS))
    figure = figures.stack(table, "6", figures.Caption(campaign="fake", tier=Tier.ICOUNT))
    assert "outside of the containers' cgroup" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_tier_without_a_clock_has_no_prices(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path, tier=Tier.TCG, blocks=1)
    question = Question(tier=Tier.TCG)
    observed = holdout.observe(frames.rows(load(campaign)), events.events(load(campaign), truth()), question)
    assert observed == {}
    assert attribution.parts(observed, holdout.fits(observed, question), "ns").empty


def test_time_is_priced_in_nanoseconds(tmp_path: Path) -> None:
    question = Question(tier=Tier.KVM)
    campaign = _campaign(tmp_path, tier=Tier.KVM)
    observed = holdout.observe(frames.rows(load(campaign)), events.events(load(campaign), truth()), question)
    fit = next(fit for fit in holdout.fits(observed, question) if fit.step.name == "file")
    assert fit.unit == "ns"
    assert fit.prices["bytes"].center == pytest.approx(PRICES["byte"], rel=0.05)

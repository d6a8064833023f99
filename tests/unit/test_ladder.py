"""The ladder's parts, each by itself; `test_frames.py` has the ladder of whole campaigns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_campaign import build, failed
from test_attribution import truth as truth_of_images

from testbed.analysis.statistics.effect import Conclusion, Losses
from testbed.analysis.tables import events, frames, ladder, metrics, tables
from testbed.analysis.tables.events import Truth
from testbed.analysis.tables.ladder import Question
from testbed.errors import EvidenceError
from testbed.plan import Cell
from testbed.record import Record, Sample, Status, Tier
from testbed.rundir import load

QUESTION = Question(tier=Tier.ICOUNT)
READING = metrics.Reading(label="cpu", unit="s")


def rows_of(*values: tuple[str, int, int, float]) -> pd.DataFrame:
    """Return rows of good runs: measurer, block, iteration (0 is the warm-up) and value."""
    named = pd.DataFrame(values, columns=["measurer", "block", "iteration", "value"])
    warmup = (named["iteration"] == 0).astype("boolean")
    run: dict[str, Any] = {
        "cell": "c",
        "metric": "cpu",
        "status": "ok",
        "current": True,
        "oracle": "ok",
        "operations": 1.0,
    }
    return named.assign(warmup=warmup, **run)


def test_rungs_are_in_the_order_of_the_ladder_and_others_follow_by_name() -> None:
    arms = ["zeta", "container-image", "alpha", "none2", "container-file", "none", "hooks-only", "ima-exec"]
    climbed = ["none", "none2", "ima-exec", "hooks-only", "container-file", "container-image"]
    assert sorted(arms, key=ladder.climb) == [*climbed, "alpha", "zeta"]


def test_an_arms_value_is_the_median_of_its_timed_iterations_or_its_warm_up() -> None:
    rows = rows_of(*(("none", 0, number, value) for number, value in enumerate([9.0, 1.0, 5.0, 2.0])))
    assert ladder.arm_values(rows, "cpu", READING).to_numpy().tolist() == [[2.0]]
    assert ladder.arm_values(rows, "cpu", READING, warmup=True).to_numpy().tolist() == [[9.0]]


def test_an_arms_value_is_of_runs_that_count() -> None:
    rows = rows_of(("none", 0, 1, 1.0), ("none", 1, 1, 2.0), ("none", 2, 1, 3.0), ("none", 3, 1, 4.0))
    rows.loc[0, "status"] = "rejected"
    rows.loc[1, "current"] = False
    rows.loc[2, "oracle"] = "missed"
    assert list(frames.counted(rows)["block"]) == [3]
    assert list(ladder.arm_values(rows, "cpu", READING).index) == [3]


@pytest.mark.parametrize("broken", [{"value": 0.0}, {"value": -1.0}, {"operations": 0.0}, {"value": float("nan")}])
def test_a_value_that_has_no_ratio_names_its_run(broken: dict[str, float]) -> None:
    rows = rows_of(("none", 7, 1, 1.0), ("none", 8, 1, 1.0)).assign(**broken)
    with pytest.raises(EvidenceError, match="cell c block 7: cpu is "):
        ladder.arm_values(rows, "cpu", READING)


def test_the_baseline_is_the_geometric_mean_of_its_arms() -> None:
    values = pd.DataFrame({"none": [1.0, 2.0], "none2": [4.0, 8.0], "ima-exec": [99.0, 99.0]})
    assert ladder.baseline_of(values, ["none", "none2"]).tolist() == pytest.approx([2.0, 4.0])


def test_the_same_arm_twice_is_shown_beside_each_rung(tmp_path: Path) -> None:
    arms = {"none": 0.0, "none2": 0.002, "ima-exec": 0.1, "hooks-only": 0.1}
    table = ladder.ladder(frames.rows(load(build(tmp_path, arms=arms))), replace(QUESTION, delta=0.03))
    assert list(table["treatment"]) == ["ima-exec", "hooks-only"], "as the ladder climbs, not by name"
    for row in table.to_dict("records"):
        assert row["floor"] == pytest.approx(1.002, abs=0.0003)
        assert 1.001 < row["floor_low"] < row["floor"] < row["floor_high"] < 1.003
        assert (row["floor_n"], row["delta"]) == (6, 0.03)


def test_without_the_same_arm_twice_the_floor_is_unbounded(tmp_path: Path) -> None:
    (row,) = ladder.ladder(frames.rows(load(build(tmp_path, arms={"none": 0.0, "ima-exec": 0.1}))), QUESTION).to_dict(
        "records"
    )
    assert pd.isna(row["floor"])
    assert (row["floor_low"], row["floor_high"], row["floor_n"]) == (float("-inf"), float("inf"), 0)


def test_the_cost_of_five_blocks_is_unbounded(tmp_path: Path) -> None:
    (row,) = ladder.ladder(
        frames.rows(load(build(tmp_path, arms={"none": 0.0, "ima-exec": 0.1}, blocks=5))), QUESTION
    ).to_dict("records")
    assert row["cost"] == pytest.approx(0.042e9, rel=0.01)
    assert (row["cost_low"], row["cost_high"]) == (float("-inf"), float("inf"))


@pytest.mark.parametrize("attack", ["a-name-before-none", "some-name-after-it"])
def test_runs_with_an_attack_are_in_no_contrast(tmp_path: Path, attack: str) -> None:
    rows = frames.rows(load(build(tmp_path)))
    rows.loc[rows["measurer"] == "ima-exec", "attack"] = attack
    assert list(ladder.ladder(rows, QUESTION)["treatment"]) == ["hooks-only", "container-file"]


@pytest.mark.parametrize(("lost", "verdict"), [(1, Conclusion.OVERHEAD), (2, Conclusion.INVALID)])
def test_losses_are_a_share_of_the_blocks(tmp_path: Path, lost: int, verdict: Conclusion) -> None:
    """1 of 24 is 4 %, 2 are 8 %; 5 % are allowed."""

    def change(cell: Cell, record: Record) -> Record:
        fails = cell.measurer == "ima-exec" and record.block < lost
        return failed(record, Status.TIMED_OUT, "slow") if fails else record

    table = ladder.ladder(frames.rows(load(build(tmp_path, blocks=24, change=change))), QUESTION).set_index("treatment")
    assert table.loc["ima-exec", "verdict"] == verdict
    assert table.loc["hooks-only", "verdict"] == Conclusion.OVERHEAD_BELOW_DELTA


def test_there_is_a_ladder_of_each_metric_that_was_measured_and_means_something(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        running = [replace(one, metric="cpu_running") for one in record.samples if one.metric == "cpu"]
        return replace(record, samples=(*record.samples, *running))

    plain, more = frames.rows(load(build(tmp_path / "a"))), frames.rows(load(build(tmp_path / "b", change=change)))
    assert list(tables.ladders(plain, QUESTION)) == ["cpu"]
    found = tables.ladders(more, QUESTION)
    assert list(found) == ["cpu", "cpu_running"]
    assert {"p_adjusted"} <= set(found["cpu_running"].columns)
    assert set(found["cpu_running"]["metric"]) == {"cpu_running"}


def test_where_nothing_is_priced_the_ladder_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    made = tables.read(load(build(tmp_path, tier=Tier.TCG)))
    assert made.ladders == {}
    assert made.ladder.empty
    assert list(made.ladder.columns) == [*ladder.STRATUM, "treatment"]


@pytest.mark.parametrize(("truth", "source"), [(None, "stored"), (truth_of_images(), "images")])
def test_events_are_of_the_images_where_these_are_given_and_else_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: Truth | None, source: str
) -> None:
    campaign = build(tmp_path)
    happened = events.read(load(campaign))
    monkeypatch.setattr(events, "read", lambda _: happened.assign(source="stored"))
    monkeypatch.setattr(events, "events", lambda _, truth: happened.assign(source="images"))
    assert set(tables.read(load(campaign), truth=truth).events["source"]) == {source}


def test_a_planned_run_without_a_record_says_so(tmp_path: Path) -> None:
    runs = frames.runs(load(build(tmp_path, change=lambda _, record: None if record.block == 5 else record)))
    for row in runs[runs["block"] == 5].to_dict("records"):
        assert (row["reason"], row["attempt"], row["record"]) == ("no record", 0, None)
        assert (row["counters"], row["facts"]) == ({}, {})
        assert not row["path"].exists()
    assert all(path.is_dir() for path in runs.loc[runs["block"] == 0, "path"])


def test_operations_are_one_where_an_iteration_does_not_say(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        told = Sample(metric="operations", unit="1", value=50.0, iteration=1)
        return replace(record, samples=(*record.samples, told))

    rows = frames.rows(load(build(tmp_path, change=change)))
    cpu = rows[rows["metric"] == "cpu"]
    assert set(cpu.loc[cpu["iteration"] == 0, "operations"]) == {1.0}
    assert set(cpu.loc[cpu["iteration"] == 1, "operations"]) == {50.0}


def test_a_value_that_is_not_said_to_be_of_a_warm_up_is_timed() -> None:
    rows = rows_of(("none", 0, 1, 3.0)).assign(warmup=pd.array([pd.NA], dtype="boolean"))
    assert ladder.arm_values(rows, "cpu", READING).to_numpy().tolist() == [[3.0]]


def test_the_same_arm_twice_in_five_blocks_bounds_nothing(tmp_path: Path) -> None:
    table = ladder.ladder(frames.rows(load(build(tmp_path, blocks=5))), QUESTION)
    assert set(table["floor_n"]) == {5}
    assert set(table["floor_low"]) == {0.0}
    assert set(table["floor_high"]) == {float("inf")}


@pytest.mark.parametrize(
    ("changes", "losses"),
    [
        ({}, Losses()),
        ({"oracle": None}, Losses()),
        ({"oracle": "missed"}, Losses(failed=0.25)),
        ({"oracle": "unexpected"}, Losses(failed=0.25)),
        ({"oracle": "unjudged"}, Losses(failed=0.25)),
        ({"status": "machine-lost"}, Losses(failed=0.25)),
        ({"status": "timed-out"}, Losses(failed=0.25)),
        ({"status": "workload-failed"}, Losses(failed=0.25)),
        ({"status": "rejected"}, Losses(rejected=0.25)),
        ({"status": "rejected", "oracle": "missed"}, Losses(rejected=0.25)),
        # Another arm's run is no loss of this contrast.
        ({"measurer": "hooks-only", "status": "machine-lost"}, Losses()),
    ],
)
def test_a_loss_is_a_failure_a_wrong_measurement_or_a_rejection(changes: dict[str, str | None], losses: Losses) -> None:
    """One of four blocks."""
    rows = rows_of(*((arm, block, 1, 1.0) for block in range(4) for arm in ("none", "ima-exec")))
    for name, value in changes.items():
        rows.loc[3, name] = value
    assert ladder._losses(rows, {"none", "ima-exec"}) == losses

"""Tables from a synthetic campaign: one row per sample, and what differs is not pooled."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fake_campaign import Change, build, failed

from testbed import rundir
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import frames, ladder, stored
from testbed.analysis.tables.ladder import Question
from testbed.errors import EvidenceError, IncompatibleRuns
from testbed.plan import Cell
from testbed.record import Record, Sample, Status, Tier
from testbed.rundir import load

QUESTION = Question(tier=Tier.ICOUNT)


def _fails(arm: str, block: int, status: Status = Status.MACHINE_LOST) -> Change:
    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer == arm and record.block == block:
            return failed(record, status, "QEMU ended")
        return record

    return change


def _with_facts(block: int, **facts: object) -> Change:
    def change(_: Cell, record: Record) -> Record:
        return replace(record, facts=record.facts | facts) if record.block == block else record

    return change


def test_one_row_a_sample(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path)))
    assert len(rows) == 6 * 5 * 6
    one = rows[(rows["measurer"] == "hooks-only") & (rows["block"] == 3) & (rows["metric"] == "cpu")]
    assert list(one["iteration"]) == [0, 1]
    assert list(one["warmup"]) == [True, False]
    assert set(one["boot_id"]) == {"boot-3"}
    assert set(one["tier"]) == {"icount"}
    assert len(set(one["position"])) == 1


def test_columns_keep_their_types_through_parquet(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path, change=_fails("ima-exec", 0))))
    stored.write(rows, tmp_path / frames.FILE)
    back = pd.read_parquet(tmp_path / "rows.parquet")
    assert back["block"].dtype == "Int64"
    assert back["warmup"].dtype == "boolean"
    assert back["value"].dtype == "float64"
    pd.testing.assert_frame_equal(back, rows, check_dtype=False)
    assert [path.name for path in tmp_path.glob("*rows*")] == ["rows.parquet"]


def test_a_failed_run_is_a_row_without_a_value(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path, change=_fails("ima-exec", 2))))
    lost = rows[rows["status"] == "machine-lost"]
    assert len(lost) == 1
    assert lost.iloc[0]["reason"] == "QEMU ended"
    assert math.isnan(lost.iloc[0]["value"])
    assert pd.isna(lost.iloc[0]["metric"])


def test_an_empty_campaign_has_the_columns(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path, change=lambda _, __: None)))
    assert list(rows.columns) == list(frames.ROW_COLUMNS)
    assert rows.empty
    assert ladder.ladder(rows, QUESTION).empty


@pytest.mark.parametrize(
    "facts",
    [{"tier": "kvm"}, {"qemu_version": "10.0"}, {"cpu_model": "max"}, {"images": {"tools": "sha256:" + "cd" * 32}}],
)
def test_runs_that_differ_in_a_checked_fact_are_not_pooled(tmp_path: Path, facts: dict[str, object]) -> None:
    with pytest.raises(IncompatibleRuns, match=next(iter(facts))):
        frames.rows(load(build(tmp_path, change=_with_facts(4, **facts))))


def test_all_runs_of_another_tier_than_planned_are_not_pooled(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        return replace(record, facts=record.facts | {"tier": "tcg"})

    with pytest.raises(IncompatibleRuns, match="the plan"):
        frames.rows(load(build(tmp_path, change=change)))


def test_a_good_run_must_tell_its_checked_facts(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        facts = {name: value for name, value in record.facts.items() if name != "cpu_model"}
        return replace(record, facts=facts) if record.block == 1 else record

    with pytest.raises(IncompatibleRuns, match="cpu_model"):
        frames.rows(load(build(tmp_path, change=change)))


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_run_that_failed_need_not_tell_them(tmp_path: Path, status: Status) -> None:
    def change(cell: Cell, record: Record) -> Record:
        fails = cell.measurer == "ima-exec" and record.block == 1
        return replace(failed(record, status, "at boot"), facts={}) if fails else record

    assert (frames.rows(load(build(tmp_path, change=change)))["status"] == str(status)).sum() == 1


def test_images_of_other_workloads_may_differ(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        return replace(record, facts=record.facts | {"images": {cell.workload: f"sha256:{cell.workload}"}})

    campaign = build(tmp_path, workloads={"tools": 0.4, "hello": 0.1}, change=change)
    assert set(frames.rows(load(campaign))["workload"]) == {"tools", "hello"}


def test_a_record_of_no_planned_cell_is_refused(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    path, record = next(rundir.records(campaign))
    rundir.write_record(path, replace(record, cell_id="feedfacecafe"))
    with pytest.raises(EvidenceError, match="feedfacecafe"):
        frames.rows(load(campaign))


def _retire(path: Path, record: Record, **changes: object) -> None:
    aside = path.with_name(f"{path.name}~1")
    aside.mkdir()
    rundir.write_record(aside, replace(record, **changes))  # type: ignore[arg-type]


def test_earlier_attempts_are_rows_that_no_contrast_uses(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    before = frames.rows(load(campaign))
    path, record = next(rundir.records(campaign))
    dear = tuple(replace(sample, value=1000 * sample.value) for sample in record.samples)
    _retire(
        path, record, samples=dear, facts=record.facts | {"boot_id": "another"}, reason="host_steal", status="rejected"
    )
    rows = frames.rows(load(campaign))
    aside = rows[~rows["current"]]
    assert set(aside["run"]) == {f"{path.name}~1"}
    assert set(aside["status"]) == {"rejected"}
    assert set(aside["reason"]) == {"host_steal"}
    assert len(aside) == len(record.samples)
    pd.testing.assert_frame_equal(rows[rows["current"]].reset_index(drop=True), before)
    pd.testing.assert_frame_equal(ladder.ladder(rows, QUESTION), ladder.ladder(before, QUESTION))
    assert len(frames.runs(load(campaign))) == 30


def test_a_good_run_that_was_put_aside_does_not_count_either(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    before = ladder.ladder(frames.rows(load(campaign)), QUESTION)
    path, record = next(rundir.records(campaign))
    _retire(path, record, samples=tuple(replace(sample, value=9.0) for sample in record.samples))
    after = frames.rows(load(campaign))
    pd.testing.assert_frame_equal(ladder.ladder(after, QUESTION), before)
    # The ladder leaves earlier attempts out by itself, too; others rely on `counted` alone.
    assert set(after["run"]) - set(frames.counted(after)["run"]) == {f"{path.name}~1"}


def _judged(campaign: rundir.Campaign, wrong: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> pd.DataFrame:
    names = [path.name for path, _ in rundir.records(campaign) if path.name not in unknown]
    table = pd.DataFrame({"run": names, "verdict": ["missed" if name in wrong else "ok" for name in names]})
    # A second case of the same run, which is fine: the worst one counts.
    return pd.concat([table, table.assign(verdict="ok")], ignore_index=True)


def test_a_number_counts_only_where_the_oracle_saw_the_measurement(tmp_path: Path) -> None:
    campaign = build(tmp_path, blocks=24)
    runs = frames.runs(load(campaign))
    of_arm = [f"{run['cell']}-{run['block']}" for run in runs.to_dict("records") if run["measurer"] == "ima-exec"]
    rows = frames.rows(load(campaign), _judged(campaign, wrong=(of_arm[0],), unknown=(of_arm[1],)))
    assert set(rows.loc[rows["run"] == of_arm[0], "oracle"]) == {"missed"}
    assert set(rows.loc[rows["run"] == of_arm[1], "oracle"]) == {"unjudged"}
    table = ladder.ladder(rows, QUESTION).set_index("treatment")
    assert table.loc["ima-exec", "n"] == 22
    assert table.loc["ima-exec", "verdict"] == Conclusion.INVALID  # 8 % of the blocks, 5 % are allowed
    assert table.loc["hooks-only", "n"] == 24


def test_without_a_table_of_checks_every_good_run_counts(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    rows = frames.rows(load(campaign))
    assert rows["oracle"].isna().all()
    assert set(ladder.ladder(rows, QUESTION)["n"]) == {6}
    _judged(campaign).to_parquet(campaign.path / "checks.parquet")
    assert set(frames.rows(load(campaign))["oracle"]) == {"ok"}


def test_a_value_is_of_one_operation(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        done = tuple(
            Sample(metric="operations", unit="1", value=100.0 * (1 + number), iteration=number, warmup=number == 0)
            for number in (0, 1)
        )
        return replace(record, samples=(*record.samples, *done))

    one = ladder.ladder(frames.rows(load(build(tmp_path / "a"))), QUESTION)
    rows = frames.rows(load(build(tmp_path / "b", change=change)))
    cpu = rows[rows["metric"] == "cpu"]
    assert set(cpu.loc[cpu["iteration"] == 0, "operations"]) == {100.0}
    assert set(cpu.loc[cpu["iteration"] == 1, "operations"]) == {200.0}
    each = ladder.ladder(rows, QUESTION)
    assert list(each["base"]) == pytest.approx(list(one["base"] / 200))
    assert list(each["cost"]) == pytest.approx(list(one["cost"] / 200))
    assert list(each["ratio"]) == pytest.approx(list(one["ratio"]))


def test_what_servers_say_of_themselves_is_shown_on_kvm_only_and_more_is_worse(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        rate = 500.0 if cell.measurer == "ima-exec" else 1000.0
        told = Sample(metric="throughput", unit="1/s", value=rate, iteration=1)
        return replace(record, samples=(*record.samples, told))

    rows = frames.rows(load(build(tmp_path / "a", tier=Tier.KVM, change=change)))
    table = ladder.ladder(rows, Question(tier=Tier.KVM), "throughput").set_index("treatment")
    assert table.loc["ima-exec", "ratio"] == pytest.approx(2.0)
    assert table.loc["ima-exec", "base"] == pytest.approx(0.001)
    assert ladder.ladder(frames.rows(load(build(tmp_path / "b", change=change))), QUESTION, "throughput").empty


def test_arms_of_one_block_are_clones_of_one_boot(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        other = record.block == 2 and cell.measurer == "hooks-only"
        return replace(record, facts=record.facts | {"boot_id": "another"}) if other else record

    with pytest.raises(IncompatibleRuns, match=r"boot_id of debian-6\.12 in block 2"):
        frames.rows(load(build(tmp_path, change=change)))


def test_where_each_run_boots_for_itself_they_need_not_be(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        return replace(record, facts=record.facts | {"boot_id": f"{cell.measurer}-{record.block}"})

    campaign = build(tmp_path, change=change)
    rundir.write_json(campaign.facts_file, {"experiment": {"start": "boot"}})
    assert set(ladder.ladder(frames.rows(load(campaign)), QUESTION)["n"]) == {6}


def test_runs_lists_what_was_planned_but_has_no_record(tmp_path: Path) -> None:
    runs = frames.runs(load(build(tmp_path, change=lambda _, record: None if record.block == 5 else record)))
    assert len(runs) == 30
    assert runs.loc[runs["block"] == 5, "status"].isna().all()
    assert set(runs["status"].dropna()) == {"ok"}


def test_ladder_finds_the_true_overheads(tmp_path: Path) -> None:
    table = ladder.ladder(frames.rows(load(build(tmp_path))), QUESTION).set_index("treatment")
    assert set(table.index) == {"ima-exec", "hooks-only", "container-file"}
    for arm, truth in (("ima-exec", 1.018), ("hooks-only", 1.0011), ("container-file", 1.62)):
        low, high = float(table["low"][arm]), float(table["high"][arm])
        assert low < truth < high < low + 0.001
    assert table.loc["ima-exec", "verdict"] == Conclusion.OVERHEAD
    assert table.loc["hooks-only", "verdict"] == Conclusion.OVERHEAD_BELOW_DELTA
    assert (table["n"] == 6).all()


def test_absolute_cost_is_in_instructions_under_icount(tmp_path: Path) -> None:
    row = ladder.ladder(frames.rows(load(build(tmp_path))), QUESTION).set_index("treatment").loc["container-file"]
    assert row["unit"] == "instructions"
    assert row["cost"] == pytest.approx(0.62 * 0.42e9, rel=0.01)
    assert row["cost_low"] < row["cost"] < row["cost_high"]
    assert row["base"] == pytest.approx(0.42e9, rel=0.01)


def test_warmups_do_not_count(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        samples = tuple(replace(s, value=s.value * 1000) if s.warmup else s for s in record.samples)
        return replace(record, samples=samples)

    with_them = ladder.ladder(frames.rows(load(build(tmp_path / "a", change=change))), QUESTION)
    without = ladder.ladder(frames.rows(load(build(tmp_path / "b"))), QUESTION)
    pd.testing.assert_frame_equal(with_them, without)


def test_attacks_price_nothing(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path)))
    rows.loc[rows["measurer"] == "ima-exec", "attack"] = "edit-binary"
    assert "ima-exec" not in set(ladder.ladder(rows, QUESTION)["treatment"])


def test_a_block_that_lost_an_arm_is_left_out_of_its_contrast_only(tmp_path: Path) -> None:
    campaign = build(tmp_path, blocks=24, change=_fails("ima-exec", 2))
    table = ladder.ladder(frames.rows(load(campaign)), QUESTION).set_index("treatment")
    assert table.loc["ima-exec", "n"] == 23
    assert table.loc["hooks-only", "n"] == 24


@pytest.mark.parametrize(("status", "verdict"), [(Status.WORKLOAD_FAILED, "INVALID"), (Status.REJECTED, "OVERHEAD")])
def test_too_many_failures_invalidate_where_rejections_do_not(tmp_path: Path, status: Status, verdict: str) -> None:
    table = ladder.ladder(frames.rows(load(build(tmp_path, blocks=8, change=_fails("ima-exec", 2, status)))), QUESTION)
    assert table.set_index("treatment").loc["ima-exec", "verdict"] == verdict


def test_a_lost_duplicate_invalidates_every_rung(tmp_path: Path) -> None:
    table = ladder.ladder(frames.rows(load(build(tmp_path, blocks=8, change=_fails("none2", 0)))), QUESTION)
    assert set(table["verdict"]) == {"INVALID"}
    assert set(table["n"]) == {7}


def test_without_the_duplicate_there_are_numbers_but_no_verdict(tmp_path: Path) -> None:
    table = ladder.ladder(frames.rows(load(build(tmp_path, arms={"none": 0, "ima-exec": 0.02}))), QUESTION)
    assert list(table["verdict"]) == ["INCONCLUSIVE"]
    assert table["floor_n"].item() == 0


def test_without_the_baseline_there_is_no_ladder(tmp_path: Path) -> None:
    assert ladder.ladder(frames.rows(load(build(tmp_path, arms={"none2": 0, "ima-exec": 0.02}))), QUESTION).empty


def test_the_correctness_tier_prices_nothing(tmp_path: Path) -> None:
    rows = frames.rows(load(build(tmp_path, tier=Tier.TCG)))
    assert ladder.ladder(rows, Question(tier=Tier.TCG)).empty


@pytest.mark.parametrize("metric", ["elapsed", "ima_entries"])
def test_icount_does_not_price_metrics_that_mean_nothing_there(tmp_path: Path, metric: str) -> None:
    assert ladder.ladder(frames.rows(load(build(tmp_path))), QUESTION, metric).empty


def test_a_value_of_zero_is_malformed(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        nothing = Sample(metric="cpu", unit="s", value=0.0, iteration=1)
        return replace(record, samples=(nothing,)) if cell.measurer == "none" else record

    with pytest.raises(EvidenceError, match="cpu is 0"):
        ladder.ladder(frames.rows(load(build(tmp_path, change=change))), QUESTION)


def test_question_takes_what_the_campaign_says() -> None:
    wish = {"experiment": {"baseline": "a", "duplicate": "b", "delta": 0.1}}
    assert Question.of(Tier.KVM, wish) == Question(tier=Tier.KVM, baseline="a", duplicate="b", delta=0.1)
    assert Question.of(Tier.KVM, {}).delta == 0.02

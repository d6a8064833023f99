"""The noise floor of each arm, and what arms add outside of the containers' cgroup."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_campaign
import pytest

from testbed.analysis.report import overhead
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import frames, ladder, noise, tables
from testbed.plan import Cell
from testbed.record import Record, Sample
from testbed.rundir import LoadedCampaign, load

ARMS = {"none": 0.0, "none2": 0.0, "hooks-only": 0.002, "container-file": 0.004, "container-file2": 0.004}
Change = Callable[[Cell, Record], Record]


def scaled(arm: str, factor: Callable[[int], float]) -> Change:
    """Return a change of the CPU time of one arm, by block."""

    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer != arm:
            return record
        more = factor(record.block)
        return replace(
            record,
            samples=tuple(
                replace(one, value=more * one.value) if one.metric == "cpu" else one for one in record.samples
            ),
        )

    return change


def campaign(path: Path, change: Change = fake_campaign.keep, arms: dict[str, float] = ARMS) -> LoadedCampaign:
    return load(fake_campaign.build(path, arms=arms, blocks=12, change=change))


def read(path: Path, change: Change = fake_campaign.keep, arms: dict[str, float] = ARMS) -> SimpleNamespace:
    """Return the two tables that this is about; those of other methods take a second for each arm."""
    loaded = campaign(path, change, arms)
    rows, question = frames.rows(loaded), ladder.Question.of(loaded.plan.tier, loaded.facts)
    return SimpleNamespace(ladder=ladder.ladder(rows, question), noise=ladder.noise_table(rows, question))


def test_the_floor_of_an_arm_is_its_own_noise_and_others_get_the_widest(tmp_path: Path) -> None:
    noisy = scaled("container-file2", lambda block: 1.01 if block % 2 else 0.99)
    known = tables.read(campaign(tmp_path, noisy))
    rows = {row["treatment"]: row for row in known.ladder.to_dict("records")}
    assert set(rows) == {"hooks-only", "container-file"}, "a second run is no arm of its own"
    assert {row["noise_of"] for row in rows.values()} == {"container-file"}
    for row in rows.values():
        assert row["noise_high"] > 1.003
        assert row["floor_high"] < 1.001, "the baseline's own A/A stays what it is"
        # Both would be an overhead above the floor of the baseline.
        assert row["low"] > 1
        assert row["verdict"] in (Conclusion.NO_DETECTABLE_OVERHEAD, Conclusion.INCONCLUSIVE)
    said = "\n".join(overhead.section(known, {}))
    assert "The A/A of each arm that ran twice" in said
    assert "`hooks-only` ran once: the floor is the widest A/A of that workload." in said


def test_a_quiet_arm_has_no_lower_floor_than_the_baseline(tmp_path: Path) -> None:
    known = read(tmp_path, scaled("none2", lambda block: 1.001 if block % 2 else 0.999))
    assert set(known.ladder["noise_of"]) == {"none"}
    by_arm = known.noise.set_index("arm")
    assert set(by_arm.index) == {"none", "container-file"}
    assert by_arm.loc["container-file", "high"] < by_arm.loc["none", "high"]
    assert by_arm.loc["container-file", "again"] == "container-file2"


def test_an_arm_that_differs_from_itself_is_invalid_and_others_are_not(tmp_path: Path) -> None:
    rows = {
        row["treatment"]: row
        for row in read(tmp_path, scaled("container-file2", lambda _: 1.01)).ladder.to_dict("records")
    }
    assert rows["container-file"]["verdict"] == Conclusion.INVALID
    assert rows["hooks-only"]["verdict"] != Conclusion.INVALID


def test_a_second_run_without_the_first_is_an_arm(tmp_path: Path) -> None:
    arms = {name: cost for name, cost in ARMS.items() if name != "container-file"}
    known = read(tmp_path, arms=arms)
    assert set(known.ladder["treatment"]) == {"hooks-only", "container-file2"}
    assert set(known.noise["arm"]) == {"none"}


def test_without_a_duplicate_of_the_baseline_there_is_no_floor(tmp_path: Path) -> None:
    arms = {name: cost for name, cost in ARMS.items() if name != "none2"}
    known = read(tmp_path, arms=arms)
    assert set(known.ladder["verdict"]) == {Conclusion.INCONCLUSIVE}
    assert set(known.ladder["noise_of"]) == {""}
    assert set(known.noise["arm"]) == {"container-file"}


def test_a_measurer_that_is_not_known_here_is_no_second_run() -> None:
    assert noise.first_of("container-file2") == "container-file"
    assert noise.first_of("none2") is None, "the experiment says which arm is the baseline's"
    assert noise.first_of("of-another-version") is None


def elsewhere(cell: Cell, record: Record) -> Record:
    """Every arm runs 30 M instructions elsewhere, give or take; the measurer adds 5 M."""
    added = {"container-file": 5e-3, "container-file2": 5e-3}.get(cell.measurer, 0.0)
    jitter = 1e-4 * math.sin(7.0 * record.block + len(cell.measurer))
    extra = tuple(
        Sample(metric="elsewhere", unit="s", value=0.03 + added + jitter, iteration=one.iteration, warmup=one.warmup)
        for one in record.samples
        if one.metric == "cpu"
    )
    return replace(record, samples=(*record.samples, *extra))


def test_what_an_arm_adds_elsewhere_is_a_difference_with_its_own_noise(tmp_path: Path) -> None:
    known = tables.read(campaign(tmp_path, elsewhere))
    rows = {row["treatment"]: row for row in known.ladder.to_dict("records")}
    ours, hooks = rows["container-file"], rows["hooks-only"]
    assert ours["elsewhere"] == pytest.approx(5e6, rel=0.05)
    assert ours["elsewhere_low"] < ours["elsewhere"] < ours["elsewhere_high"]
    assert ours["elsewhere_base"] == pytest.approx(30e6, rel=0.01)
    assert ours["elsewhere_floor_low"] < 0 < ours["elsewhere_floor_high"]
    assert abs(hooks["elsewhere"]) < 1e6
    assert ours["ratio"] == pytest.approx(1.004, rel=1e-3), "it is not in the overhead"
    said = "\n".join(overhead.section(known, {}))
    assert "1 of 2 arms add or save there more than the baseline's two runs differ" in said


def test_the_report_says_when_the_kernel_was_not_tuned(tmp_path: Path) -> None:
    loaded = campaign(tmp_path, arms={name: ARMS[name] for name in ("none", "none2")})
    for command_line, said in (("tuned", False), ("distribution", True)):
        facts = {**loaded.facts, "experiment": {"machine": {"command_line": command_line}}}
        text = "\n".join(overhead.section(tables.read(replace(loaded, facts=facts)), {}))
        assert ("as Debian ships it" in text) is said


def test_a_campaign_that_did_not_record_it_says_nothing_of_it(tmp_path: Path) -> None:
    arms = {name: ARMS[name] for name in ("none", "none2", "hooks-only")}
    known = tables.read(campaign(tmp_path, arms=arms))
    assert known.ladder["elsewhere"].isna().all()
    said = "\n".join(overhead.section(known, {}))
    assert "*Elsewhere*" not in said
    assert "ran twice" not in said

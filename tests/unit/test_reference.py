"""A reference data set: small, whole where it says so, and drawing the same figures as the campaign it was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from fake_campaign import build
from test_judging import _judged, _one_program  # noqa: F401 - the fixture has images say one program

from testbed import rundir
from testbed.analysis import reference
from testbed.analysis.report import report
from testbed.analysis.tables import frames, stored, tables
from testbed.commands.figures import command as figures_command
from testbed.commands.reference import command as reference_command
from testbed.commands.report import command as report_command
from testbed.errors import EvidenceError, SpecError
from testbed.rundir import Campaign, load


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    judged = _judged(tmp_path / "results")
    report.write(load(judged))
    return judged


def test_records_and_tables_are_whole_and_evidence_is_once_a_measurer(tmp_path: Path, campaign: Campaign) -> None:
    made = reference.make(load(campaign), tmp_path / "reference")
    small = Campaign(path=made.path)
    assert made.records == 8
    assert len(made.evidence) == 4
    kept = [path.parent.name for path in sorted(made.path.glob("runs/*/evidence"))]
    assert kept == sorted(made.evidence)
    assert {len(list((made.path / "runs" / run / "evidence").iterdir())) for run in made.evidence} == {4}
    pd.testing.assert_frame_equal(frames.rows(load(small)), frames.rows(load(campaign)))
    assert [record for _, record in rundir.records(small)] == [record for _, record in rundir.records(campaign)]
    assert not list(made.path.rglob("*.jsonl"))
    assert not list(made.path.rglob("*.oci.tar"))
    assert made.size == sum(path.stat().st_size for path in made.path.rglob("*") if path.is_file())
    assert json.loads((made.path / stored.MARK).read_text())["evidence"] == sorted(made.evidence)


def test_a_measurers_own_log_is_evidence_too(tmp_path: Path, campaign: Campaign) -> None:
    for path, record in load(campaign).records:
        (path / "measurer.log").write_bytes(b"a line\n")
        rundir.write_record(path, replace(record, evidence=replace(record.evidence, measurer_log="measurer.log")))
    made = reference.make(load(campaign), tmp_path / "reference")
    kept = [path.parent.name for path in sorted(made.path.glob("runs/*/measurer.log"))]
    assert kept == sorted(made.evidence)


def test_the_same_numbers_come_of_it(tmp_path: Path, campaign: Campaign) -> None:
    made = reference.make(load(campaign), tmp_path / "reference")
    small, large = tables.read(load(Campaign(path=made.path))), tables.read(load(campaign))
    pd.testing.assert_frame_equal(small.ladder, large.ladder)
    pd.testing.assert_frame_equal(small.events, large.events)
    pd.testing.assert_frame_equal(small.parts, large.parts)
    done = CliRunner().invoke(figures_command, [str(made.path)])
    assert done.exit_code == 0
    assert "overhead.png" in done.output


def test_its_report_keeps_the_verdicts_and_says_so(tmp_path: Path, campaign: Campaign) -> None:
    made = reference.make(load(campaign), tmp_path / "reference")
    before = (made.path / "checks.parquet").read_bytes()
    done = CliRunner().invoke(report_command, [str(made.path)])
    assert done.exit_code == CliRunner().invoke(report_command, [str(campaign.path)]).exit_code
    text = (made.path / "report.md").read_text()
    assert text.startswith("# Correctness OK: all 8 runs")
    assert "a reference data set" in text
    assert (made.path / "checks.parquet").read_bytes() == before
    assert any(f"runs/{run}/evidence" in text for run in made.evidence)
    assert "a reference data set" not in (campaign.path / "report.md").read_text()


@pytest.mark.parametrize("name", ["checks.parquet", "events.parquet"])
@pytest.mark.parametrize("damage", [None, b"", b"PAR1 not a table PAR1"], ids=["missing", "empty", "damaged"])
def test_what_cannot_be_made_again_is_named(
    tmp_path: Path, campaign: Campaign, name: str, damage: bytes | None
) -> None:
    made = reference.make(load(campaign), tmp_path / "reference")
    (made.path / name).unlink()
    if damage is not None:
        (made.path / name).write_bytes(damage)
    for work in (report.write, tables.read):
        with pytest.raises(EvidenceError) as caught:
            work(load(Campaign(path=made.path)))
        assert caught.value.message.startswith(f"{made.path / name}: ")
        assert caught.value.hint


def test_derived_tables_that_were_removed_are_made_again(tmp_path: Path, campaign: Campaign) -> None:
    small = Campaign(path=reference.make(load(campaign), tmp_path / "reference").path)
    for one, names in ((campaign, ("rows", "checks", "events")), (small, ("rows",))):
        before = {name: pd.read_parquet(one.path / f"{name}.parquet") for name in names}
        for name in names:
            (one.path / f"{name}.parquet").unlink()
        report.write(load(one))
        for name, table in before.items():
            pd.testing.assert_frame_equal(pd.read_parquet(one.path / f"{name}.parquet"), table)


def test_a_table_without_its_columns_is_named(campaign: Campaign) -> None:
    stored.write(pd.DataFrame({"run": ["x"]}), campaign.path / "checks.parquet")
    with pytest.raises(EvidenceError, match=r"checks\.parquet: .* expected columns run, verdict, no verdict"):
        tables.read(load(campaign))


def test_it_is_made_again_in_place_and_nothing_else_is_overwritten(tmp_path: Path, campaign: Campaign) -> None:
    target = tmp_path / "reference"
    reference.make(load(campaign), target)
    (target / "old").touch()
    done = CliRunner().invoke(reference_command, [str(campaign.path), str(target)])
    assert done.exit_code == 0
    assert "8 records, 4 evidence bundles" in done.output
    assert not (target / "old").exists()
    assert not list(tmp_path.glob(".part-*"))
    (target / stored.MARK).unlink()
    with pytest.raises(SpecError, match="not a reference data set"):
        reference.make(load(campaign), target)


def test_a_campaign_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"checks\.parquet"):
        reference.make(load(build(tmp_path / "results")), tmp_path / "reference")


def test_what_is_too_large_is_refused(tmp_path: Path, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "LARGEST", 1000)
    with pytest.raises(SpecError, match="at most 1,000"):
        reference.make(load(campaign), tmp_path / "reference")
    assert not (tmp_path / "reference").exists()
    assert not list(tmp_path.glob(".part-*"))

"""The answer in one paragraph, and how ``testbed evaluate`` ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_campaign
import pandas as pd
import pytest
from click.testing import CliRunner
from fake_campaign import RUNGS, WORKLOADS

from testbed.analysis.judged import checks
from testbed.analysis.report import paragraph
from testbed.analysis.report.inputs import ReportInputs
from testbed.analysis.report.report import WrittenReport
from testbed.analysis.tables import frames, tables
from testbed.cli import main
from testbed.commands import _conduct
from testbed.record import Tier
from testbed.rundir import LoadedCampaign, load

STARTS = {name: WORKLOADS[name] for name in ("start-warm", "exec-static", "exec-30", "start-cold")}


def judged(loaded: LoadedCampaign, **changed: Any) -> pd.DataFrame:
    """Return a verdict for each run: all as expected, ten entries promised where the measurer promises any."""
    cells = loaded.cells
    rows: list[dict[str, Any]] = []
    for path, record in loaded.current:
        promises = cells[record.cell_id].measurer.startswith("container")
        rows.append(
            dict.fromkeys(checks.SCHEMA.names, "")
            | {"run": path.name, "verdict": "ok", "measurer": cells[record.cell_id].measurer, "promises": promises}
            | {"block": record.block, "entries": 20, "unattested": 0, "promised": 10 * promises, "attested": []}
            | {"expected": [], "unexpected": [], "missed": [], "findings": []}
        )
    table = pd.DataFrame(rows, columns=checks.SCHEMA.names)
    return table.assign(**changed) if changed else table


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedCampaign:
    return load(fake_campaign.build(tmp_path_factory.mktemp("results"), arms=RUNGS, workloads=STARTS))


def of(campaign: LoadedCampaign, verdicts: pd.DataFrame | None = None) -> str:
    known = judged(campaign) if verdicts is None else verdicts
    return paragraph.paragraph(tables.read(campaign, known), frames.runs(campaign), known)


def test_a_start_and_an_exec_cost_what_the_tables_say(loaded: LoadedCampaign) -> None:
    said = of(loaded)
    assert said.count("\n") == 0
    assert "A container start (`start-warm`) takes 18" in said
    assert "An exec (`exec-static`) takes 120" in said
    ladder = tables.read(loaded, judged(loaded)).ladder
    (row,) = ladder[(ladder["workload"] == "exec-static") & (ladder["treatment"] == "container-file")].to_dict(
        "records"
    )
    assert f"`container-file` +{100 * (row['ratio'] - 1):.2f}"[:22] in said
    assert re.search(r"`container-file` \+[\d.]+ % \[\+[\d.]+, \+[\d.]+\], which is [\d.]+ k instructions", said)
    for arm in ("ima-exec", "hooks-only", "container-file", "container-image"):
        assert said.count(f"`{arm}` ") >= 2, arm


def test_every_log_is_complete(loaded: LoadedCampaign) -> None:
    said = of(loaded)
    count = 2 * len(STARTS) * 6
    assert f"all {10 * count:,} entries that ground truth demands were found in {count} logs" in said
    assert f"All {len(loaded.current)} verdicts are the expected ones." in said
    assert "NOT" not in said


def test_a_missing_entry_is_said(loaded: LoadedCampaign) -> None:
    table = judged(loaded)
    place = table.index[table["measurer"] == "container-file"][0]
    table.loc[place, "verdict"] = "unexpected"
    table["unexpected"] = [["missing"] if number == place else [] for number in table.index]
    said = of(loaded, table)
    assert "NOT every log is complete: entries are missing in 1 of 48 logs (container-file)." in said
    assert "1 of 144 verdicts are NOT the expected ones" in said
    assert "Every log of" not in said


def test_another_wrong_verdict_is_said_too(loaded: LoadedCampaign) -> None:
    said = of(loaded, judged(loaded, verdict="missed"))
    assert "144 of 144 verdicts are NOT the expected ones" in said


def test_without_verdicts_nothing_is_known(loaded: LoadedCampaign) -> None:
    said = of(loaded, judged(loaded).iloc[:0])
    assert "Nothing is known about the logs: no run was judged." in said
    assert "complete" not in said


def test_a_campaign_without_such_workloads_says_where_to_find_them(tmp_path: Path) -> None:
    small = load(fake_campaign.build(tmp_path))
    said = of(small)
    assert "One iteration of `tools`, which starts 3 containers and runs their programs, takes 4" in said
    assert (
        "A start or an exec alone was not measured here; `testbed run experiments/overhead.toml` measures both." in said
    )


def test_a_campaign_with_only_one_of_them(tmp_path: Path) -> None:
    said = of(load(fake_campaign.build(tmp_path, workloads={"exec-static": 0.1})))
    assert "An exec (`exec-static`)" in said
    assert "A start alone was not measured here" in said
    assert "iteration" not in said


def test_without_a_clock_no_cost_is_claimed(tmp_path: Path) -> None:
    said = of(load(fake_campaign.build(tmp_path, tier=Tier.TCG)))
    assert said.startswith("No cost is claimed: this tier has no meaningful clock.")
    assert "Every log of" in said


def test_what_was_not_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_campaign, "COUNTERS", {"unmeasured_mprotect": 2})
    said = of(load(fake_campaign.build(tmp_path, change=lambda cell, run: run if run.block else None)))
    assert "The measurers counted 10 events that they did not measure." in said
    assert "5 of 30 planned runs are missing or were not good." in said


def test_evaluate_ends_with_the_answer_and_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_campaign.build(tmp_path / "results")
    known = load(made)
    verdicts = judged(known)
    material = ReportInputs(
        facts=known.facts,
        tables=tables.read(known, verdicts),
        runs=frames.runs(known),
        checks=verdicts,
        shown_path=str(made.path),
    )
    page = made.path / "report" / "index.html"
    written = WrittenReport(summary="", report=made.path / "report.md", page=page, exit_status=1, inputs=material)
    monkeypatch.setattr(_conduct, "conduct", lambda *_: (known, written))
    done = CliRunner().invoke(main, ["evaluate", "--results", str(tmp_path / "results")])
    assert done.exit_code == 1, done.output
    text = " ".join(done.stdout.split())
    assert of(known) in text
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100
    assert done.stdout.splitlines()[-1] == f"The report: {page}"


def test_an_unknown_workload_has_no_operation(tmp_path: Path) -> None:
    shapes: Mapping[str, float] = {"nonesuch": 0.2}
    assert "One iteration of `nonesuch`" in of(load(fake_campaign.build(tmp_path, workloads=shapes)))

"""The example measurer, by the commands of docs/how-to/add-a-measurer.md, on both kernels."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import plugins
from testbed.analysis.tables import frames
from testbed.record import Status
from testbed.rundir import Campaign, load, read_plan, records

ROOT = Path(__file__).parents[2]
KERNELS = ("debian-6.1", "debian-6.12")
# Of two arms that do the same: what `docs/statistics.md` allows a run that is alone.
SAME = 0.002


def commands() -> list[list[str]]:
    text = (ROOT / "docs/how-to/add-a-measurer.md").read_text()
    return [shlex.split(line) for line in text.splitlines() if line.startswith(".venv/bin/testbed ")]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """What the commands left, run as the text has them, in a directory that is not the repository."""
    place = tmp_path_factory.mktemp("example")
    (place / "examples").symlink_to(ROOT / "examples")
    for words in commands():
        # One machine at a time: another worker has one of its own.
        more = ["--machines", "1"] if words[1] == "run" else []
        argv = [sys.executable, "-m", "testbed.cli", *words[1:], *more]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    (path,) = (place / "results").glob("execlog-*")
    return Campaign(path=path)


def test_the_text_has_commands() -> None:
    assert [words[1] for words in commands()] == ["images", "claim", "plan", "run"]


def test_its_log_is_complete_on_both_kernels(campaign: Campaign) -> None:
    cells = {cell.id: cell for cell in read_plan(campaign).cells}
    ran = {(cells[record.cell_id].kernel, cells[record.cell_id].measurer): record for _, record in records(campaign)}
    assert {kernel for kernel, _ in ran} == set(KERNELS)
    assert all(record.status is Status.OK for record in ran.values())
    for kernel in KERNELS:
        assert ran[kernel, "execlog"].counters["files"] > 0
        assert ran[kernel, "execlog"].counters["unmeasured_exec"] == 0
    assert "all 6 runs" in (campaign.path / "report.md").read_text()


def test_the_other_arms_run_as_without_it(campaign: Campaign) -> None:
    with plugins.measurers_from([ROOT / "examples/measurer"]):
        rows = frames.rows(load(campaign))
    cpu = rows[rows["metric"] == "cpu"].pivot_table(index="kernel", columns="measurer", values="value")
    assert (cpu["none2"] / cpu["none"] - 1).abs().max() < SAME
    assert (cpu["execlog"] > cpu["none"]).all()

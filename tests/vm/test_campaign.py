"""A campaign by the command line: killed in the middle, cleaned up after, resumed, judged, judged again by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.lab.block import Parts
from testbed.lab.machines import reap

EXPERIMENT = """
name = "killed"
question = "does it resume?"
measurers = ["none", "ima-exec", "container-file"]
workloads = ["tools"]
blocks = 1
warmups = 0
seed = 7
"""
PATIENCE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What one campaign left, and how its processes ended."""

    home: Path
    campaign: Path
    killed_after: int
    swept: str
    said: str
    code: int


def environment(home: Path) -> dict[str, str]:
    """Return one with a state directory of its own: no other process cleans up, and our `gc` after no other."""
    return {**os.environ, "TESTBED_STATE": str(home / "state")}


def command(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "testbed.cli", *argv]
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=environment(home),
        check=False,
    )


@pytest.fixture(scope="module")
def finished(parts: dict[str, Parts], lab: object, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run a campaign, kill it with SIGKILL in its second cell, sweep, resume."""
    assert parts["debian-6.12"], "built before the clock runs"
    home = tmp_path_factory.mktemp("campaign")
    experiment, results = home / "killed.toml", home / "results"
    experiment.write_text(EXPERIMENT)
    (home / "state").mkdir()
    # What is known of KVM: where it hangs, finding out takes half a minute.
    for known in reap.state_directory().glob("kvm.json"):
        shutil.copy(known, home / "state")
    argv = [sys.executable, "-m", "testbed.cli", "run", str(experiment), "--results", str(results)]
    first = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(home),
    )
    try:
        wait_for_second_cell(first, results)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    killed_after = len(list(results.glob("*/runs/*/record.json")))
    swept = command(home, "gc")
    assert swept.returncode == 0, swept.stderr
    left = [line for line in processes() if str(home) in line]
    assert left == [], "sweeping leaves no machine behind"
    done = command(home, "run", str(experiment), "--results", str(results))
    (campaign,) = results.iterdir()
    return Finished(
        home=home,
        campaign=campaign,
        killed_after=killed_after,
        swept=swept.stdout + swept.stderr,
        said=done.stdout + done.stderr,
        code=done.returncode,
    )


def wait_for_second_cell(process: subprocess.Popen[bytes], results: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done = list(results.glob("*/runs/*/record.json"))
        begun = list(results.glob("*/runs/.part-*/events.jsonl"))
        if done and any("attached" in path.read_text() for path in begun):
            return
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(f"it ended by itself, status {process.returncode}: {process.stderr.read().decode()}")
        time.sleep(0.5)
    pytest.fail("no second cell in time")


def processes() -> list[str]:
    said = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "qemu-system" in line or "swtpm" in line]


def test_it_was_killed_in_the_middle_and_finished(finished: Finished) -> None:
    assert 1 <= finished.killed_after < 3
    assert finished.code == 0, finished.said
    assert "resuming from its saved machine" in finished.said
    assert "ended" in finished.swept, "the machine of the killed process was found and ended"


def test_nothing_is_left(finished: Finished) -> None:
    assert list(finished.campaign.glob("runs/.part-*")) == []
    assert [line for line in processes() if str(finished.home) in line] == []
    again = command(finished.home, "gc")
    assert again.returncode == 0
    assert "ended" not in again.stdout + again.stderr


def test_every_arm_came_from_one_boot(finished: Finished) -> None:
    records = [json.loads(path.read_text()) for path in finished.campaign.glob("runs/*/record.json")]
    assert len(records) == 3
    assert len({record["facts"]["boot_id"] for record in records}) == 1
    assert len({record["facts"]["clone_id"] for record in records}) == 3
    assert {record["status"] for record in records} == {"ok"}


def test_the_report_is_there(finished: Finished) -> None:
    assert str(finished.campaign / "report.md") in finished.said
    report = (finished.campaign / "report.md").read_text()
    assert report.startswith("# Correctness OK")
    assert "container-file" in report
    for name in ("rows.parquet", "checks.parquet", "plan.json", "campaign.json"):
        assert (finished.campaign / name).stat().st_size > 0


def test_a_run_again_has_nothing_to_do(finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.campaign.glob("runs/*/record.json")}
    again = command(
        finished.home, "run", str(finished.home / "killed.toml"), "--results", str(finished.home / "results")
    )
    assert again.returncode == 0
    assert ": booting" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.campaign.glob("runs/*/record.json")} == before


def test_verify_by_hand(finished: Finished) -> None:
    for path in finished.campaign.glob("runs/*"):
        record = json.loads((path / "record.json").read_text())
        words = ("verify", str(path / "evidence"), "--ak", str(path / "ak.pub"), "--nonce")
        good = command(finished.home, *words, record["facts"]["nonce"])
        assert (good.returncode, good.stdout.splitlines()[0][:7]) == (0, "trusted"), good.stdout + good.stderr
        bad = command(finished.home, *words, "00" * 32, "--json")
        assert bad.returncode == 1
        assert "quote-nonce" in {finding["kind"] for finding in json.loads(bad.stdout)["findings"]}

"""Containers that are alive beside a workload: all of them are there, and what they execute is in the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from testbed import rundir
from testbed.record import Status
from testbed.rundir import Campaign

EXPERIMENT = """
name = "crowd"
question = "are they alive, and measured?"
tier = "tcg"
measurers = ["none", "container-image"]
workloads = ["alive-10"]
blocks = 1
warmups = 1
"""
PATIENCE = 1200


def test_a_crowd_is_alive_and_measured(lab: object, tmp_path: Path) -> None:
    experiment = tmp_path / "crowd.toml"
    experiment.write_text(EXPERIMENT)
    words = [sys.executable, "-m", "testbed.cli", "run", str(experiment), "--results", str(tmp_path / "results")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Correctness OK" in done.stdout
    (path,) = (tmp_path / "results").glob("crowd-tcg-*")
    found = [record for _, record in rundir.records(Campaign(path=path))]
    assert [record.status for record in found] == [Status.OK] * 2
    for record in found:
        roles = [one.role for one in record.containers]
        # Begun once, before the first of two iterations of four starts each.
        assert roles == [1] * 10 + [0] * 8
        assert len({one.id for one in record.containers}) == 18

"""Run a campaign with an arm that does nothing and a positive control, and check that only the control is found."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed.analysis import selftest
from testbed.commands import _conduct
from testbed.commands._complete import ExperimentPath
from testbed.commands._options import CONNECT, MACHINES, RESULTS
from testbed.lab import repository


@click.command("selftest")
@click.argument("experiment", type=ExperimentPath(), required=False)
@RESULTS
@CONNECT
@MACHINES
def command(experiment: Path | None, results: Path, connect: str | None, machines: int | None) -> None:
    """Run a campaign with an arm that does nothing and a positive control, and check that only the control is found.

    Exit status: 1 if either check fails, else as `run`.
    """
    loaded, written = _conduct.conduct(
        experiment or repository.experiment("selftest.toml"), results, None, connect, machines
    )
    outcome = selftest.judge(loaded)
    for line in outcome.lines:
        click.echo(line)
    sys.exit(written.exit_status or (0 if outcome.ok else 1))

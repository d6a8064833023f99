"""Run the main experiment with the embedded defaults: machines, measurers, plots and verdicts."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed.commands import _conduct
from testbed.commands._options import CONNECT, MACHINES, RESULTS
from testbed.lab import repository


@click.command("evaluate")
@RESULTS
@CONNECT
@MACHINES
def command(results: Path, connect: str | None, machines: int | None) -> None:
    """Run the main experiment with the embedded defaults: machines, measurers, plots and verdicts."""
    _, status = _conduct.conduct(repository.experiment("smoke.toml"), results, None, connect, machines)
    sys.exit(status)

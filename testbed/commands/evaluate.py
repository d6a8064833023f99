"""Run the main experiment with the embedded defaults: machines, measurers, plots and verdicts."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import click

from testbed.commands import _conduct
from testbed.commands._options import CONNECT, MACHINES, RESULTS
from testbed.lab import repository

_WIDTH = 100


@click.command("evaluate")
@RESULTS
@CONNECT
@MACHINES
def command(results: Path, connect: str | None, machines: int | None) -> None:
    """Run the main experiment with the embedded defaults: machines, measurers, plots and verdicts.

    It ends with the answer in one paragraph and the path of the report. Exit status as that of `testbed run`.
    """
    from testbed.analysis.report import paragraph  # noqa: PLC0415 - as late as the report, which imports the same

    _, written = _conduct.conduct(repository.experiment("smoke.toml"), results, None, connect, machines)
    known = written.inputs
    answer = paragraph.paragraph(known.tables, known.runs, known.checks)
    click.echo()
    click.echo(textwrap.fill(answer, _WIDTH, break_long_words=False, break_on_hyphens=False))
    click.echo()
    click.echo(f"The report: {written.page}")
    sys.exit(written.exit_status)

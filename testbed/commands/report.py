"""Judge the runs of CAMPAIGN_DIR again and write its tables, figures, report.md and report/index.html."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.report import report
from testbed.commands._options import CAMPAIGN, MEASURER_PATH
from testbed.rundir import Campaign, load


@click.command("report")
@CAMPAIGN
@MEASURER_PATH
@click.option(
    "--tpm-ms",
    type=click.FloatRange(min=0),
    metavar="MS",
    help="Add a model: the number of extends times this latency of a TPM, in milliseconds. Default: no model.",
)
@click.pass_context
def command(context: click.Context, campaign_dir: Path, tpm_ms: float | None) -> None:
    """Judge the runs of CAMPAIGN_DIR again and write its tables, figures, report.md and report/index.html.

    A run whose evidence is not there, as in a reference data set, keeps its stored verdict.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 3 runs were lost or are
    missing; 4 records are malformed or must not be pooled.
    """
    written = report.write(load(Campaign(path=campaign_dir)), tpm_ms=tpm_ms)
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    click.echo(f"page: {written.page}")
    context.exit(written.exit_status)

"""Judge the runs of CAMPAIGN_DIR again and write its tables, figures, report.md and report/index.html."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.report import report
from testbed.analysis.report.inputs import Given
from testbed.commands._complete import CampaignPath
from testbed.commands._options import CAMPAIGN, MEASURER_PATH
from testbed.rundir import Campaign, load


class CyclesRange(click.ParamType[tuple[float, float]]):
    """Two numbers above 0, as ``LOW-HIGH``."""

    name = "low-high"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Return both ends. Fails for anything else."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition("-")
        try:
            ends = (float(low), float(high))
        except ValueError:
            ends = (0.0, 0.0)
        if not 0 < ends[0] <= ends[1] < float("inf"):
            self.fail(f"expected two numbers above 0 as LOW-HIGH, such as 0.5-2, got {str(value)!r}", param, ctx)
        return ends


@click.command("report")
@CAMPAIGN
@MEASURER_PATH
@click.option(
    "--tpm-ms",
    type=click.FloatRange(min=0),
    metavar="MS",
    help="Add a model: the number of extends times this latency of a TPM, in milliseconds. Default: no model.",
)
@click.option(
    "--cpi",
    type=CyclesRange(),
    help="Add a time model: each instruction but those of the hash takes so many cycles of this host. Default: none.",
)
@click.option(
    "--runs-of",
    "runs_dir",
    type=CampaignPath(),
    help="A campaign with bpf_stats, for the hooks' price by the number of runs of the programs.",
)
@click.pass_context
def command(
    context: click.Context,
    campaign_dir: Path,
    tpm_ms: float | None,
    cpi: tuple[float, float] | None,
    runs_dir: Path | None,
) -> None:
    """Judge the runs of CAMPAIGN_DIR again and write its tables, figures, report.md and report/index.html.

    A run whose evidence is not there, as in a reference data set, keeps its stored verdict.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 3 runs were lost or are
    missing; 4 records are malformed or must not be pooled.
    """
    runs = load(Campaign(path=runs_dir)) if runs_dir else None
    given = Given(tpm_ms=tpm_ms, cpi=cpi, runs=runs)
    written = report.write(load(Campaign(path=campaign_dir)), given=given)
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    click.echo(f"page: {written.page}")
    context.exit(written.exit_status)

"""``testbed report`` and ``testbed figures``: from what is on disk, without a machine."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis import draw, report, tables
from testbed.rundir import Campaign

_CAMPAIGN = click.argument(
    "campaign_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="CAMPAIGN_DIR"
)


@click.command("report")
@_CAMPAIGN
@click.option(
    "--tpm-ms",
    type=click.FloatRange(min=0),
    metavar="MS",
    help="Show a model: extends times this latency of a TPM, in milliseconds. Default: none is shown.",
)
@click.pass_context
def report_command(context: click.Context, campaign_dir: Path, tpm_ms: float | None) -> None:
    """Judge every run below CAMPAIGN_DIR again and write its tables, figures and report.md.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 3 runs were lost or are
    missing; 4 malformed records, or records that must not be pooled.
    """
    written = report.write(Campaign(path=campaign_dir), tpm_ms=tpm_ms)
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    context.exit(written.exit_status)


@click.command("figures")
@_CAMPAIGN
def figures_command(campaign_dir: Path) -> None:
    """Draw the figures of CAMPAIGN_DIR from its records; nothing is judged.

    Verdicts and events are those that `testbed report` found, where it has run.
    """
    known = tables.read(Campaign(path=campaign_dir))
    drawn = draw.write(known, campaign_dir / "figures")
    for paths in drawn.values():
        for path in paths:
            click.echo(path)
    if not drawn:
        plan = known.plan
        click.echo(f"nothing to draw: no overhead is known of {plan.campaign} (tier {plan.tier})", err=True)

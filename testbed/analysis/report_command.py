"""``testbed report`` and ``testbed figures``: from what is on disk, without a machine."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis import frames, report
from testbed.analysis.ladder import Question
from testbed.rundir import Campaign, read_facts, read_plan

_CAMPAIGN = click.argument(
    "campaign_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="CAMPAIGN_DIR"
)


@click.command("report")
@_CAMPAIGN
@click.pass_context
def report_command(context: click.Context, campaign_dir: Path) -> None:
    """Judge every run below CAMPAIGN_DIR again and write its tables, figures and report.md.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 3 runs were lost or are
    missing; 4 malformed records, or records that must not be pooled.
    """
    written = report.write(Campaign(path=campaign_dir))
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    context.exit(written.exit_status)


@click.command("figures")
@_CAMPAIGN
def figures_command(campaign_dir: Path) -> None:
    """Draw the figures of CAMPAIGN_DIR from its records; nothing is judged."""
    campaign = Campaign(path=campaign_dir)
    plan, rows = read_plan(campaign), frames.rows(campaign)
    drawn = report.draw(campaign, plan, report.ladders(rows, Question.of(plan.tier, read_facts(campaign))))
    for path in drawn:
        click.echo(path)
    if not drawn:
        click.echo(f"nothing to draw: no overhead is known of {plan.campaign} (tier {plan.tier})", err=True)

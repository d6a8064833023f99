"""Compare the overheads in the cells that several CAMPAIGNS share, or two sides of one campaign."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis import across, agreement
from testbed.analysis.tables.ladder import Question
from testbed.commands._complete import CampaignPath
from testbed.errors import SpecError
from testbed.rundir import Campaign, load


@click.command("compare")
@click.argument("campaigns", nargs=-1, required=True, type=CampaignPath())
@click.option(
    "--across",
    "axis",
    type=click.Choice(across.AXES),
    help="Within one campaign: the ratio of each other kernel (or runtime, ...) over the first.",
)
@click.pass_context
def command(context: click.Context, campaigns: tuple[Path, ...], axis: str | None) -> None:
    """Compare the overheads in the cells that several CAMPAIGNS share, or two sides of one campaign.

    CAMPAIGNS are directories. A cell is shared if kernel, runtime, workload and measurer have the same names. Other
    differences (measurer, kernel, images, command line, commit) are listed beside each ratio.

    Exit status: 1 if a shared overhead differs by more than 0.1 % (servers: 0.5 %) or an A/A interval is wider than
    that; 2 if no cell is shared; 4 if the campaigns differ in tier or in the version of QEMU.
    """
    loaded = [load(Campaign(path=path)) for path in campaigns]
    if axis is None:
        comparison = agreement.compare(loaded)
        click.echo("\n".join(agreement.text(comparison)))
        context.exit(0 if comparison.ok else 1)
    if len(loaded) > 1:
        raise SpecError(f"--across: expected one campaign, got {len(loaded)}", "leave --across out to compare several")
    question = Question.of(loaded[0].plan.tier, loaded[0].facts)
    click.echo("\n".join(across.text(across.across(loaded[0], axis), axis, question)))

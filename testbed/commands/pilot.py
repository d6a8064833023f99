"""Say how many blocks a campaign needs, from the noise of a PILOT: a small campaign, or a CSV file."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis import pilot
from testbed.commands._complete import CampaignPath
from testbed.rundir import Campaign, load


@click.command("pilot")
@click.argument("source", type=CampaignPath(file_okay=True), metavar="PILOT")
@click.option(
    "--effect", type=click.FloatRange(0, 1, min_open=True), help="Overhead to detect, 0.01 is 1 %. Default: delta."
)
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Margin of equality. Default: the campaign's; for a CSV file 0.02.",
)
@click.option("--baseline", default="none", show_default=True, help="For a CSV file: the baseline's name.")
@click.option(
    "--duplicate", default="none2", show_default=True, help="For a CSV file: the name of the baseline's second run."
)
def command(*, source: Path, effect: float | None, delta: float | None, baseline: str, duplicate: str) -> None:
    """Say how many blocks a campaign needs, from the noise of a PILOT: a small campaign, or a CSV file.

    PILOT is a campaign's directory, or a CSV file with the columns block, measurer and value (and workload, if there
    are several). Two blocks give a first answer, six blocks a usable one. It also says which arms are not warm.
    """
    if source.is_dir():
        result = pilot.of_campaign(load(Campaign(path=source)), wanted=effect, delta=delta)
    else:
        result = pilot.of_csv(source, baseline=baseline, duplicate=duplicate, wanted=effect, delta=delta)
    click.echo("\n".join(pilot.text(result)))

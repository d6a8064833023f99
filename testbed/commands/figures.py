"""Draw the figures of CAMPAIGN_DIR from its records; without judging them."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.report import draw
from testbed.analysis.tables import tables
from testbed.commands._options import CAMPAIGN, MEASURER_PATH
from testbed.rundir import Campaign, load


@click.command("figures")
@CAMPAIGN
@MEASURER_PATH
def command(campaign_dir: Path) -> None:
    """Draw the figures of CAMPAIGN_DIR from its records; without judging them.

    Verdicts and events are those of the last `testbed report`, if there was one.
    """
    known = tables.read(load(Campaign(path=campaign_dir)))
    drawn = draw.write(known, campaign_dir / "figures")
    for paths in drawn.values():
        for path in paths:
            click.echo(path)
    if not drawn:
        plan = known.plan
        click.echo(f"nothing to draw: {plan.campaign} (tier {plan.tier}) has no overhead", err=True)

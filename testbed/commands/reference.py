"""Write a reference data set of CAMPAIGN_DIR to TARGET: tables, records, one evidence bundle for each measurer."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.reference import make
from testbed.commands._options import CAMPAIGN
from testbed.rundir import Campaign, load


@click.command("reference")
@CAMPAIGN
@click.argument("target", type=click.Path(path_type=Path), metavar="TARGET")
def command(campaign_dir: Path, target: Path) -> None:
    """Write a reference data set of CAMPAIGN_DIR to TARGET: tables, records, one evidence bundle for each measurer.

    It is small enough for git. `testbed figures TARGET` and `testbed report TARGET` work on it; the verdicts
    stay as they are.
    """
    made = make(load(Campaign(path=campaign_dir)), target)
    bundles = len(made.evidence)
    click.echo(f"{made.path}: {made.size / 1e6:.1f} MB, {made.records} records, {bundles} evidence bundles")

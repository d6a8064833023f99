"""Write what of CAMPAIGN_DIR is small enough for git to TARGET: tables, records, one evidence bundle a measurer."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.analysis.reference import make
from testbed.rundir import Campaign, load


@click.command("reference")
@click.argument("campaign_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="CAMPAIGN_DIR")
@click.argument("target", type=click.Path(path_type=Path), metavar="TARGET")
def command(campaign_dir: Path, target: Path) -> None:
    """Write what of CAMPAIGN_DIR is small enough for git to TARGET: tables, records, one evidence bundle a measurer.

    `testbed figures TARGET` and `testbed report TARGET` work on it; verdicts are kept as they were found.
    """
    made = make(load(Campaign(path=campaign_dir)), target)
    bundles = len(made.evidence)
    click.echo(f"{made.path}: {made.size / 1e6:.1f} MB, {made.records} records, {bundles} evidence bundles")

"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where campaigns go."
)
CONNECT = click.option("--connect", metavar="URI", help="libvirt URI; default: the embedded driver.")
TIER = click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), help="Instead of the file's `tier`.")
SET = click.option(
    *("--set", "overrides"), multiple=True, metavar="KEY=VALUE", help="Instead of a key of the file; VALUE as in TOML."
)
MACHINES = click.option("--machines", type=click.IntRange(1, 64), help="Machines at a time; default: by the tier.")
CAMPAIGN = click.argument(
    "campaign_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="CAMPAIGN_DIR"
)
MEASURER_PATH = click.option(
    *("--measurer-path", "measurer_paths"),
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also use the measurers in DIR (files NAME.py with a MEASURER). Their code is run.",
)

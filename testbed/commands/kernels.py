"""Try every kernel of EXPERIMENT with every measurer and write a table of what builds, loads and behaves."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed import spec
from testbed.analysis import kernels
from testbed.commands._options import CONNECT, RESULTS, TIER

KERNELS = Path("experiments/kernels.toml")


@click.command("kernels")
@click.argument("experiment", type=click.Path(path_type=Path), default=KERNELS)
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/kernels.md"), show_default=True)
@TIER
@click.option("--again", is_flag=True, help="Boot nothing: write the page of the results that are there.")
@RESULTS
@CONNECT
def command(experiment: Path, page: Path, tier: str | None, results: Path, connect: str | None, *, again: bool) -> None:
    """Try every kernel of EXPERIMENT with every measurer and write a table of what builds, loads and behaves.

    What fails is a row of the table. Exit status: 1 if there is such a row.
    """
    wish = spec.load(experiment)
    path = results / f"{wish.name}.json"
    if not again:
        from testbed.lab import survey  # noqa: PLC0415 - so that --again works without libvirt

        path = survey.survey(wish, results=results, tier=tier, connect=connect)
    written = kernels.write(path, page)
    click.echo(f"{written.summary}: {page}")
    sys.exit(written.exit_status)

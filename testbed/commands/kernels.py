"""Try every kernel of EXPERIMENT with every measurer and write a table of what builds, loads and behaves."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed import spec
from testbed.analysis import kernels
from testbed.commands._complete import ExperimentPath
from testbed.commands._options import CONNECT, RESULTS, TIER
from testbed.lab import repository


@click.command("kernels")
@click.argument("experiment", type=ExperimentPath(), required=False)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path("docs/kernels.md"),
    show_default=True,
    help="The page to write.",
)
@TIER
@click.option("--again", is_flag=True, help="Do not boot: write the page from existing results.")
@RESULTS
@CONNECT
def command(
    experiment: Path | None, page: Path, tier: str | None, results: Path, connect: str | None, *, again: bool
) -> None:
    """Try every kernel of EXPERIMENT with every measurer and write a table of what builds, loads and behaves.

    Each failure is a row of the table. Exit status: 1 if there is one.
    """
    wish = spec.load(experiment or repository.experiment("kernels.toml"))
    path = results / f"{wish.name}.json"
    if not again:
        from testbed.lab import survey  # noqa: PLC0415 - so that --again works without libvirt

        path = survey.survey(wish, results=results, tier=tier, connect=connect)
    written = kernels.write(path, page)
    click.echo(f"{written.summary}: {page}")
    sys.exit(written.exit_status)

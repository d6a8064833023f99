"""Print what MEASURER must log when WORKLOAD runs, computed from the container image alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from testbed import plugins
from testbed.attest.image.claims import claims
from testbed.commands._complete import NameOf
from testbed.commands._options import MEASURER_PATH
from testbed.errors import HostError
from testbed.lab.build.image import cached_container_image
from testbed.lab.build.recipes import load_containers
from testbed.workloads import Workload

_DIGEST = 16
_PLAIN = 160


@click.command("claim")
@click.argument("measurer", type=NameOf(lambda: plugins.names("measurers")))
@click.argument("workload", type=NameOf(lambda: plugins.names("workloads")))
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="ARCHIVE",
    help="OCI archive of the container image. Default: the workload's image, if it is built.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@MEASURER_PATH
def command(*, measurer: str, workload: str, image: Path | None, as_json: bool) -> None:
    """Print what MEASURER must log when WORKLOAD runs, computed from the container image alone.

    The ground truth comes first: each file whose code runs, and by which route. No machine is booted. Each container of
    the workload is named by its role.
    """
    chosen, program = plugins.measurer(measurer), plugins.workload(workload)
    said = claims(chosen, program, image or _built(program))
    truth, claimed = said.truth_rows(), said.claimed_rows()
    if as_json:
        click.echo(json.dumps(said.as_json(measurer, workload), indent=1))
        return
    console = Console(soft_wrap=True, highlight=False, width=None if Console().is_terminal else _PLAIN)
    console.print(f"ground truth of {workload}: {len(truth)} facts", markup=False)
    console.print(_table(("container", "route", "path", "digest"), truth))
    console.print(f"{measurer} must log: {len(claimed)} entries", markup=False)
    console.print(_table(("container", "pcr", "what", "path", "digest"), claimed))


def _built(workload: Workload) -> Path:
    image = cached_container_image(load_containers()[workload.image])
    if image is None:
        hint = f"run `testbed images build {workload.image}`, or name an OCI archive with --image"
        raise HostError(f"the image {workload.image} of workload {workload.name} is not built", hint)
    return image.archive


def _table(columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(*columns, box=None)
    for row in rows:
        cells = ("-" if row[column] is None else str(row[column]) for column in columns)
        table.add_row(
            *(cell[:_DIGEST] if column == "digest" else cell for column, cell in zip(columns, cells, strict=True))
        )
    return table

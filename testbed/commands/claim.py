"""Print what MEASURER must log when WORKLOAD runs, computed from the container image alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from testbed import plugins
from testbed.attest.image import ground_truth
from testbed.commands._options import MEASURER_PATH
from testbed.errors import HostError
from testbed.lab.build.image import cached_container_image
from testbed.lab.build.recipes import load_containers
from testbed.measurers import LAUNCHING, Executed, Launched, Ran
from testbed.workloads import Workload

SCHEMA = 1
_DIGEST = 16
_PLAIN = 160


@click.command("claim")
@click.argument("measurer")
@click.argument("workload")
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
    ran = truth_of(program, image or _built(program), launches=chosen.mode in LAUNCHING)
    claimed = [asdict(claim) for claim in chosen.claim(ran)]
    truth = [_row(fact) for fact in ran]
    truth.sort(key=_order)
    claimed.sort(key=_order)
    if as_json:
        said = {"schema": SCHEMA, "measurer": measurer, "workload": workload, "truth": truth, "claim": claimed}
        click.echo(json.dumps(said, indent=1))
        return
    console = Console(soft_wrap=True, highlight=False, width=None if Console().is_terminal else _PLAIN)
    console.print(f"ground truth of {workload}: {len(truth)} facts", markup=False)
    console.print(_table(("container", "route", "path", "digest"), truth))
    console.print(f"{measurer} must log: {len(claimed)} entries", markup=False)
    console.print(_table(("container", "pcr", "what", "path", "digest"), claimed))


def truth_of(workload: Workload, archive: Path, *, launches: bool) -> list[Ran]:
    """Return what runs in one start of a workload. A container is named by its role's number: ``container-0``.

    ``launches``: also how each container is started. Raises ``BuildError`` if the archive does not have an executed
    file.
    """
    ran: list[Ran] = []
    tree = ground_truth.image_tree(archive) if launches else ""
    for number, role in enumerate(workload.roles):
        name = f"container-{number}"
        ran += ground_truth.executed(archive, name, role.executes)
        if launches:
            ran.append(Launched(container=name, image=tree, argv=ground_truth.arguments(archive, role.argv)))
    return ran


def _built(workload: Workload) -> Path:
    image = cached_container_image(load_containers()[workload.image])
    if image is None:
        hint = f"run `testbed images build {workload.image}`, or name an OCI archive with --image"
        raise HostError(f"the image {workload.image} of workload {workload.name} is not built", hint)
    return image.archive


def _row(fact: Ran) -> dict[str, Any]:
    if isinstance(fact, Executed):
        row = {"route": str(fact.route), "path": str(fact.path), "digest": fact.digest, "size": fact.size}
        return {"container": fact.container} | row
    return {"container": fact.container, "route": "launch", "path": " ".join(fact.argv or ()), "digest": fact.image}


def _order(row: dict[str, Any]) -> tuple[str, str, str, str]:
    # Containers first, then the image, which belongs to none.
    return str(row["container"]), str(row.get("route", row.get("what"))), row["path"], row["digest"]


def _table(columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(*columns, box=None)
    for row in rows:
        cells = ("-" if row[column] is None else str(row[column]) for column in columns)
        table.add_row(
            *(cell[:_DIGEST] if column == "digest" else cell for column, cell in zip(columns, cells, strict=True))
        )
    return table

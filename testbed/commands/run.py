"""Run EXPERIMENT (a TOML file), verify its evidence and write its report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed import plugins
from testbed.commands import _conduct
from testbed.commands._options import CONNECT, MACHINES, MEASURER_PATH, RESULTS, SET, TIER


@click.command("run")
@click.argument("experiment", type=click.Path(path_type=Path))
@TIER
@SET
@RESULTS
@CONNECT
@MACHINES
@MEASURER_PATH
@click.option(
    "--only", multiple=True, metavar="AXIS=NAME[,NAME]", help="Run these cells alone (workload, measurer, ...)."
)
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Refuse what is expected to take longer.")
def command(
    *,
    experiment: Path,
    tier: str | None,
    overrides: tuple[str, ...],
    results: Path,
    connect: str | None,
    machines: int | None,
    measurer_paths: tuple[Path, ...],
    only: tuple[str, ...],
    max_minutes: float | None,
) -> None:
    """Run EXPERIMENT (a TOML file), verify its evidence and write its report. Runs that are complete are skipped.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 2 the file is wrong;
    3 a machine was lost or this host lacks something; 4 malformed evidence.
    """
    with plugins.measurers_from(measurer_paths):
        _, status = _conduct.conduct(
            experiment,
            results,
            tier,
            connect,
            machines,
            overrides=overrides,
            only=only,
            max_minutes=max_minutes,
        )
    sys.exit(status)

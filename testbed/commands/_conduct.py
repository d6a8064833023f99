"""Run a campaign, then report it: the shared part of the commands that boot a whole experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from testbed import spec
from testbed.analysis.report import report
from testbed.analysis.report.report import WrittenReport
from testbed.errors import SpecError
from testbed.rundir import LoadedCampaign, load


def conduct(
    path: Path,
    results: Path,
    tier: str | None,
    connect: str | None,
    machines: int | None,
    *,
    overrides: Sequence[str] = (),
    ima_policies: Sequence[Path] = (),
    kernel_args: Sequence[str] = (),
    **more: Any,
) -> tuple[LoadedCampaign, WrittenReport]:
    """Run the campaign of an experiment file and write its report. Return the loaded campaign, and the report."""
    from testbed.lab import campaign  # noqa: PLC0415 - so that --help works without libvirt

    experiment = spec.load(path, overrides, ima_policies=ima_policies, kernel_args=kernel_args)
    try:
        done = campaign.conduct(experiment, results=results, tier=tier, connect=connect, machines=machines, **more)
    except SpecError as error:
        raise SpecError(f"{spec.named(path, overrides)}: {error.message}", error.hint) from error
    loaded = load(done)
    written = report.write(loaded)
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    click.echo(f"page: {written.page}")
    return loaded, written

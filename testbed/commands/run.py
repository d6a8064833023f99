"""Run EXPERIMENT (a TOML file), verify its evidence and write its report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from testbed.commands import _conduct
from testbed.commands._options import (
    CONNECT,
    EXPERIMENT,
    IMA_POLICY,
    KERNEL_ARG,
    KERNEL_PATH,
    MACHINES,
    MAX_MINUTES,
    MEASURER_PATH,
    ONLY,
    RESULTS,
    SET,
    TIER,
)


@click.command("run")
@EXPERIMENT
@TIER
@SET
@IMA_POLICY
@KERNEL_ARG
@KERNEL_PATH
@RESULTS
@CONNECT
@MACHINES
@MEASURER_PATH
@ONLY
@MAX_MINUTES
def command(
    *,
    experiment: Path,
    tier: str | None,
    overrides: tuple[str, ...],
    ima_policies: tuple[Path, ...],
    kernel_args: tuple[str, ...],
    kernel_path: Path | None,
    results: Path,
    connect: str | None,
    machines: int | None,
    only: tuple[str, ...],
    max_minutes: float | None,
) -> None:
    """Run EXPERIMENT (a TOML file), verify its evidence and write its report. Complete runs are skipped.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 2 the file is wrong;
    3 a machine was lost or this host has something missing; 4 malformed evidence.
    """
    _, written = _conduct.conduct(
        experiment,
        results,
        tier,
        connect,
        machines,
        overrides=overrides,
        ima_policies=ima_policies,
        kernel_args=kernel_args,
        kernel_path=kernel_path,
        only=only,
        max_minutes=max_minutes,
    )
    sys.exit(written.exit_status)

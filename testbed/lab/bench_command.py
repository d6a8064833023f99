"""``testbed bench``: what single events of the measurer cost."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from testbed import progress, spec
from testbed.lab import bench_table
from testbed.lab.recipes import load_kernels
from testbed.record import Tier


@click.group("bench")
def bench() -> None:
    """Count what single events cost, in guest instructions."""


@bench.command()
@click.option("--kernel", type=click.Choice(sorted(load_kernels())), default="debian-6.12", show_default=True)
@click.option("--connect", metavar="URI", help="libvirt URI; default: the embedded driver.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def measurer(kernel: str, connect: str | None, as_json: bool) -> None:
    """Price the measurer's events: the hook alone, a known file, a new one by its size, fork+exec+exit.

    Always emulated, with a counted clock (tier icount): a number here is one of instructions, not of time. Each arm is
    restored from one saved machine. Exit status: 1 if a target is not kept.
    """
    # `testbed --help` imports this module, also where there is no libvirt.
    from testbed.lab import bench as benchmark  # noqa: PLC0415
    from testbed.lab import campaign, facts  # noqa: PLC0415
    from testbed.lab.machine import open_lab  # noqa: PLC0415

    wish = spec.Experiment(name="bench", question="?", kernels=(kernel,), measurers=("none",), workloads=("tools",))
    arms = benchmark.arms()
    rows = []
    with (
        progress.reporter("bench", len(arms) + 1) as reporter,
        tempfile.TemporaryDirectory(prefix="testbed-") as directory,
    ):
        parts = campaign.build_parts(kernel, (), wish, Tier.ICOUNT, reporter.say)
        tools = benchmark.build_tools(parts.machine.kernel, reporter.say)
        with open_lab(connect) as lab:
            saved = benchmark.prepare(lab, parts, tools, Path(directory))
            reporter.advance("saved a machine")
            for arm in arms:
                rows += benchmark.run_arm(lab, saved, arm, Path(directory) / arm)
                reporter.advance(arm)
    ratios = bench_table.ratios(rows)
    if as_json:
        known = {"kernel": parts.machine.kernel.release, "tier": Tier.ICOUNT, "cpu": parts.machine.cpu}
        said = {"rows": [asdict(row) for row in rows], "ratios": [asdict(one) | {"ok": one.ok} for one in ratios]}
        click.echo(json.dumps({"schema": 1} | known | facts.emulator() | said, indent=1))
    else:
        click.echo(f"guest instructions an event, {parts.machine.kernel.release}, tier {Tier.ICOUNT}\n")
        click.echo(bench_table.markdown(rows))
    sys.exit(0 if all(ratio.ok for ratio in ratios) else 1)

"""Count what single events cost, in guest instructions."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from testbed import estimate, progress, spec
from testbed.analysis.bench import host_prices, log_growth, prices, starts
from testbed.commands._complete import OneOf
from testbed.commands._options import CONNECT
from testbed.lab import places
from testbed.lab.build.recipes import load_kernels
from testbed.lab.machines.domain import MachineSpec
from testbed.record import Tier
from testbed.spec import BANKS


@click.group("bench")
def command() -> None:
    """Count what single events cost, in guest instructions."""


_KERNEL = click.option("--kernel", type=OneOf(load_kernels), default="debian-6.12", show_default=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@command.command()
@_KERNEL
@CONNECT
@_JSON
def measurer(kernel: str, connect: str | None, as_json: bool) -> None:
    """Measure the cost of the measurer's events: the hook alone, a known file, a new file by size, fork+exec+exit,
    and the start of a container.

    Then what the hooks cost a host that opens, makes, renames and executes files, outside of any container. The machine
    is emulated with a counted clock (tier icount), so each number counts instructions, not time. Each arm is restored
    from one saved machine. Exit status: 1 if a target is missed.
    """
    # `--help` of this command works without libvirt.
    from testbed.lab import facts  # noqa: PLC0415

    places.check(*places.always())
    machine, rows, counted = _counted(kernel, connect)
    hot = prices.hot_target(machine.kernel.release)
    of_host = host_prices.prices(counted)
    of_starts = starts.ratios(rows)
    ratios = prices.ratios(rows, hot) + of_starts + host_prices.ratios(of_host)
    if as_json:
        said = {
            "rows": [asdict(row) for row in rows + host_prices.rows_of(counted)],
            "ratios": [asdict(checked) | {"ok": checked.ok} for checked in ratios],
        }
        click.echo(json.dumps(_known(machine) | facts.emulator() | said, indent=1))
    else:
        click.echo(f"guest instructions per event, {machine.kernel.release}, tier {Tier.ICOUNT}\n")
        click.echo(prices.markdown(rows, hot, priced=starts.prices(rows), judged=of_starts))
        click.echo(f"\n{host_prices.markdown(of_host)}")
    sys.exit(0 if all(ratio.ok for ratio in ratios) else 1)


def _counted(
    kernel: str, connect: str | None
) -> tuple[MachineSpec, list[prices.EventCost], list[host_prices.HostCounts]]:
    """Boot and save a machine, and count in each arm what happens in a container, then what happens on the host."""
    from testbed.lab import campaign  # noqa: PLC0415
    from testbed.lab.bench import events as benchmark  # noqa: PLC0415
    from testbed.lab.bench import host  # noqa: PLC0415
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    arms = benchmark.arms()
    rows, counted = [], []
    with (
        progress.reporter("bench", len(arms) + len(host.arms()) + 1) as reporter,
        tempfile.TemporaryDirectory(prefix="testbed-") as directory,
    ):
        parts = campaign.build_parts(kernel, (), _wish(kernel), Tier.ICOUNT, reporter.say)
        tools = benchmark.build_tools(parts.machine.kernel, reporter.say)
        with open_lab(connect) as lab:
            with progress.waiting(f"boot and save {kernel}", 2 * estimate.BOOT[Tier.ICOUNT]):
                saved = benchmark.prepare(lab, parts, tools, Path(directory))
            reporter.advance("saved a machine")
            for arm in arms:
                rows += prices.summarize(arm, benchmark.run_arm(lab, saved, arm, Path(directory) / arm))
                reporter.advance(arm)
            for arm in host.arms():
                text, fired = host.run_arm(lab, saved, arm, Path(directory) / f"host-{arm}")
                counted.append(host_prices.HostCounts(arm=arm, text=text, fired=fired))
                reporter.advance(f"host, {arm}")
    return parts.machine, rows, counted


@command.command("log")
@_KERNEL
@CONNECT
@_JSON
@click.option(
    "--to", type=click.IntRange(min=1000), default=1_000_000, show_default=True, help="Entries in the longest log."
)
@click.option(
    "--bank",
    "banks",
    multiple=True,
    type=click.Choice(BANKS),
    help="Give the machine a TPM with this PCR bank; repeatable.",
)
def log_command(kernel: str, connect: str | None, to: int, banks: tuple[str, ...], *, as_json: bool) -> None:
    """Measure the cost of one more entry of the IMA log at 1,000, 10,000, 100,000 and 1,000,000 entries.

    Counted in guest instructions (tier icount). Without --bank the machine has no TPM and IMA extends no PCR: the rest
    of the cost stays the same, and a million entries take minutes. With a bank each entry waits a millisecond.
    """
    from testbed.lab import campaign, facts  # noqa: PLC0415
    from testbed.lab.bench import events as benchmark  # noqa: PLC0415
    from testbed.lab.bench import filled_log  # noqa: PLC0415
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    places.check(*places.always())
    steps = sum(length <= to for length in filled_log.LENGTHS)
    with (
        progress.reporter("bench log", steps) as reporter,
        tempfile.TemporaryDirectory(prefix="testbed-") as directory,
        open_lab(connect) as lab,
    ):
        parts = campaign.build_parts(kernel, (), _wish(kernel), Tier.ICOUNT, reporter.say)
        tools = benchmark.build_tools(parts.machine.kernel, reporter.say)
        lengths = []
        for counted in filled_log.run(lab, parts, tools, Path(directory), to=to, banks=banks):
            lengths.append(log_growth.length(filled_log.ARM, counted.entries, counted.text, counted.entry_bytes))
            reporter.advance(f"{counted.entries:,} entries")
    if as_json:
        line = log_growth.lookup(lengths)
        said = {
            "banks": banks,
            "lengths": [asdict(priced) for priced in lengths],
            "lookup": asdict(line) if line else None,
        }
        click.echo(json.dumps(_known(parts.machine) | facts.emulator() | said, indent=1))
    else:
        extend = f"PCR banks {', '.join(banks)}" if banks else "no TPM, so nothing is extended"
        click.echo(f"guest instructions, {parts.machine.kernel.release}, tier {Tier.ICOUNT}, {extend}\n")
        click.echo(log_growth.markdown(lengths))


def _wish(kernel: str) -> spec.Experiment:
    return spec.Experiment(name="bench", question="?", kernels=(kernel,), measurers=("none",), workloads=("tools",))


def _known(machine: MachineSpec) -> dict[str, object]:
    return {"schema": 1, "kernel": machine.kernel.release, "tier": Tier.ICOUNT, "cpu": machine.cpu}

"""Show the cells of EXPERIMENT (a TOML file), and the minutes and disk space that they will take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from testbed import estimate, plan, spec
from testbed.commands._options import (
    EXPERIMENT,
    IMA_POLICY,
    KERNEL_ARG,
    KERNEL_PATH,
    MACHINES,
    MAX_MINUTES,
    MEASURER_PATH,
    ONLY,
    SET,
    TIER,
)
from testbed.errors import SpecError
from testbed.lab import campaign, probe
from testbed.lab.build import local
from testbed.lab.machines.domain import check_words
from testbed.plan import Cell, Plan
from testbed.spec import Experiment

_PLAIN = 120


@click.command("plan")
@EXPERIMENT
@TIER
@SET
@IMA_POLICY
@KERNEL_ARG
@KERNEL_PATH
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Earlier campaigns, from which times are taken.",
)
@MACHINES
@MEASURER_PATH
@ONLY
@MAX_MINUTES
@click.option("--order", is_flag=True, help="Also list the cells of every block in the order in which they run.")
def command(
    *,
    experiment: Path,
    tier: str | None,
    overrides: Sequence[str],
    ima_policies: Sequence[Path],
    kernel_args: Sequence[str],
    kernel_path: Path | None,
    results: Path,
    machines: int | None,
    only: Sequence[str],
    max_minutes: float | None,
    order: bool,
) -> None:
    """Show the cells of EXPERIMENT (a TOML file), and the minutes and disk space that they will take.

    Times are medians of earlier runs below --results, on any host. For a run without an earlier one the time is a
    guess. Images and kernels that are not in the cache take additional time.
    """
    wish = spec.load(experiment, overrides, ima_policies=ima_policies, kernel_args=kernel_args)
    try:
        wish, kernels = campaign.with_kernel(wish, kernel_path)
        plan.check_names(wish, kernels)
    except SpecError as error:
        raise SpecError(f"{spec.named(experiment, overrides)}: {error.message}", error.hint) from error
    console = Console(soft_wrap=True, width=None if Console().is_terminal else _PLAIN, highlight=False)
    first = wish.kernels[0] if kernel_path is None else local.PATTERN
    chosen, why = probe.choose_tier(tier or wish.tier, first, console.print)
    check_words(wish.kernel_args, chosen)
    decided = plan.resolve(wish, tier=chosen, kernels=dict.fromkeys(kernels, ""), inputs={})
    wanted = plan.selection(only)
    todo = [[cell for cell in block.cells if wanted(cell)] for block in decided.blocks]
    known = estimate.history(results)
    at_a_time = machines or campaign.default_machines(chosen)
    expected = estimate.estimate(chosen, todo, known, at_a_time)
    console.print(f"{wish.name}: {wish.question}", markup=False)
    console.print(f"tier {chosen}: {why}", markup=False)
    console.print(_table(wish, decided, [cell for cell in decided.cells if wanted(cell)], known))
    _print_sum(console, expected, at_a_time)
    if order:
        _print_order(console, decided, todo)
    campaign.check_time(expected, max_minutes)


def _table(wish: Experiment, decided: Plan, cells: Iterable[Cell], known: estimate.History) -> Table:
    """Return a row per (kernel, runtime, workload, attack), a column per measurer: seconds, or ``?`` for a guess."""
    table = Table("workload", *wish.measurers, box=None, caption=f"seconds per run; each runs in {wish.blocks} blocks")
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        name = " ".join((cell.workload, *_where(wish, cell)))
        seconds, seen = known.seconds(decided.tier, cell.workload, cell.measurer)
        rows.setdefault(name, {})[cell.measurer] = f"{seconds:.0f}{'' if seen else '?'}"
    for name, row in rows.items():
        table.add_row(name, *(row.get(measurer, "-") for measurer in wish.measurers))
    return table


def _where(wish: Experiment, cell: Cell) -> list[str]:
    axes = (("kernels", cell.kernel), ("runtimes", cell.runtime), ("attacks", cell.attack))
    return [name for axis, name in axes if len(getattr(wish, axis)) > 1]


def _print_sum(console: Console, expected: estimate.PlanEstimate, machines: int) -> None:
    console.print(
        f"{expected.runs} runs in {expected.boots} boots, {machines} machine{'s' if machines > 1 else ''} at a time: "
        f"about {expected.minutes:.0f} min, {expected.size / (1 << 30):.1f} GiB of disk"
    )
    if expected.seen < expected.runs:
        console.print(f"{expected.runs - expected.seen} of the runs have no earlier run to estimate from")


def _print_order(console: Console, decided: Plan, todo: Iterable[Sequence[Cell]]) -> None:
    for block, cells in zip(decided.blocks, todo, strict=True):
        console.print(f"block {block.index} ({block.kernel}):")
        for cell in cells:
            console.print(f"  {cell.workload} {cell.runtime} {cell.attack} {cell.measurer}", markup=False)

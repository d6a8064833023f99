"""Show the cells of EXPERIMENT (a TOML file), the minutes and the disk that they will take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from testbed import estimate, plan, plugins, spec
from testbed.commands._options import MACHINES, MEASURER_PATH, SET, TIER
from testbed.errors import SpecError
from testbed.lab import campaign, probe
from testbed.lab.build.kernel import load_kernels
from testbed.plan import Cell, Plan
from testbed.spec import Experiment

_PLAIN = 120


@click.command("plan")
@click.argument("experiment", type=click.Path(path_type=Path))
@TIER
@SET
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@MACHINES
@MEASURER_PATH
@click.option("--only", multiple=True, metavar="AXIS=NAME[,NAME]", help="These cells alone, as `testbed run --only`.")
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Refuse (exit status 2) what would take longer.")
@click.option("--order", is_flag=True, help="Also list the cells of every block in the order in which they run.")
def command(
    *,
    experiment: Path,
    tier: str | None,
    overrides: Sequence[str],
    results: Path,
    machines: int | None,
    measurer_paths: Sequence[Path],
    only: Sequence[str],
    max_minutes: float | None,
    order: bool,
) -> None:
    """Show the cells of EXPERIMENT (a TOML file), the minutes and the disk that they will take.

    Times are those of earlier runs below --results, medians on whichever host they ran; a run of which none is known
    is guessed. Building images and kernels, where the cache lacks them, comes on top.
    """
    with plugins.measurers_from(measurer_paths):
        _show(experiment, tier, overrides, results, machines, only=only, max_minutes=max_minutes, order=order)


def _show(
    experiment: Path,
    tier: str | None,
    overrides: Sequence[str],
    results: Path,
    machines: int | None,
    *,
    only: Sequence[str],
    max_minutes: float | None,
    order: bool,
) -> None:
    wish = spec.load(experiment, overrides)
    kernels = load_kernels()
    try:
        plan.check_names(wish, kernels)
    except SpecError as error:
        raise SpecError(f"{spec.named(experiment, overrides)}: {error.message}", error.hint) from error
    console = Console(soft_wrap=True, width=None if Console().is_terminal else _PLAIN, highlight=False)
    chosen, why = probe.choose_tier(tier or wish.tier, wish.kernels[0], console.print)
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
    """Return a row a (kernel, runtime, workload, attack), a column a measurer: seconds of a run, ``?`` if guessed."""
    table = Table("workload", *wish.measurers, box=None, caption=f"seconds a run; each runs in {wish.blocks} blocks")
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

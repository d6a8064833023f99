"""Judge simulated campaigns with known true effects, with the noise of instructions (counted) or seconds (timed)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import click

from testbed.analysis import markdown
from testbed.analysis.statistics import effect, simulate
from testbed.analysis.statistics.simulate import COUNTED, TIMED, Design, Rates

_DESIGNS = {"counted": COUNTED, "timed": TIMED}
_HEADER = ("truth", "detected", "within δ", "inconclusive", "invalid", "interval contains the truth")


@click.command("simulate")
@click.argument("noise", type=click.Choice(sorted(_DESIGNS)), default="counted")
@click.option("--blocks", type=click.IntRange(min=6, max=200), help="Blocks (boots) in a campaign.")
@click.option(
    "--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Margin of equality, 0.005 is 0.5 %."
)
@click.option("--fixed-order", is_flag=True, help="Run all blocks in the same order, to see the effect.")
@click.option("--campaigns", type=click.IntRange(min=1), default=simulate.CAMPAIGNS, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def command(
    *, noise: str, blocks: int | None, delta: float | None, fixed_order: bool, campaigns: int, seed: int
) -> None:
    """Judge simulated campaigns with known true effects, with the noise of instructions (counted) or seconds (timed).

    The table has a line for an arm that costs nothing, one for the smallest effect that 80 % of campaigns should
    detect, and one for delta in either direction, which at most 5 % may call equal.
    """
    known = _DESIGNS[noise]
    design = replace(known, blocks=blocks or known.blocks, delta=delta or known.delta, balanced=not fixed_order)
    click.echo("\n".join(table(design, campaigns=campaigns, seed=seed)))


def table(design: Design, *, campaigns: int, seed: int) -> Iterator[str]:
    """Yield a line about the design, then the lines of a Markdown table."""
    yield f"{campaigns} campaigns of {design.blocks} blocks, δ = ±{100 * design.delta:g} %, {design.noise}"
    yield ""
    all_rates = simulate.rates(design, simulate.usual_truths(design), campaigns=campaigns, seed=seed)
    names = ("no effect", "stated smallest effect", "δ", "-δ")
    yield from markdown.table(_HEADER, (_row(name, rates) for name, rates in zip(names, all_rates, strict=True)))
    if design.blocks >= effect.MIN_FOR_P:
        raw, adjusted = simulate.family(design, campaigns=campaigns, seed=seed)
        yield ""
        yield f"Campaigns in which one of four arms without an effect has p <= 0.05: {100 * raw:.1f} %"
        yield f"The same after Holm's correction: {100 * adjusted:.1f} %"


def _row(name: str, rates: Rates) -> tuple[str, ...]:
    shares = (rates.found, rates.equal, rates.inconclusive, rates.invalid, rates.covered)
    return f"{name} ({effect.percent(math.exp(rates.truth)):+.3g} %)", *(f"{100 * share:.1f} %" for share in shares)

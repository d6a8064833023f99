"""Overhead, a panel per workload and a row per measurer, each with its numbers beside it: for few workloads."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import WIDTH, Caption
from testbed.analysis.statistics.effect import Conclusion, percent
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM

_ROW = 0.34
_GAP = 0.62
FILLED = frozenset(
    {Conclusion.OVERHEAD, Conclusion.OVERHEAD_BELOW_DELTA, Conclusion.SPEED_UP, Conclusion.SPEED_UP_BELOW_DELTA}
)


def rungs(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw the ladder: a panel per workload, a row per measurer, a point with its 95 % interval, the A/A as a band.

    ``table`` is that of ``ladder.ladder`` for one metric and has at least one row.
    """
    panels = list(table.groupby(list(STRATUM)))
    heights = [_ROW * len(group) for _, group in panels]
    text = canvas.wrapped(WIDTH, (_words(table, caption), *caption.notes))
    head, foot = 0.34, canvas.room(text, axis=0.58)
    height = head + sum(heights) + _GAP * (len(panels) - 1) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (key, group) in zip(axes, panels, strict=True):
            _panel(ax, group, scale_of(table))
            ax.set_title(_title(key, table))
        axes[-1].set_xlabel(_axis_words(table, caption), loc="left")
        figure.subplots_adjust(
            left=0.18,
            right=0.66,
            top=1 - head / height,
            bottom=foot / height,
            hspace=_GAP * len(panels) / sum(heights),
        )
        canvas.say(figure, text)
    return figure


def _title(key: Any, table: pd.DataFrame) -> str:
    """Name the workload, and of kernel and runtime only what the panels differ in."""
    kernel, runtime, workload = key
    extra = [value for name, value in (("kernel", kernel), ("runtime", runtime)) if len(set(table[name])) > 1]
    return " · ".join([str(workload), *map(str, extra)])


def _axis_words(table: pd.DataFrame, caption: Caption) -> str:
    return f"overhead over {table['baseline'].iloc[0]}, %, in\n{canvas.unit(caption)}"


def _panel(ax: Axes, group: pd.DataFrame, scale: dict[str, Any]) -> None:
    ax.set_xscale(**scale)
    first = group.iloc[0]
    if math.isfinite(first["floor_high"]):
        ax.axvspan(percent(first["floor_low"]), percent(first["floor_high"]), color="#bbbbbb", lw=0.8, zorder=0.5)
    ax.axvline(0, color="#444444", lw=0.9, zorder=1)
    for margin in (-100 * first["delta"], 100 * first["delta"]):
        ax.axvline(margin, color="#777777", lw=0.8, ls=(0, (2, 2)), zorder=0.8)
    for place, row in enumerate(group.to_dict("records")):
        _point(ax, place, row)
    ax.set_yticks(range(len(group)), list(group["treatment"]))
    ax.set_ylim(len(group) - 0.45, -0.55)
    if scale["value"] == "symlog":
        canvas.signed_ticks(ax, scale["linthresh"])
    canvas.plain_numbers(ax)
    ax.tick_params(labelbottom=True)


def _point(ax: Axes, place: int, row: dict[Any, Any]) -> None:
    """Draw one rung. Filled: an effect above the noise; hollow: no such effect, or not yet."""
    if math.isfinite(row["high"]):
        ends = [percent(row["low"]), percent(row["high"])]
        ax.plot(ends, [place, place], color="#0072B2", solid_capstyle="butt")
    shape = "X" if row["verdict"] == Conclusion.INVALID else "o"
    face = "#0072B2" if row["verdict"] in FILLED else "white"
    (point,) = ax.plot([percent(row["ratio"])], [place], shape, color="#0072B2", mfc=face, mew=1.4, zorder=3)
    canvas.mark(point, said(row))
    ax.text(
        1.03,
        place,
        f"{words.overhead(row['ratio'], row['low'], row['high'])}\n{words.conclusion(row['verdict'], row['delta'])}",
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize=7.2,
        linespacing=1.15,
    )


def said(row: dict[Any, Any]) -> str:
    """Return the numbers of one point in words: the overhead, its verdict, the absolute cost, the noise."""
    return (
        f"{row['workload']}, {row['treatment']}: {words.overhead(row['ratio'], row['low'], row['high'])}; "
        f"{words.conclusion(row['verdict'], row['delta'])}; n = {row['n']}; one operation "
        f"{words.amount(row['cost'], row['cost_low'], row['cost_high'], row['unit'])}; "
        f"A/A {words.bounds(row['floor_low'], row['floor_high'])} %"
    )


def scale_of(table: pd.DataFrame) -> dict[str, Any]:
    """Return the axis for the overheads of a ladder, in percent."""
    return canvas.both_ways([percent(ratio) for ratio in table["ratio"]], 100 * float(table["delta"].iloc[0]))


def _words(table: pd.DataFrame, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} "
        "Points: Hodges-Lehmann estimate; lines: 95 % interval (exact signed rank). Filled: an effect above the "
        "noise; hollow: no such effect; cross: invalid. Grey band: the baseline against itself (A/A), 95 %: "
        f"{band(table)}. Dotted: δ. {legend(table)} {metrics.MEANING[caption.tier]}"
    )


def legend(table: pd.DataFrame) -> str:
    """Return the words on the axis."""
    margin = f"±{100 * float(table['delta'].iloc[0]):g} %"
    bent = f" The axis is linear within {margin} and logarithmic beyond." if _bent(table) else ""
    return f"δ = {margin}.{bent}"


def _bent(table: pd.DataFrame) -> bool:
    return bool(scale_of(table)["value"] == "symlog")


def band(table: pd.DataFrame) -> str:
    """Return the width of the A/A in words."""
    low, high = float(table["floor_low"].min()), float(table["floor_high"].max())
    return f"within {words.bounds(low, high)} %" if math.isfinite(high) else "none (too few blocks)"

"""How the added cost grows with a number in the workload's name: files, bytes, containers alive, length of the log."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, Caption
from testbed.analysis.tables.ladder import climb

_PANEL, _COLUMN, _GAP = 2.1, 3.3, 0.72


def scaling(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw the curves of ``curves.scaling``: a panel per family, a line per arm, both axes logarithmic."""
    panels = list(table.groupby(["kernel", "runtime", "family"]))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    width = columns * _COLUMN + 0.95 * columns + 0.2
    text = canvas.wrapped(width, (_words(table, caption), *caption.notes))
    head = 0.68 + canvas.LEGEND_ROW * (canvas.legend_rows(table["treatment"].nunique()) - 1)
    foot = canvas.room(text)
    height = head + _PANEL * lines + _GAP * (lines - 1) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(lines, columns, squeeze=False)
        figure.subplots_adjust(
            left=0.82 / width,
            right=1 - 0.2 / width,
            top=1 - head / height,
            bottom=foot / height,
            hspace=_GAP / _PANEL,
            wspace=0.95 / _COLUMN,
        )
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax, (key, mine) in zip(axes.flat, panels, strict=False):
            _panel(ax, mine)
            kernel, runtime, family = map(str, key)
            extra = [v for name, v in (("kernel", kernel), ("runtime", runtime)) if len(set(table[name])) > 1]
            ax.set_title(", ".join([f"{family}-N", *extra]))
            ax.set_ylabel(f"added, {_unit(mine)}", fontsize=8)
            ax.set_xlabel("N", loc="left")
        _legend(figure)
        canvas.say(figure, text)
    return figure


def _legend(figure: Figure) -> None:
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    names = sorted(handles, key=climb)
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=canvas.LEGEND,
        fontsize=7.5,
        frameon=False,
        columnspacing=1.2,
    )


def _panel(ax: Axes, mine: pd.DataFrame) -> None:
    ax.set_xscale("log")
    # A logarithmic axis has no 0, so it is linear within the noise of the baseline.
    noise = max(float(mine["noise"].median()), 1.0)
    ax.set_yscale("symlog", linthresh=noise, linscale=0.4)
    ax.axhspan(-noise, noise, color="#eeeeee", zorder=0.4)
    ax.axhline(0, color=INK, lw=0.7)
    for arm, group in sorted(mine.groupby("treatment"), key=lambda pair: climb(str(pair[0]))):
        curve, style = group.sort_values("number"), canvas.look(str(arm))
        if canvas.finite(*curve["low"], *curve["high"]):
            ax.fill_between(curve["number"], curve["low"], curve["high"], color=style.colour, alpha=0.18, lw=0)
        ax.plot(
            curve["number"],
            curve["value"],
            color=style.colour,
            ls=style.dashes,
            marker=style.marker,
            ms=4.5,
            lw=1.3,
            mfc="white",
            mew=1.1,
            label=str(arm),
        )
        for row in curve.to_dict("records"):
            _point(ax, row, style)
    # As in the workloads' names: 64k there is 65536.
    numbers = dict(sorted(zip(mine["number"], mine["label"], strict=True)))
    ax.set_xticks(list(numbers), list(numbers.values()))
    ax.set_xticks([], minor=True)
    _decades(ax, noise)
    ax.yaxis.set_major_formatter(FuncFormatter(canvas.short))
    ax.tick_params(axis="y", labelsize=7)
    ax.grid(visible=True, axis="both")


def _point(ax: Axes, row: dict[Any, Any], style: canvas.Look) -> None:
    """Draw a point of its own on the line's, which says its numbers."""
    (point,) = ax.plot(
        [row["number"]], [row["value"]], style.marker, color=style.colour, ms=4.5, mfc="white", mew=1.1, zorder=3
    )
    cost = words.amount(row["value"], row["low"], row["high"], row["unit"])
    canvas.mark(point, f"{row['workload']}, {row['treatment']}: {cost} more an operation; n = {row['n']}")


def _decades(ax: Axes, noise: float) -> None:
    """Mark 0 and decades, no more than fit."""
    low, high = ax.get_ylim()
    steps = [10.0**power for power in range(3, 13) if noise < 10.0**power <= high]
    every = -(-len(steps) // 5) or 1
    ax.yaxis.set_major_locator(FixedLocator([*(-s for s in steps[:1] if -s >= low), 0.0, *steps[::every]]))
    ax.yaxis.set_minor_locator(NullLocator())


def _unit(mine: pd.DataFrame) -> str:
    return str(mine["unit"].iloc[0])


def _words(table: pd.DataFrame, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} Shown: what an arm adds to one operation of "
        "the baseline (Hodges-Lehmann; shade: 95 % interval), as N grows. Grey: the baseline against itself; within it "
        "the axis is linear, beyond it logarithmic. A line of slope 1 is a cost that grows with N. Not shown: anything "
        "beyond the largest N; the cost of the baseline, which grows too."
    )

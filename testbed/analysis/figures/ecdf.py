"""Starting a container: every start that was timed, as a cumulative share, an arm a line."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import Caption
from testbed.analysis.figures.grid import labels
from testbed.analysis.tables.ladder import climb

_WIDTH, _PANEL = 7.6, 1.75


def starts(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw the starts of ``curves.starts``: a panel per workload and runtime, a point per timed iteration."""
    named = table.assign(name=labels(table))
    panels = list(named.groupby("name"))
    text = canvas.wrapped(_WIDTH, (_words(table, caption), *caption.notes))
    head = 0.62 + canvas.LEGEND_ROW * (canvas.legend_rows(table["measurer"].nunique()) - 1)
    foot, gap = canvas.room(text), 0.55
    height = head + _PANEL * len(panels) + gap * (len(panels) - 1) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.subplots(len(panels), 2, squeeze=False, width_ratios=(1.35, 1))
        figure.subplots_adjust(
            left=0.6 / _WIDTH,
            right=1 - 0.2 / _WIDTH,
            top=1 - head / height,
            bottom=foot / height,
            hspace=gap / _PANEL,
            wspace=0.16,
        )
        for (values, spread), (name, mine) in zip(axes, panels, strict=True):
            _absolute(values, mine)
            _relative(spread, mine)
            values.set_title(str(name))
            values.set_ylabel("share of iterations")
            spread.set_title("about its own median")
            spread.set_yticklabels([])
        axes[-1][0].set_xlabel(f"a start, in {canvas.unit(caption)}", loc="left")
        axes[-1][1].set_xlabel("difference from the median, %", loc="left")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="upper left",
            bbox_to_anchor=(0.05, 1.0),
            ncols=canvas.LEGEND,
            fontsize=7.5,
            frameon=False,
            handlelength=2.6,
            columnspacing=1.2,
        )
        canvas.say(figure, text)
    return figure


def _arms(mine: pd.DataFrame) -> list[tuple[str, NDArray[np.float64]]]:
    """Return the sorted values of each arm, as the ladder climbs."""
    groups = sorted(mine.groupby("measurer"), key=lambda pair: climb(str(pair[0])))
    return [(str(arm), np.sort(group["value"].to_numpy(dtype=float))) for arm, group in groups]


def _steps(ax: Axes, values: NDArray[np.float64], style: canvas.Look) -> None:
    share = np.arange(1, len(values) + 1) / len(values)
    ax.plot(
        np.r_[values[0], values],
        np.r_[0, share],
        drawstyle="steps-post",
        color=style.colour,
        ls=style.dashes,
        lw=1.3,
    )


def _absolute(ax: Axes, mine: pd.DataFrame) -> None:
    for arm, values in _arms(mine):
        style = canvas.look(arm)
        _steps(ax, values, style)
        # A mark at the median: the steps of arms that differ by little lie on each other.
        middle = float(np.median(values))
        (point,) = ax.plot(
            [middle],
            [0.5],
            style.marker,
            color=style.colour,
            mfc="white",
            mew=1.3,
            ms=6,
            label=arm,
            ls=style.dashes,
            zorder=3,
        )
        ends = f"from {canvas.short(values[0])} to {canvas.short(values[-1])}"
        where = f"{mine['name'].iloc[0]}, {arm}"
        canvas.mark(point, f"{where}: median of {len(values)} iterations {canvas.short(middle)}, {ends}")
    if mine["value"].max() > 2 * mine["value"].min():
        ax.set_xscale("log")
        canvas.log_ticks(ax.xaxis)
    else:
        ax.xaxis.set_major_formatter(FuncFormatter(canvas.short))
    ax.set_ylim(-0.03, 1.03)
    ax.grid(visible=True, axis="both")


def _relative(ax: Axes, mine: pd.DataFrame) -> None:
    for arm, values in _arms(mine):
        _steps(ax, 100 * (values / np.median(values) - 1), canvas.look(arm))
    ax.set_ylim(-0.03, 1.03)
    canvas.plain_numbers(ax)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(visible=True, axis="both")


def _words(table: pd.DataFrame, caption: Caption) -> str:
    n = canvas.blocks([table["block"].nunique()])
    each = sorted({int(value) for value in table["starts"]})
    shared = (
        f" An iteration starts {' or '.join(map(str, each))} containers, one after the other. A value is the "
        "mean of these starts, so differences among them are not visible."
        if each != [1]
        else ""
    )
    return (
        f"{canvas.whose(caption, n)} Shown: the share of timed iterations in which a start took at most this much, "
        f"one step for each block, with a mark at the median.{shared} Right: the same relative to each arm's median. "
        "It shows how much blocks differ (each is a boot; within a block this cancels). Not shown: the latency of a "
        "start in seconds; the spread beyond these blocks."
    )

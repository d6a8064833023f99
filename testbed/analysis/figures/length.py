"""Overhead against the length of a run: the start is paid once, so its share falls as a container runs on."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, SOFT, WIDTH, Caption, Look
from testbed.analysis.figures.grid import short_unit
from testbed.analysis.figures.panels import Room, panels
from testbed.analysis.models.runlength import LIMIT, overhead
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import climb

_PANEL, _GAP, _LEFT, _RIGHT = 2.3, 0.62, 0.75, 0.1
_POINTS = 200
# How far a curve goes: percent, and times the length at which it begins.
_LEAST, _FARTHEST = 0.02, 2e5
# By the order of the workloads' names, so that a workload looks the same in every panel.
_LOOKS = (
    Look(colour="#0072B2", marker="o"),
    Look(colour="#D55E00", marker="s", dashes=(0, (5, 1.5))),
    Look(colour="#009E73", marker="^", dashes=(0, (2, 1))),
    Look(colour="#CC79A7", marker="D", dashes=(0, (7, 1.5, 1.5, 1.5))),
    Look(colour="#000000", marker="v", dashes=(0, (1, 1))),
    Look(colour="#E69F00", marker="P", dashes=(0, (3, 1, 1, 1, 1, 1))),
)


def length(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw ``runlength.lengths``: a panel an arm, a curve for each workload whose running state was counted.

    A cross: another workload's iteration as it was measured. ``table`` has at least one row whose ``base`` is above 0.
    """
    curves = table[table["base"] > 0]
    arms = [arm for arm in sorted(set(table["treatment"]), key=climb) if (curves["treatment"] == arm).any()]
    text = canvas.wrapped(WIDTH, (_words(table, caption), *caption.notes))
    room = Room(
        head=0.62 + canvas.LEGEND_ROW * (canvas.legend_rows(curves["workload"].nunique() + 1) - 1),
        foot=canvas.room(text, axis=0.5),
        left=_LEFT,
        right=_RIGHT,
        tall=_PANEL,
        gap=_GAP,
        between=0.08,
    )
    looks = dict(zip(sorted(set(curves["workload"])), _LOOKS * 9, strict=False))
    with mpl.rc_context(fname=canvas.STYLE):
        figure, axes = panels(arms, room)
        for ax, arm in zip(axes.flat, arms, strict=False):
            _panel(ax, table[table["treatment"] == arm], looks)
        for ax in axes[:, 0]:
            ax.set_ylabel("overhead, %", fontsize=8)
        unit = short_unit(table["unit"].iloc[0])
        axes[-1][0].set_xlabel(f"length of the run: {unit} that it takes without measurement", loc="left", fontsize=8)
        _legend(figure, axes.flat[0])
        canvas.say(figure, text)
    return figure


def _legend(figure: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper left", ncols=canvas.LEGEND, fontsize=7.2, frameon=False, handlelength=3)


def _panel(ax: Axes, mine: pd.DataFrame, looks: dict[str, Look]) -> None:
    ax.set(xscale="log", yscale="log")
    ax.axhline(100 * LIMIT, color=SOFT, lw=0.9, ls=(0, (2, 2)), zorder=0.8)
    for row in mine.to_dict("records"):
        if row["base"] > 0:
            _curve(ax, row, looks[str(row["workload"])])
        elif row["start_cost"] > 0:
            _alone(ax, row)
    ax.xaxis.set_major_locator(LogLocator(numticks=7))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(canvas.short))
    ax.yaxis.set_major_locator(LogLocator(numticks=9))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_ylim(bottom=_LEAST)
    ax.tick_params(axis="y", labelsize=8)
    ax.grid(visible=True, axis="both")


def _curve(ax: Axes, row: dict[Any, Any], style: Look) -> None:
    begin = row["start_base"] + row["base"]
    span = np.geomspace(begin, begin * _FARTHEST, _POINTS)
    middle, low, high = (100 * overhead(row, span, which) for which in ("", "_low", "_high"))
    if np.isfinite(high).all():
        ax.fill_between(
            span, np.maximum(low, _LEAST), np.maximum(high, _LEAST), color=style.colour, alpha=0.16, lw=0, zorder=1
        )
    shown = np.where(middle >= _LEAST, middle, np.nan)
    # Marks at some places of the line: in grey, and in print, they distinguish it.
    ax.plot(
        span,
        shown,
        color=style.colour,
        ls=style.dashes,
        lw=1.3,
        marker=style.marker,
        markevery=28,
        ms=4,
        mfc="white",
        label=row["workload"],
    )
    if math.isfinite(row["even"]) and row["even"] > row["start_base"]:
        (point,) = ax.plot([row["even"]], [100 * LIMIT], style.marker, color=style.colour, ms=6, mec=INK, zorder=4)
        canvas.mark(point, f"{row['workload']}, {row['treatment']}: {even(row)}")


def _alone(ax: Axes, row: dict[Any, Any]) -> None:
    share = 100 * row["start_cost"] / row["start_base"]
    if share < _LEAST:
        return
    label = "another workload, as measured" if "another workload, as measured" not in _labels(ax) else None
    (point,) = ax.plot([row["start_base"]], [share], "x", color=INK, ms=4, mew=1.0, ls="", zorder=2, label=label)
    canvas.mark(point, f"{row['workload']}, {row['treatment']}: {share:.3g} % of its iteration")


def _labels(ax: Axes) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def even(row: dict[Any, Any]) -> str:
    """Return in words after how long a run the overhead is below the limit."""
    limit = f"{100 * LIMIT:g} %"
    if row["base"] > 0 and math.isfinite(row["even"]):
        number = max(0.0, (row["even"] - row["start_base"]) / row["base"])
        name = metrics.operation_of(str(row["workload"])) or "operation"
        return f"below {limit} after {canvas.short(number)} x {words.one(name)}"
    if math.isfinite(row["even"]):
        return f"below {limit} after {words.size(row['even'], row['unit'])}"
    return f"never below {limit} by these numbers"


def _words(table: pd.DataFrame, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} Shown: the measured start and N measured operations of "
        "a running server, of the baseline and of what the arm adds; shade: by the ends of their 95 % intervals. Large "
        f"mark: there the overhead falls below {100 * LIMIT:g} %. Crosses: other workloads, each at its own length. "
        "This is arithmetic with two measured numbers, no measurement of a long run. Not shown: what a program "
        "executes later."
    )

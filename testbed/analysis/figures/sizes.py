"""Each program of an image as a point: what its first execution costs more, over its size."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, Caption
from testbed.analysis.tables.ladder import climb

_PANEL, _WIDTH, _GAP = 3.4, 7.2, 0.75
# Of the differences between two runs of the baseline, this share lies within the grey band.
_BAND = 0.95
_LEAST = 1000.0
_STEPS = 5


def sizes(table: pd.DataFrame, lines: pd.DataFrame, duplicate: str, caption: Caption) -> Figure:
    """Draw ``sizes.sizes`` and the lines of ``sizes.lines``: a panel per kernel and runtime, both axes logarithmic."""
    panels = list(table.groupby(["kernel", "runtime"]))
    text = canvas.wrapped(_WIDTH, (_words(table, caption), *caption.notes))
    head, foot = 0.3, canvas.room(text)
    height = len(panels) * (head + _PANEL) + _GAP * (len(panels) - 1) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=0.85 / _WIDTH,
            right=1 - 0.15 / _WIDTH,
            top=1 - head / height,
            bottom=foot / height,
            hspace=(_GAP + head) / _PANEL,
        )
        for ax, (key, mine) in zip(axes, panels, strict=True):
            kernel, runtime = map(str, key)
            own = lines[(lines["kernel"] == kernel) & (lines["runtime"] == runtime)]
            _panel(ax, mine, own, duplicate)
            if len(panels) > 1:
                ax.set_title(f"{kernel}, {runtime}", loc="right")
        axes[-1].set_xlabel("bytes of the program's file", loc="left")
        canvas.say(figure, text)
    return figure


def _panel(ax: Axes, mine: pd.DataFrame, lines: pd.DataFrame, duplicate: str) -> None:
    noise = _noise(mine, duplicate)
    ax.set_xscale("log")
    # A logarithmic axis has no 0, so it is linear within the noise.
    ax.set_yscale("symlog", linthresh=noise, linscale=0.5)
    ax.axhspan(-noise, noise, color="#e4e4e4", zorder=0.4)
    ax.axhline(0, color=INK, lw=0.7)
    reach = np.geomspace(float(mine["bytes"].min()), float(mine["bytes"].max()), 200)
    for arm, group in sorted(mine.groupby("treatment"), key=lambda pair: climb(str(pair[0]))):
        if arm == duplicate:
            continue
        style = canvas.look(str(arm))
        for row in group.to_dict("records"):
            _point(ax, row, style)
        fitted = lines[lines["treatment"] == arm]
        for line in fitted.to_dict("records"):
            label = f"{arm}: {canvas.short(round(line['byte'], 2))} a byte, {canvas.short(round(line['file']))} a file"
            ax.plot(
                reach,
                line["file"] + line["byte"] * reach,
                color=style.colour,
                ls=style.dashes,
                lw=1.2,
                marker=style.marker,
                markevery=(0, 1000),
                ms=4,
                mfc="white",
                label=label,
            )
    _axes(ax, noise, str(mine["unit"].iloc[0]))


def _axes(ax: Axes, noise: float, unit: str) -> None:
    low, high = ax.get_ylim()
    steps = [10.0**power for power in range(3, 13) if noise < 10.0**power <= high]
    every = -(-len(steps) // _STEPS) or 1
    ax.yaxis.set_major_locator(FixedLocator([*(-s for s in steps[:1] if -s >= low), 0.0, *steps[::every]]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(canvas.short))
    smallest, largest = ax.get_xlim()
    decades = [10.0**power for power in range(13) if smallest <= 10.0**power <= largest]
    ax.xaxis.set_major_locator(FixedLocator(decades))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(canvas.short))
    ax.set_ylabel(f"added to its first execution, {unit}", fontsize=8)
    ax.grid(visible=True, axis="both")
    ax.legend(loc="upper left", fontsize=7.5, frameon=False, handlelength=3.2)


def _point(ax: Axes, row: dict[Any, Any], style: canvas.Look) -> None:
    (point,) = ax.plot(
        [row["bytes"]], [row["value"]], style.marker, color=style.colour, ms=3.2, mfc="none", mew=0.8, alpha=0.75
    )
    added = f"{canvas.short(row['value'])} {row['unit']} added to {canvas.short(row['base'])}"
    canvas.mark(point, f"{row['program']}, {canvas.short(row['bytes'])} B, {row['treatment']}: {added}")


def _noise(mine: pd.DataFrame, duplicate: str) -> float:
    same = mine.loc[mine["treatment"] == duplicate, "value"].abs()
    return max(float(same.quantile(_BAND)), _LEAST) if len(same) else _LEAST


def _words(table: pd.DataFrame, caption: Caption) -> str:
    count = table["program"].nunique()
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} Shown: each of {count} programs as a point, what an arm "
        "adds to its first execution (median of the blocks) over the size of its file; the libraries were known "
        "before. Lines: fitted over the programs. Grey: 95 % of the programs' differences between two runs of the "
        "baseline; within it the axis is linear. Not shown: what the program itself would do, which did not run."
    )

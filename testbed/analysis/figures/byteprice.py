"""Overhead against the price of a hashed byte: what a processor with its own SHA-256 would change."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, SOFT, WIDTH, Caption
from testbed.analysis.figures.grid import labels
from testbed.analysis.figures.panels import Room, panels
from testbed.analysis.tables.ladder import climb

_ROW, _NAMES, _GAP = 0.23, 1.15, 0.55
# By the order of the prices, from dear to cheap: full marks, then hollow ones.
_SHAPES = (("o", True), ("s", True), ("D", False), ("v", False), ("P", True), ("^", False))


def byteprice(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw ``byteprice.prices``: a panel an arm, a row a workload, a mark for each price of a byte."""
    named = table.assign(name=labels(table))
    arms = sorted(set(table["treatment"]), key=climb)
    rows = list(dict.fromkeys(named["name"]))
    text = canvas.wrapped(WIDTH, (_words(table, caption), *caption.notes))
    room = Room(
        head=0.62,
        foot=canvas.room(text),
        left=_NAMES,
        right=0.15,
        tall=max(0.9, _ROW * len(rows)),
        gap=_GAP,
        between=0.06,
    )
    with mpl.rc_context(fname=canvas.STYLE):
        figure, axes = panels(arms, room)
        for ax, arm in zip(axes.flat, arms, strict=False):
            _panel(ax, named[named["treatment"] == arm], rows)
            ax.tick_params(labelbottom=True)
        axes[-1][0].set_xlabel("overhead, %", loc="left", fontsize=8)
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="upper left",
            ncols=len(names),
            fontsize=7.2,
            frameon=False,
            title="instructions a hashed byte:",
            title_fontsize=7.2,
            alignment="left",
        )
        canvas.say(figure, text)
    return figure


def _panel(ax: Axes, mine: pd.DataFrame, rows: list[str]) -> None:
    ax.set_xscale("log")
    ax.set_yticks(range(len(rows)), rows, fontsize=7.8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvline(1, color=SOFT, lw=0.9, ls=(0, (2, 2)), zorder=0.8)
    prices = sorted(set(mine["price"]), reverse=True)
    for price, (shape, full) in zip(prices, _SHAPES, strict=False):
        group = mine[(mine["price"] == price) & (mine["overhead"] > 0)]
        for row in group.to_dict("records"):
            _mark(ax, rows.index(row["name"]), row, shape, full=full)
        ax.plot([], [], shape, color=INK, mfc=INK if full else "white", mew=1.0, ms=4.6, ls="", label=f"{price:g}")
    for name, group in mine[mine["overhead"] > 0].groupby("name"):
        ends = [100 * group["overhead"].min(), 100 * group["overhead"].max()]
        ax.plot(ends, [rows.index(str(name))] * 2, color=SOFT, lw=0.8, zorder=1)
    measured = mine.drop_duplicates("name")
    for row in measured[measured["measured"] > 0].to_dict("records"):
        ax.plot([100 * row["measured"]], [rows.index(row["name"])], "|", color=INK, ms=9, mew=1.2, zorder=4)
    ax.plot([], [], "|", color=INK, ms=8, mew=1.2, ls="", label="as measured")
    canvas.log_ticks(ax.xaxis)
    ax.tick_params(axis="x", labelsize=7)


def _mark(ax: Axes, place: int, row: dict[Any, Any], shape: str, *, full: bool) -> None:
    face = INK if full else "white"
    (point,) = ax.plot([100 * row["overhead"]], [place], shape, color=INK, mfc=face, mew=1.0, ms=4.6, ls="", zorder=3)
    canvas.mark(
        point,
        f"{row['name']}, {row['treatment']}: {100 * row['overhead']:.3g} % at {row['price']:g} instructions a byte "
        f"({canvas.short(row['hashed'])} bytes an operation, fitted price {row['fitted']:.3g})",
    )


def _words(table: pd.DataFrame, caption: Caption) -> str:
    fitted = table["fitted"]
    return (
        f"Campaign {caption.campaign}; tier {caption.tier}. Shown, a model: the measured cost less hashed bytes x "
        f"their fitted price ({fitted.min():.3g} to {fitted.max():.3g} instructions), plus the same bytes at another "
        "price. Everything else stays as it was measured. Dotted: 1 %. Not shown: how many instructions, or "
        "cycles, a byte takes on a processor with its own SHA-256."
    )

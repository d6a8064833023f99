"""Overhead of many workloads: a group of rows for each, an arm a row, with its absolute cost and percentage."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas, grouped
from testbed.analysis.figures.canvas import BAND, INK, SOFT, WIDTH, Caption
from testbed.analysis.figures.grouped import RowGroup
from testbed.analysis.figures.rungs import FILLED, band, legend, said, scale_of
from testbed.analysis.statistics.effect import Conclusion, percent
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, climb

_HEAD, _AXIS = 0.5, 0.42


def grid(table: pd.DataFrame, running: pd.DataFrame | None, caption: Caption) -> Figure:
    """Draw the ladder of ``ladder.ladder`` for the primary metric; ``running``: that of servers once they run."""
    parts = [("the whole run, from its start", table)]
    if running is not None and len(running):
        parts.append(("once it runs", running))
    groups = [_groups(mine) for _, mine in parts]
    text = canvas.wrapped(WIDTH, (_words(table, caption), *caption.notes))
    tall = sum(_HEAD + _AXIS + grouped.height(mine) for mine in groups)
    size = tall + canvas.room(text, axis=0.0)
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, size))
        top = 0.0
        for (title, mine), listed in zip(parts, groups, strict=True):
            top += _HEAD
            ax = grouped.axes(figure, listed, top=top, columns=2)
            _panel(ax, mine, listed)
            ax.set_title(f"{title}: overhead over {table['baseline'].iloc[0]}, %", fontsize=9, pad=16)
            top += grouped.height(listed) + _AXIS
        canvas.say(figure, text)
    return figure


def labels(table: pd.DataFrame) -> pd.Series[str]:
    """Return each row's workload, with the kernel and runtime where several are compared."""
    parts = [name for name in STRATUM if name == "workload" or len(set(table[name])) > 1]
    order = [name for name in ("workload", "runtime", "kernel") if name in parts]
    return table[order].astype(str).agg(", ".join, axis=1)


def short_unit(unit: object) -> str:
    """Return a unit as a figure has room for it."""
    return "instr." if unit == "instructions" else str(unit)


def _groups(table: pd.DataFrame) -> list[RowGroup]:
    named = table.assign(name=labels(table))
    listed = []
    for name in dict.fromkeys(named["name"]):
        mine = named[named["name"] == name]
        base = f"{canvas.short(mine['base'].iloc[0])} {words.one(metrics.operation_of(str(mine['workload'].iloc[0])))}"
        arms = tuple(sorted(map(str, mine["treatment"]), key=climb))
        listed.append(RowGroup(title=str(name), note=base, rows=arms))
    return listed


def _panel(ax: Axes, table: pd.DataFrame, groups: list[RowGroup]) -> None:
    named = table.assign(name=labels(table))
    scale = scale_of(table)
    ax.set_xscale(**scale)
    margin = 100 * float(table["delta"].iloc[0])
    for edge in (-margin, margin):
        ax.axvline(edge, color=SOFT, lw=0.7, ls=(0, (2, 2)), zorder=0.8)
    ax.axvline(0, color=INK, lw=0.8, zorder=1)
    unit = short_unit(table["unit"].iloc[0])
    for column, text in enumerate((f"added, {unit}", "overhead")):
        grouped.number(ax, column, -0.1, text, bold=True)
    for group, places in grouped.places(groups):
        mine = named[named["name"] == group.title].set_index("treatment")
        _noise(ax, mine.iloc[0], places)
        for arm, place in zip(group.rows, places, strict=True):
            _point(ax, place, {**mine.loc[arm].to_dict(), "treatment": arm})
    if scale["value"] == "symlog":
        canvas.signed_ticks(ax, scale["linthresh"])
    canvas.plain_numbers(ax)


def _noise(ax: Axes, row: pd.Series[Any], places: list[float]) -> None:
    if canvas.finite(row["floor_low"], row["floor_high"]):
        ends = [places[0] - grouped.ROW / 2, places[-1] + grouped.ROW / 2]
        ax.fill_betweenx(ends, percent(row["floor_low"]), percent(row["floor_high"]), color=BAND, lw=0.8, zorder=0.6)


def _point(ax: Axes, place: float, row: dict[Any, Any]) -> None:
    style = canvas.look(str(row["treatment"]))
    if canvas.finite(row["low"], row["high"]):
        ax.plot([percent(row["low"]), percent(row["high"])], [place, place], color=style.colour, solid_capstyle="butt")
    shape = "X" if row["verdict"] == Conclusion.INVALID else style.marker
    face = style.colour if row["verdict"] in FILLED else "white"
    (point,) = ax.plot([percent(row["ratio"])], [place], shape, color=style.colour, mfc=face, mew=1.1, ms=4.6, zorder=3)
    canvas.mark(point, said(row))
    cost = canvas.short(row["cost"])
    grouped.number(ax, 0, place, cost if cost.startswith(words.MINUS) else f"+{cost}")
    grouped.number(ax, 1, place, f"{words.signed(percent(row['ratio']), _digits(percent(row['ratio'])))} %")


def _digits(value: float) -> int:
    """Return the decimals that show three digits of a percentage, at most two."""
    return min(2, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1e-3))))))


def _words(table: pd.DataFrame, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} Shown: what an arm adds to one operation; below a "
        "workload, what that takes without measurement. Mark: Hodges-Lehmann estimate; line: 95 % "
        "interval (mostly narrower than the mark). Filled: an effect above the noise; hollow: none; cross: invalid. "
        f"Grey: the baseline against itself (A/A), 95 %, {band(table)}. Dotted: δ. {legend(table)} "
        f"Not shown: a mean over workloads. {metrics.MEANING[caption.tier]}"
    )

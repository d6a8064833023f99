"""Overhead of many workloads: a column per arm, a row per workload, the noise of each drawn behind it."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import BAND, INK, SOFT, Caption
from testbed.analysis.figures.rungs import FILLED, band, legend, said, scale_of
from testbed.analysis.statistics.effect import Conclusion, percent
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, climb

_ROW, _COLUMN, _NUMBERS, _NAMES = 0.27, 1.52, 0.62, 1.32
_MEAN = "geometric mean"


def grid(table: pd.DataFrame, overall: pd.DataFrame, caption: Caption) -> Figure:
    """Draw the ladder of ``ladder.ladder`` for one metric; ``overall`` of ``overall.overall`` adds the last row."""
    arms = sorted(set(table["treatment"]), key=climb)
    names = labels(table)
    rows = list(dict.fromkeys(names)) + ([_MEAN] if len(overall) else [])
    width = _NAMES + len(arms) * (_COLUMN + _NUMBERS) + 0.1
    text = canvas.wrapped(width, (_words(table, caption), *caption.notes))
    head, foot = 0.42, canvas.room(text)
    height = head + _ROW * len(rows) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
        figure.subplots_adjust(
            left=_NAMES / width,
            right=1 - (_NUMBERS + 0.1) / width,
            top=1 - head / height,
            bottom=foot / height,
            wspace=_NUMBERS / _COLUMN,
        )
        for ax, arm in zip(axes, arms, strict=True):
            _column(ax, table.assign(name=names)[table["treatment"] == arm], rows, scale_of(table))
            _mean(ax, overall[overall["treatment"] == arm], len(rows) - 1)
            ax.set_title(arm, fontsize=9)
        axes[0].set_yticks(range(len(rows)), rows, fontsize=8)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        axes[0].set_xlabel(f"overhead over {table['baseline'].iloc[0]}, %, in {canvas.unit(caption)}", loc="left")
        canvas.say(figure, text)
    return figure


def labels(table: pd.DataFrame) -> pd.Series[str]:
    """Return each row's workload, with the kernel and runtime where several are compared."""
    parts = [name for name in STRATUM if name == "workload" or len(set(table[name])) > 1]
    order = [name for name in ("workload", "runtime", "kernel") if name in parts]
    return table[order].astype(str).agg(", ".join, axis=1)


def _column(ax: Axes, mine: pd.DataFrame, rows: list[str], scale: dict[str, Any]) -> None:
    ax.set_xscale(**scale)
    margin = 100 * float(mine["delta"].iloc[0])
    for edge in (-margin, margin):
        ax.axvline(edge, color=SOFT, lw=0.7, ls=(0, (2, 2)), zorder=0.8)
    ax.axvline(0, color=INK, lw=0.8, zorder=1)
    for row in mine.to_dict("records"):
        _point(ax, rows.index(row["name"]), row)
    if scale["value"] == "symlog":
        canvas.signed_ticks(ax, scale["linthresh"])
        ax.tick_params(axis="x", labelsize=7)
    canvas.plain_numbers(ax)


def _point(ax: Axes, place: int, row: dict[Any, Any]) -> None:
    if canvas.finite(row["floor_low"], row["floor_high"]):
        low, high = percent(row["floor_low"]), percent(row["floor_high"])
        ax.fill_betweenx([place - 0.4, place + 0.4], low, high, color=BAND, lw=0.8, zorder=0.6)
    style = canvas.look(str(row["treatment"]))
    if canvas.finite(row["low"], row["high"]):
        ax.plot([percent(row["low"]), percent(row["high"])], [place, place], color=style.colour, solid_capstyle="butt")
    shape = "X" if row["verdict"] == Conclusion.INVALID else style.marker
    face = style.colour if row["verdict"] in FILLED else "white"
    (point,) = ax.plot([percent(row["ratio"])], [place], shape, color=style.colour, mfc=face, mew=1.2, ms=5, zorder=3)
    canvas.mark(point, said(row))
    _number(ax, place, row["ratio"])


def _number(ax: Axes, place: int, ratio: float) -> None:
    """Write the overhead beside its row, with three digits."""
    value = percent(ratio)
    digits = min(3, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1e-3))))))
    text = f"{words.signed(value, digits)} %"
    ax.text(1.05, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7, color=INK)


def _mean(ax: Axes, overall: pd.DataFrame, place: int) -> None:
    if overall.empty:
        return
    ax.axhline(place - 0.5, color=SOFT, lw=0.7)
    row = overall.iloc[0]
    style = canvas.look(str(row["treatment"]))
    if canvas.finite(row["low"], row["high"]):
        ax.plot([percent(row["low"]), percent(row["high"])], [place, place], color=style.colour, solid_capstyle="butt")
    (point,) = ax.plot([percent(row["ratio"])], [place], "d", color=style.colour, mfc=style.colour, ms=6, zorder=3)
    mean = f"{_MEAN} of {row['workloads']} workloads, {row['treatment']}"
    canvas.mark(point, f"{mean}: {words.overhead(row['ratio'], row['low'], row['high'])}; n = {row['n']}")
    _number(ax, place, float(row["ratio"]))


def _words(table: pd.DataFrame, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, canvas.blocks(table['n']))} Shown: the overhead of each arm on each workload, "
        "Hodges-Lehmann estimate with 95 % interval (exact signed rank; mostly narrower than its mark). Filled: an "
        "effect above the noise; hollow: no such effect; cross: invalid. Grey: the baseline against "
        f"itself (A/A), 95 %, of that workload: {band(table)}. Dotted: δ. {legend(table)} Not shown: absolute cost; a "
        "percentage of a short start and of a long build mean different things. "
        f"{metrics.MEANING[caption.tier]}"
    )

"""The ladder as a stack: of what the whole ladder adds to a workload, which part goes where."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, Caption
from testbed.analysis.figures.grid import labels
from testbed.analysis.tables.attribution import PARTS

_ROW, _WIDTH, _NAMES, _NUMBERS = 0.29, 8.6, 1.32, 2.05
# Lightness and hatching distinguish them in grey.
_FILLS = {
    "hooks": ("#000000", ""),
    "lookups": ("#CC79A7", "...."),
    "hash": ("#56B4E9", ""),
    "entries": ("#D55E00", "////"),
    "launches": ("#F0E442", "\\\\\\\\"),
    "rest": ("#ffffff", "xx"),
}


def stack(table: pd.DataFrame, n: str, caption: Caption) -> Figure:
    """Draw the parts of ``attribution.parts``, a bar per workload. ``n``: blocks, in words."""
    named = table.assign(name=labels(table))
    rows = list(dict.fromkeys(named["name"]))
    text = canvas.wrapped(_WIDTH, (_words(table, n, caption), *caption.notes))
    head, foot = 1.0, canvas.room(text)
    height = head + _ROW * len(rows) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        ax = figure.subplots()
        figure.subplots_adjust(
            left=_NAMES / _WIDTH, right=1 - _NUMBERS / _WIDTH, top=1 - head / height, bottom=foot / height
        )
        ends = [_bar(ax, place, named[named["name"] == name]) for place, name in enumerate(rows)]
        ax.set_yticks(range(len(rows)), rows, fontsize=8)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(min(-0.5, *(low for low, _ in ends)), max(100.0, *(high for _, high in ends)))
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_xlabel(f"share of what the whole ladder adds, %, in {canvas.unit(caption)}", loc="left")
        handles, names = ax.get_legend_handles_labels()
        order = dict(zip(names, handles, strict=True))
        shown = [text for text in PARTS.values() if text in order]
        figure.legend(
            [order[text] for text in shown],
            shown,
            loc="upper left",
            bbox_to_anchor=(0.1 / _WIDTH, 1 - 0.05 / height),
            ncols=2,
            fontsize=7.5,
            frameon=False,
        )
        ax.text(1.02, -1.0, "added, of the baseline", transform=ax.get_yaxis_transform(), fontsize=7.2, va="center")
        canvas.say(figure, text)
    return figure


def _bar(ax: Axes, place: int, mine: pd.DataFrame) -> tuple[float, float]:
    """Draw one workload's parts, what is below 0 to the left; return where the bar begins and ends."""
    right = left = 0.0
    for row in mine.to_dict("records"):
        share = 100 * row["share"]
        colour, hatch = _FILLS[row["part"]]
        start = right if share >= 0 else left
        (bar,) = ax.barh(
            place,
            share,
            left=start,
            height=0.66,
            color=colour,
            hatch=hatch,
            edgecolor=INK,
            lw=0.5,
            label=PARTS[row["part"]],
        )
        canvas.mark(
            bar,
            f"{row['name']}, {PARTS[row['part']]}: {_percent(share)} of what the ladder adds; "
            f"{words.amount(row['value'], row['low'], row['high'], row['unit'])}",
        )
        right, left = (right + share, left) if share >= 0 else (right, left + share)
    total, base = float(mine["value"].sum()), float(mine["base"].iloc[0])
    text = f"{canvas.short(total)} {_unit(mine)}, {_percent(100 * total / base)} of {canvas.short(base)}"
    ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7.2, color=INK)
    return left, right


def _unit(mine: pd.DataFrame) -> str:
    return "instr." if mine["unit"].iloc[0] == "instructions" else str(mine["unit"].iloc[0])


def _percent(value: float) -> str:
    digits = min(2, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1e-2))))))
    return f"{value:.{digits}f} %"


def _words(table: pd.DataFrame, n: str, caption: Caption) -> str:
    measured = "; ".join(PARTS[part] for part in ("hooks", "launches") if part in set(table["part"]))
    return (
        f"{canvas.whose(caption, n)} Shown: where the added {table['unit'].iloc[0]} of one timed iteration go, all "
        f"arms of the ladder together. Measured as a difference of two arms: {measured}. The parts of files are one "
        "difference, divided by the fitted price of an event times the number of events (see the cost model). "
        "Not shown: time; waiting for a TPM; workloads with other events."
    )

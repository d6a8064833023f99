"""The ladder as a stack: of what the whole ladder adds to a workload, which part goes where."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, WIDTH, Caption
from testbed.analysis.figures.grid import labels, short_unit
from testbed.analysis.tables.attribution import HASHING, OUTSIDE, PARTS

_ROW, _NAMES, _ALL, _NUMBERS, _BETWEEN = 0.29, 1.2, 1.75, 1.1, 0.3
# Lightness and hatching distinguish them in grey.
_FILLS = {
    "hooks": ("#000000", ""),
    "lookups": ("#CC79A7", "...."),
    "hash": ("#56B4E9", ""),
    "tree": ("#0072B2", "----"),
    "entries": ("#D55E00", "////"),
    "launches": ("#F0E442", "\\\\\\\\"),
    "elsewhere": ("#009E73", "++"),
    "rest": ("#ffffff", "xx"),
}
# The longest bar of the second panel that is drawn whole: this many times the second longest.
_LONGEST = 1.3


def stack(table: pd.DataFrame, n: str, caption: Caption) -> Figure:
    """Draw the parts of ``attribution.parts``: all of them as shares, and those that are not hashing by themselves."""
    named = table.assign(name=labels(table))
    rows = list(dict.fromkeys(named["name"]))
    text = canvas.wrapped(WIDTH, (_words(table, n, caption), *caption.notes))
    head, foot = 1.15, canvas.room(text)
    height = head + _ROW * len(rows) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        tall, low = _ROW * len(rows) / height, foot / height
        whole = figure.add_axes((_NAMES / WIDTH, low, _ALL / WIDTH, tall))
        left = _NAMES + _ALL + _NUMBERS + _BETWEEN
        zoom = figure.add_axes((left / WIDTH, low, (WIDTH - left - 0.75) / WIDTH, tall))
        _whole(whole, named, rows)
        _zoom(zoom, named, rows)
        _legend(figure, (whole, zoom), height)
        canvas.say(figure, text)
    return figure


def _legend(figure: Figure, panels: tuple[Axes, ...], height: float) -> None:
    order = {text: handle for ax in panels for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    shown = [text for text in PARTS.values() if text in order]
    figure.legend(
        [order[text] for text in shown],
        shown,
        loc="upper left",
        bbox_to_anchor=(0.1 / WIDTH, 1 - 0.03 / height),
        ncols=3,
        fontsize=7.2,
        frameon=False,
        columnspacing=1.2,
    )


def _whole(ax: Axes, named: pd.DataFrame, rows: list[str]) -> None:
    ends = []
    inside = named[named["part"] != OUTSIDE]
    for place, name in enumerate(rows):
        mine = inside[inside["name"] == name]
        ends.append(_bar(ax, place, mine, 100 * mine["share"], 1.0))
        total, base = float(mine["value"].sum()), float(mine["base"].iloc[0])
        ax.text(
            1.03,
            place,
            f"{canvas.short(total)} on {canvas.short(base)}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=6.9,
            color=INK,
        )
    unit = short_unit(named["unit"].iloc[0])
    ax.text(1.03, -0.85, f"{unit} added", transform=ax.get_yaxis_transform(), fontsize=6.9, va="center", weight="bold")
    ax.set_yticks(range(len(rows)), rows, fontsize=7.8)
    _finish(ax, rows, (min(-0.5, *(low for low, _ in ends)), max(100.0, *(high for _, high in ends))))
    ax.set_title("all of it", fontsize=9)
    ax.set_xlabel("share of what is added, %", loc="left", fontsize=8)


def _zoom(ax: Axes, named: pd.DataFrame, rows: list[str]) -> None:
    """Draw what is not hashing, in percent of the baseline; one that would hide the others is cut, with its number."""
    kept = named[~named["part"].isin(HASHING)]
    percents = 100 * kept["value"] / kept["base"]
    reach = sorted(percents.clip(lower=0).groupby(kept["name"]).sum(), reverse=True)
    cut = _LONGEST * reach[1] if len(reach) > 1 and reach[0] > _LONGEST * reach[1] > 0 else float("inf")
    ends = []
    for place, name in enumerate(rows):
        mine = kept[kept["name"] == name]
        low, high = _bar(ax, place, mine, percents[mine.index], min(1.0, cut / max(_right(percents[mine.index]), 1e-9)))
        ends.append((low, high))
        total = float(percents[mine.index].sum())
        beyond = " (cut)" if _right(percents[mine.index]) > cut else ""
        ax.text(high, place, f" {_percent(total)}{beyond}", va="center", fontsize=6.9, color=INK)
    ax.set_yticks(range(len(rows)), [""] * len(rows))
    _finish(ax, rows, (1.15 * min(-0.02, *(low for low, _ in ends)), 1.02 * max(high for _, high in ends)))
    ax.set_title("without the hashing", fontsize=9)
    ax.set_xlabel("% of the baseline's iteration", loc="left", fontsize=8)


def _finish(ax: Axes, rows: list[str], ends: tuple[float, float]) -> None:
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(*ends)
    ax.axvline(0, color=INK, lw=0.8)
    canvas.plain_numbers(ax)


def _right(values: pd.Series[float]) -> float:
    return float(values.clip(lower=0).sum())


def _bar(ax: Axes, place: int, mine: pd.DataFrame, sizes: pd.Series[float], scale: float) -> tuple[float, float]:
    """Draw one workload's parts, what is below 0 to the left; return where the bar begins and ends."""
    right = left = 0.0
    for row, size in zip(mine.to_dict("records"), sizes, strict=True):
        shown = scale * float(size)
        colour, hatch = _FILLS[row["part"]]
        start = right if shown >= 0 else left
        (bar,) = ax.barh(
            place,
            shown,
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
            f"{row['name']}, {PARTS[row['part']]}: {_percent(100 * row['share'])} of what the ladder adds; "
            f"{words.amount(row['value'], row['low'], row['high'], row['unit'])}",
        )
        right, left = (right + shown, left) if shown >= 0 else (right, left + shown)
    return left, right


def _percent(value: float) -> str:
    digits = min(2, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1e-2))))))
    return f"{value:.{digits}f} %".replace("-", words.MINUS)


def _words(table: pd.DataFrame, n: str, caption: Caption) -> str:
    measured = "; ".join(PARTS[part] for part in ("hooks", "launches") if part in set(table["part"]))
    return (
        f"{canvas.whose(caption, n)} Shown: where the added {table['unit'].iloc[0]} of one timed iteration go, all "
        f"arms of the ladder together. Measured as a difference of two arms: {measured}. The other parts are fitted "
        "prices times counts of events; what they leave is a part of its own. Not shown: time; waiting for a TPM."
    )

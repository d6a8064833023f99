"""Every block a dot: an arm's overhead about its estimate, beside what the same arm twice shows."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.figures import canvas, grouped
from testbed.analysis.figures.canvas import BAND, INK, SOFT, WIDTH, Caption
from testbed.analysis.figures.grid import labels
from testbed.analysis.figures.grouped import RowGroup
from testbed.analysis.statistics.effect import percent
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.spread import SpreadKind

_HEAD = 0.5


def dots(table: pd.DataFrame, delta: float, caption: Caption) -> Figure:
    """Draw ``spread.spread``: a group a workload, first the arms twice (A), then each arm (D). ``delta``: a share."""
    twice = table["kind"] == str(SpreadKind.TWICE)
    known = table.assign(
        name=labels(table),
        row=table["arm"].where(~twice, table["arm"] + " / " + table["over"]),
        # Of the same arm twice the whole difference is noise; of an arm what is beyond its own estimate.
        shown=100 * (table["log"] - table["center"].where(~twice, 0.0)),
    )
    groups = [_group(known[known["name"] == name]) for name in dict.fromkeys(known["name"])]
    n = canvas.blocks([table.groupby("arm")["block"].nunique().max()])
    text = canvas.wrapped(WIDTH, (_words(n, 100 * delta, caption), *caption.notes))
    height = _HEAD + grouped.height(groups) + canvas.room(text)
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        ax = grouped.axes(figure, groups, top=_HEAD, columns=1)
        _axis(ax, known["shown"], 100 * delta)
        grouped.number(ax, 0, -0.1, "farthest", bold=True)
        for group, places in grouped.places(groups):
            mine = known[known["name"] == group.title]
            for row, place in zip(group.rows, places, strict=True):
                _row(ax, place, mine[mine["row"] == row])
        ax.set_title("blocks: difference in percentage points of the ratio", fontsize=9, pad=16)
        canvas.say(figure, text)
    return figure


def _group(mine: pd.DataFrame) -> RowGroup:
    rows = mine.drop_duplicates("row").to_dict("records")
    rows.sort(key=lambda row: (row["kind"] != str(SpreadKind.TWICE), climb(str(row["arm"]))))
    return RowGroup(title=str(mine["name"].iloc[0]), note="", rows=tuple(str(row["row"]) for row in rows))


def _axis(ax: Axes, shown: pd.Series[float], margin: float) -> None:
    scale = canvas.both_ways([*shown, margin], margin / 5)
    ax.set_xscale(**scale)
    for edge in (-margin, margin):
        ax.axvline(edge, color=SOFT, lw=0.7, ls=(0, (2, 2)), zorder=0.8)
    ax.axvline(0, color=INK, lw=0.8, zorder=1)
    if scale["value"] == "symlog":
        canvas.signed_ticks(ax, scale["linthresh"])
    canvas.plain_numbers(ax)


def _row(ax: Axes, place: float, mine: pd.DataFrame) -> None:
    first: dict[Any, Any] = mine.iloc[0].to_dict()
    twice = first["kind"] == str(SpreadKind.TWICE)
    style = canvas.look(str(first["arm"]))
    if twice:
        ax.axhspan(place - grouped.ROW / 2, place + grouped.ROW / 2, color=BAND, alpha=0.45, lw=0, zorder=0.4)
    for row in mine.to_dict("records"):
        colour, marker = (INK, "|") if twice else (style.colour, style.marker)
        (point,) = ax.plot([row["shown"]], [place], marker, color=colour, mfc="white", mew=1.0, ms=4.2, zorder=3)
        what = "A/A" if twice else f"estimate {words.signed(percent(math.exp(row['center'])), 2)} %"
        canvas.mark(point, f"{row['name']}, {row['row']}, block {row['block']}: {row['shown']:+.3f} points; {what}")
    farthest = mine["shown"].abs().max()
    grouped.number(ax, 0, place, f"{farthest:.3f}" if farthest < 1 else f"{farthest:.2f}")


def _words(n: str, margin: float, caption: Caption) -> str:
    return (
        f"{canvas.whose(caption, n)} Shown: every block, a mark each. Shaded rows: the same arm twice in a "
        "block (A/A), its whole difference. Other rows: an arm's overhead less its own estimate over the blocks. "
        f"If these scatter more than the shaded row, the A/A of the baseline is too small a floor for that arm. "
        f"Dotted: δ = ±{margin:g} %. Unit: 100 times the logarithm of the ratio; near 0 that is a percentage point. "
        "Not shown: how large the overhead is."
    )

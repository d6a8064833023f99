"""The cost model: predictions for workloads that were not fitted, against what was observed."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, SOFT, Caption
from testbed.analysis.tables.holdout import MARGIN, HoldoutRole
from testbed.analysis.tables.ladder import climb

_SIDE, _NAMES, _ROW = 3.1, 1.55, 0.27
_WIDTH = canvas.WIDTH
_FACES = {str(HoldoutRole.HELD_OUT): "full", str(HoldoutRole.SWAPPED): "none", str(HoldoutRole.OUTSIDE): "left"}


def model(table: pd.DataFrame, n: str, caption: Caption) -> Figure:
    """Draw ``holdout.predictions``: predicted against observed, and beside it the ratio of each workload."""
    text = canvas.wrapped(_WIDTH, (_words(table, n, caption), *caption.notes))
    names = list(dict.fromkeys(table["workload"]))
    tall = max(_SIDE, _ROW * len(names))
    # The null model has a mark of its own.
    head = 0.42 + canvas.LEGEND_ROW * (canvas.legend_rows(table["arm"].nunique() + 1) - 1)
    foot = canvas.room(text)
    height = head + tall + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        plane, strip = figure.subplots(1, 2, width_ratios=(1, 0.9))
        figure.subplots_adjust(
            left=0.8 / _WIDTH, right=1 - 0.2 / _WIDTH, top=1 - head / height, bottom=foot / height, wspace=0.52
        )
        _plane(plane, table)
        _strip(strip, table, names)
        plane.plot([], [], "|", color=SOFT, ms=7, mew=1.2, ls="", label="the null model: hashed bytes alone")
        handles, words = plane.get_legend_handles_labels()
        figure.legend(
            handles,
            words,
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=canvas.LEGEND,
            fontsize=7.5,
            frameon=False,
        )
        unit = str(table["unit"].iloc[0])
        plane.set_xlabel(f"observed, added {unit}", loc="left")
        plane.set_ylabel(f"predicted, added {unit}")
        strip.set_xlabel("predicted / observed", loc="left")
        canvas.say(figure, text)
    return figure


def _plane(ax: Axes, table: pd.DataFrame) -> None:
    good = table[(table["observed"] > 0) & (table["predicted"] > 0)]
    ends = np.array(
        [0.6 * good[["observed", "predicted"]].min().min(), 1.7 * good[["observed", "predicted"]].max().max()]
    )
    ax.fill_between(ends, (1 - MARGIN) * ends, (1 + MARGIN) * ends, color="#dddddd", lw=0, zorder=0.5)
    ax.plot(ends, ends, color=INK, lw=0.8, zorder=1)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for arm, group in sorted(good.groupby("arm"), key=lambda pair: climb(str(pair[0]))):
        style = canvas.look(str(arm))
        for row in group.to_dict("records"):
            _mark(ax, (row["observed"], row["predicted"]), style, row)
        ax.plot([], [], style.marker, color=style.colour, label=str(arm), ls="")
    for axis in (ax.xaxis, ax.yaxis):
        canvas.log_ticks(axis)
    ax.grid(visible=True, axis="both")


def _strip(ax: Axes, table: pd.DataFrame, names: list[str]) -> None:
    ax.axvspan(1 - MARGIN, 1 + MARGIN, color="#dddddd", lw=0, zorder=0.5)
    ax.axvline(1, color=INK, lw=0.8)
    arms = sorted(set(table["arm"]), key=climb)
    reach = 1.5 * MARGIN
    for row in table.to_dict("records"):
        offset = 0.24 * (arms.index(row["arm"]) - (len(arms) - 1) / 2)
        place, shown = names.index(row["workload"]) + offset, float(np.clip(row["ratio"], 1 - reach, 1 + reach))
        _mark(ax, (shown, place), canvas.look(str(row["arm"])), row)
        if np.isfinite(row["null_ratio"]):
            null = float(np.clip(row["null_ratio"], 1 - reach, 1 + reach))
            ax.plot([null], [place], "|", color=SOFT, ms=6, mew=1.2, ls="", zorder=2)
        if shown != row["ratio"]:
            # Beyond the axis: drawn at the edge, with its number.
            side = "right" if row["ratio"] > 1 else "left"
            ax.annotate(
                f"{row['ratio']:.2f} ",
                (shown, place),
                xytext=(-6 if side == "right" else 6, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=6.5,
                color=SOFT,
            )
    ax.set_xlim(1 - reach - 0.01, 1 + reach + 0.01)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)


def _mark(ax: Axes, place: tuple[float, float], style: canvas.Look, row: dict[Any, Any]) -> None:
    face: Any = _FACES[str(row["role"])]  # one of matplotlib's own words
    x, y = place
    (point,) = ax.plot([x], [y], style.marker, color=style.colour, fillstyle=face, ms=5, mew=1.1, ls="", zorder=3)
    numbers = f"predicted {canvas.short(row['predicted'])}, observed {canvas.short(row['observed'])} {row['unit']}"
    canvas.mark(point, f"{row['workload']}, {row['arm']} ({row['role']}): {numbers}; ratio {row['ratio']:.3f}")


def _words(table: pd.DataFrame, n: str, caption: Caption) -> str:
    unseen = table[table["role"] != str(HoldoutRole.OUTSIDE)]
    counts = f"{int(unseen['within'].sum())} of {len(unseen)}"
    null = f"{int(unseen['null_within'].sum())} of the null model"
    outside = (
        " Half filled: a workload that begins with an empty page cache, which is outside the model."
        if len(unseen) < len(table)
        else ""
    )
    return (
        f"{canvas.whose(caption, n)} Shown: added {table['unit'].iloc[0]} of an iteration, predicted from counted "
        "events and from prices that were fitted on other workloads. Filled: held out by the rule (every second name "
        f"in alphabetical order); hollow: held out after the halves were swapped.{outside} Grey: ±{100 * MARGIN:g} %, "
        f"with {counts} predictions inside, and {null}. Not shown: whether the prices hold on another kernel, "
        "file system or CPU model, or for events that do not occur in these workloads."
    )

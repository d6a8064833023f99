"""Table in, figure out. The style is ``style.mplstyle``; nothing here computes a statistic."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from testbed.analysis import metrics, words
from testbed.analysis.ladder import STRATUM
from testbed.analysis.stats import Conclusion, percent
from testbed.record import Tier

STYLE = Path(__file__).with_name("style.mplstyle")
_WIDTH = 7.2
_ROW = 0.34
_GAP = 0.62
_SIGNED = {Conclusion.OVERHEAD, Conclusion.OVERHEAD_BELOW_DELTA, Conclusion.SPEED_UP, Conclusion.SPEED_UP_BELOW_DELTA}
# Beyond this ratio of the largest to the smallest effect, a linear axis would hide the small ones.
_LINEAR_SPAN = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What stands below a figure: whose numbers these are and how far they can be trusted."""

    campaign: str
    tier: Tier
    notes: tuple[str, ...] = ()


def overhead(table: pd.DataFrame, caption: Caption) -> Figure:
    """Draw the ladder: a panel a workload, a row a measurer, a point with its 95 % interval, the A/A as a band.

    ``table`` is that of ``ladder.ladder`` for one metric and has at least one row.
    """
    panels = list(table.groupby(list(STRATUM)))
    heights = [_ROW * len(group) for _, group in panels]
    text = _caption(table, caption)
    head, foot = 0.34, 0.74 + 0.155 * len(text)
    height = head + sum(heights) + _GAP * (len(panels) - 1) + foot
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (key, group) in zip(axes, panels, strict=True):
            _panel(ax, group, _scale(table))
            ax.set_title(_title(key, table))
        axes[-1].set_xlabel(_axis_words(table, caption), loc="left")
        figure.subplots_adjust(
            left=0.18,
            right=0.66,
            top=1 - head / height,
            bottom=foot / height,
            hspace=_GAP * len(panels) / sum(heights),
        )
        figure.text(0.02, 0.07 / height, "\n".join(text), fontsize=7.2, color="#444444", va="bottom", linespacing=1.35)
    return figure


def write(figure: Figure, directory: Path, name: str) -> tuple[Path, ...]:
    """Write ``name.pdf`` and ``name.png``, beside then renamed; the same figure gives the same PDF bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        path = directory / f"{name}.{kind}"
        spare = directory / f".part-{name}.{kind}"
        with mpl.rc_context(fname=STYLE):
            figure.savefig(spare, format=kind, metadata=metadata)
        spare.rename(path)
        written.append(path)
    return tuple(written)


def _title(key: Any, table: pd.DataFrame) -> str:
    """Name the workload, and of kernel and runtime only what the panels differ in."""
    kernel, runtime, workload = key
    extra = [value for name, value in (("kernel", kernel), ("runtime", runtime)) if len(set(table[name])) > 1]
    return " · ".join([str(workload), *map(str, extra)])


def _axis_words(table: pd.DataFrame, caption: Caption) -> str:
    reading = metrics.reading(str(table["metric"].iloc[0]), caption.tier)
    assert reading is not None, "a ladder exists only for a metric that means something on its tier"
    return f"overhead over {table['baseline'].iloc[0]}, %, in\n{reading.label}"


def _panel(ax: Axes, group: pd.DataFrame, scale: dict[str, Any]) -> None:
    ax.set_xscale(**scale)
    first = group.iloc[0]
    if math.isfinite(first["floor_high"]):
        ax.axvspan(percent(first["floor_low"]), percent(first["floor_high"]), color="#bbbbbb", lw=0.8, zorder=0.5)
    ax.axvline(0, color="#444444", lw=0.9, zorder=1)
    for margin in (-100 * first["delta"], 100 * first["delta"]):
        ax.axvline(margin, color="#777777", lw=0.8, ls=(0, (2, 2)), zorder=0.8)
    for place, row in enumerate(group.to_dict("records")):
        _point(ax, place, row)
    ax.set_yticks(range(len(group)), list(group["treatment"]))
    ax.set_ylim(len(group) - 0.45, -0.55)
    if scale["value"] == "symlog":
        ax.set_xticks(_ticks(scale["linthresh"], ax.get_xlim()))
        ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\u2212")))
    ax.tick_params(labelbottom=True)


def _ticks(margin: float, limits: tuple[float, float]) -> list[float]:
    """Return 0, the margin and its tenfolds, as far as something is drawn on each side."""
    steps = [margin * 10**power for power in range(7)]
    return [
        0.0,
        *(sign * step for sign, end in zip((-1, 1), limits, strict=True) for step in steps if step <= sign * end),
    ]


def _point(ax: Axes, place: int, row: dict[Any, Any]) -> None:
    """Draw one rung. Filled: an effect that is told from noise; hollow: none, or none yet."""
    if math.isfinite(row["high"]):
        ends = [percent(row["low"]), percent(row["high"])]
        ax.plot(ends, [place, place], color="#0072B2", solid_capstyle="butt")
    shape = "X" if row["verdict"] == Conclusion.INVALID else "o"
    face = "#0072B2" if row["verdict"] in _SIGNED else "white"
    ax.plot([percent(row["ratio"])], [place], shape, color="#0072B2", mfc=face, mew=1.4, zorder=3)
    ax.text(
        1.03,
        place,
        f"{words.overhead(row['ratio'], row['low'], row['high'])}\n{words.conclusion(row['verdict'], row['delta'])}",
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize=7.2,
        linespacing=1.15,
    )


def _scale(table: pd.DataFrame) -> dict[str, Any]:
    """Choose the axis: linear, or linear about 0 and logarithmic beyond if effects of 0.1 % and 300 % must share it."""
    effects = [abs(percent(ratio)) for ratio in table["ratio"]]
    largest, margin = max(effects), 100 * float(table["delta"].iloc[0])
    if largest <= _LINEAR_SPAN * margin or largest <= _LINEAR_SPAN * min(effects):
        return {"value": "linear"}
    return {"value": "symlog", "linthresh": margin, "linscale": 0.9}


def _caption(table: pd.DataFrame, caption: Caption) -> list[str]:
    fewest, most = int(table["n"].min()), int(table["n"].max())
    blocks = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    margin = f"±{100 * float(table['delta'].iloc[0]):g} %"
    text = (
        f"Campaign {caption.campaign}; tier {caption.tier}; n = {blocks} blocks, each a boot of its own. "
        "Points: Hodges-Lehmann estimate; lines: 95 % interval (exact signed rank). Filled: an effect that stands out "
        "from the noise; hollow: none that does; cross: invalid. Grey band: the baseline against itself (A/A), 95 %: "
        f"{_band(table)}. Dotted: δ = {margin}. {metrics.MEANING[caption.tier]}"
    )
    if _scale(table)["value"] == "symlog":
        text += f" The axis is linear within {margin} and logarithmic beyond."
    return [piece for line in (text, *caption.notes) for piece in textwrap.wrap(line, 132)]


def _band(table: pd.DataFrame) -> str:
    low, high = float(table["floor_low"].min()), float(table["floor_high"].max())
    return f"within {words.bounds(low, high)} %" if math.isfinite(high) else "none (too few blocks)"

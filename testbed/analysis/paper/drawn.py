"""The paper's own figures: entries at a start, correctness of the evidence, and what digests bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, SOFT, WIDTH, Look
from testbed.analysis.paper.compared import binding_groups
from testbed.analysis.paper.live import LiveLog
from testbed.analysis.paper.slides import SlideListing
from testbed.analysis.tables.ladder import climb, rung_of

_ROW, _NAMES, _FEW = 0.27, 1.32, 3
# By (bits, whether the container is bound), in the order in which they are stacked. Lightness distinguishes them too.
_FILLS: Mapping[str, tuple[str, str]] = {
    "the whole content and the container": ("#0072B2", ""),
    "the whole content, no container": ("#56B4E9", "...."),
    "at most 64 bits of the content, no container": ("#E69F00", "////"),
    "nothing": ("#D55E00", ""),
    "unknown": ("#ffffff", "xx"),
}
# For arms that would look like another one.
_SPARE = (Look(colour="#CC79A7", marker="P"), Look(colour="#56B4E9", marker="v"), Look(colour="#882255", marker="p"))
# Of a cell of the correctness figure.
_GOOD, _WEAK, _BAD, _NONE = "#56B4E9", "#F0E442", "#D55E00", "#ffffff"


def entries(table: pd.DataFrame, words: str) -> Figure:
    """Draw what one start adds to the log: ``table`` of ``evaluated.entries``, a panel for the first iteration."""
    rows = sorted(set(table["workload"]))
    arms = sorted(set(table["measurer"]), key=climb)
    text = canvas.wrapped(WIDTH, (words,))
    head, foot = 0.75, canvas.room(text)
    # Of few workloads the arms can stand below each other.
    height = head + (_ROW if len(rows) > _FEW else max(_ROW, 0.13 * len(arms))) * len(rows) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        figure.subplots_adjust(
            left=_NAMES / WIDTH, right=0.98, top=1 - head / height, bottom=foot / height, wspace=0.08
        )
        for ax, first, title in zip(axes, (True, False), ("first iteration", "a later iteration"), strict=True):
            _points(ax, table[table["first"] == first], rows, arms)
            ax.set_title(title, fontsize=9)
        axes[0].set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        axes[0].set_xlabel("entries of the log, per start of a container", loc="left")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper left", ncols=min(4, len(arms)), fontsize=7.5, frameon=False)
        canvas.say(figure, text)
    return figure


def evidence(table: pd.DataFrame, words: str) -> Figure:
    """Draw how the runs were judged: ``table`` of ``evaluated.evidence``, a row per workload, a column per measurer."""
    rows, arms = sorted(set(table["workload"])), sorted(set(table["measurer"]), key=climb)
    text = canvas.wrapped(WIDTH, (words,))
    head, foot = 0.55, canvas.room(text, axis=0.1)
    height = head + _ROW * len(rows) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        ax = figure.subplots()
        figure.subplots_adjust(left=_NAMES / WIDTH, right=0.99, top=1 - head / height, bottom=foot / height)
        for row in table.to_dict("records"):
            _judged(ax, arms.index(str(row["measurer"])), rows.index(str(row["workload"])), row)
        ax.set_xticks(range(len(arms)), arms, fontsize=7 if len(arms) <= 6 else 6, parse_math=False)
        ax.xaxis.tick_top()
        ax.tick_params(axis="x", length=0)
        ax.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
        ax.set_xlim(-0.5, len(arms) - 0.5)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(visible=False)
        ax.spines["bottom"].set_visible(False)
        canvas.say(figure, text)
    return figure


def binding(listings: Sequence[SlideListing], live: Sequence[LiveLog], words: str) -> Figure:
    """Draw what the namespaced entries bind: a bar for each listing that has some, and one for each live log."""
    bars = [(f"slide: {one.slide.name}", _of_slide(one)) for one in listings]
    # The prototypes have no rung: they stand below the slides that they are compared with.
    ordered = sorted(live, key=lambda log: (rung_of(log.measurer) is not None, climb(log.measurer)))
    bars += [(f"live: {log.measurer}", _of_log(log)) for log in ordered]
    bars = [(name, counts) for name, counts in bars if sum(counts.values())]
    text = canvas.wrapped(WIDTH, (words,))
    head, foot = 0.85, canvas.room(text)
    height = head + 0.34 * len(bars) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        ax = figure.subplots()
        figure.subplots_adjust(left=1.85 / WIDTH, right=0.9, top=1 - head / height, bottom=foot / height)
        for place, (_, counts) in enumerate(bars):
            _shares(ax, place, counts)
        ax.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8, parse_math=False)
        ax.set_ylim(len(bars) - 0.4, -0.6)
        ax.set_xlim(0, 100)
        ax.set_xlabel("share of the entries that name a namespace or a container, %", loc="left")
        handles = [Rectangle((0, 0), 1, 1, fc=fill, hatch=hatch, ec=INK, lw=0.5) for fill, hatch in _FILLS.values()]
        figure.legend(handles, list(_FILLS), loc="upper left", ncols=2, fontsize=7.5, frameon=False)
        canvas.say(figure, text)
    return figure


def _looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return how each arm is drawn: as in other figures, but no two alike."""
    chosen: dict[str, Look] = {}
    spare = iter(_SPARE)
    for arm in arms:
        look = canvas.look(arm)
        taken = {(other.marker, other.colour) for other in chosen.values()}
        chosen[arm] = next(spare, look) if (look.marker, look.colour) in taken else look
    return chosen


def _points(ax: Axes, mine: pd.DataFrame, rows: list[str], arms: list[str]) -> None:
    looks = _looks(arms)
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    for number, arm in enumerate(arms):
        points = mine[mine["measurer"] == arm]
        style = looks[arm]
        # BesideSlide each other, not on each other.
        shift = (0.5 if len(rows) > _FEW else 0.8) * (number / max(1, len(arms) - 1) - 0.5)
        places = [rows.index(str(name)) + shift for name in points["workload"]]
        ax.plot(points["entries"], places, style.marker, color=style.colour, mfc="white", ms=4.5, mew=1.1, label=arm)
    ax.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    ax.set_xticks([], minor=True)
    ax.set_xlim(-0.3, 200)
    for place in range(len(rows) - 1):
        ax.axhline(place + 0.5, color="#eeeeee", lw=0.6)


def _judged(ax: Axes, column: int, place: int, row: Mapping[object, object]) -> None:
    runs, good = int(str(row["runs"])), int(str(row["expected"]))
    promised = float(str(row["promised"]))
    colour = _BAD if good < runs or row["wrong"] else _GOOD if row["trusted"] == runs else _WEAK
    # Zero entries are not success: of such a log only the authenticity was judged.
    colour = _NONE if colour == _GOOD and promised == 0 else colour
    box = Rectangle((column - 0.47, place - 0.44), 0.94, 0.88, fc=colour, ec=SOFT, lw=0.5)
    ax.add_patch(box)
    entries = "" if promised != promised else f", {promised:.0f}"  # noqa: PLR0124 - NaN: not known
    ax.text(column, place, f"{good}/{runs}{entries}", ha="center", va="center", fontsize=6.8, color=INK)


def _shares(ax: Axes, place: int, counts: Mapping[str, int]) -> None:
    left, whole = 0.0, sum(counts.values())
    for kind, (fill, hatch) in _FILLS.items():
        share = 100 * counts.get(kind, 0) / whole
        if share:
            ax.barh(place, share, left=left, height=0.62, color=fill, hatch=hatch, edgecolor=INK, lw=0.5)
        left += share
    ax.text(1.015, place, f"n = {whole}", transform=ax.get_yaxis_transform(), va="center", fontsize=7.5)


def _of_slide(listing: SlideListing) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in listing.lines:
        if line.namespaced:
            kind = _kind(line.bits, line.bound)
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _of_log(log: LiveLog) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (bits, bound), count in binding_groups(log).items():
        counts[_kind(bits, bound)] = counts.get(_kind(bits, bound), 0) + count
    return counts


def _kind(bits: int | None, bound: bool) -> str:
    names = list(_FILLS)
    if bits is None:
        return names[4]
    if not bits:
        return names[3]
    if bits < 256:
        return names[2]
    return names[0] if bound else names[1]

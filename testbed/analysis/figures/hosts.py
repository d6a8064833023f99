"""Counts of guest instructions of the same cells on two hosts: how far they differ, beside how far boots differ."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import hosts, words
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import BAND, INK
from testbed.analysis.hosts import CountCell, HostComparison
from testbed.analysis.tables.ladder import climb
from testbed.errors import SpecError

_ROW, _NAMES = 0.30, 1.2


def host_counts(comparison: HostComparison) -> Figure:
    """Draw each count of the second host over that of the first, in percent; a row for each workload.

    Grey: how far the boots of one host differ, the wider of both. Cells with different measurers are left out. Raises
    ``SpecError`` if no others are there.
    """
    cells = [cell for cell in comparison.cells if cell.same]
    if not cells:
        raise SpecError(
            "--figure: expected a count of one measurer in both campaigns, got none", "compare other campaigns"
        )
    named = hosts.names(cells)
    names = list(dict.fromkeys(named.values()))
    arms = sorted({cell.measurer for cell in cells}, key=climb)
    text = canvas.wrapped(canvas.WIDTH, (_words(comparison, cells),))
    head, foot = 0.4, canvas.room(text)
    height = head + max(1.6, _ROW * len(arms) * len(names) * 0.6) + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(canvas.WIDTH, height))
        ax = figure.subplots()
        figure.subplots_adjust(
            left=_NAMES / canvas.WIDTH, right=1 - 0.2 / canvas.WIDTH, top=1 - head / height, bottom=foot / height
        )
        _draw(ax, cells, named, arms)
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper left", ncols=len(labels), fontsize=7.5, frameon=False)
        ax.set_xlabel("count on the second host over the first, difference in %", loc="left")
        canvas.say(figure, text)
    return figure


def _draw(ax: Axes, cells: list[CountCell], named: dict[tuple[str, ...], str], arms: list[str]) -> None:
    names = list(dict.fromkeys(named.values()))
    step = 0.8 / max(1, len(arms))
    ax.axvline(0, color=INK, lw=0.8)
    for cell in cells:
        place = names.index(named[cell.stratum]) + step * (arms.index(cell.measurer) - (len(arms) - 1) / 2)
        style, boots = canvas.look(cell.measurer), 100 * max(cell.spreads)
        ax.plot([-boots, boots], [place, place], color=BAND, lw=3.5, solid_capstyle="butt", zorder=1)
        (point,) = ax.plot(
            [100 * cell.difference], [place], style.marker, color=style.colour, ms=5, mew=1.1, ls="", zorder=3
        )
        canvas.mark(
            point,
            f"{named[cell.stratum]}, {cell.measurer}: {words.signed(100 * cell.difference, 3)} %; "
            f"boots of one host differ by up to {boots:.3f} %",
        )
    for arm in arms:
        style = canvas.look(arm)
        ax.plot([], [], style.marker, color=style.colour, label=arm, ls="")
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    reach = max((abs(100 * cell.difference) for cell in cells), default=0.1)
    reach = 1.15 * max(reach, *(100 * max(cell.spreads) for cell in cells))
    ax.set_xlim(-reach, reach)
    canvas.plain_numbers(ax)
    ax.grid(visible=True, axis="x")


def _words(comparison: HostComparison, cells: list[CountCell]) -> str:
    first, second = comparison.hosts
    boots = " and ".join(map(str, comparison.boots))
    worst = max(cells, key=lambda cell: abs(cell.difference))
    left_out = len(comparison.cells) - len(cells)
    others = f" {left_out} cells with different measurers are left out." if left_out else ""
    return (
        f"Guest instructions of the same cells on two hosts: {second} over {first}; {boots} boots. "
        f"Grey: the range of the boots of one host, the wider of both. The largest difference is "
        f"{abs(100 * worst.difference):.3f} % ({worst.measurer} on {worst.workload}).{others}"
    )

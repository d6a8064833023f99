"""Two campaigns: each shared overhead of one against that of the other."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import words
from testbed.analysis.agreement import Comparison
from testbed.analysis.figures import canvas
from testbed.analysis.figures.canvas import INK, WIDTH
from testbed.analysis.statistics.effect import percent

_SIDE, _NAMES = 3.5, 1.2


def against(comparison: Comparison, note: str = "") -> Figure:
    """Draw the first two campaigns of a comparison: overheads against each other, and by how much they differ.

    ``note``: why they must not be pooled, if that is so.
    """
    points = [(one, one.ratios[0], one.ratios[1]) for one in comparison.agreements]
    first, second = (name.rstrip("/").rsplit("/", 1)[-1] for name in comparison.campaigns[:2])
    margin = 100 * min(one.allowed for one in comparison.agreements)
    looks = canvas.looks({one.treatment for one in comparison.agreements})
    text = canvas.wrapped(WIDTH, (_words(comparison, first, second, note),))
    rows = list(dict.fromkeys(_name(comparison, one.stratum) for one in comparison.agreements))
    tall = max(_SIDE, 0.25 * len(rows))
    head = 0.5 + canvas.LEGEND_ROW * (canvas.legend_rows(len(looks)) - 1)
    foot = canvas.room(text, axis=0.5)
    height = head + tall + foot
    with mpl.rc_context(fname=canvas.STYLE):
        figure = Figure(figsize=(WIDTH, height))
        plane = figure.add_axes((0.75 / WIDTH, foot / height, _SIDE / WIDTH, tall / height))
        left = 0.75 + _SIDE + _NAMES + 0.15
        strip = figure.add_axes((left / WIDTH, foot / height, (WIDTH - left - 0.15) / WIDTH, tall / height))
        scale = canvas.both_ways([percent(ratio) for _, *both in points for ratio in both] or [1.0], margin)
        plane.set(xscale=scale["value"], yscale=scale["value"])
        if scale["value"] == "symlog":
            plane.set_xscale(**scale)
            plane.set_yscale(**scale)
        ends = [min(percent(min(a, b)) for _, a, b in points), max(percent(max(a, b)) for _, a, b in points)]
        plane.plot(ends, ends, color=INK, lw=0.8, zorder=1)
        strip.axvline(0, color=INK, lw=0.8)
        for one, a, b in points:
            style, apart = looks[one.treatment], 100 * math.log(b / a)
            where = rows.index(_name(comparison, one.stratum))
            for ax, x, y in ((plane, percent(a), percent(b)), (strip, apart, where)):
                (point,) = ax.plot([x], [y], style.marker, color=style.colour, mfc="white", mew=1.1, ms=5, zorder=3)
                both = " and ".join(f"{words.signed(percent(ratio), 2)} %" for ratio in (a, b))
                said = f"{rows[where]}, {one.treatment}: {both}"
                canvas.mark(point, f"{said}; ratios differ by {apart:+.3f} %".replace("-", words.MINUS))
        _finish(plane, strip, rows, (first, second), scale)
        handles = [
            plane.plot([], [], look.marker, color=look.colour, mfc="white", mew=1.1, ls="")[0]
            for look in looks.values()
        ]
        figure.legend(handles, list(looks), loc="upper left", ncols=canvas.LEGEND, fontsize=7.2, frameon=False)
        canvas.say(figure, text)
    return figure


def _finish(plane: Axes, strip: Axes, rows: list[str], names: tuple[str, str], scale: dict[str, object]) -> None:
    if scale["value"] == "symlog":
        canvas.signed_ticks(plane, float(str(scale["linthresh"])))
        ticks = plane.get_xticks()
        plane.set_yticks(ticks)
        plane.set_yticks([], minor=True)
        plane.set_yticklabels([f"{tick:g}".replace("-", words.MINUS) for tick in ticks], fontsize=8)
    canvas.plain_numbers(plane)
    plane.grid(visible=True, axis="both")
    plane.set_xlabel(f"overhead in {names[0]}, %", loc="left", fontsize=8)
    plane.set_ylabel(f"overhead in {names[1]}, %", fontsize=8)
    strip.set_yticks(range(len(rows)), rows, fontsize=7.8)
    strip.set_ylim(len(rows) - 0.4, -0.6)
    reach = max(0.02, *(abs(edge) for edge in strip.get_xlim()))
    strip.set_xlim(-reach, reach)
    strip.set_xlabel("second over first, ratio, %", loc="left", fontsize=8)
    canvas.plain_numbers(strip)


def _name(comparison: Comparison, stratum: tuple[str, ...]) -> str:
    several = [len({one.stratum[axis] for one in comparison.agreements}) > 1 for axis in range(len(stratum))]
    extra = [value for axis, value in enumerate(stratum[:-1]) if several[axis]]
    return ", ".join([stratum[-1], *extra])


def _words(comparison: Comparison, first: str, second: str, note: str) -> str:
    apart = np.array([one.difference for one in comparison.agreements])
    worst = comparison.agreements[int(apart.argmax())]
    names = ", ".join(dict.fromkeys(word for one in comparison.agreements for word in one.differs)) or "nothing else"
    differs = f"Ratios of campaigns that must not be pooled ({note})" if note else f"Beside the boots differ: {names}"
    return (
        f"Shown: {len(apart)} overheads that {first} and {second} share, with the line of equal ones; right: by how "
        f"much the ratios differ; the median is {100 * float(np.median(apart)):.3f} %, the largest "
        f"{100 * float(apart.max()):.3f} % ({worst.treatment} on {worst.stratum[-1]}). "
        f"{differs}. Not shown: their intervals."
    )

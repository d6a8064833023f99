"""What all figures share: the caption, the look of an arm, an axis for small and large effects, files."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from testbed.analysis import words
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import climb, rung_of
from testbed.files import write_plain
from testbed.record import Tier

STYLE = Path(__file__).parents[1] / "style.mplstyle"
# As wide as a README shows a picture, so that its smallest words can be read there.
WIDTH = 8.0
# So many names of arms have room beside each other.
LEGEND = 4
LEGEND_ROW = 0.17
# Begins the id of what ``mark`` was given.
MARK = "mark:"
INK, SOFT, BAND = "#222222", "#777777", "#bbbbbb"
_LINE = 0.155
_LETTERS = 132 / 7.2  # of the words below, an inch
# Beyond this ratio of the largest to the smallest effect, a linear axis would hide the small ones.
LINEAR_SPAN = 25.0
# More labels than this on one side of a panel would overlap.
_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The caption below a figure: whose numbers these are, and notes on them."""

    campaign: str
    tier: Tier
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How an arm is drawn: colours that any colour vision can distinguish, and shapes and dashes for grey."""

    colour: str
    marker: str
    dashes: Any = "-"


# By rung, so that an arm looks the same in every figure and every campaign.
_LOOKS = {
    0: Look(colour="#000000", marker="+"),
    10: Look(colour="#888888", marker="x", dashes=(0, (1, 1))),
    20: Look(colour="#E69F00", marker="s", dashes=(0, (5, 1.5))),
    30: Look(colour="#009E73", marker="^", dashes=(0, (2, 1))),
    40: Look(colour="#0072B2", marker="o"),
    50: Look(colour="#D55E00", marker="D", dashes=(0, (7, 1.5, 1.5, 1.5))),
    60: Look(colour="#882255", marker="X", dashes=(0, (1, 1.5))),
}
# Of arms on other rungs, and of those without one.
_OTHERS = (
    Look(colour="#56B4E9", marker="v"),
    Look(colour="#CC79A7", marker="P", dashes=(0, (5, 1.5, 1, 1.5))),
    Look(colour="#332288", marker="*", dashes=(0, (2, 1))),
    Look(colour="#222222", marker="p", dashes=(0, (1, 1.5))),
    Look(colour="#777777", marker="<", dashes=(0, (4, 1, 1, 1))),
    Look(colour="#009E73", marker=">", dashes=(0, (6, 2))),
)


def look(arm: str) -> Look:
    """Return how an arm is drawn: the same in every figure."""
    rung = rung_of(arm)
    return _LOOKS.get(-1 if rung is None else rung) or _OTHERS[sum(arm.encode()) % len(_OTHERS)]


def looks(arms: Collection[str]) -> dict[str, Look]:
    """Return how each arm of a figure is drawn: as ``look`` says, but no two with one shape."""
    chosen: dict[str, Look] = {}
    for arm in sorted(arms, key=climb):
        taken = {other.marker for other in chosen.values()}
        free = (other for other in (look(arm), *_OTHERS) if other.marker not in taken)
        chosen[arm] = next(free, look(arm))
    return chosen


def wrapped(width: float, texts: Iterable[str]) -> list[str]:
    """Return the lines of the words below a figure of this width in inches; each text begins a line."""
    return [line for text in texts for line in textwrap.wrap(text, int(width * _LETTERS))]


def room(lines: list[str], axis: float = 0.42) -> float:
    """Return the inches below the axes: ``axis`` for the axis' own words, then these lines."""
    return axis + 0.16 + _LINE * len(lines)


def say(figure: Figure, lines: list[str]) -> None:
    """Write the words below a figure."""
    height = figure.get_figheight()
    text, left = "\n".join(lines), 0.15 / figure.get_figwidth()
    figure.text(left, 0.07 / height, text, fontsize=7.2, color="#444444", va="bottom", linespacing=1.35)


def legend_rows(names: int) -> int:
    """Return in how many rows the names of a legend stand above a figure."""
    return -(-names // LEGEND)


def whose(caption: Caption, n: str) -> str:
    """Return the words that every figure begins with."""
    return f"Campaign {caption.campaign}; tier {caption.tier}; n = {n} blocks, each with its own boot."


def blocks(counts: Iterable[int]) -> str:
    """Return how many blocks, in words: ``6`` or ``5 to 6``."""
    known = sorted({int(count) for count in counts}) or [0]
    return f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"


def unit(caption: Caption) -> str:
    """Return the words for the unit of the primary metric."""
    reading = metrics.reading(metrics.PRIMARY, caption.tier)
    assert reading is not None, "there is a figure only for a metric that means something on its tier"
    return reading.label


def both_ways(effects: list[float], margin: float) -> dict[str, Any]:
    """Choose a signed axis: linear, or linear about 0 and logarithmic beyond if 0.1 % and 300 % must share it."""
    sizes = [abs(effect) for effect in effects]
    largest = max(sizes)
    if largest <= LINEAR_SPAN * margin or largest <= LINEAR_SPAN * min(sizes):
        return {"value": "linear"}
    return {"value": "symlog", "linthresh": margin, "linscale": 0.9}


def signed_ticks(ax: Axes, margin: float) -> None:
    """Mark 0, the margin and its tenfolds, as far as something is drawn; hundredfolds if those are many."""
    low, high = ax.get_xlim()
    steps = [step for power in range(9) if (step := margin * 10**power) <= max(-low, high)]
    kept = steps if len(steps) <= _STEPS else steps[::2]
    ax.set_xticks([0.0, *(-step for step in kept if step <= -low), *(step for step in kept if step <= high)])
    ax.set_xticks([], minor=True)


def plain_numbers(ax: Axes) -> None:
    """Write the numbers of the horizontal axis as people do."""
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", words.MINUS)))


def short(value: float, _: object = None) -> str:
    """Write a number with a prefix: ``20 k``, ``3 M``."""
    if not value:
        return "0"
    factor, prefix = next(
        (f, p) for f, p in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (0.0, "")) if abs(value) >= f
    )
    return f"{value / (factor or 1):.3g} {prefix}".strip().replace("-", words.MINUS)


def log_ticks(axis: Axis) -> None:
    """Mark 1, 2 and 5 of each decade of a logarithmic axis, written short."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(short))


def mark(artist: Artist, text: str) -> None:
    """Say what a mark shows, with its numbers: the report page shows it to a reader who points at the mark."""
    artist.set_gid(f"{MARK}{text}")


def apart(figure: Figure) -> tuple[str, float]:
    """Take the words below a figure out of it (``say``). Return them, and the inches at the bottom that are now empty.

    The report page has them as text: there they need no room in the picture.
    """
    if not figure.texts:
        return "", 0.0
    caption = figure.texts[-1]
    caption.set_visible(False)
    lines = caption.get_text().splitlines()
    return " ".join(lines), room(lines, axis=0.0)


def finite(*values: float) -> bool:
    """Whether there is an interval to draw."""
    return all(math.isfinite(value) for value in values)


def write(figure: Figure, directory: Path, name: str) -> tuple[Path, ...]:
    """Write ``name.pdf`` and ``name.png``, beside then renamed; the same figure gives the same PDF bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in ("pdf", "png"):
        path = directory / f"{name}.{kind}"
        metadata = {"CreationDate": None} if kind == "pdf" else None
        # In memory first: at a full disk the writer of PDF raises an error that does not say so.
        drawn = io.BytesIO()
        with mpl.rc_context(fname=STYLE):
            figure.savefig(drawn, format=kind, metadata=metadata)
        write_plain(path, drawn.getvalue())
        written.append(path)
    return tuple(written)

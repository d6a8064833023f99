"""Rows in groups, a group a workload: its name and a note at the left, numbers in columns at the right of an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis.figures.canvas import INK, SOFT, WIDTH

ROW, GAP = 0.135, 0.09
# Inches: names of groups, names of rows, and a column of numbers.
NAMES, ARMS, NUMBER = 1.36, 1.02, 0.74
_SMALL = 6.9


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """A workload: its name, a note below it, and the names of its rows."""

    title: str
    note: str
    rows: tuple[str, ...]


def height(groups: Sequence[RowGroup]) -> float:
    """Return the inches that the groups need; a name and its note need the room of two rows."""
    return sum(max(2, len(group.rows)) * ROW + GAP for group in groups)


def places(groups: Sequence[RowGroup]) -> Iterator[tuple[RowGroup, list[float]]]:
    """Yield each group with the places of its rows, in inches from the top."""
    top = 0.0
    for group in groups:
        room = max(2, len(group.rows)) * ROW
        pad = (room - len(group.rows) * ROW) / 2
        yield group, [top + GAP / 2 + pad + ROW * (number + 0.5) for number in range(len(group.rows))]
        top += room + GAP


def axes(figure: Figure, groups: Sequence[RowGroup], *, top: float, columns: int) -> Axes:
    """Add the axes of these groups to a figure, ``top`` inches below its upper edge, and write the names."""
    wide, high = figure.get_figwidth(), figure.get_figheight()
    tall, left = height(groups), NAMES + ARMS
    ax = figure.add_axes(
        (left / wide, 1 - (top + tall) / high, (wide - left - NUMBER * columns - 0.1) / wide, tall / high)
    )
    ax.set_ylim(tall, 0)
    ticks: list[float] = []
    names: list[str] = []
    for number, (group, rows) in enumerate(places(groups)):
        ticks += rows
        names += group.rows
        first, last = rows[0] - ROW / 2, rows[-1] + ROW / 2
        _left(ax, group, (first + last) / 2)
        if number:
            edge = first - GAP / 2 - (max(2, len(rows)) - len(rows)) * ROW / 2
            ax.axhline(edge, color="#dddddd", lw=0.7, zorder=0.3)
    ax.set_yticks(ticks, names, fontsize=_SMALL)
    return ax


def _left(ax: Axes, group: RowGroup, middle: float) -> None:
    shift = 0.065 if group.note else 0.0
    start = -(NAMES + ARMS - 0.1) / _inches(ax)
    for text, place, weight, colour in (
        (group.title, middle - shift, "bold", INK),
        (group.note, middle + shift, "normal", SOFT),
    ):
        size = 7.6 if weight == "bold" else 6.6
        ax.text(
            start,
            place,
            text,
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=size,
            weight=weight,
            color=colour,
            parse_math=False,
        )


def _inches(ax: Axes) -> float:
    figure = ax.figure
    assert isinstance(figure, Figure), "these axes are in no part of a figure"
    return ax.get_position().width * figure.get_figwidth()


def number(ax: Axes, column: int, place: float, text: str, *, bold: bool = False) -> None:
    """Write a number at the right of a row, flush right in its column; of a head in bold."""
    ax.text(
        1 + NUMBER * (column + 1) / _inches(ax),
        place,
        text,
        transform=ax.get_yaxis_transform(),
        va="center",
        ha="right",
        fontsize=_SMALL,
        color=INK,
        weight="bold" if bold else "normal",
    )


__all__ = ["GAP", "ROW", "WIDTH", "RowGroup", "axes", "height", "number", "places"]

"""A panel for each arm, two beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from testbed.analysis.figures.canvas import WIDTH

_COLUMNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is around the panels, in inches. ``tall``: each panel; ``gap``: between two lines of panels.

    ``between``: two panels of a line, as a share of a panel's width.
    """

    head: float
    foot: float
    left: float
    right: float
    tall: float
    gap: float
    between: float


def panels(arms: Sequence[str], room: Room) -> tuple[Figure, Any]:
    """Return a figure with a panel for each arm under its name, and its axes (``lines x columns``, some hidden)."""
    columns = min(_COLUMNS, len(arms))
    lines = -(-len(arms) // columns)
    height = room.head + room.tall * lines + room.gap * (lines - 1) + room.foot
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    figure.subplots_adjust(
        left=room.left / WIDTH,
        right=1 - room.right / WIDTH,
        top=1 - room.head / height,
        bottom=room.foot / height,
        hspace=room.gap / room.tall,
        wspace=room.between,
    )
    for ax in axes.flat[len(arms) :]:
        ax.set_visible(False)
    for ax, arm in zip(axes.flat, arms, strict=False):
        ax.set_title(arm, fontsize=9)
    return figure, axes

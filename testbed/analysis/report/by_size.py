"""The report's part on sizes: what a byte and what a file costs, fitted over all programs of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.analysis import markdown, words
from testbed.analysis.tables.tables import Tables


def section(tables: Tables, figures: Mapping[str, str]) -> list[str]:
    """Return the lines, nothing if no programs were counted."""
    if tables.sizes.empty:
        return []
    header = ("measurer", "a byte, 95 % interval", "a file, 95 % interval", "r²", "programs", "n")
    shown = [_line(row) for row in tables.size_lines.to_dict("records")]
    again = tables.sizes.groupby("treatment")["again"].median()
    seconds = ", ".join(f"`{arm}` {words.size(value, '').strip()}" for arm, value in again.items())
    unit = tables.sizes["unit"].iloc[0]
    about = (
        f"What an arm adds to the first execution of a program, in {unit}: a price a byte and a price a file, fitted "
        "over the programs in each block. r² is the share of the variance that a line explains."
    )
    return [
        "## Cost by size",
        "",
        about,
        "",
        *markdown.picture(figures, "sizes", "cost by size"),
        *markdown.table(header, shown),
        "",
        f"What an arm adds to the second execution, in the median of the programs: {seconds}.",
    ]


def _line(row: Mapping[Any, Any]) -> tuple[object, ...]:
    return (
        f"`{row['treatment']}`",
        words.amount(row["byte"], row["byte_low"], row["byte_high"], ""),
        words.amount(row["file"], row["file_low"], row["file_high"], ""),
        f"{row['explained']:.4f}",
        row["programs"],
        row["n"],
    )

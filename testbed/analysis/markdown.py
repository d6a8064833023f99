"""The forms of Markdown that a report needs: tables, lists, code, folded parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a pipe table's lines; a bar in a cell is escaped, a line break becomes a space."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader can unfold; where HTML is not rendered, they are visible."""
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def code(text: object) -> str:
    """Return text in code quotes that it cannot break out of: evidence is written by others."""
    plain = " ".join(str(text).split())
    fence = "`"
    while fence in plain:
        fence += "`"
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else "(empty)"


def picture(figures: Mapping[str, str], name: str, said: str) -> list[str]:
    """Return the lines that show a figure of a report, none if it was not drawn. ``said``: what it shows."""
    return [f"![{said}]({figures[name]})", ""] if name in figures else []


def bullets(lines: Iterable[str]) -> list[str]:
    """Return a list's lines."""
    return [f"- {line}" for line in lines]


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")

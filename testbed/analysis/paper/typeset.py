"""A table for a paper, as Markdown and as LaTeX (booktabs). Cells are text of anybody: both forms escape them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from testbed.analysis import markdown, words

PREAMBLE = "\\usepackage[T1]{fontenc}\\usepackage{array,booktabs,longtable}"
"""What a LaTeX document needs to include the tables."""

# More rows than this do not fit on a page.
_LONG = 24
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    words.MINUS: "$-$",
    "±": r"$\pm$",
    "µ": r"$\mu$",
    "δ": r"$\delta$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS = re.compile(r"([\\`*_\[\]!])")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A table: ``name`` of its file, ``caption``, columns and rows of text. ``code``: columns in a fixed-width font.

    ``right``: columns of numbers, aligned to the right in LaTeX. ``wide``: columns whose text is broken into lines
    there, with their share of the width of a line, 0 to 1.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: frozenset[int] = frozenset()
    right: frozenset[int] = frozenset()
    wide: Mapping[int, float] = field(default_factory=dict)


def as_markdown(table: PaperTable) -> list[str]:
    """Return the lines of a pipe table, its caption below it."""
    rows = ([_md(table, column, cell) for column, cell in enumerate(row)] for row in table.rows)
    return [*markdown.table(table.header, rows), "", plain(table.caption)]


def as_latex(table: PaperTable) -> list[str]:
    r"""Return the lines of a LaTeX table, for a document with ``PREAMBLE``: a ``longtable`` if it has many rows."""
    columns = "".join(_column(table, column) for column in range(len(table.header)))
    head = _row(map(tex, table.header))
    body = [_row(_tex(table, column, cell) for column, cell in enumerate(row)) for row in table.rows]
    caption = [f"\\caption{{{tex(table.caption)}}}", f"\\label{{tab:{table.name}}}"]
    if len(body) > _LONG:
        # A longtable ends the line of its caption; its head stands on each page.
        begin = [f"\\begin{{longtable}}{{{columns}}}", *caption[:-1], f"{caption[-1]}\\\\"]
        top = ["\\toprule", head, "\\midrule", "\\endhead", "\\bottomrule", "\\endfoot"]
        return [f"% {PREAMBLE}", "{\\footnotesize", *begin, *top, *body, "\\end{longtable}", "}"]
    inner = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", head, "\\midrule", *body, "\\bottomrule"]
    return [
        f"% {PREAMBLE}",
        "\\begin{table}",
        "\\centering\\footnotesize",
        *caption,
        *inner,
        "\\end{tabular}",
        "\\end{table}",
    ]


def tex(text: str) -> str:
    """Return text for LaTeX: what has a meaning there is escaped, and what a font may not have is a code."""
    return "".join(_TEX.get(letter) or (letter if " " <= letter <= "~" else _code(letter)) for letter in text)


def plain(text: str) -> str:
    """Return text for Markdown in which nothing is markup, HTML included."""
    one_line = " ".join(text.split())
    return _MARKS.sub(r"\\\1", "".join(_ENTITIES.get(letter, letter) for letter in one_line))


def _column(table: PaperTable, column: int) -> str:
    if column in table.wide:
        return f">{{\\raggedright\\arraybackslash}}p{{{table.wide[column]:g}\\linewidth}}"
    return "r" if column in table.right else "l"


def _row(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _md(table: PaperTable, column: int, cell: str) -> str:
    return markdown.code(cell) if column in table.code and cell else plain(cell)


def _tex(table: PaperTable, column: int, cell: str) -> str:
    return f"\\texttt{{{tex(cell)}}}" if column in table.code and cell else tex(cell)


def _code(letter: str) -> str:
    return f"\\texttt{{U+{ord(letter):04X}}}"

"""The report's Markdown as HTML: of what ``analysis.markdown`` writes, and nothing else.

All text is escaped. The only elements are those that the report's own code asked for: paragraphs, tables, lists, code,
bold, folded parts. A picture becomes the figure of its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from markupsafe import Markup, escape

from testbed.analysis.page.environment import visible
from testbed.analysis.page.numbers import divide, numeric

_BAR = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)|\*\*(.+?)\*\*")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
_FOLD = re.compile(r"<details><summary>(.*)</summary>")

# A table with more rows is folded.
_LONG = 16
# From the name of a figure to its HTML.
Pictures = Mapping[str, Markup]


def words(text: str) -> Markup:
    """Return one line with its code and its bold parts."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts.append(escape(visible(text[end : found.start()])))
        code, bold = found[2], found[3]
        if code is not None:
            parts.append(Markup("<code>{}</code>").format(visible(_bare(code))))
        else:
            parts.append(Markup("<strong>{}</strong>").format(visible(bold)))
        end = found.end()
    return Markup("").join([*parts, escape(visible(text[end:]))])


def html(lines: Sequence[str], pictures: Pictures | None = None) -> Markup:
    """Return the HTML of a section's lines, without its own heading (``##``)."""
    return Markup("\n").join(_blocks(list(lines), pictures or {}))


def _blocks(lines: list[str], pictures: Pictures) -> Iterator[Markup]:
    place = 0
    while place < len(lines):
        line = lines[place]
        make = next((make for begins, make in _MAKERS if line.startswith(begins)), _paragraph)
        taken, made = make(lines, place, pictures)
        place += taken
        if made:
            yield made


_Made = tuple[int, Markup]


def _run(lines: Sequence[str], place: int, begins: str | tuple[str, ...]) -> list[str]:
    found = []
    for line in lines[place:]:
        if not line.startswith(begins):
            break
        found.append(line)
    return found


def _nothing(_: Sequence[str], __: int, ___: Pictures) -> _Made:
    return 1, Markup("")


def _heading(lines: Sequence[str], place: int, _: Pictures) -> _Made:
    return 1, Markup("<h3>{}</h3>").format(words(lines[place].removeprefix("### ")))


def _table(lines: Sequence[str], place: int, _: Pictures) -> _Made:
    rows = [
        [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.strip()[1:-1])]
        for line in _run(lines, place, "|")
    ]
    head, body = rows[0], rows[2:]
    flush = [all(numeric(row[column]) for row in body) for column in range(len(head))]
    columns = Markup("").join(_cell("th", cell, right) for cell, right in zip(head, flush, strict=True))
    listed = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(_cell("td", *pair) for pair in zip(row, flush, strict=False)))
        for row in body
    )
    label = visible(", ".join(map(_unquoted, head))[:80])
    table = Markup(
        '<div class="wide" role="region" tabindex="0" aria-label="Table: {}">'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    )
    shown = table.format(label, columns, listed)
    if len(body) > _LONG:
        folded = Markup("<details><summary>{} rows: {}</summary>{}</details>")
        shown = folded.format(len(body), visible(", ".join(_unquoted(cell) for cell in head)), shown)
    return len(rows), shown


def _unquoted(text: str) -> str:
    return text.replace("`", "")


_CELLS = {
    ("th", False): Markup('<th scope="col">{}</th>'),
    ("th", True): Markup('<th scope="col" class="n">{}</th>'),
    ("td", False): Markup("<td>{}</td>"),
    ("td", True): Markup('<td class="n">{}</td>'),
}


def _cell(tag: str, text: str, right: bool) -> Markup:
    """Return a cell; ``right``: its numbers are set flush right. A number's interval stands below it."""
    parts = divide(text)
    if parts is None:
        return _CELLS[tag, right].format(words(text))
    shown = visible(parts.value)
    value = Markup("<b>{}</b>").format(shown) if text.startswith("**") else escape(shown)
    below = visible(" ".join(filter(None, (parts.interval, parts.remark))))
    return _CELLS[tag, right].format(Markup('{} <span class="how">{}</span>').format(value, below))


_ITEMS = {False: Markup("<li>{}</li>"), True: Markup('<li class="inner">{}</li>')}


def _list(lines: Sequence[str], place: int, _: Pictures) -> _Made:
    mine = _run(lines, place, ("- ", "  - "))
    items = Markup("\n").join(_ITEMS[line.startswith(" ")].format(words(line.strip()[2:])) for line in mine)
    return len(mine), Markup("<ul>{}</ul>").format(items)


def _commands(lines: Sequence[str], place: int, _: Pictures) -> _Made:
    end = next(at for at in range(place + 1, len(lines)) if lines[at].startswith("```"))
    text = Markup("\n").join(escape(visible(line)) for line in lines[place + 1 : end])
    return end + 1 - place, Markup('<pre tabindex="0"><code>{}</code></pre>').format(text)


def _picture(lines: Sequence[str], place: int, pictures: Pictures) -> _Made:
    found = _PICTURE.match(lines[place])
    return 1, pictures.get(PurePosixPath(found[1]).stem, Markup("")) if found else Markup("")


def _fold(lines: Sequence[str], place: int, pictures: Pictures) -> _Made:
    found = _FOLD.match(lines[place])
    end = next(at for at in range(place, len(lines)) if lines[at].startswith("</details>"))
    title = words(found[1] if found else "")
    inner = html(lines[place + 1 : end], pictures)
    return end + 1 - place, Markup("<details><summary>{}</summary>{}</details>").format(title, inner)


def _paragraph(lines: Sequence[str], place: int, _: Pictures) -> _Made:
    return 1, Markup("<p>{}</p>").format(words(lines[place])) if lines[place].strip() else Markup("")


_MAKERS: tuple[tuple[str | tuple[str, ...], Callable[[Sequence[str], int, Pictures], _Made]], ...] = (
    ("## ", _nothing),
    ("### ", _heading),
    ("|", _table),
    (("- ", "  - "), _list),
    ("```", _commands),
    ("![", _picture),
    ("<details>", _fold),
)


def _bare(code: str) -> str:
    """Return the content of a code span without the blank that keeps its own quotes apart."""
    return code[1:-1] if len(code) > 2 and code[0] == code[-1] == " " and code.strip() else code

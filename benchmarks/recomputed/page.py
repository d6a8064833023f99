"""How a page states its numbers: tables between markers, and comments that say what the numbers of a text are.

::

    <!-- table: overhead cpu -->          the table up to the next <!-- end --> is of this kind
    <!-- numbers: runs; overhead cpu container-file start-warm; - size of the program -->
                                          what the numbers of the text right above are, in their order: quantities of
                                          the campaign (``recomputed/claims.py``); ``- WHY`` of a constant; ``in PAGE``
                                          of a number of another page. ``x3`` behind it: it is three of them
    <!-- elsewhere: a second campaign --> the numbers of the text right above, or after a heading those of its whole
                                          section, are not of this campaign; where they come from
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MINUS = "\N{MINUS SIGN}"
_WORDS = "four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905 - to be read by people
_VALUE = r"[+±−-]?\d+(?:,\d{3})*(?:\.\d+)?"  # noqa: RUF001 - the minus of a page
_INTERVAL = rf"\[({_VALUE}), ({_VALUE})\]"
NUMBER = re.compile(
    rf"(?<![\w.\-#])(?:(?P<value>{_VALUE})(?!\d|\w|\.\d)(?:\s*%?\s+{_INTERVAL})?|{_INTERVAL}|(?P<word>\b(?:{'|'.join(_WORDS)})\b))"
    r"(?P<unit>\s*%|\s+(?:million|thousand|billion|[kMG] instr\w*|[KM]iB|MB))?",
    re.IGNORECASE,
)
# A count of so many has a comma.
_YEAR = re.compile(r"(?:19|20)\d\d")
_COMMENT = re.compile(r"<!--\s*(table|numbers|elsewhere|end)\b:?\s*(.*?)\s*-->", re.DOTALL)
_UNITS = {"million": 1e6, "thousand": 1e3, "billion": 1e9, "k": 1e3, "M": 1e6, "G": 1e9}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "MB": 1e6}


@dataclass(frozen=True)
class Shown:
    """A number as a page shows it, at ``start`` of the page: value and interval, as far as it has them.

    ``unit``: what the word behind it (million, MiB) multiplies it by, as it is done in all values here. ``step``: that
    of the last digit.
    """

    line: int
    start: int
    text: str
    value: float | None
    low: float | None = None
    high: float | None = None
    step: float = 1.0
    unit: float = 1.0

    def fits(self, *ends: float) -> bool:
        """Whether value, low and high, rounded as here, are these."""
        shown = [end for end in (self.value, self.low, self.high) if end is not None]
        return len(shown) == len(ends) and all(
            abs(end - given) <= self.step * 0.500001 for end, given in zip(shown, ends, strict=True)
        )


@dataclass
class Block:
    """A text at ``start`` of the page. ``items``: what its numbers are; ``elsewhere``: why they are of no campaign."""

    line: int
    start: int
    text: str
    items: list[str] = field(default_factory=list)
    elsewhere: str = ""

    def numbers(self) -> list[Shown]:
        """Return its numbers in their order."""
        return list(numbers(self.text, self.line, self.start))


@dataclass(frozen=True)
class Table:
    """A generated table: its ``kind`` with arguments, its header and its rows."""

    line: int
    kind: str
    header: list[str]
    rows: list[list[str]]


def numbers(text: str, line: int = 0, start: int = 0) -> Iterator[Shown]:
    """Yield the numbers of a text. Code, targets of links, years, names such as SHA-256 have none."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)|!\[[^\]]*\]|\[\^[^\]]*\]", lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    for match in NUMBER.finditer(plain):
        groups = match.groups()
        ends = [groups[0], *(groups[1:3] if groups[1] else groups[3:5])]
        given = [end for end in ends if end]
        unit = _UNITS.get((match["unit"] or "").split()[0] if match["unit"] else "", 1.0)
        at = line + plain.count("\n", 0, match.start())
        shown = text[match.start() : match.end()].strip()
        if _YEAR.fullmatch(shown):
            continue
        where = start + match.start()
        if match["word"]:
            yield Shown(at, where, shown, float(_WORDS.index(match["word"].lower()) + 4))
        else:
            decimals = max(len(end.partition(".")[2]) for end in given)
            value, low, high = (None if end is None else unit * _number(end) for end in ends)
            yield Shown(at, where, shown, value, low, high, unit * 10**-decimals, unit)


def _number(text: str) -> float:
    return float(text.replace(MINUS, "-").replace(",", "").replace("±", ""))


def read(page: str) -> tuple[list[Block], list[Table]]:
    """Return the texts and the generated tables of a page. Raises ``SystemExit`` for a marker without its text."""
    blocks: list[Block] = []
    tables: list[Table] = []
    section, heading = "", False
    for start, kind, text in _pieces(page):
        line = page.count("\n", 0, start) + 1
        if kind == "elsewhere" and heading:
            section = text
        elif kind in ("elsewhere", "numbers") and not (blocks and blocks[-1].text):
            raise SystemExit(f"line {line}: a comment about numbers, but no text right above it")
        elif kind == "elsewhere":
            blocks[-1].elsewhere = text
        elif kind == "numbers":
            blocks[-1].items += [one for item in text.split(";") for one in _repeated(" ".join(item.split()))]
        elif kind in ("heading", "text"):
            section = "" if kind == "heading" else section
            blocks.append(Block(line, start, text, elsewhere=section))
        else:
            tables.append(_table(line, kind, text))
        heading = kind == "heading"
    return blocks, tables


def _repeated(item: str) -> list[str]:
    """Return an item as often as it says: ``- of the paper x3`` is three numbers."""
    counted = re.fullmatch(r"(.*) x(\d+)", item)
    return [counted[1]] * int(counted[2]) if counted else [item]


def _pieces(page: str) -> Iterator[tuple[int, str, str]]:
    """Yield (start, kind, text): headings, texts between empty lines, comments, and generated tables by their kind."""
    page = re.sub(r"^```.*?^```$", lambda m: re.sub(r"[^\n]", " ", m[0]), page, flags=re.MULTILINE | re.DOTALL)
    position, table = 0, ""
    for match in [*_COMMENT.finditer(page), None]:
        end = match.start() if match else len(page)
        if table:
            yield position, table, page[position:end]
        else:
            yield from _texts(page[position:end], position)
        if match is None:
            return
        word, said = match[1], " ".join(match[2].split())
        table = said if word == "table" else ""
        if word in ("numbers", "elsewhere"):
            yield match.start(), word, said
        position = match.end()


def _texts(part: str, start: int) -> Iterator[tuple[int, str, str]]:
    for match in re.finditer(r"(?:^[^\n]*\S[^\n]*\n?)+", part, re.MULTILINE):
        text, at = match[0], start + match.start()
        if text.startswith("#"):
            first, _, text = text.partition("\n")
            yield at, "heading", first
            at += len(first) + 1
        if text.strip() and not text.startswith("!["):
            yield at, "text", text


def _table(line: int, kind: str, text: str) -> Table:
    lines = [row for row in text.splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in lines]
    if len(cells) < 3:
        raise SystemExit(f"line {line}: expected a table of kind {kind!r} up to <!-- end -->, got {len(cells)} lines")
    return Table(line=line, kind=kind, header=cells[0], rows=cells[2:])


def rewritten(shown: Shown, ends: tuple[float, ...]) -> str:
    """Return the text of a number with other values: as many digits as its interval needs, else as many as before."""
    if shown.text[0].isalpha():
        number = round(ends[0])
        return _WORDS[number - 4] if 4 <= number < 4 + len(_WORDS) else str(number)
    scaled = [end / shown.unit for end in ends]
    width = scaled[-1] - scaled[-2] if shown.low is not None else 0.0
    two = 1 - math.floor(math.log10(width)) if width > 0 else round(-math.log10(shown.step / shown.unit))
    signs = bool(re.match(rf"\[?[+{MINUS}]", shown.text))
    texts = [_digits(end, min(4, max(0, two)), signs=signs) for end in scaled]
    interval = f"[{texts[-2]}, {texts[-1]}]" if shown.low is not None else ""
    value = ("±" if shown.text[0] == "±" else "") + texts[0] if shown.value is not None else ""
    between = " % " if "% [" in " ".join(shown.text.split()) else " "
    rest = shown.text.rpartition("]")[2] if interval else re.sub(r"^[^\s%]*", "", shown.text)
    return (value + between + interval if value and interval else value or interval) + rest


def _digits(value: float, digits: int, *, signs: bool) -> str:
    text = f"{value:+,.{digits}f}"
    zero = not float(text.replace(",", ""))
    return text[1:] if zero or (text[0] == "+" and not signs) else text.replace("-", MINUS)

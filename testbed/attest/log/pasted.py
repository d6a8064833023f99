"""What editors, terminals, mail and web pages do to a line of a log, and how it is undone.

Each row of ``UNDOS`` undoes one change; several changes need several rows. No row is trusted: its result counts only
if the template digest in the line is that of its data (``text.read_lines``). The digest does not cover the PCR. So a
PCR counts only if it has two digits, or one digit in the two columns that the kernel prints.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from testbed.attest.log.begin import BLANK, BLANKS, COLUMNS, LONG_HEX, SEPARATOR, begin_of
from testbed.attest.log.fields import fields_of

# Numbers of the rows of UNDOS that were applied, rising.
Recipe = tuple[int, ...]

_ENDS = f"{BLANKS}\r"
_FIELDS = re.compile(r"( [0-9]|[1-9][0-9]) [0-9a-f]{40} (\S+) (.*)", re.DOTALL)
_CODES = re.compile(
    r"(?:\x1b|\^\[)(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][0AB])|\[[0-9;]*[mK]"
)
_EXCHANGED = re.compile(f"[{''.join(chr(code << 8) for code in range(0x20, 0x7F))}]{{8}}")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|^\u00ef\u00bb\u00bf")
_TYPOGRAPHY = {
    **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    "\u2014": "--",
    "\u2026": "...",
}
_TYPOGRAPHIC = re.compile(f"[{''.join(_TYPOGRAPHY)}]")
_PRINTABLE = re.compile("(?:=[0-9A-F]{2})+")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_OTHER_BLANKS = re.compile(f"(?! ){BLANK}")
_UPPER = re.compile(r"(?:(?<![\w-])(?:[A-Za-z0-9-]{1,16}:){1,2})?[0-9A-Fa-f]{32,}|(?<= )[0-9A-F]+$")
_DECORATION = re.compile(r"""(?:<br ?/?>|\\r|\\n|\^M|["'`,;|\u2502$\\=)}\]])$""")
_ENDINGS, _REMARK = 6, 80
# What may be left of a PCR, whatever stands beside it.
_NUMBER = re.compile(r"(?:(?<![0-9A-Za-z])|(?<=\\[nrNR])|(?<=\^[Mm]))[0-9]{1,2}(?![0-9A-Za-z])")


class Undo(NamedTuple):
    """How one change is undone. ``words``: what was done; ``apply`` yields what the line may have been before."""

    words: str
    apply: Callable[[str], Iterable[str]]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _sub(pattern: re.Pattern[str], by: str | Callable[[re.Match[str]], str]) -> Callable[[str], Iterable[str]]:
    return lambda line: (pattern.sub(by, line),)


def _unescape(line: str) -> Iterator[str]:
    """Twice, since text that was quoted on a web page is often escaped once more."""
    yield html.unescape(line)
    yield html.unescape(html.unescape(line))


def _front(line: str) -> Iterator[str]:
    begin = begin_of(line)
    if begin:
        yield line[begin:]


def _columns(line: str) -> Iterator[str]:
    """Put one space for what stands between the columns: before the name, and before a last field of hex digits."""
    match = COLUMNS.match(line)
    if match is None:
        return
    rest = re.sub(f"^(\\S+?){SEPARATOR}", r"\1 ", match["rest"], count=1)
    head = f"{match['pcr']} {match['digest']} {match['template']} "
    yield head + rest
    yield head + re.sub(f"(?<!{BLANK}){SEPARATOR}([0-9A-Fa-f]*)$", r" \1", rest)


def _lower(line: str) -> Iterator[str]:
    match = COLUMNS.match(line)
    if match is not None:
        begin = match.start("rest")
        yield line[:begin].lower() + _UPPER.sub(lambda digits: digits[0].lower(), line[begin:])
        yield line.lower()


def _recoded(line: str) -> Iterator[str]:
    """Yield the bytes that were read as Latin-1 and written as UTF-8, once or twice, and both forms of letters."""
    for encoding in ("latin-1", "cp1252"):
        with suppress(UnicodeEncodeError):
            once = _text(line.encode(encoding))
            yield once
            yield _text(once.encode(encoding))
    yield unicodedata.normalize("NFC", line)
    yield unicodedata.normalize("NFD", line)


def _marks(line: str) -> Iterator[str]:
    """Leave out what pages and programs put at the end: quotes, borders of tables, escaped line breaks."""
    for _ in range(_ENDINGS):
        shorter = _DECORATION.sub("", line.rstrip(_ENDS))
        if shorter == line:
            return
        line = shorter
        yield line


def _remark(line: str) -> Iterator[str]:
    """Leave out the last words, but no part of another entry: neither a digest nor a PCR."""
    words = line.rstrip(_ENDS).split(" ")
    for count in range(1, min(_ENDINGS, len(words) - 1) + 1):
        remark = " ".join(words[-count:])
        if len(remark) > _REMARK or LONG_HEX.search(remark) or _NUMBER.search(remark):
            return
        yield " ".join(words[:-count])


def _empty_fields(line: str) -> Iterator[str]:
    """Put back the blanks before empty fields: at the end, where tools strip them, then further in front."""
    match = _FIELDS.fullmatch(line)
    names = fields_of(match[2].encode(errors="replace")) if match else None
    if match is None or names is None:
        return
    words = match[3].split(" ")
    for at in range(len(words), max(1, len(words) - 4), -1):
        for lost in range(1, len(names) - 1):
            yield line[: match.start(3)] + " ".join([*words[:at], *[""] * lost, *words[at:]])


UNDOS = (
    Undo("zero bytes removed", lambda line: (line.replace("\0", ""),)),
    Undo("letters converted back", _recoded),
    Undo("terminal codes removed", _sub(_CODES, "")),
    Undo("HTML entities decoded", _unescape),
    Undo("invisible characters removed", _sub(_INVISIBLE, "")),
    Undo("typographic characters replaced", _sub(_TYPOGRAPHIC, lambda match: _TYPOGRAPHY[match[0]])),
    Undo("quoted-printable decoded", _sub(_PRINTABLE, lambda match: _text(bytes.fromhex(match[0].replace("=", ""))))),
    Undo("backslashes removed", _sub(_ESCAPED, r"\1")),
    Undo("other blanks replaced by spaces", _sub(_OTHER_BLANKS, " ")),
    Undo("text before the PCR removed", _front),
    Undo("other separators replaced by spaces", _columns),
    Undo("hex digits in lower case", _lower),
    Undo("carriage return removed", lambda line: (line.rstrip("\r"),)),
    Undo("blanks at the end removed", lambda line: (line.rstrip(_ENDS),)),
    Undo("marks after the last field removed", _marks),
    Undo("words after the last field removed", _remark),
    Undo("lost blanks of empty fields added", _empty_fields),
)
_NAMED = {undo.words: number for number, undo in enumerate(UNDOS)}
_LETTERS, _COLUMNS_APART, _LOWER, _RETURN, REMARK, _LOST = (
    _NAMED[words]
    for words in (
        "letters converted back",
        "other separators replaced by spaces",
        "hex digits in lower case",
        "carriage return removed",
        "words after the last field removed",
        "lost blanks of empty fields added",
    )
)
# What can be undone wherever it is: a name that has such bytes of its own is read as it is first.
_TIDY = (*(n for n in range(_NAMED["text before the PCR removed"]) if n != _LETTERS), _RETURN)
_VISIBLE = _TIDY[:4]
# The commonest damage first.
USUAL: tuple[Recipe, ...] = ((_LOST,), (_RETURN,), (_RETURN, _LOST))


def decode(data: bytes) -> tuple[bytes, str]:
    """Return a text in UTF-8, and the name of the encoding that it was in, if that was UTF-16 (a PowerShell redirect).

    Without a mark at the beginning, two characters of a line tell. No binary log begins so: its PCR would be too large.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif re.match(rb"[\t\r\n -~]\0[\t\r\n -~]\0", data):
        encoding = "utf-16-le"
    elif re.match(rb"\0[\t\r\n -~]\0[\t\r\n -~]", data):
        encoding = "utf-16-be"
    else:
        return data, ""
    text = data.decode(encoding, "replace")
    # Something may have been appended in another encoding: then the halves of characters are exchanged, or two
    # characters are one.
    if _EXCHANGED.search(text) or re.search(rb"[0-9a-f]{32}", data):
        return data.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff"), "UTF-16"
    return text.encode("utf-8", "replace"), "UTF-16"


def words_of(recipe: Recipe) -> str:
    return ", ".join(UNDOS[number].words for number in recipe)


def follow(line: str, recipe: Recipe) -> Iterator[str]:
    """Yield what a line may have been if exactly the changes of this recipe were made to it."""
    if not recipe:
        yield line
        return
    for changed in UNDOS[recipe[0]].apply(line):
        if changed != line:
            yield from follow(changed, recipe[1:])


def attempts(line: str, *, without: int | None = None) -> Iterator[tuple[str, Recipe]]:
    """Yield everything that a line may have been, the fewest changes first, each with its recipe.

    ``without``: the number of a row that is not applied.
    """
    seen = {line}
    level: list[tuple[str, Recipe]] = [(line, ())]
    while level:
        following: list[tuple[str, Recipe]] = []
        for text, recipe in level:
            for number in range(recipe[-1] + 1 if recipe else 0, len(UNDOS)):
                for changed in UNDOS[number].apply(text) if number != without else ():
                    if changed not in seen:
                        seen.add(changed)
                        following.append((changed, (*recipe, number)))
                        yield following[-1]
        level = following


def tidy(line: str) -> str:
    """Undo what is outside the fields of a line, as far as its beginning shows it."""
    for number in _TIDY:
        line = next(iter(UNDOS[number].apply(line)))
    return line


def neat(line: str) -> str:
    """Return a line without what is before its PCR, with single spaces between its columns, if it has a beginning."""
    text = tidy(line)
    begin = begin_of(text)
    if begin is None:
        return line
    text = text[begin:]
    for number in (_COLUMNS_APART, _LOWER):
        text = next(iter(UNDOS[number].apply(text)), text)
    return text


def visible(line: str) -> str:
    """Return a line as a reader sees it: without what no terminal and no page shows."""
    for number in _VISIBLE:
        line = next(iter(UNDOS[number].apply(line)))
    return line

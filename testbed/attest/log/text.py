"""A log as text, line by line: what is a line, what was done to it on its way here, and which lines were not read.

A line that does not fit its template digest may be whole but changed (``pasted``), broken into several lines
(``broken``), or several lines in one; and a name may have a newline. Each possibility is tried, and only a result that
fits its digest is an entry. There is one exception: a violation has no digest. It is read only if the line is exactly
as the kernel prints it, and its name ends where the line ends.

The work is bounded. An entry with newlines in its name has at most ``JOINED`` bytes, and the search for such entries
hashes at most ``WORK`` times the size of the text and 32 MiB. Each line gets a limited number of tries. After
``FAILURES`` lines on which all were in vain (less those that were read), only what was undone before is tried.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from testbed.attest.finding import UnsupportedEvidence
from testbed.attest.log import pasted
from testbed.attest.log.ascii import Line, read_line
from testbed.attest.log.begin import begin_of, begins, fronts, goes_on, lacks_pcr, looks_like_entry
from testbed.attest.log.broken import MIXED, glued, without
from testbed.attest.log.why import why

# What is read of a text: a million entries are about 200 MB. Lines have a limit of their own: each costs more than its
# bytes.
TEXT_MAX, LINES_MAX = 1 << 28, 1 << 22
# A path has up to 4095 bytes, the fields beside it a few hundred.
JOINED = 1 << 13
WORK = 64
_WORK_LEAST = 1 << 25
FAILURES = 200
# Lines that one entry may be broken into, and what one line may cost: tries, and bytes that are hashed in them.
_PIECES = 40
_TRIES, _TRIES_JOINED = 600, 100
_TRIED = 1 << 20
_RECIPES = 8
# A line of the kernel that is no violation.
_KERNEL = re.compile(rb"(?: [0-9]|[1-9][0-9]{1,9}) (?!0{40} )[0-9a-f]{40} [^ \n]+ ")
# A prompt or a remark may follow; a time of day is no PCR.
_CUT = re.compile(r" ?[0-9]{1,2}(?![0-9A-Za-z:])")

_Found = tuple[Line, pasted.Recipe]


def is_text(log: bytes) -> bool:
    """Whether a log is text. A binary one begins with the number of a PCR in four bytes, of which three are zero."""
    return b"\0" not in log[:4]


@dataclass(slots=True, kw_only=True)
class _Reader:
    """``left``: bytes that may still be hashed for names with newlines; ``failures``: lines that may still be in vain.

    ``recipes``: what was undone lately, the last first; ``fronts``: what the last such line had before its PCR.
    ``last``: where the last line that is not blank ends.
    """

    text: bytes
    left: int
    failures: int
    last: int
    entries: int = 0
    recipes: list[pasted.Recipe] = field(default_factory=lambda: [*pasted.USUAL])
    fronts: list[re.Pattern[str]] = field(default_factory=list)


def read_lines(text: bytes) -> Iterator[Line]:
    """Yield every line of a text, in order; several physical lines that are one entry as one. Never raises."""
    left = max(WORK * len(text), _WORK_LEAST)
    reader = _Reader(text=text, left=left, failures=FAILURES, last=len(text.rstrip()))
    at, number = 0, 1
    while at < len(text):
        lines = _next(reader, at, number)
        yield from lines
        end = lines[-1].offset + len(lines[-1].raw)
        number += text.count(b"\n", at, end) + 1
        at = end + 1


def _next(reader: _Reader, at: int, number: int) -> list[Line]:
    line = read_line(reader.text[at : _line_end(reader.text, at)], number, at, reader.entries + 1)
    if line.entry is not None and line.fits and not line.entry.violation:
        reader.entries += 1
        return [line]
    shown = _decoded(line.raw)
    if _is_complete(reader, line, shown):
        reader.entries += line.entry is not None
        return [line]
    attempts = (_usual, _with_newlines, _rejoined, _separated, _searched)
    for attempt in () if lacks_pcr(shown) else attempts if reader.failures else attempts[:2]:
        if found := attempt(reader, line, shown):
            reader.failures = min(reader.failures + 1, FAILURES)
            return found
    reader.failures = max(reader.failures - 1, 0)
    reader.entries += line.entry is not None
    ends = at + len(line.raw) == len(reader.text)
    return [line._replace(problem=why(line, shown, ends=ends), fits=False)]


def _is_complete(reader: _Reader, line: Line, shown: str) -> bool:
    """Whether a line that is no entry with a digest is nonetheless all that it can be."""
    if line.entry is not None:
        # No digest says where the name of a violation ends.
        return line.fits and not goes_on(shown)
    if line.problem is not None:
        # The list of another bank has as many of these lines as entries. Nothing in them can be undone.
        return isinstance(line.problem, UnsupportedEvidence) and "template digest" in line.problem.where
    return not looks_like_entry(pasted.visible(shown)) and not _is_cut(reader, line, shown)


def _line_end(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _fitting(shown: str) -> Line | None:
    """Return the line if its template digest is that of its data. A violation has none, so nothing confirms it."""
    line = read_line(shown.encode("utf-8", "surrogateescape"))
    return line if line.entry is not None and line.fits and not line.entry.violation else None


def _taken(reader: _Reader, line: Line, found: Line, raw: bytes, *words: str) -> Line:
    """Return what was found as the entry that begins at ``line`` and is ``raw`` in the text."""
    assert found.entry is not None
    reader.entries += 1
    entry = found.entry._replace(number=reader.entries, offset=line.offset, end=line.offset + len(raw) + 1)
    return line._replace(raw=raw, entry=entry, problem=None, fits=True, cleaned=", ".join(filter(None, words)))


def _quickly(reader: _Reader, shown: str, *, without_row: int | None = None) -> _Found | None:
    """Try the line as it is, and what was done to the lines before: mostly the same was done to all."""
    if line := _fitting(shown):
        return line, ()
    for recipe in reader.recipes:
        for changed in pasted.follow(shown, recipe) if without_row not in recipe else ():
            if line := _fitting(changed):
                reader.recipes.remove(recipe)
                reader.recipes.insert(0, recipe)
                return line, recipe
    return None


def _thoroughly(reader: _Reader, shown: str) -> _Found | None:
    return _first(reader, itertools.islice(pasted.attempts(shown), min(_TRIES, _TRIED // (len(shown) + 1))))


def _first(reader: _Reader, attempts: Iterable[tuple[str, pasted.Recipe]]) -> _Found | None:
    for changed, recipe in attempts:
        if line := _fitting(changed):
            if recipe not in reader.recipes:
                reader.recipes = [recipe, *reader.recipes[: _RECIPES - 1]]
            return line, recipe
    return None


def _usual(reader: _Reader, line: Line, shown: str) -> list[Line]:
    return _alone(reader, line, shown, _quickly(reader, shown))


def _searched(reader: _Reader, line: Line, shown: str) -> list[Line]:
    return _alone(reader, line, shown, _thoroughly(reader, shown))


def _alone(reader: _Reader, line: Line, shown: str, found: _Found | None) -> list[Line]:
    if found is None:
        return []
    reader.fronts = fronts(pasted.tidy(shown)) or reader.fronts
    return [_taken(reader, line, found[0], line.raw, pasted.words_of(found[1]))]


def _with_newlines(reader: _Reader, line: Line, _shown: str) -> list[Line]:
    """Read the entry that begins with this line and whose name has newlines."""
    end = line.offset + len(line.raw)
    if not _KERNEL.match(line.raw):
        return []
    while end + 1 < len(reader.text) and reader.left > 0:
        end = _line_end(reader.text, end + 1)
        if end - line.offset > JOINED:
            break
        raw = reader.text[line.offset : end]
        reader.left -= len(raw)
        joined = read_line(raw)
        if joined.entry is not None and joined.fits:
            return [_taken(reader, line, joined, raw)]
    return []


def _rejoined(reader: _Reader, line: Line, shown: str) -> list[Line]:
    """Read the entry that was broken into this line and the next ones, where breaks replaced blanks or were added."""
    first = pasted.tidy(shown)
    if begin_of(first) is None:
        return []
    pieces, ends, own = _pieces(reader, line)
    before = fronts(first) or reader.fronts
    counts = range(1, own + 1)
    # Mostly all lines up to the next entry belong to this one. What looks like an entry may also be a part of its name.
    for count, attempt, mixed in (
        *((count, _rejoined_quickly, True) for count in (*counts[-1:], *counts[:-1])),
        *((count, _rejoined_slowly, True) for count in counts[:MIXED]),
        *((count, _rejoined_exactly, False) for count in range(own + 1, len(pieces) + 1)),
    ):
        for joined in itertools.islice(glued([shown, *pieces[:count]], before, mixed=mixed), _TRIES_JOINED):
            if found := attempt(reader, joined):
                reader.fronts = before
                raw = reader.text[line.offset : ends[count - 1]]
                return [_taken(reader, line, found[0], raw, "line breaks removed", pasted.words_of(found[1]))]
    return []


# No words are left out of lines that were joined: they may be those of another entry.
def _rejoined_quickly(reader: _Reader, joined: str) -> _Found | None:
    return _quickly(reader, joined, without_row=pasted.REMARK)


def _rejoined_slowly(reader: _Reader, joined: str) -> _Found | None:
    return _first(reader, itertools.islice(pasted.attempts(joined, without=pasted.REMARK), _TRIES_JOINED))


def _rejoined_exactly(_reader: _Reader, joined: str) -> _Found | None:
    return (line, ()) if (line := _fitting(joined)) else None


def _pieces(reader: _Reader, line: Line) -> tuple[list[str], list[int], int]:
    """Return the lines after a line, without empty ones, where each ends, and how many are before the next entry."""
    pieces, ends, own, end = list[str](), list[int](), 0, line.offset + len(line.raw)
    while end + 1 < len(reader.text) and len(pieces) < _PIECES:
        start, end = end + 1, _line_end(reader.text, end + 1)
        if end - line.offset > JOINED:
            break
        piece = _decoded(reader.text[start:end])
        if piece.strip():
            own += own == len(pieces) and begin_of(pasted.tidy(piece)) is None
            pieces.append(piece)
            ends.append(end)
    return pieces, ends, own


def _separated(reader: _Reader, line: Line, shown: str) -> list[Line]:
    """Read the entries of a line in which line breaks were lost: all of them, or none.

    An entry's name may have what looks like another entry. Then the entry itself does not fit without it.
    """
    starts = begins(shown)
    if len(starts) < 2:
        return []
    parts = [shown[start:end] for start, end in itertools.pairwise([0, *starts[1:], len(shown)])]
    found = []
    for part in parts:
        read = _quickly(reader, part) or _thoroughly(reader, part)
        if read is None:
            return []
        found.append(read)
    lines, at = [], line
    for part, (read_as, recipe) in zip(parts, found, strict=True):
        raw = part.encode("utf-8", "surrogateescape")
        lines.append(_taken(reader, at, read_as, raw, "line breaks added", pasted.words_of(recipe)))
        at = at._replace(offset=at.offset + len(raw))
    return lines


def _is_cut(reader: _Reader, line: Line, shown: str) -> bool:
    """Whether the text ends within the first columns of a line."""
    if not line.offset < reader.last <= line.offset + len(line.raw):
        return False
    rest = pasted.tidy(shown)
    return any(_CUT.match(without(front, rest)) for front in (None, *reader.fronts))

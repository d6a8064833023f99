"""Where does an entry begin in a line that people pasted, and does a line look like one at all?

Lines are text here: bytes that are not UTF-8 are surrogates.
"""

from __future__ import annotations

import re

# A name may have any bytes: those that are not UTF-8 become surrogates. U+DCA0 is a no-break space of Latin-1.
BLANKS = "\t \u00a0\udca0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
BLANK = f"[{BLANKS}]"
# Possessive, and below from the first blank on: a name may have thousands of blanks.
SEPARATOR = f"(?:{BLANK}++(?:[|\u2502]{BLANK}++)?|[,;]{BLANK}*+)"
_PCR = f"(?P<pcr>(?:^|(?<=\t))[ ][0-9]|(?:(?<!\\w)|(?<=\\\\n))[1-9][0-9])(?={SEPARATOR})"
_DIGEST = f"{SEPARATOR}(?P<digest>[0-9A-Fa-f]{{32,128}})"
_TEMPLATE = "(?P<template>[A-Za-z][A-Za-z0-9-]*(?:[|][a-z0-9-]+)*)"
_START = re.compile(f"{_PCR}{_DIGEST}{SEPARATOR}{_TEMPLATE}(?={SEPARATOR}|$)")
# The same where a line break is in the digest.
_BROKEN = re.compile(f"{_PCR}{SEPARATOR}[0-9A-Fa-f]{{8,}}(?:$|{SEPARATOR})")
COLUMNS = re.compile(f"{_PCR}{_DIGEST}{SEPARATOR}{_TEMPLATE}{SEPARATOR}(?P<rest>.*)", re.DOTALL)
# Text before the PCR that has one of these may be a part of the entry itself, or of another one.
_OWN = re.compile(r"[0-9A-Fa-f]{16}|(?<![\w/-])(?:ima-[a-z0-9]+|evm-sig) ")
_FRONT = 256

# What only a line of a log has, however damaged: a digest, or the name of a template beside a piece of one.
LONG_HEX = re.compile(r"[0-9A-Fa-f]{32}")
_PIECE = re.compile(r"(?<![\w.-])(?=[a-f]*[0-9])[0-9a-f]{4,}")
# The number of a line, as `cat -n` prints it, and no PCR after it.
_NUMBERED = re.compile(r"(?<!\w)[0-9]+\t[0-9A-Fa-f]{40}(?!\t)")
_AGAIN = re.compile(f"[0-9A-Fa-f]{{40}}{SEPARATOR}[A-Za-z][A-Za-z0-9|-]*{SEPARATOR}")
_NEXT = re.compile(f"{BLANK}[0-9]{{1,2}}(?:{BLANK}[0-9a-f]*)?{BLANK}*$")
_NAME = re.compile(r"(?<![\w./-])(?:ima(?:-[a-z0-9]+)?|evm-sig)(?![\w./-])")


def begin_of(line: str) -> int | None:
    """Return where the PCR of a line begins; ``None`` without one, or if what is before it may be a part of a line."""
    match = _START.search(line, 0, 2 * _FRONT) or _BROKEN.search(line, 0, 2 * _FRONT)
    if match is None or match.start() > _FRONT or _OWN.search(line, 0, match.start()):
        return None
    return match.start()


def begins(line: str) -> list[int]:
    """Return where each entry of a line begins: several, if line breaks were lost."""
    return [match.start() for match in _START.finditer(line)]


def goes_on(line: str) -> bool:
    """Whether a line has, after an entry, another one or the first columns of another one."""
    return len(_AGAIN.findall(line)) > 1 or bool(_NEXT.search(line))


def lacks_pcr(line: str) -> bool:
    """Whether a tab is before the digest and not after it: what is before the tab is no PCR."""
    return bool(_NUMBERED.search(line))


def fronts(line: str) -> list[re.Pattern[str]]:
    """Return what a tidy line has before its PCR as patterns for other lines: all of it, then less and less of its end.

    A line that continues it has perhaps a mark of quotation, and no number after that. A number may be any number.
    """
    parts = re.findall(f"[0-9]+|{BLANK}+|[A-Za-z]+|.", line[: begin_of(line) or 0])
    kinds = [
        "[0-9]+" if part[0] in "0123456789" else f"{BLANK}*" if part.isspace() else re.escape(part) for part in parts
    ]
    return [re.compile("".join(kinds[:count])) for count in range(len(kinds), 0, -1)]


def looks_like_entry(line: str) -> bool:
    """Whether a line begins as an entry does, or has what only an entry has: the least that must not be ignored."""
    has_digest = LONG_HEX.search(line) or (_NAME.search(line) and _PIECE.search(line))
    return bool(has_digest) or begin_of(line) is not None

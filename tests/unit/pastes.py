"""What people's tools do to a log in text, as functions from text to text, and a slow reader of a text that is whole.

The reader shares no code with the package: it knows three templates, looks at fixed columns, and refuses what does not
fit its template digest.
"""

from __future__ import annotations

import hashlib
import html
import re
import struct
import textwrap
from collections.abc import Callable
from typing import NamedTuple

Change = Callable[[bytes], bytes]


class Read(NamedTuple):
    """An entry as far as the log says something of it: the name of a violation is not confirmed by anything."""

    pcr: int
    digest: bytes
    template: bytes
    data: bytes


def slowly(text: bytes) -> list[Read]:
    """Read a whole text of `ima-ng`, `ima-sig` and `ima-buf` without newlines in names."""
    found = []
    for line in text.removesuffix(b"\n").split(b"\n"):
        pcr, digest, (template, shown, rest) = (
            int(line[:2]),
            bytes.fromhex(line[3:43].decode()),
            line[44:].split(b" ", 2),
        )
        algorithm, _, value = shown.rpartition(b":")
        values = [algorithm + b":\0" + bytes.fromhex(value.decode())]
        if template == b"ima-ng":
            values.append(rest + b"\0")
        else:
            name, _, last = rest.rpartition(b" ")
            values += [name + b"\0", bytes.fromhex(last.decode())]
        data = b"".join(struct.pack("<I", len(one)) + one for one in values)
        violation = digest == bytes(20)
        assert violation or hashlib.sha1(data).digest() == digest
        found.append(Read(pcr, digest, template, b"" if violation else data))
    return found


def each(change: Callable[[int, bytes], bytes]) -> Change:
    """Change every line. The number of a line counts from 1."""

    def whole(text: bytes) -> bytes:
        lines = text.removesuffix(b"\n").split(b"\n")
        return b"\n".join(change(number, line) for number, line in enumerate(lines, 1)) + b"\n"

    return whole


def numbered(form: str) -> Change:
    return each(lambda number, line: (form % number).encode() + line)


def before(words: str) -> Change:
    return each(lambda _, line: words.encode() + line)


def after(words: str) -> Change:
    return each(lambda _, line: line + words.encode())


def replaced(old: bytes, new: str | bytes, count: int = -1) -> Change:
    by = new.encode() if isinstance(new, str) else new
    return each(lambda _, line: line.replace(old, by, count))


def broken(width: int, front: str = "") -> Change:
    """Break lines after so many characters, as terminals do; ``front`` begins each piece."""

    def cut_up(_: int, line: bytes) -> bytes:
        pieces = (line[at : at + width] for at in range(0, len(line), width))
        return b"\n".join(front.encode() + piece for piece in pieces)

    return each(cut_up)


def filled(width: int, front: str = "") -> Change:
    """Break lines at blanks, as mail programs do: the blank is lost, and long words stay whole."""

    def fill(_: int, line: bytes) -> bytes:
        pieces = textwrap.wrap(line.decode("latin-1"), width, break_long_words=False, break_on_hyphens=False)
        return "\n".join(f"{front}{piece}" for piece in pieces).encode("latin-1")

    return each(fill)


def shown(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def back(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def table(_: int, line: bytes) -> bytes:
    head, last = line[:2], line[3:].split(b" ", 3)
    return b"| " + b" | ".join([head, *last]) + b" |"


def colours(_: int, line: bytes) -> bytes:
    return b"\x1b[01;31m\x1b[K" + line[:2] + b"\x1b[m\x1b[K" + line[2:] + b"\x1b[0m"


# What a page, a terminal or a program adds or replaces: of a log with ordinary names, every entry can be read.
WHOLE: dict[str, Change] = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "CRLF": after("\r"),
    "CR alone": lambda text: text.replace(b"\n", b"\r"),
    "blanks lost at the end": each(lambda _, line: line.rstrip()),
    "blanks lost at both ends": each(lambda _, line: line.strip()),
    "tabs between the columns": replaced(b" ", "\t", 4),
    "tabs for all blanks": replaced(b" ", "\t"),
    "no-break spaces": replaced(b" ", "\u00a0"),
    "one no-break space": replaced(b" ", "\u00a0", 1),
    "no-break spaces of Latin-1": replaced(b" ", b"\xa0"),
    "several blanks": replaced(b" ", "   ", 3),
    "zero-width spaces": replaced(b"/", "/\u200b"),
    "quoted": before("> "),
    "quoted without a blank": before(">"),
    "quoted twice": before("> > "),
    "in fences": lambda text: b"```\n" + text + b"```\n",
    "indented": before("    "),
    "a list": before("- "),
    "cat -n": numbered("%6d\t"),
    "nl with blanks": numbered("%6d  "),
    "grep -n": numbered("%d:"),
    "grep -Hn": numbered("ascii_runtime_measurements:%d:"),
    "grep -C": numbered("%d-"),
    "grep of a path": before("/sys/kernel/security/ima/ascii_runtime_measurements:"),
    "less -N": numbered("%7d "),
    "numbers with dots": numbered("%d. "),
    "numbers with bars": numbered("%4d \u2502 "),
    "cat -A": after("$"),
    "dmesg": numbered("[   12.%06d] "),
    "journal": numbered("Nov 30 06:06:%02d host cat[99]: "),
    "time stamps": numbered("2026-11-30T06:06:%02d.123+0000 host kernel: "),
    "compose": before("web-1  | "),
    "prompts": lambda text: b"[root@host ~]# cat ascii_runtime_measurements\n" + text + b"[root@host ~]# ",
    "a prompt in the line": lambda text: b"# " + text,
    "remarks": after("   <-- see here"),
    "dashes": replaced(b"-", "\u2013"),
    "entities for blanks": replaced(b" ", "&nbsp;"),
    "entities": each(lambda _, line: back(html.escape(shown(b"> " + line)))),
    "entities twice": each(lambda _, line: back(html.escape(html.escape(shown(b"> " + line))))),
    "backslashes": each(lambda _, line: line.replace(b"-", b"\\-").replace(b"_", b"\\_")),
    "digests in upper case": each(lambda _, line: line[:3] + line[3:43].upper() + line[43:]),
    "digits in upper case": each(lambda _, line: re.sub(rb"[0-9a-f]{32,}", lambda match: match[0].upper(), line)),
    "UTF-16": lambda text: text.decode(errors="replace").encode("utf-16"),
    "UTF-16, big-endian": lambda text: b"\xfe\xff" + text.decode(errors="replace").encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.decode(errors="replace").encode("utf-16-le"),
    "Latin-1 to UTF-8": lambda text: text.decode("latin-1").encode(),
    "colours": each(colours),
    "blank lines": lambda text: text.replace(b"\n", b"\n\n"),
    "two logs": lambda text: text + b"\nthe other host:\n" + text,
    "a table": each(table),
    "commas": each(lambda _, line: line[:2] + b"," + line[3:].replace(b" ", b",", 2)),
    "a diff, added": before("+"),
    "a diff, removed": before("-"),
    "a diff, the same": before(" "),
    "strings": each(lambda _, line: b"    '" + line + b"',"),
    "JSON": lambda text: b'{"log": "' + text.replace(b"\n", b"\\n") + b'"}',
    "one line": lambda text: text.replace(b"\n", b" "),
    "broken at 78": broken(78),
    "broken at 78, blanks lost": lambda text: re.sub(rb" +\n", b"\n", broken(78)(text)),
    "broken at 78, quoted": broken(78, "> "),
    "broken at 40": broken(40),
    "filled to 78": filled(78),
    "filled to 76, quoted": filled(76, "> "),
    "quoted-printable": each(lambda _, line: line[:74] + b"=\n" + line[74:].replace(b" ", b"=20")),
}


def lost(place: int, count: int) -> Change:
    """Take out some characters somewhere."""
    return lambda text: text[: place % len(text)] + text[place % len(text) + count :]


def put(place: int, words: bytes) -> Change:
    return lambda text: text[: place % len(text)] + words + text[place % len(text) :]


def cut(place: int) -> Change:
    """Cut the text within its last line: of lines that are missing altogether, nothing can be known."""

    def shorter(text: bytes) -> bytes:
        last = text.rfind(b"\n", 0, -1) + 1
        # A PCR of one digit begins with a blank.
        least = last + 1 + (text[last:].startswith(b" "))
        return text[: least + place % (len(text) - least)]

    return shorter


# What loses something, or leaves it open what was there.
LOSSY: dict[str, Change] = {
    "digests shortened": each(lambda _, line: re.sub(rb"([0-9a-f]{8})[0-9a-f]{24,}", rb"\1...", line)),
    "digests shortened by one character": each(
        lambda _, line: re.sub(rb"([0-9a-f]{8})[0-9a-f]{24,}", "\\1\u2026".encode(), line)
    ),
    "lines shortened": each(lambda _, line: line[:70] + b"..."),
    "lines cut at 80": each(lambda _, line: line[:80]),
    "less -S": each(lambda _, line: line[:79] + b">"),
    "line breaks lost": lambda text: text.replace(b"\n", b""),
    "blanks lost": replaced(b" ", b""),
    "blanks collapsed": each(lambda _, line: re.sub(rb" +", b" ", line)),
    "not UTF-8": lambda text: text.decode(errors="replace").encode(),
    "ASCII alone": lambda text: text.decode("latin-1").encode("ascii", "replace"),
    "all in upper case": lambda text: text.upper(),
    "hidden digits": each(lambda _, line: line[:11] + b"*" * 32 + line[43:]),
}

# What touches the PCR, which no digest covers.
PCR_LOST: dict[str, Change] = {
    "the first column lost": each(lambda _, line: line[1:]),
    "the PCR lost": each(lambda _, line: line[3:]),
    "the PCR lost, then cat -n": each(lambda number, line: b"%6d\t" % number + line[3:]),
    "the PCR lost, then less -N": each(lambda number, line: b"%7d " % number + line[3:]),
    "numbers without a blank": numbered("%d"),
}

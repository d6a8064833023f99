"""Which single character did a transcription lose, add or change? Computed, for logs that were copied from slides.

Among a few thousand variants of a line, the repair is the one that fits the template digest. So it is what the kernel
printed, unless two variants collide under SHA-1. It is for people: evidence is never repaired.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

from testbed.attest.hashes import BANKS
from testbed.attest.log import pasted
from testbed.attest.log.ascii import Line, read_line
from testbed.attest.log.ima import template_digest

_HEX = string.digits.encode() + b"abcdef"
_PRINTED = bytes(range(0x21, 0x7F))
_DIGITS = 2 * BANKS["sha1"]
# The number of tries is this times the number of letters, and each try hashes so many bytes.
_LONGEST = 512


def repair(raw: bytes) -> tuple[Line, str] | None:
    """Return the line that a damaged one was, and the difference in words; ``None`` if one character is not enough.

    Columns count from 1 in the line without the text before its PCR.
    """
    shown = pasted.neat(raw.decode("utf-8", "surrogateescape"))
    for shape in (shown, *pasted.follow(shown, pasted.USUAL[0])):
        if found := _one_character(shape.encode("utf-8", "surrogateescape")):
            return found
    return None


def _one_character(raw: bytes) -> tuple[Line, str] | None:
    # A PCR of one digit has a blank before it.
    head, _, rest = raw[1:].partition(b" ")
    head = raw[:1] + head
    digest, _, rest = rest.partition(b" ")
    if len(raw) > _LONGEST or not rest or b"\n" in raw:
        return None
    if abs(len(digest) - _DIGITS) <= 1 and (repaired := _of_digest(head, digest, rest)):
        return repaired
    if len(digest) != _DIGITS:
        return None
    # The damage cannot be in the template: such a line is not called damaged.
    begin = len(raw) - len(rest) + rest.find(b" ") + 1
    for candidate, words in _neighbours(raw, begin, raw.rfind(b" ")):
        line = read_line(candidate)
        # A violation has no digest: it would fit with any character changed.
        if line.entry is not None and line.fits and not line.entry.violation:
            return line, words
    return None


def _of_digest(head: bytes, digest: bytes, rest: bytes) -> tuple[Line, str] | None:
    """Compute the expected template digest, and check whether the shown one differs by one character."""
    # Not that of a violation, which fits everything.
    line = read_line(b"%b %b %b" % (head, b"f" * _DIGITS, rest))
    if line.entry is None:
        return None
    true = template_digest(line.entry).hex().encode()
    for candidate, words in _neighbours(digest, 0, len(digest)):
        if candidate == true:
            line = read_line(b"%b %b %b" % (head, true, rest))
            return line, f"template digest: {words}"
    return None


def _neighbours(text: bytes, begin: int, name: int) -> Iterator[tuple[bytes, str]]:
    """Yield the text with one character more, less or another one from ``begin`` on: hex digits, text from ``name``."""
    for at in range(begin, len(text) + 1):
        before, after, column = text[:at], text[at:], at + 1
        letters = _HEX if at < name or begin == 0 else _PRINTED
        if after:
            yield before + after[1:], f"{after[:1].decode(errors='replace')!a} too much at column {column}"
        for letter in letters:
            yield before + bytes([letter]) + after, f"{chr(letter)!a} missing at column {column}"
            if after:
                was = after[:1].decode(errors="replace")
                yield before + bytes([letter]) + after[1:], f"{was!a} for {chr(letter)!a} at column {column}"

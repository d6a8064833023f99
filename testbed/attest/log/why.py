"""Why was a line not read? In words for the user: what was expected, and what is there instead."""

from __future__ import annotations

import re

from testbed.attest.finding import BadEvidence
from testbed.attest.log import pasted
from testbed.attest.log.ascii import Line, read_line
from testbed.attest.log.begin import begin_of, begins, goes_on, lacks_pcr
from testbed.attest.log.ima import template_digest

_LEFT_OUT = re.compile(r"(?:(?<=[0-9a-f]{4})|(?=\.*\u2026?$))(?:\.\.\.|\u2026)")
# Where `read_line` says that a line alone is.
_FIRST = "line 1 at byte 0"
_NUMBERED = re.compile(r"(?<!\w)(?:([0-9]+)\s+)?[0-9A-Fa-f]{40}\s")


def why(line: Line, shown: str, *, ends: bool) -> BadEvidence:
    """Return the error of a line that could not be read. ``shown``: the line as text; ``ends``: it is the last one."""
    for look in (_replaced, _left_out, _without_pcr, _several, _read):
        if problem := look(shown):
            break
    else:
        problem = BadEvidence("", "PCR, template digest, template and fields", ascii(shown[:80]))
    got = f"{problem.got}; the text ends here" if ends else problem.got
    where = ": ".join(filter(None, (line.where, problem.where.removeprefix(_FIRST).removeprefix(": "))))
    return type(problem)(where, problem.expected, got)


def _replaced(shown: str) -> BadEvidence | None:
    at = shown.find("\ufffd")
    if at < 0:
        return None
    got = f"U+FFFD at column {at + 1}, which some program put for bytes that are not UTF-8"
    return BadEvidence("", "the bytes of the name", got)


def _left_out(shown: str) -> BadEvidence | None:
    match = _LEFT_OUT.search(shown)
    if match is None:
        return None
    return BadEvidence("", "the whole line", f"{match[0]!a} at column {match.start() + 1}: a part was left out")


def _several(shown: str) -> BadEvidence | None:
    count = len(begins(shown))
    if count < 2:
        return None
    return BadEvidence("", "one line for each entry", f"{count} in one line, and not all fit their template digests")


def _read(shown: str) -> BadEvidence | None:
    """Say what is wrong with the line after everything outside its fields was undone."""
    if begin_of(pasted.tidy(shown)) is None:
        return None
    line = read_line(pasted.neat(shown).encode("utf-8", "surrogateescape"))
    if line.entry is None:
        return line.problem
    if line.entry.violation and goes_on(shown):
        return BadEvidence("", "a violation alone in its line", ascii(shown[-80:]))
    if line.entry.violation:
        expected = "a violation exactly as the kernel prints it, because it has no digest that confirms a change"
        return BadEvidence("", expected, ascii(shown[:80]))
    if line.fits:
        expected = "fewer damaged lines: after so many, only what was undone before is undone"
        return BadEvidence("", expected, ascii(shown[:80]))
    digest = template_digest(line.entry).hex()
    return BadEvidence("", f"template digest {digest}, that of the fields", line.entry.digest.hex())


def _without_pcr(shown: str) -> BadEvidence | None:
    match = _NUMBERED.search(shown)
    if match is None or (begin_of(pasted.tidy(shown)) is not None and not lacks_pcr(shown)):
        return None
    expected = "a PCR in two columns: no digest covers it, so it is not guessed"
    return BadEvidence("", expected, ascii(match[1]) if match[1] else "none")

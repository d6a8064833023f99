"""An IMA log as text (``ascii_runtime_measurements``) turned into the binary form that a bundle has.

A line that was changed on its way is refused: evidence is not repaired. What the text does not have: which of its bytes
were not UTF-8, if somebody has decoded it, as Keylime's agent does. Such a line does not fit its template digest.
"""

from __future__ import annotations

from testbed.attest.finding import BadEvidence
from testbed.attest.log.ascii import Line
from testbed.attest.log.ima import encode
from testbed.attest.log.text import LINES_MAX, TEXT_MAX, read_lines


def as_binary(text: bytes, where: str) -> bytes:
    """Return a log in the kernel's binary form. Raises ``BadEvidence`` with the line that cannot be read exactly."""
    if len(text) > TEXT_MAX or text.count(b"\n") > LINES_MAX:
        raise BadEvidence(where, f"at most {TEXT_MAX} bytes and {LINES_MAX} lines of text", f"{len(text)} bytes")
    return b"".join(_entry(line, where) for line in read_lines(text) if line.raw.strip())


def _entry(line: Line, where: str) -> bytes:
    place = f"{where}: {line.where}"
    if line.problem is not None:
        raise type(line.problem)(f"{where}: {line.problem.where}", line.problem.expected, line.problem.got)
    if line.entry is None:
        raise BadEvidence(place, "a line of an IMA log", ascii(line.raw[:80]))
    if not line.fits or line.cleaned:
        expected = "a line as the kernel prints it, whose template digest is that of its data"
        got = f"one that fits only after this: {line.cleaned}" if line.cleaned else "another digest"
        raise BadEvidence(place, expected, f"{got}; take the binary log, if a name is not UTF-8")
    return encode(line.entry.pcr, line.entry.digest, line.entry.template, line.entry.data)

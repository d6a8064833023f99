"""How the kernel shows an entry as text (``ascii_runtime_measurements``), turned back into the bytes that were hashed.

Source of the format: ``ima_ascii_measurements_show`` (security/integrity/ima/ima_fs.c) and
``ima_show_template_data_ascii`` (ima_template_lib.c). A line is the PCR in two columns, the SHA-1 template digest, the
template, then a space *before each field*, and nothing after that space if the field is empty: a line of `ima-sig`
without a signature ends with a space. The zero byte in a digest field and the one that ends a name are not shown.

The kernel escapes nothing, so a name may contain what looks like another line. Only the template digest can decide
where a line ends (``text.read_lines``). It covers the template data: not the PCR, and not the template's name.
"""

from __future__ import annotations

import binascii
import re
import struct
from contextlib import suppress
from typing import NamedTuple

from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.hashes import BANKS
from testbed.attest.log.fields import fields_of
from testbed.attest.log.ima import Entry, template_digest

_BEGIN = re.compile(rb" *[0-9]+ [0-9a-f]")
# A PCR of one digit has a blank before it. Without the blank, it may be the rest of a PCR of two digits.
_HEAD = re.compile(rb"( [0-9]|[1-9][0-9]{1,9}) ([0-9a-f]+) ([^ \n]+) ")
_ONE_DIGIT = re.compile(rb"[0-9] [0-9a-f]")
_SHA1 = BANKS["sha1"]
_NAME_MAX = 255
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,9}")
_PREFIX = re.compile(rb"[a-z0-9:-]{1,64}")
_BYTES = {"iuid": 4, "igid": 4, "imode": 2}
_DIGESTS = {"d-ng", "d-ngv2", "d-modsig"}
_NAMES = ("n-ng", "n")


class Line(NamedTuple):
    """One line, or the lines that are one entry together. A tuple for the same reason as ``Entry``.

    ``number`` counts lines of the text from 1, ``offset`` its bytes; ``raw`` has no final newline. Without ``entry``
    and ``problem`` it does not look like a line of a log (a prompt, an empty line). ``fits``: the template digest is
    that of the template data, or the entry is a violation. ``cleaned``: what was undone before it fitted, in words.
    """

    number: int
    offset: int
    raw: bytes
    entry: Entry | None
    problem: BadEvidence | None
    fits: bool
    cleaned: str = ""

    @property
    def where(self) -> str:
        return f"line {self.number} at byte {self.offset}"


def damaged(line: Line) -> bool:
    """Whether it is a line of a log that cannot be read, or whose template digest is not that of its data.

    A line of a template that is not known is not damaged: its ``problem`` is an ``UnsupportedEvidence``.
    """
    if line.entry is None:
        return line.problem is not None and not isinstance(line.problem, UnsupportedEvidence)
    return not line.fits


def read_line(raw: bytes, line_number: int = 1, offset: int = 0, number: int = 1) -> Line:
    """Read one line exactly as the kernel prints it. ``number``: that of the entry, if it is one. Never raises."""
    if not _BEGIN.match(raw):
        return Line(line_number, offset, raw, None, None, fits=True)
    try:
        pcr, digest, template, data = _parse(raw)
    except BadEvidence as error:
        problem = type(error)(
            f"line {line_number} at byte {offset}{error.where and ': '}{error.where}", error.expected, error.got
        )
        return Line(line_number, offset, raw, None, problem, fits=False)
    entry = Entry(number, offset, offset + len(raw) + 1, pcr, digest, template, data)
    return Line(line_number, offset, raw, entry, None, entry.violation or template_digest(entry) == digest)


def _parse(raw: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Return PCR, template digest, template and template data. Raises ``BadEvidence`` without number and byte."""
    if _ONE_DIGIT.match(raw):
        raise BadEvidence("PCR", "two columns: no digest covers it, so it is not guessed", ascii(raw[:1]))
    head = _HEAD.match(raw)
    if head is None or int(head[1]) >= 1 << 32:
        raise BadEvidence("", "PCR, template digest, template and fields", ascii(raw[:80]))
    if b"\0" in raw:
        raise BadEvidence("", "no zero byte", f"one at byte {raw.index(0)} of the line")
    template = head[3]
    if len(head[2]) != 2 * _SHA1:
        expected, got = f"{2 * _SHA1} hex digits of SHA-1", f"{len(head[2])}"
        other = len(head[2]) in {2 * size for size in BANKS.values()}
        raise (UnsupportedEvidence if other else BadEvidence)("template digest", expected, got)
    names = fields_of(template)
    if names is None:
        raise UnsupportedEvidence("template", "a template of the kernel or a list of its fields", ascii(template[:80]))
    values = _split(raw[head.end() :], names)
    data = _old(*values) if template == b"ima" else b"".join(map(_field, names, values))
    return int(head[1]), binascii.unhexlify(head[2]), template, data


def _split(rest: bytes, names: tuple[str, ...]) -> list[bytes]:
    """Split the fields. Kernels before 3.13 left spaces in names, so the first name gets the surplus fields."""
    free = next((names.index(name) for name in _NAMES if name in names), len(names) - 1)
    values = rest.split(b" ", free)
    values += values.pop().rsplit(b" ", len(names) - 1 - free)
    if len(values) != len(names):
        raise BadEvidence("", f"{len(names)} fields ({', '.join(names)})", f"{len(values)}")
    return values


def _field(name: str, shown: bytes) -> bytes:
    """Return a field with its length, as it was hashed, from its shown form."""
    if name in _NAMES:
        value = shown + b"\0"
    elif not shown:
        value = b""
    elif name == "xattrnames":
        value = shown + b"\0"
    elif name in _DIGESTS:
        # The kernel does not show a lone colon: that is a digest without an algorithm.
        prefix, colon, digest = shown.rpartition(b":")
        if colon and not _PREFIX.fullmatch(prefix):
            raise BadEvidence(f"field {name}", "'ALGORITHM:' and hex digits", ascii(shown[:80]))
        value = prefix + b":\0" + _unhex(name, digest)
    elif name in _BYTES:
        limit = 1 << 8 * _BYTES[name]
        if not _NUMBER.fullmatch(shown) or int(shown) >= limit:
            raise BadEvidence(f"field {name}", f"a number below {limit}", ascii(shown[:80]))
        value = int(shown).to_bytes(_BYTES[name], "little")
    else:
        value = _unhex(name, shown)
    return struct.pack("<I", len(value)) + value


def _old(digest: bytes, name: bytes) -> bytes:
    """Return the template data of `ima`, as the binary log has them: digest, length, name."""
    if len(digest) == 2 * 16:
        raise UnsupportedEvidence("field d", f"{2 * _SHA1} hex digits of SHA-1", "MD5")
    if len(digest) != 2 * _SHA1 or len(name) > _NAME_MAX:
        expected = f"{2 * _SHA1} hex digits and a name of at most {_NAME_MAX} bytes"
        raise BadEvidence("fields d, n", expected, f"{len(digest)} and {len(name)}")
    return _unhex("d", digest) + struct.pack("<I", len(name)) + name


def _unhex(name: str, digits: bytes) -> bytes:
    with suppress(binascii.Error):
        if digits.isascii() and digits == digits.lower():
            return binascii.unhexlify(digits)
    raise BadEvidence(
        f"field {name}", "pairs of hex digits in lower case", f"{len(digits)} characters: {digits[:80]!a}"
    )

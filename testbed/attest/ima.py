"""The IMA log as the kernel writes it (``binary_runtime_measurements``): entries, their fields, their hashes.

Source of the framing and of what is hashed: ``ima_measurements_show`` and ``ima_calc_field_array_hash_tfm``
(security/integrity/ima). Integers are little-endian: a log of a big-endian machine without ``ima_canonical_fmt`` is
refused by its lengths.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from testbed.attest.finding import BadEvidence, UnsupportedEvidence

BANKS = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
HASHES = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}

# Fields of each template; what an entry of any other template means is not known, though it can be replayed.
TEMPLATES = {
    b"ima": ("d", "n"),
    b"ima-ng": ("d-ng", "n-ng"),
    b"ima-ngv2": ("d-ngv2", "n-ng"),
    b"ima-sig": ("d-ng", "n-ng", "sig"),
    b"ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    b"ima-buf": ("d-ng", "n-ng", "buf"),
}
NO_DIGEST = bytes(20)
_DIGESTS = {b"md5": 16, b"sha224": 28} | {name.encode(): size for name, size in BANKS.items()}
_DIGEST_TYPES = {b"ima", b"verity"}
# What the kernel puts into `sig`: EVM_IMA_XATTR_DIGSIG, EVM_XATTR_PORTABLE_DIGSIG, IMA_VERITY_DIGSIG. The template's
# name is in no hash, so this is what keeps an `ima-buf` entry from being passed off as a signed file.
_SIGNATURES = (3, 5, 6)
_HEAD = struct.Struct("<I20sI")
_LENGTH = struct.Struct("<I")
_NAME_MAX = 255
_OLD_NAME_PADDED = 256


class Entry(NamedTuple):
    """One entry. A tuple and not a dataclass: a log has up to a million, and these are made three times as fast.

    ``number`` counts from 1, as lines of the ASCII log do; ``offset`` and ``end`` are bytes in the log; ``digest`` is
    the SHA-1 template digest as logged; ``data`` are the template data as logged.
    """

    number: int
    offset: int
    end: int
    pcr: int
    digest: bytes
    template: bytes
    data: bytes

    @property
    def where(self) -> str:
        return f"ima.bin: entry {self.number} at byte {self.offset}, PCR {self.pcr}"

    @property
    def violation(self) -> bool:
        """Whether IMA said by it that it could not vouch for what was read: nothing in it is authenticated."""
        return self.digest == NO_DIGEST


class Fields(NamedTuple):
    """What an entry's template data say. ``name`` has no terminator; ``buf`` is ``None`` but for ``ima-buf``."""

    algorithm: str
    digest: bytes
    name: bytes
    digest_type: str = "ima"
    sig: bytes = b""
    buf: bytes | None = None


def read_entries(log: bytes) -> Iterator[Entry]:
    """Yield the log's entries one by one. Raises ``BadEvidence`` with number and byte of the entry that is none."""
    at, number, size = 0, 0, len(log)
    while at < size:
        number += 1
        start = at
        where = f"ima.bin: entry {number} at byte {start}"
        if size - at < _HEAD.size:
            raise BadEvidence(where, f"{_HEAD.size} bytes of header", f"{size - at} bytes to the end")
        pcr, digest, name_size = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        if not 0 < name_size <= min(_NAME_MAX, size - at):
            raise BadEvidence(where, f"a template name of 1 to {min(_NAME_MAX, size - at)} bytes", f"{name_size}")
        template = log[at : at + name_size]
        if template not in TEMPLATES and not (template.isascii() and template.decode().isprintable()):
            raise BadEvidence(where, "a printable template name", ascii(template))
        at += name_size
        at, data = _data(log, at, template == b"ima", where)
        yield Entry(number, start, at, pcr, digest, template, data)


def hashed_bytes(entry: Entry) -> bytes:
    """Return the bytes whose hash the PCR is extended with and whose SHA-1 the log shows."""
    if entry.template == b"ima":
        return entry.data[:20] + entry.data[24:].ljust(_OLD_NAME_PADDED, b"\0")
    return entry.data


def template_digest(entry: Entry) -> bytes:
    """Return the SHA-1 that the log must show for this entry (a violation shows zeros instead)."""
    return hashlib.sha1(hashed_bytes(entry)).digest()  # noqa: S324 - the log's format, the banks have their own hash


def extension(entry: Entry, bank: str) -> bytes:
    """Return what the kernel extends a PCR of ``bank`` with for this entry (since 5.8, each bank by its own hash)."""
    return b"\xff" * BANKS[bank] if entry.violation else HASHES[bank](hashed_bytes(entry)).digest()


def parse_fields(entry: Entry) -> Fields:
    """Take the template data apart; every byte belongs to a field.

    Raises ``BadEvidence``, and ``UnsupportedEvidence`` for a template or a digest algorithm that is not known.
    """
    names = TEMPLATES.get(entry.template)
    if names is None:
        raise UnsupportedEvidence("template", f"one of {_known()}", ascii(entry.template.decode()))
    if entry.template == b"ima":
        return Fields("sha1", entry.data[:20], _name(entry.data[24:], terminated=False))
    first, second, *rest = _split(entry.data, names)
    digest_type, algorithm, digest = _digest(first, typed=names[0] == "d-ngv2")
    name = _name(second, terminated=True)
    if rest and names[2] == "buf":
        return Fields(algorithm, digest, name, digest_type, buf=rest[0])
    if rest and rest[0] and rest[0][0] not in _SIGNATURES:
        raise BadEvidence("field sig", f"nothing or a signature (first byte one of {_SIGNATURES})", f"{rest[0][0]}")
    return Fields(algorithm, digest, name, digest_type, sig=rest[0] if rest else b"")


def _data(log: bytes, at: int, old: bool, where: str) -> tuple[int, bytes]:
    """Return where the entry ends and its template data. The old template `ima` has no length: digest, length, name."""
    fixed = 24 if old else 4
    left = len(log) - at - fixed
    if left < 0:
        raise BadEvidence(where, f"{fixed} bytes of length", f"{len(log) - at} bytes to the end")
    (length,) = _LENGTH.unpack_from(log, at + fixed - 4)
    most = min(left, _NAME_MAX) if old else left
    if length > most:
        raise BadEvidence(where, f"at most {most} bytes of {'name' if old else 'template data'}", f"{length}")
    end = at + fixed + length
    return end, log[at if old else at + 4 : end]


def _split(data: bytes, names: tuple[str, ...]) -> list[bytes]:
    values, at = [], 0
    for name in names:
        if len(data) - at < _LENGTH.size:
            raise BadEvidence(f"field {name}", "4 bytes of length", f"{len(data) - at} bytes to the end")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise BadEvidence(f"field {name}", f"at most {len(data) - at} bytes", f"{length}")
        values.append(data[at : at + length])
        at += length
    if at != len(data):
        raise BadEvidence("template data", f"an end after field {names[-1]}", f"{len(data) - at} bytes more")
    return values


def _digest(field: bytes, *, typed: bool) -> tuple[str, str, bytes]:
    """Take `sha256:`, zero byte, digest apart, or `verity:sha256:`, zero byte, digest where ``typed``."""
    head, _, digest = field.partition(b"\0")
    kind, _, name = head.partition(b":") if typed else (b"ima", b"", head)
    if kind not in _DIGEST_TYPES or name[-1:] != b":":
        raise BadEvidence("digest field", "'ALGORITHM:' and a zero byte", ascii(head[:40]))
    size = _DIGESTS.get(name[:-1])
    if size is None:
        raise UnsupportedEvidence(
            "digest field", f"one of {', '.join(sorted(map(bytes.decode, _DIGESTS)))}", ascii(name)
        )
    if len(digest) != size:
        raise BadEvidence("digest field", f"{size} bytes of {name[:-1].decode()}", f"{len(digest)}")
    return kind.decode(), name[:-1].decode(), digest


def _name(field: bytes, *, terminated: bool) -> bytes:
    name = field.removesuffix(b"\0") if terminated else field
    if b"\0" in name or len(name) != len(field) - terminated:
        expected = "text with one zero byte, at its end" if terminated else "text without a zero byte"
        raise BadEvidence("name field", expected, ascii(field[-80:]))
    return name


def _known() -> str:
    return ", ".join(name.decode() for name in TEMPLATES)

"""The fields of an entry's template data: the digest, the name, the buffer and what else a template has.

Source: ``template_desc`` and the functions of ``supported_fields`` (security/integrity/ima/ima_template.c and
ima_template_lib.c).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from testbed.attest import hashes
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.hashes import DIGESTS
from testbed.attest.log.ima import IMA_DIGEST_SIZE, TEMPLATES, Entry

# Every field that a kernel knows (`supported_fields`), and the bytes of those that have a fixed size.
FIELDS = frozenset(field for fields in TEMPLATES.values() for field in fields)
_FIXED = {"iuid": 4, "igid": 4, "imode": 2}
_DIGEST_FIELDS = ("d-ngv2", "d-ng", "d")
_NAME_FIELDS = ("n-ng", "n")
_MOST_FIELDS = 16
_DIGESTS = {name.encode(): size for name, size in DIGESTS.items()}
_DIGEST_TYPES = {b"ima", b"verity"}
# What the kernel puts into `sig`: EVM_IMA_XATTR_DIGSIG, EVM_XATTR_PORTABLE_DIGSIG, IMA_VERITY_DIGSIG. The template's
# name is in no hash, so this is what keeps an `ima-buf` entry from being passed off as a signed file.
_SIGNATURES = (3, 5, 6)
_FIELDS_OF_BUF = len(TEMPLATES[b"ima-buf"])


class Fields(NamedTuple):
    """What an entry's template data say. ``name`` has no terminator.

    ``buf`` is ``None`` if the template has no such field. ``others``: further fields as they are, by the kernel's name
    of the field.
    """

    algorithm: str
    digest: bytes
    name: bytes
    digest_type: str = "ima"
    sig: bytes = b""
    buf: bytes | None = None
    others: Mapping[str, bytes] = MappingProxyType({})

    @property
    def of_file(self) -> bool:
        """Whether the digest is that of a file: the kernel measures no empty buffer, and leaves `buf` empty."""
        return not self.buf


def fields_of(template: bytes) -> tuple[str, ...] | None:
    """Return a template's fields, also of one that is a list of fields, or ``None`` if it is not known."""
    if template in TEMPLATES:
        return TEMPLATES[template]
    fields = tuple(template.decode("ascii", "replace").split("|"))
    return fields if len(fields) <= _MOST_FIELDS and FIELDS.issuperset(fields) else None


class _Layout(NamedTuple):
    """Where a template has what: its fields, and the places of digest, name and buffer (-1: none)."""

    names: tuple[str, ...]
    digest: int
    name: int
    buf: int


def parse_fields(entry: Entry) -> Fields:
    """Split the template data into fields; every byte belongs to a field.

    Raises ``BadEvidence``, and ``UnsupportedEvidence`` for a template or a digest algorithm that is not known, or a
    list of fields without a digest or a name.
    """
    if entry.template == b"ima":
        return Fields("sha1", entry.data[:20], _name(entry.data[24:], terminated=False))
    names, at_digest, at_name, at_buf = _layout(entry.template)
    values = _split(entry.data, names, entry.form.length)
    digest_type, algorithm, digest = _digest(values[at_digest], names[at_digest], violation=not any(entry.digest))
    name = _name(values[at_name], terminated=True)
    buf = values[at_buf] if at_buf >= 0 else None
    if len(names) == 2 + (at_buf >= 0):
        return Fields(algorithm, digest, name, digest_type, b"", buf)
    others = {field: value for at, (field, value) in enumerate(zip(names, values, strict=True)) if at != at_buf}
    del others[names[at_digest]], others[names[at_name]]
    _check_sizes(others)
    sig = others.pop("sig", b"")
    if sig and sig[0] not in _SIGNATURES:
        raise BadEvidence("field sig", f"nothing or a signature (first byte one of {_SIGNATURES})", f"{sig[0]}")
    if modsig := others.get("d-modsig"):
        _digest(modsig, "d-ng")
    if len(names) == _FIELDS_OF_BUF and values[-1] and hashes.computed(algorithm, values[-1]) == digest:
        expected = "nothing of which the entry's digest is the digest: only ima-buf has that"
        raise BadEvidence(f"field {names[-1]}", expected, f"{len(values[-1])} such bytes")
    return Fields(algorithm, digest, name, digest_type, sig, buf, others)


@lru_cache(maxsize=64)
def _layout(template: bytes) -> _Layout:
    names = fields_of(template)
    if names is None:
        raise UnsupportedEvidence("template", f"one of {_known()}, or a list of fields", ascii(template.decode()))
    digest = next((names.index(field) for field in _DIGEST_FIELDS if field in names), None)
    name = next((names.index(field) for field in _NAME_FIELDS if field in names), None)
    if digest is None or name is None or len(set(names)) != len(names):
        raise UnsupportedEvidence("template", "a digest and a name, each field once", ascii(template.decode()))
    # No hash covers a template's name: under a list of this order, the digest without the signature in an `ima-modsig`
    # entry would be read as that of the file.
    if "d-modsig" in names[:digest]:
        raise UnsupportedEvidence("template", "d-modsig after the digest of the file", ascii(template.decode()))
    return _Layout(names, digest, name, names.index("buf") if "buf" in names else -1)


def _split(data: bytes, names: tuple[str, ...], length: struct.Struct) -> list[bytes]:
    values, at, unpack = [], 0, length.unpack_from
    try:
        for _ in names:
            start = at + length.size
            at = start + unpack(data, at)[0]
            values.append(data[start:at])
    except struct.error:
        _say_why(data, names, length)
    if at != len(data):  # then a field ends beyond the data, or the last one before
        _say_why(data, names, length)
    return values


def _say_why(data: bytes, names: tuple[str, ...], length: struct.Struct) -> NoReturn:
    """Raise what is wrong with template data that are not exactly these fields."""
    at, whole = 0, len(data)
    for name in names:
        if whole - at < length.size:
            raise BadEvidence(f"field {name}", "4 bytes of length", f"{whole - at} bytes to the end")
        (size,) = length.unpack_from(data, at)
        at += length.size
        if size > whole - at:
            raise BadEvidence(f"field {name}", f"at most {whole - at} bytes", f"{size}")
        at += size
    raise BadEvidence("template data", f"an end after field {names[-1]}", f"{whole - at} bytes more")


def _check_sizes(values: Mapping[str, bytes]) -> None:
    """Check the fields beside digest, name and buffer: numbers of an inode have a size, and an entry may have no file.

    Where there is no file (boot_aggregate, a buffer) the kernel writes nothing into any of these fields, so one of them
    cannot be there without the numbers (`ima_eventinodedac_init_common` and its neighbours, ima_template_lib.c).
    """
    numbers = [values[field] for field in _FIXED if field in values]
    no_file = bool(numbers) and not any(numbers)
    for field, value in values.items():
        size = 0 if no_file else _FIXED.get(field, len(value))
        if len(value) != size:
            expected = "nothing, as in the fields of an inode" if no_file else f"{size} bytes"
            raise BadEvidence(f"field {field}", expected, f"{len(value)} bytes")


def _digest(value: bytes, field: str, *, violation: bool = False) -> tuple[str, str, bytes]:
    """Parse a digest field: bare, or `sha256:`, zero byte, digest, or with a type before it, `verity:sha256:`.

    In a violation it has zeros, and in older kernels 20 of them whatever the algorithm.
    """
    if field == "d":
        bare = {size: name for name, size in _DIGESTS.items() if name in {b"md5", b"sha1"}}.get(len(value))
        if bare is None:
            raise BadEvidence("digest field", "16 bytes of md5 or 20 of sha1", f"{len(value)}")
        return "ima", bare.decode(), value
    head, _, digest = value.partition(b"\0")
    kind, algorithm = _kind_and_algorithm(head, field)
    if len(digest) != (size := DIGESTS[algorithm]) and not (violation and digest == bytes(IMA_DIGEST_SIZE)):
        raise BadEvidence("digest field", f"{size} bytes of {algorithm}", f"{len(digest)}")
    return kind, algorithm, digest


@lru_cache(maxsize=64)
def _kind_and_algorithm(head: bytes, field: str) -> tuple[str, str]:
    kind, _, name = head.partition(b":") if field == "d-ngv2" else (b"ima", b"", head)
    if kind not in _DIGEST_TYPES or name[-1:] != b":":
        raise BadEvidence("digest field", "'ALGORITHM:' and a zero byte", ascii(head[:40]))
    if name[:-1] not in _DIGESTS:
        known = ", ".join(sorted(map(bytes.decode, _DIGESTS)))
        raise UnsupportedEvidence("digest field", f"one of {known}", ascii(name[:40]))
    return kind.decode(), name[:-1].decode()


def _name(field: bytes, *, terminated: bool) -> bytes:
    name = field.removesuffix(b"\0") if terminated else field
    if len(name) != len(field) - terminated or b"\0" in name:
        expected = "text with one zero byte, at its end" if terminated else "text without a zero byte"
        raise BadEvidence("name field", expected, ascii(field[-80:]))
    return name


def _known() -> str:
    return ", ".join(name.decode() for name in TEMPLATES)

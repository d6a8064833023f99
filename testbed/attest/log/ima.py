"""The IMA log as the kernel writes it (``binary_runtime_measurements``): entries, their fields, their hashes.

Source of the framing and of what is hashed: ``ima_measurements_show`` and ``ima_calc_field_array_hash_tfm``
(security/integrity/ima). Integers are little-endian: a log of a big-endian machine without ``ima_canonical_fmt`` is
refused by its lengths.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.hashes import BANKS, DIGESTS, HASHES

# Fields of each template (`builtin_templates`). A kernel can also be given a list of fields (`ima_template_fmt=`),
# which is then the template's name. Entries of any other template can be replayed, but not interpreted.
TEMPLATES = {
    b"ima": ("d", "n"),
    b"ima-ng": ("d-ng", "n-ng"),
    b"ima-ngv2": ("d-ngv2", "n-ng"),
    b"ima-sig": ("d-ng", "n-ng", "sig"),
    b"ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    b"ima-buf": ("d-ng", "n-ng", "buf"),
    b"ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    b"evm-sig": ("d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"),
}
# Every field that a kernel knows (`supported_fields`), and the bytes of those that have a fixed size.
FIELDS = frozenset(field for fields in TEMPLATES.values() for field in fields)
_FIXED = {"iuid": 4, "igid": 4, "imode": 2}
_DIGEST_FIELDS = ("d-ngv2", "d-ng", "d")
_NAME_FIELDS = ("n-ng", "n")
_MOST_FIELDS = 16
# The entry with which each boot's log begins. Its name is the second one if the kernel was built to wait for a TPM
# that is ready late (CONFIG_IMA_INIT_LATE_SYNC).
BOOT_AGGREGATES = (b"boot_aggregate", b"boot_aggregate_late")
# Template data of one entry. The longest are buffers: a kexec command line, a policy, a key, a device-mapper table.
DATA_MAX = 1 << 24
IMA_DIGEST_SIZE = 20
NO_DIGEST = bytes(IMA_DIGEST_SIZE)
_DIGESTS = {name.encode(): size for name, size in DIGESTS.items()}
_DIGEST_TYPES = {b"ima", b"verity"}
# What the kernel puts into `sig`: EVM_IMA_XATTR_DIGSIG, EVM_XATTR_PORTABLE_DIGSIG, IMA_VERITY_DIGSIG. The template's
# name is in no hash, so this is what keeps an `ima-buf` entry from being passed off as a signed file.
_SIGNATURES = (3, 5, 6)
_HEAD = struct.Struct("<I20sI")
_LENGTH = struct.Struct("<I")
_NAME_MAX = 255
_OLD_NAME_PADDED = 256


class Cut(Exception):
    """The piece of the log that was read ends within an entry: more of the log is needed."""


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
        """Whether it is a violation: IMA could not vouch for what was read, and nothing in it is authenticated."""
        return self.digest == NO_DIGEST


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


def read_entries(log: bytes) -> Iterator[Entry]:
    """Yield the log's entries one by one. Raises ``BadEvidence`` with number and byte of a malformed one."""
    at, number = 0, 0
    while at < len(log):
        number += 1
        entry = entry_at(log, at, number)
        yield entry
        at = entry.end


def entry_at(log: bytes, at: int, number: int, *, base: int = 0, size: int | None = None) -> Entry:
    """Read the entry that begins at ``log[at]``.

    ``log`` may be a piece of a log, from byte ``base`` of its ``size`` bytes. Raises ``BadEvidence`` if no entry can
    begin there, and ``Cut`` if the piece ends before the entry while the log does not.
    """
    where = f"ima.bin: entry {number} at byte {base + at}"
    whole = len(log) if size is None else size - base
    cut = Cut if len(log) < whole else None
    if len(log) - at < _HEAD.size:
        raise cut or BadEvidence(where, f"{_HEAD.size} bytes of header", f"{whole - at} bytes to the end")
    pcr, digest, name_size = _HEAD.unpack_from(log, at)
    start, at = at, at + _HEAD.size
    if not 0 < name_size <= min(_NAME_MAX, whole - at):
        raise BadEvidence(where, f"a template name of 1 to {min(_NAME_MAX, whole - at)} bytes", f"{name_size}")
    template = log[at : at + name_size]
    at += name_size
    if at > len(log):
        raise Cut
    if template not in TEMPLATES and not (template.isascii() and template.decode().isprintable()):
        raise BadEvidence(where, "a printable template name", ascii(template))
    # The old template `ima` has no length: digest, length, name.
    old = template == b"ima"
    fixed = 24 if old else 4
    if at + fixed > len(log):
        raise cut or BadEvidence(where, f"{fixed} bytes of length", f"{whole - at} bytes to the end")
    (length,) = _LENGTH.unpack_from(log, at + fixed - 4)
    most = min(whole - at - fixed, _NAME_MAX if old else DATA_MAX)
    if length > most:
        raise BadEvidence(where, f"at most {most} bytes of {'name' if old else 'template data'}", f"{length}")
    end = at + fixed + length
    if end > len(log):
        raise Cut
    return Entry(number, base + start, base + end, pcr, digest, template, log[at if old else at + 4 : end])


def encode(pcr: int, digest: bytes, template: bytes, data: bytes) -> bytes:
    """Return the bytes of one entry in the log: what ``read_entries`` reads."""
    head = _HEAD.pack(pcr, digest, len(template)) + template
    return head + (data if template == b"ima" else _LENGTH.pack(len(data)) + data)


def hashed_bytes(entry: Entry) -> bytes:
    """Return the bytes whose hash the PCR is extended with and whose SHA-1 the log shows."""
    if entry.template == b"ima":
        return entry.data[:20] + entry.data[24:].ljust(_OLD_NAME_PADDED, b"\0")
    return entry.data


def template_digest(entry: Entry) -> bytes:
    """Return the SHA-1 that the log is expected to show for this entry (a violation shows zeros instead)."""
    return hashlib.sha1(hashed_bytes(entry)).digest()  # noqa: S324 - the log's format, the banks have their own hash


def extension(entry: Entry, bank: str, *, padded: bool = False) -> bytes:
    """Return what the kernel extends a PCR of ``bank`` with for this entry.

    Since 5.8 each bank gets its own hash of the template data; before, all got the SHA-1, padded with zeros
    (``padded``). A violation is extended as ones, of as many bytes as the digest would have.
    """
    size = BANKS[bank]
    if padded:
        return (b"\xff" * 20 if entry.violation else template_digest(entry)).ljust(size, b"\0")
    return b"\xff" * size if entry.violation else HASHES[bank](hashed_bytes(entry)).digest()


def extensions(datas: Iterable[bytes], bank: str, *, padded: bool = False) -> list[bytes]:
    """Return ``extension`` of many entries at once, by their template data: no `ima` among them and no violation."""
    if padded:
        return [hashlib.sha1(data).digest().ljust(BANKS[bank], b"\0") for data in datas]  # noqa: S324 - as they did
    digest = HASHES[bank]
    return [digest(data).digest() for data in datas]


def fields_of(template: bytes) -> tuple[str, ...] | None:
    """Return a template's fields, also of one that is a list of fields, or ``None`` if it is not known."""
    if template in TEMPLATES:
        return TEMPLATES[template]
    fields = tuple(template.decode("ascii", "replace").split("|"))
    return fields if len(fields) <= _MOST_FIELDS and FIELDS.issuperset(fields) else None


def parse_fields(entry: Entry) -> Fields:
    """Split the template data into fields; every byte belongs to a field.

    Raises ``BadEvidence``, and ``UnsupportedEvidence`` for a template or a digest algorithm that is not known, or a
    list of fields without a digest or a name.
    """
    if entry.template == b"ima":
        return Fields("sha1", entry.data[:20], _name(entry.data[24:], terminated=False))
    names = fields_of(entry.template)
    if names is None:
        raise UnsupportedEvidence("template", f"one of {_known()}, or a list of fields", ascii(entry.template.decode()))
    values = dict(zip(names, _split(entry.data, names), strict=True))
    digest_field = next((field for field in _DIGEST_FIELDS if field in values), None)
    name_field = next((field for field in _NAME_FIELDS if field in values), None)
    if digest_field is None or name_field is None or len(values) != len(names):
        raise UnsupportedEvidence("template", "a digest and a name, each field once", ascii(entry.template.decode()))
    digest_type, algorithm, digest = _digest(values.pop(digest_field), digest_field, violation=entry.violation)
    name = _name(values.pop(name_field), terminated=True)
    buf = values.pop("buf", None)
    _check_sizes(values)
    sig = values.pop("sig", b"")
    if sig and sig[0] not in _SIGNATURES:
        raise BadEvidence("field sig", f"nothing or a signature (first byte one of {_SIGNATURES})", f"{sig[0]}")
    if modsig := values.get("d-modsig"):
        _digest(modsig, "d-ng")
    return Fields(algorithm, digest, name, digest_type, sig, buf, values)


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
    kind, _, name = head.partition(b":") if field == "d-ngv2" else (b"ima", b"", head)
    if kind not in _DIGEST_TYPES or name[-1:] != b":":
        raise BadEvidence("digest field", "'ALGORITHM:' and a zero byte", ascii(head[:40]))
    size = _DIGESTS.get(name[:-1])
    if size is None:
        known = ", ".join(sorted(map(bytes.decode, _DIGESTS)))
        raise UnsupportedEvidence("digest field", f"one of {known}", ascii(name[:40]))
    if len(digest) != size and not (violation and digest == bytes(IMA_DIGEST_SIZE)):
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

"""The IMA log as the kernel writes it (``binary_runtime_measurements``): entries, their fields, their hashes.

Source of the framing and of what is hashed: ``ima_measurements_show`` and ``ima_calc_field_array_hash_tfm``
(security/integrity/ima).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS, HASHES

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
# The entry with which each boot's log begins. Its name is the second one if the kernel was built to wait for a TPM
# that is ready late (CONFIG_IMA_INIT_LATE_SYNC).
BOOT_AGGREGATES = (b"boot_aggregate", b"boot_aggregate_late")
# Template data of one entry. The longest are buffers: a kexec command line, a policy, a key, a device-mapper table.
DATA_MAX = 1 << 24
IMA_DIGEST_SIZE = 20
_LENGTH = struct.Struct("<I")
_NAME_MAX = 255
_OLD_NAME_PADDED = 256


class Cut(Exception):
    """The piece of the log that was read ends within an entry: more of the log is needed."""


@dataclass(frozen=True, slots=True)
class LogFormat:
    """How a log is written. Nothing in it says so: it must be declared.

    ``digest``: the bank whose hash the template digests in the log are by. It is SHA-1, but for the files that a kernel
    has for each other bank of the TPM (``binary_runtime_measurements_<bank>``, 6.10 and later). ``byte_order``: of the
    integers. It is `big` only for a machine of that order without ``ima_canonical_fmt``.
    """

    digest: str = "sha1"
    byte_order: str = "little"
    head: struct.Struct = field(init=False, repr=False, compare=False)
    length: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order = ">" if self.byte_order == "big" else "<"
        object.__setattr__(self, "head", struct.Struct(f"{order}I{BANKS[self.digest]}sI"))
        object.__setattr__(self, "length", struct.Struct(f"{order}I"))


USUAL = LogFormat()


class Entry(NamedTuple):
    """One entry. A tuple and not a dataclass: a log has up to a million, and these are made three times as fast.

    ``number`` counts from 1, as lines of the ASCII log do; ``offset`` and ``end`` are bytes in the log; ``digest`` is
    the template digest as logged; ``data`` are the template data as logged; ``form``: how the log is written.
    """

    number: int
    offset: int
    end: int
    pcr: int
    digest: bytes
    template: bytes
    data: bytes
    form: LogFormat = USUAL

    @property
    def where(self) -> str:
        return f"ima.bin: entry {self.number} at byte {self.offset}, PCR {self.pcr}"

    @property
    def violation(self) -> bool:
        """Whether it is a violation: IMA could not vouch for what was read, and nothing in it is authenticated."""
        return not any(self.digest)


def read_entries(log: bytes, form: LogFormat = USUAL) -> Iterator[Entry]:
    """Yield the log's entries one by one. Raises ``BadEvidence`` with number and byte of a malformed one."""
    at, number = 0, 0
    while at < len(log):
        number += 1
        entry = entry_at(log, at, number, form=form)
        yield entry
        at = entry.end


def entry_at(
    log: bytes, at: int, number: int, *, base: int = 0, size: int | None = None, form: LogFormat = USUAL
) -> Entry:
    """Read the entry that begins at ``log[at]``.

    ``log`` may be a piece of a log, from byte ``base`` of its ``size`` bytes. Raises ``BadEvidence`` if no entry can
    begin there, and ``Cut`` if the piece ends before the entry while the log does not.
    """
    here, start = len(log), at
    whole = here if size is None else size - base
    head, length = form.head, form.length
    if here - at < head.size:
        raise _short(here, whole) or _bad(form, base + at, number, f"{head.size} bytes of header", whole - at)
    pcr, digest, name_size = head.unpack_from(log, at)
    at += head.size
    if not 0 < name_size <= _NAME_MAX or name_size > whole - at:
        got = f"{name_size}{_hint(form, number, name_size)}"
        expected = f"a template name of 1 to {min(_NAME_MAX, whole - at)} bytes"
        raise BadEvidence(_place(base + start, number), expected, got)
    template = log[at : at + name_size]
    at += name_size
    if at > here:
        raise Cut
    if template not in TEMPLATES and not (template.isascii() and template.decode().isprintable()):
        raise BadEvidence(_place(base + start, number), "a printable template name", ascii(template))
    # The old template `ima` has no length: digest, length, name.
    old = template == b"ima"
    fixed = 24 if old else 4
    if at + fixed > here:
        raise _short(here, whole) or _bad(form, base + start, number, f"{fixed} bytes of length", whole - at)
    (data_size,) = length.unpack_from(log, at + fixed - 4)
    if data_size > (_NAME_MAX if old else DATA_MAX) or data_size > whole - at - fixed:
        most = min(whole - at - fixed, _NAME_MAX if old else DATA_MAX)
        expected = f"at most {most} bytes of {'name' if old else 'template data'}"
        raise BadEvidence(_place(base + start, number), expected, f"{data_size}")
    end = at + fixed + data_size
    if end > here:
        raise Cut
    return Entry(number, base + start, base + end, pcr, digest, template, log[at if old else at + 4 : end], form)


def _short(here: int, whole: int) -> type[Cut] | None:
    """Return what to raise where only the piece ends, and not the log."""
    return Cut if here < whole else None


def _bad(form: LogFormat, offset: int, number: int, expected: str, left: int) -> BadEvidence:
    return BadEvidence(_place(offset, number), expected, f"{left} bytes to the end{_hint(form, number)}")


def _place(offset: int, number: int) -> str:
    return f"ima.bin: entry {number} at byte {offset}"


def _hint(form: LogFormat, number: int, name_size: int = 0) -> str:
    """Return what a wrong size of the first template name suggests: in the log's byte order it is a small number."""
    swapped = int.from_bytes(name_size.to_bytes(4, "little"), "big")
    if number > 1 or form != USUAL:
        return ""
    if 0 < swapped <= _NAME_MAX:
        return f"; it is {swapped} in the other byte order: for a log of a big-endian machine give --byte-order big"
    return "; for the log of another bank of the TPM give --log-digest" if name_size else ""


def encode(pcr: int, digest: bytes, template: bytes, data: bytes, form: LogFormat = USUAL) -> bytes:
    """Return the bytes of one entry in the log: what ``read_entries`` reads."""
    head = form.head.pack(pcr, digest, len(template)) + template
    return head + (data if template == b"ima" else form.length.pack(len(data)) + data)


def hashed_bytes(entry: Entry) -> bytes:
    """Return the bytes whose hash the PCR is extended with and the log shows."""
    if entry.template == b"ima":
        return entry.data[:20] + entry.data[24:].ljust(_OLD_NAME_PADDED, b"\0")
    return entry.data


def template_digest(entry: Entry) -> bytes:
    """Return the digest that the log is expected to show for this entry (a violation shows zeros instead)."""
    value: bytes = HASHES[entry.form.digest](hashed_bytes(entry)).digest()
    return value


def extension(entry: Entry, bank: str, *, padded: bool = False) -> bytes:
    """Return what the kernel extends a PCR of ``bank`` with for this entry.

    Since 5.8 each bank gets its own hash of the template data; before, all got the SHA-1, padded with zeros
    (``padded``). A violation is extended as ones, of as many bytes as the digest would have.
    """
    size = BANKS[bank]
    if padded:
        sha1 = hashlib.sha1(hashed_bytes(entry)).digest()  # noqa: S324 - as they did
        return (b"\xff" * 20 if entry.violation else sha1).ljust(size, b"\0")
    return b"\xff" * size if entry.violation else HASHES[bank](hashed_bytes(entry)).digest()


def extensions(datas: Iterable[bytes], bank: str, *, padded: bool = False) -> list[bytes]:
    """Return ``extension`` of many entries at once, by their template data: no `ima` among them and no violation."""
    if padded:
        return [hashlib.sha1(data).digest().ljust(BANKS[bank], b"\0") for data in datas]  # noqa: S324 - as they did
    digest = HASHES[bank]
    return [digest(data).digest() for data in datas]

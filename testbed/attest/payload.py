"""What all of our own payloads have: a header of 48 bytes, an identity, text at the end (docs/formats.md, section 2).

A version or a kind that is not known is *unsupported*; what contradicts the page is *malformed*.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from testbed.attest.finding import BadEvidence, UnsupportedEvidence

MAGIC = b"TBCM"
VERSION = 1
FILE, START, IMAGE, LAUNCH, VIOLATION, BEAT, JOIN = range(1, 8)
KINDS = {
    b"ctr-file": FILE,
    b"ctr-start": START,
    b"ctr-image": IMAGE,
    b"ctr-launch": LAUNCH,
    b"ctr-violation": VIOLATION,
    b"ctr-beat": BEAT,
    b"ctr-join": JOIN,
}
SHA256 = 0x000B
NO_DIGEST = bytes(32)
HEADER = struct.Struct("<4sHHIIQQQQ")
# Kinds that speak of no container.
_OF_NONE = frozenset({IMAGE, BEAT})
_FLAGS = {FILE: 0xF, START: 3, IMAGE: 0, LAUNCH: 0x3F, VIOLATION: 7, BEAT: 0, JOIN: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which container: four fields that are in every entry. ``started``: nanoseconds since boot."""

    seq: int
    mntns: int
    cgroup: int
    started: int


def parse_header(name: bytes, payload: bytes) -> tuple[int, int, Identity]:
    """Return kind, flags and container of an event called ``name``. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    if len(payload) < HEADER.size:
        raise BadEvidence("payload", f"{HEADER.size} bytes of header", f"{len(payload)}")
    magic, version, kind, length, flags, seq, mntns, cgroup, started = HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise BadEvidence("magic", MAGIC.hex(), magic.hex())
    if version != VERSION:
        raise UnsupportedEvidence("version", f"{VERSION}", f"{version}")
    if kind not in KINDS.values():
        raise UnsupportedEvidence("kind", f"one of {sorted(KINDS.values())}", f"{kind}")
    if KINDS.get(name) != kind:
        raise BadEvidence("kind", f"that of event {name.decode(errors='backslashreplace')!a}", f"{kind}")
    if length != len(payload):
        raise BadEvidence("length", f"{len(payload)}, the size of the payload", f"{length}")
    if flags & ~_FLAGS[kind]:
        raise BadEvidence("flags", f"no bits but 0x{_FLAGS[kind]:x}", f"0x{flags:x}")
    return kind, flags, _identity(kind, seq, mntns, cgroup, started)


def _identity(kind: int, *fields: int) -> Identity:
    seq, mntns, cgroup, started = fields
    if kind in _OF_NONE:
        if any(fields):
            raise BadEvidence("seq, mntns, cgroup, started", "0, 0, 0, 0", ", ".join(map(str, fields)))
    elif seq == 0:
        raise BadEvidence("seq", "1 or more", "0")
    return Identity(seq=seq, mntns=mntns, cgroup=cgroup, started=started)


def body(payload: bytes, form: struct.Struct) -> bytes:
    """Return what follows the header, which is all of ``form``."""
    if len(payload) != HEADER.size + form.size:
        raise BadEvidence("payload", f"{HEADER.size + form.size} bytes", f"{len(payload)}")
    return payload[HEADER.size :]


def body_and_rest(payload: bytes, form: struct.Struct) -> tuple[bytes, bytes]:
    """Return what follows the header: ``form``, and what is behind it."""
    end = HEADER.size + form.size
    if len(payload) < end:
        raise BadEvidence("payload", f"{end} bytes or more", f"{len(payload)}")
    return payload[HEADER.size : end], payload[end:]


def zero(field: str, value: int) -> None:
    """Check a reserved field."""
    if value:
        raise BadEvidence(field, "0", f"{value}")


def sha256_only(hash_alg: int) -> None:
    """Check the algorithm of an entry's digests."""
    if hash_alg != SHA256:
        raise UnsupportedEvidence("hash_alg", f"0x{SHA256:04x}", f"0x{hash_alg:04x}")


def text(field: str, said: bytes, length: int, *, absent: bool) -> bytes:
    """Check the bytes at a payload's end: as many as announced, some unless the flag says that there are none."""
    if length != len(said):
        raise BadEvidence(f"{field} length", f"{len(said)}, the bytes that follow", f"{length}")
    if absent == bool(said):
        raise BadEvidence(field, "no bytes, as the flag says" if absent else "bytes, or the flag for none", f"{length}")
    if b"\0" in said:
        raise BadEvidence(field, "no zero byte", ascii(said[:80]))
    return said

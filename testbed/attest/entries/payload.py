"""The common parts of the measurer's payloads: a header of 48 bytes, an identity, text (docs/formats.md, section 2).

A version or a kind that is not known is *unsupported*; what contradicts the page is *malformed*.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from testbed.attest.finding import BadEvidence, UnsupportedEvidence

MAGIC = b"TBCM"
VERSIONS = (1, 2, 3)
FILE, START, IMAGE, LAUNCH, VIOLATION, BEAT, JOIN, LOSS, MOUNTS, PROGRAM, MEASURER = range(1, 12)
KINDS = {
    b"ctr-file": FILE,
    b"ctr-start": START,
    b"ctr-image": IMAGE,
    b"ctr-launch": LAUNCH,
    b"ctr-violation": VIOLATION,
    b"ctr-beat": BEAT,
    b"ctr-join": JOIN,
    b"ctr-loss": LOSS,
    b"ctr-mounts": MOUNTS,
    b"ctr-program": PROGRAM,
    b"ctr-measurer": MEASURER,
}
SHA256 = 0x000B
NO_DIGEST = bytes(32)
HEADER = struct.Struct("<4sHHIIQQQQ")
# Kinds that are about no container.
_OF_NONE = frozenset({IMAGE, BEAT, MEASURER})
# The flags that each version knows, by kind: a kind that is not here is not of that version.
_FLAGS_1 = {FILE: 0xF, START: 3, IMAGE: 0, LAUNCH: 0x3F, VIOLATION: 7, BEAT: 0, JOIN: 0}
_FLAGS_2 = _FLAGS_1 | {FILE: 0x1F, LAUNCH: 0x7F, LOSS: 0, MOUNTS: 7, PROGRAM: 0, MEASURER: 0}
_FLAGS_3 = _FLAGS_2 | {FILE: 0x3F, LAUNCH: 0xFF}
_FLAGS = {1: _FLAGS_1, 2: _FLAGS_2, 3: _FLAGS_3}


class Identity(NamedTuple):
    """Which container: four fields that are in every entry. ``started``: nanoseconds since boot.

    A tuple, as all that is made for each entry of a file: a log may have a million, and a frozen dataclass takes three
    times as long.
    """

    seq: int
    mntns: int
    cgroup: int
    started: int


class Header(NamedTuple):
    """What an entry says before its own fields."""

    version: int
    kind: int
    flags: int
    container: Identity


def parse_header(name: bytes, payload: bytes) -> Header:
    """Read the header of an event called ``name``. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    if len(payload) < HEADER.size:
        raise BadEvidence("payload", f"{HEADER.size} bytes of header", f"{len(payload)}")
    magic, version, kind, length, flags, seq, mntns, cgroup, started = HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise BadEvidence("magic", MAGIC.hex(), magic.hex())
    if version not in VERSIONS:
        raise UnsupportedEvidence("version", f"one of {list(VERSIONS)}", f"{version}")
    known = _FLAGS[version]
    if kind not in known:
        raise UnsupportedEvidence("kind", f"one of {sorted(known)} in version {version}", f"{kind}")
    if KINDS.get(name) != kind:
        raise BadEvidence("kind", f"that of event {name.decode(errors='backslashreplace')!a}", f"{kind}")
    if length != len(payload):
        raise BadEvidence("length", f"{len(payload)}, the size of the payload", f"{length}")
    if flags & ~known[kind]:
        raise BadEvidence("flags", f"no bits but 0x{known[kind]:x}", f"0x{flags:x}")
    container = Identity(seq, mntns, cgroup, started)
    _check(container, kind)
    return Header(version, kind, flags, container)


def _check(container: Identity, kind: int) -> None:
    if kind in _OF_NONE:
        if any(container):
            raise BadEvidence("seq, mntns, cgroup, started", "0, 0, 0, 0", ", ".join(map(str, container)))
    elif container.seq == 0:
        raise BadEvidence("seq", "1 or more", "0")


def body(payload: bytes, form: struct.Struct) -> bytes:
    """Return what follows the header, which is all of ``form``."""
    if len(payload) != HEADER.size + form.size:
        raise BadEvidence("payload", f"{HEADER.size + form.size} bytes", f"{len(payload)}")
    return payload[HEADER.size :]


def body_and_rest(payload: bytes, form: struct.Struct) -> tuple[bytes, bytes]:
    """Return what follows the header: ``form``, and the bytes after it."""
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


def digest_if(field: str, digest: bytes, *, absent: bool) -> None:
    """Check that a digest is present, or zero where the entry says that it has no digest."""
    if absent != (digest == NO_DIGEST):
        raise BadEvidence(field, f"{'32 zero bytes' if absent else 'a digest'}, as the entry says", digest.hex())


def text(field: str, said: bytes, length: int, *, absent: bool) -> bytes:
    """Check the bytes at a payload's end: as many as announced; at least one unless the flag says none."""
    if length != len(said):
        raise BadEvidence(f"{field} length", f"{len(said)}, the bytes that follow", f"{length}")
    if absent == bool(said):
        raise BadEvidence(field, "no bytes, as the flag says" if absent else "bytes, or the flag for none", f"{length}")
    if b"\0" in said:
        raise BadEvidence(field, "no zero byte", ascii(said[:80]))
    return said

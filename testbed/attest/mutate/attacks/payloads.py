"""Attacks of root with entries about containers: correctly extended, with wrong content."""

from __future__ import annotations

import struct
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    MNTNS,
    PATH,
    ForgedMachine,
    buffer_line,
    event,
    flipped,
    needs_containers,
    patched,
    payload,
    quote,
    start_places,
    victim_payload,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, Forged, Honest, by_root

_OWN_SEQ = struct.pack("<Q", 0x7777)
_LIMIT = "; the form is correct, so only a policy or ground truth can detect it"
# Bytes of a ctr-file's payload that are replaced; the line's hashes are right. Offsets of docs/formats.md, section 2.
_PAYLOADS = (
    ("ctr-magic", "another magic", 0, b"TBCX", (Kind.MALFORMED,)),
    ("ctr-version", "an unknown version", 4, b"\4\0", (Kind.UNSUPPORTED,)),
    ("ctr-kind-unknown", "an unknown kind", 6, b"\x63\0", (Kind.UNSUPPORTED,)),
    ("ctr-kind-other", "the kind of another event", 6, b"\2\0", (Kind.MALFORMED,)),
    ("ctr-length", "a length other than its own", 8, b"\xff\xff\xff\xff", (Kind.MALFORMED,)),
    ("ctr-flags", "a flag that does not exist", 12, b"\0\0\0\x80", (Kind.MALFORMED,)),
    ("ctr-no-path-flag", "a path, and the flag for no path", 12, b"\1\0\0\0", (Kind.MALFORMED,)),
    ("ctr-seq-zero", "container number 0", 16, bytes(8), (Kind.MALFORMED,)),
    ("ctr-seq-of-nobody", "a container that never started", 16, _OWN_SEQ, (Kind.MALFORMED,)),
    ("ctr-other-mntns", "a mount namespace other than its container's", MNTNS, b"\1", (Kind.MALFORMED,)),
    ("ctr-other-start", "a start time other than its container's", 40, b"\1", (Kind.MALFORMED,)),
    ("ctr-route", "an unknown route", 48, b"\6\0", (Kind.MALFORMED,)),
    ("ctr-route-late", "a route that is always measured late, without the flag", 48, b"\4\0", (Kind.MALFORMED,)),
    ("ctr-hash", "a digest of another algorithm", 50, b"\4\0", (Kind.UNSUPPORTED,)),
    ("ctr-path-length", "a path of 4 GiB", 52, b"\xff\xff\xff\xff", (Kind.MALFORMED,)),
    ("ctr-path-nul", "a zero byte in its path", PATH + 2, b"\0", (Kind.MALFORMED,)),
)


def _payload(honest: Honest, at: int, new: bytes) -> Forged:
    mine = victim_payload(honest)
    # The number of a namespace and a time can be what replaces them, in one log of 256.
    other = flipped(new, 0) if mine[at : at + len(new)] == new else new
    return added(honest, buffer_line(b"ctr-file", patched(mine, at, other)))


def _start(honest: Honest) -> bytes:
    return payload(honest.entries[start_places(honest)[0]])


def _start_again(honest: Honest) -> Forged:
    return added(honest, buffer_line(b"ctr-start", _start(honest)))


def _started(honest: Honest, at: int, new: bytes) -> Forged:
    """Start a container with its own number, with some other bytes of the payload replaced."""
    return added(honest, buffer_line(b"ctr-start", patched(patched(_start(honest), 16, _OWN_SEQ), at, new)))


def _start_late(honest: Honest) -> Forged:
    lines = honest.covered()
    first = next(index for index, entry in enumerate(lines) if entry.pcr == CONTAINER_PCR)
    second = next(index for index, entry in enumerate(lines) if event(entry) == b"ctr-file")
    lines[first], lines[second] = lines[second], lines[first]
    return quote(honest, ForgedMachine(lines=lines))


def _number_of_other(honest: Honest) -> Forged:
    """Give a file of one container the number of another, and leave its namespace, cgroup and start."""
    mine = victim_payload(honest)
    others = (payload(honest.entries[place])[16:24] for place in start_places(honest))
    return added(honest, buffer_line(b"ctr-file", patched(mine, 16, next(o for o in others if o != mine[16:24]))))


def _given_to_other(honest: Honest) -> Forged:
    """Give a file of one container the whole identity of another."""
    mine = victim_payload(honest)
    others = (payload(honest.entries[place])[16:48] for place in start_places(honest))
    return added(honest, buffer_line(b"ctr-file", patched(mine, 16, next(o for o in others if o[:8] != mine[16:24]))))


def _invented(honest: Honest) -> Forged:
    return added(honest, buffer_line(b"ctr-file", flipped(victim_payload(honest), DIGEST)))


_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(name, "T60", f"a ctr-file, extended, with {summary}", partial(_payload, at=at, new=new), *expect)
        for name, summary, at, new, expect in _PAYLOADS
    ),
    _row("ctr-start-again", "T52", "a second ctr-start of a container, extended", _start_again, Kind.MALFORMED),
    _row(
        "ctr-start-own-parent",
        "T60",
        "a container that started itself",
        partial(_started, at=48, new=_OWN_SEQ),
        Kind.MALFORMED,
    ),
    _row(
        "ctr-start-reserved",
        "T60",
        "a reserved field of ctr-start in use",
        partial(_started, at=68, new=b"\1"),
        Kind.MALFORMED,
    ),
    _row("ctr-start-late", "T52", "a container's file before its ctr-start", _start_late, Kind.MALFORMED),
    _row("ctr-number-of-other", "T52", "a file with another container's number", _number_of_other, Kind.MALFORMED),
    _row("ctr-given-to-other", "T52", f"a file with another container's whole identity{_LIMIT}", _given_to_other),
    _row("ctr-invented", "T52", f"a file that nobody executed, extended{_LIMIT}", _invented),
)

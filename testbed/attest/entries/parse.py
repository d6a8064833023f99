"""The measurer's entries: the payload of an ``ima-buf`` entry, from docs/formats.md section 2 and from nothing else.

A version or a kind that is not known is *unsupported*; what contradicts the page is *malformed*.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from testbed.attest.entries.identity import find_place
from testbed.attest.entries.integrity import (
    ASKED,
    ATTACHED,
    DETACHED,
    PERIODIC,
    BeatEntry,
    LossEntry,
    MeasurerEntry,
    ProgramEntry,
    parse_beat,
    parse_loss,
    parse_measurer,
    parse_program,
)
from testbed.attest.entries.launch import ImageEntry, LaunchEntry, parse_image, parse_launch
from testbed.attest.entries.mounts import MountsEntry, parse_mounts
from testbed.attest.entries.payload import (
    BEAT,
    FILE,
    IMAGE,
    JOIN,
    KINDS,
    LAUNCH,
    LOSS,
    MEASURER,
    MOUNTS,
    PROGRAM,
    START,
    VIOLATION,
    Header,
    Identity,
    body,
    body_and_rest,
    parse_header,
    sha256_only,
    text,
    zero,
)
from testbed.attest.finding import BadEvidence

__all__ = [
    "ASKED",
    "ATTACHED",
    "DETACHED",
    "KINDS",
    "PERIODIC",
    "BeatEntry",
    "Identity",
    "ImageEntry",
    "LaunchEntry",
    "LossEntry",
    "MeasurerEntry",
    "MountsEntry",
    "ProgramEntry",
]

PREFIX = b"ctr-"
NO_PATH, UNLINKED, ANON_FILE, LATE, NOT_BOUND, VERITY = 1, 2, 4, 8, 16, 32
NO_CGROUP_PATH, BEFORE = 1, 2
EXECVE, MMAP, KERNEL_READ, MPROTECT, RUNNING = 1, 2, 3, 4, 5
OPEN_WRITERS, TOMTOU, CHANGED, TAIL, UNSETTLED, LAYER = 1, 2, 3, 4, 5, 6
# Routes on which code is always measured late, and those on which it may be, by version.
_LATE_ROUTES = frozenset({MPROTECT, RUNNING})
_MAY_BE_LATE = {1: _LATE_ROUTES, 2: _LATE_ROUTES | {MMAP}, 3: _LATE_ROUTES | {MMAP}}
_NEVER_LATE = frozenset(range(EXECVE, MPROTECT))
_VIOLATIONS = {1: TOMTOU, 2: UNSETTLED, 3: LAYER}
_FILE = struct.Struct("<HHIQ32s")
_START = struct.Struct("<QIIII")
_VIOLATION = struct.Struct("<HHIQQ")
_JOIN = struct.Struct("<QQ")


class FileEntry(NamedTuple):
    """``ctr-file``: code that a container got. ``size`` in bytes.

    ``digest``: SHA-256 of the whole content; with flag ``VERITY`` the file's fs-verity digest instead.
    """

    container: Identity
    flags: int
    route: int
    size: int
    digest: bytes
    path: bytes

    @property
    def verity(self) -> bool:
        """Whether the digest is that of fs-verity. Two digests of different kinds are never equal."""
        return bool(self.flags & VERITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEntry:
    """``ctr-start``: a container was first seen. ``parent``: the ``seq`` of the one that started it, 0 for the host."""

    container: Identity
    flags: int
    parent: int
    pidns: int
    utsns: int
    cgroup_path: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationEntry:
    """``ctr-violation``: code of a container that could have been changed while it was used.

    ``device``: major and minor of the file system that has the file, ``inode`` its number there.
    """

    container: Identity
    flags: int
    violation: int
    device: tuple[int, int]
    inode: int
    path: bytes


class JoinEntry(NamedTuple):
    """``ctr-join``: a task created at ``joined`` came from container ``origin`` (0: the host) into this one."""

    container: Identity
    joined: int
    origin: int


# Entries of one container, those of none, and all of them.
OfContainer = FileEntry | StartEntry | LaunchEntry | ViolationEntry | JoinEntry | LossEntry | MountsEntry | ProgramEntry
OfNone = ImageEntry | BeatEntry | MeasurerEntry
Payload = OfContainer | OfNone


def parse_payload(name: bytes, payload: bytes) -> Payload:
    """Read the payload of an event called ``name``. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    header = parse_header(name, payload)
    return _PARSERS[header.kind](header, payload)


def runtime_id(cgroup_path: bytes) -> str | None:
    """Return the first id of a runtime that a cgroup's path shows: that of the outermost container."""
    place = find_place(cgroup_path.decode(errors="backslashreplace"))
    return None if place is None else place.id


def _file(header: Header, payload: bytes) -> FileEntry:
    fixed, rest = body_and_rest(payload, _FILE)
    route, hash_alg, path_len, size, digest = _FILE.unpack(fixed)
    flags = header.flags
    if not EXECVE <= route <= RUNNING:
        raise BadEvidence("route", f"{EXECVE} to {RUNNING}", f"{route}")
    late = _MAY_BE_LATE[header.version] if flags & LATE else _NEVER_LATE
    if route not in late:
        may = sorted(_MAY_BE_LATE[header.version] - _LATE_ROUTES)
        expected = f"LATE with routes {MPROTECT} and {RUNNING}, {f'perhaps with {may}, ' if may else ''}with no others"
        raise BadEvidence("flags", expected, f"0x{flags:x}, route {route}")
    sha256_only(hash_alg)
    path = text("path", rest, path_len, absent=bool(flags & NO_PATH))
    return FileEntry(header.container, flags, route, size, digest, path)


def _start(header: Header, payload: bytes) -> StartEntry:
    fixed, rest = body_and_rest(payload, _START)
    parent, pidns, utsns, cgroup_len, reserved = _START.unpack(fixed)
    zero("reserved", reserved)
    if parent == header.container.seq:
        raise BadEvidence("parent", "another container", f"{parent}, itself")
    path = text("cgroup_path", rest, cgroup_len, absent=bool(header.flags & NO_CGROUP_PATH))
    return StartEntry(
        container=header.container, flags=header.flags, parent=parent, pidns=pidns, utsns=utsns, cgroup_path=path
    )


def _violation(header: Header, payload: bytes) -> ViolationEntry:
    fixed, rest = body_and_rest(payload, _VIOLATION)
    violation, reserved, path_len, device, inode = _VIOLATION.unpack(fixed)
    if not OPEN_WRITERS <= violation <= _VIOLATIONS[header.version]:
        raise BadEvidence("violation", f"{OPEN_WRITERS} to {_VIOLATIONS[header.version]}", f"{violation}")
    zero("reserved", reserved)
    path = text("path", rest, path_len, absent=bool(header.flags & NO_PATH))
    return ViolationEntry(
        container=header.container,
        flags=header.flags,
        violation=violation,
        device=(device >> 32, device & 0xFFFFFFFF),
        inode=inode,
        path=path,
    )


def _join(header: Header, payload: bytes) -> JoinEntry:
    joined, origin = _JOIN.unpack(body(payload, _JOIN))
    if origin == header.container.seq:
        raise BadEvidence("from", "another container", f"{origin}, itself")
    return JoinEntry(header.container, joined, origin)


_PARSERS: Mapping[int, Callable[[Header, bytes], Payload]] = {
    FILE: _file,
    START: _start,
    IMAGE: parse_image,
    LAUNCH: parse_launch,
    VIOLATION: _violation,
    BEAT: parse_beat,
    JOIN: _join,
    LOSS: parse_loss,
    MOUNTS: parse_mounts,
    PROGRAM: parse_program,
    MEASURER: lambda _, payload: parse_measurer(payload),
}

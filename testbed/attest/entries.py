"""Our own entries: the payload of an ``ima-buf`` entry, from docs/formats.md section 2 and from nothing else.

A version or a kind that is not known is *unsupported*; what contradicts the page is *malformed*.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from testbed.attest.finding import BadEvidence
from testbed.attest.launch import ImageEntry, LaunchEntry, parse_image, parse_launch
from testbed.attest.payload import (
    BEAT,
    FILE,
    IMAGE,
    KINDS,
    LAUNCH,
    START,
    VIOLATION,
    Identity,
    body,
    body_and_rest,
    parse_header,
    sha256_only,
    text,
    zero,
)

__all__ = ["KINDS", "Identity", "ImageEntry", "LaunchEntry"]

PREFIX = b"ctr-"
NO_PATH, UNLINKED, ANON_FILE, LATE = 1, 2, 4, 8
NO_CGROUP_PATH, BEFORE = 1, 2
EXECVE, MMAP, KERNEL_READ, MPROTECT, RUNNING = 1, 2, 3, 4, 5
OPEN_WRITERS, TOMTOU = 1, 2
ATTACHED, PERIODIC, ASKED, DETACHED = 1, 2, 3, 4
_LATE_ROUTES = frozenset({MPROTECT, RUNNING})
_FILE = struct.Struct("<HHIQ32s")
_START = struct.Struct("<QIIII")
_VIOLATION = struct.Struct("<HHIQQ")
_BEAT = struct.Struct("<QQIIQQQ")
_JOIN = struct.Struct("<QQ")
# Podman's cgroup of a container, with either cgroup manager; the innermost counts where podman runs in podman.
# podman, docker, CRI-O and containerd put their name before the id; an OCI runtime called directly need not.
_ENGINES = rb"(?:libpod|docker|crio|cri-containerd|crun|runc)-"
_RUNTIME_ID = re.compile(rb"(?:^|/)(?:" + _ENGINES + rb")?([0-9a-f]{64})(?:\.scope)?(?=/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """``ctr-file``: code that a container got. ``size`` in bytes, ``digest`` SHA-256 of the whole content."""

    container: Identity
    flags: int
    route: int
    size: int
    digest: bytes
    path: bytes


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatEntry:
    """``ctr-beat``: the measurer was there.

    ``time`` and ``interval`` in nanoseconds, ``lost``: events without an entry, ``containers``: highest ``seq``.
    """

    number: int
    time: int
    event: int
    interval: int
    lost: int
    containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinEntry:
    """``ctr-join``: a task created at ``joined`` came from container ``origin`` (0: the host) into this one."""

    container: Identity
    joined: int
    origin: int


# Entries of one container, and all of them.
OfContainer = FileEntry | StartEntry | LaunchEntry | ViolationEntry | JoinEntry
Payload = OfContainer | ImageEntry | BeatEntry


def parse_payload(name: bytes, payload: bytes) -> Payload:
    """Read the payload of an event called ``name``. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    kind, flags, container = parse_header(name, payload)
    if kind == FILE:
        return _file(container, flags, payload)
    if kind == START:
        return _start(container, flags, payload)
    if kind == IMAGE:
        return parse_image(payload)
    if kind == LAUNCH:
        return parse_launch(container, flags, payload)
    if kind == VIOLATION:
        return _violation(container, flags, payload)
    return _beat(payload) if kind == BEAT else _join(container, payload)


def runtime_id(cgroup_path: bytes) -> str | None:
    """Return the runtime's own id of the container whose cgroup this is, if it shows one."""
    found = _RUNTIME_ID.findall(cgroup_path)
    return found[-1].decode() if found else None


def _file(container: Identity, flags: int, payload: bytes) -> FileEntry:
    fixed, rest = body_and_rest(payload, _FILE)
    route, hash_alg, path_len, size, digest = _FILE.unpack(fixed)
    if not EXECVE <= route <= RUNNING:
        raise BadEvidence("route", f"{EXECVE} to {RUNNING}", f"{route}")
    if bool(flags & LATE) != (route in _LATE_ROUTES):
        expected = f"LATE with routes {MPROTECT} and {RUNNING} and with no others"
        raise BadEvidence("flags", expected, f"0x{flags:x}, route {route}")
    sha256_only(hash_alg)
    path = text("path", rest, path_len, absent=bool(flags & NO_PATH))
    return FileEntry(container=container, flags=flags, route=route, size=size, digest=digest, path=path)


def _start(container: Identity, flags: int, payload: bytes) -> StartEntry:
    fixed, rest = body_and_rest(payload, _START)
    parent, pidns, utsns, cgroup_len, reserved = _START.unpack(fixed)
    zero("reserved", reserved)
    if parent == container.seq:
        raise BadEvidence("parent", "another container", f"{parent}, itself")
    path = text("cgroup_path", rest, cgroup_len, absent=bool(flags & NO_CGROUP_PATH))
    return StartEntry(container=container, flags=flags, parent=parent, pidns=pidns, utsns=utsns, cgroup_path=path)


def _violation(container: Identity, flags: int, payload: bytes) -> ViolationEntry:
    fixed, rest = body_and_rest(payload, _VIOLATION)
    violation, reserved, path_len, device, inode = _VIOLATION.unpack(fixed)
    if violation not in {OPEN_WRITERS, TOMTOU}:
        raise BadEvidence("violation", f"{OPEN_WRITERS} or {TOMTOU}", f"{violation}")
    zero("reserved", reserved)
    path = text("path", rest, path_len, absent=bool(flags & NO_PATH))
    major_minor = (device >> 32, device & 0xFFFFFFFF)
    return ViolationEntry(
        container=container, flags=flags, violation=violation, device=major_minor, inode=inode, path=path
    )


def _beat(payload: bytes) -> BeatEntry:
    number, time, event, reserved, interval, lost, containers = _BEAT.unpack(body(payload, _BEAT))
    if number == 0:
        raise BadEvidence("number", "1 or more", "0")
    if event not in {ATTACHED, PERIODIC, ASKED, DETACHED}:
        raise BadEvidence("event", f"{ATTACHED} to {DETACHED}", f"{event}")
    zero("reserved", reserved)
    return BeatEntry(number=number, time=time, event=event, interval=interval, lost=lost, containers=containers)


def _join(container: Identity, payload: bytes) -> JoinEntry:
    joined, origin = _JOIN.unpack(body(payload, _JOIN))
    if origin == container.seq:
        raise BadEvidence("from", "another container", f"{origin}, itself")
    return JoinEntry(container=container, joined=joined, origin=origin)

"""Our own entries: the payload of an ``ima-buf`` entry, from docs/formats.md section 2 and from nothing else.

A version or a kind that is not known is *unsupported*; what contradicts the page is *malformed*.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from testbed.attest.finding import BadEvidence, UnsupportedEvidence

MAGIC = b"TBCM"
VERSION = 1
PREFIX = b"ctr-"
VIOLATION = b"ctr-violation"
KINDS = {b"ctr-file": 1, b"ctr-start": 2, b"ctr-beat": 6, b"ctr-join": 7}

NO_PATH, UNLINKED, ANON_FILE, LATE = 1, 2, 4, 8
NO_CGROUP_PATH, BEFORE = 1, 2
EXECVE, MMAP, RUNNING = 1, 2, 5
ATTACHED, PERIODIC, ASKED, DETACHED = 1, 2, 3, 4
_SHA256 = 0x000B
_FLAGS = {1: NO_PATH | UNLINKED | ANON_FILE | LATE, 2: NO_CGROUP_PATH | BEFORE, 6: 0, 7: 0}
_HEADER = struct.Struct("<4sHHIIQQQQ")
_FILE = struct.Struct("<HHIQ32s")
_START = struct.Struct("<QIIII")
_BEAT = struct.Struct("<QQIIQQQ")
_JOIN = struct.Struct("<QQ")
# Podman's cgroup of a container, with either cgroup manager; the innermost counts where podman runs in podman.
# podman, docker, CRI-O and containerd put their name before the id; an OCI runtime called directly need not.
_ENGINES = rb"(?:libpod|docker|crio|cri-containerd|crun|runc)-"
_RUNTIME_ID = re.compile(rb"(?:^|/)(?:" + _ENGINES + rb")?([0-9a-f]{64})(?:\.scope)?(?=/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which container: four fields that are in every entry. ``started``: nanoseconds since boot."""

    seq: int
    mntns: int
    cgroup: int
    started: int


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


Payload = FileEntry | StartEntry | BeatEntry | JoinEntry


def parse_payload(name: bytes, payload: bytes) -> Payload:
    """Read the payload of an event called ``name``. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    kind, flags, container = _header(name, payload)
    if kind == KINDS[b"ctr-file"]:
        return _file(container, flags, payload)
    if kind == KINDS[b"ctr-start"]:
        return _start(container, flags, payload)
    return _beat(payload) if kind == KINDS[b"ctr-beat"] else _join(container, payload)


def runtime_id(cgroup_path: bytes) -> str | None:
    """Return the runtime's own id of the container whose cgroup this is, if it shows one."""
    found = _RUNTIME_ID.findall(cgroup_path)
    return found[-1].decode() if found else None


def _header(name: bytes, payload: bytes) -> tuple[int, int, Identity]:
    if len(payload) < _HEADER.size:
        raise BadEvidence("payload", f"{_HEADER.size} bytes of header", f"{len(payload)}")
    magic, version, kind, length, flags, seq, mntns, cgroup, started = _HEADER.unpack_from(payload)
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
    if kind == KINDS[b"ctr-beat"]:
        if any(fields):
            raise BadEvidence("seq, mntns, cgroup, started", "0, 0, 0, 0", ", ".join(map(str, fields)))
    elif seq == 0:
        raise BadEvidence("seq", "1 or more", "0")
    return Identity(seq=seq, mntns=mntns, cgroup=cgroup, started=started)


def _file(container: Identity, flags: int, payload: bytes) -> FileEntry:
    at = _HEADER.size
    if len(payload) < at + _FILE.size:
        raise BadEvidence("payload", f"{at + _FILE.size} bytes or more", f"{len(payload)}")
    route, hash_alg, path_len, size, digest = _FILE.unpack_from(payload, at)
    if route not in {EXECVE, MMAP, RUNNING}:
        raise BadEvidence("route", f"{EXECVE}, {MMAP} or {RUNNING}", f"{route}")
    if bool(flags & LATE) != (route == RUNNING):
        raise BadEvidence("flags", f"LATE with route {RUNNING} and with no other", f"0x{flags:x}, route {route}")
    if hash_alg != _SHA256:
        raise UnsupportedEvidence("hash_alg", f"0x{_SHA256:04x}", f"0x{hash_alg:04x}")
    path = _text("path", payload[at + _FILE.size :], path_len, absent=bool(flags & NO_PATH))
    return FileEntry(container=container, flags=flags, route=route, size=size, digest=digest, path=path)


def _start(container: Identity, flags: int, payload: bytes) -> StartEntry:
    at = _HEADER.size
    if len(payload) < at + _START.size:
        raise BadEvidence("payload", f"{at + _START.size} bytes or more", f"{len(payload)}")
    parent, pidns, utsns, cgroup_len, reserved = _START.unpack_from(payload, at)
    if reserved:
        raise BadEvidence("reserved", "0", f"{reserved}")
    if parent == container.seq:
        raise BadEvidence("parent", "another container", f"{parent}, itself")
    path = _text("cgroup_path", payload[at + _START.size :], cgroup_len, absent=bool(flags & NO_CGROUP_PATH))
    return StartEntry(container=container, flags=flags, parent=parent, pidns=pidns, utsns=utsns, cgroup_path=path)


def _beat(payload: bytes) -> BeatEntry:
    number, time, event, reserved, interval, lost, containers = _BEAT.unpack(_rest(payload, _BEAT))
    if number == 0:
        raise BadEvidence("number", "1 or more", "0")
    if event not in {ATTACHED, PERIODIC, ASKED, DETACHED}:
        raise BadEvidence("event", f"{ATTACHED} to {DETACHED}", f"{event}")
    if reserved:
        raise BadEvidence("reserved", "0", f"{reserved}")
    return BeatEntry(number=number, time=time, event=event, interval=interval, lost=lost, containers=containers)


def _join(container: Identity, payload: bytes) -> JoinEntry:
    joined, origin = _JOIN.unpack(_rest(payload, _JOIN))
    if origin == container.seq:
        raise BadEvidence("from", "another container", f"{origin}, itself")
    return JoinEntry(container=container, joined=joined, origin=origin)


def _rest(payload: bytes, body: struct.Struct) -> bytes:
    if len(payload) != _HEADER.size + body.size:
        raise BadEvidence("payload", f"{_HEADER.size + body.size} bytes", f"{len(payload)}")
    return payload[_HEADER.size :]


def _text(field: str, text: bytes, length: int, *, absent: bool) -> bytes:
    """Check the bytes at a payload's end: as many as announced, some unless the flag says that there are none."""
    if length != len(text):
        raise BadEvidence(f"{field} length", f"{len(text)}, the bytes that follow", f"{length}")
    if absent == bool(text):
        raise BadEvidence(field, "no bytes, as the flag says" if absent else "bytes, or the flag for none", f"{length}")
    if b"\0" in text:
        raise BadEvidence(field, "no zero byte", ascii(text[:80]))
    return text

"""Entries of version 2 about a container that no honest log has, and policies that know it."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.policies import judged
from testbed.attest.mutate.engine.lines import buffer_line, event, patched, payload, payload_of
from testbed.attest.mutate.engine.model import Forged, Honest

ID = "6d" * 32
TREE = hashlib.sha256(b"tree of version 2").digest()
PROGRAM = hashlib.sha256(b"instructions").digest()
TABLE = (
    b"/ overlay overlay / rw,relatime rw\n"
    b"/proc proc proc / rw,nosuid,nodev,noexec,relatime rw\n"
    b"/dev tmpfs tmpfs / rw,nosuid rw\n"
    b"/sys/fs/cgroup cgroup2 cgroup2 /testbed ro,nosuid,nodev,noexec rw\n"
)
_SECOND = 1_000_000_000
NONE = bytes(32)
NAME = "second"
_TOP = frozenset({"measurer", "on", "containers", "cgroups"})
_PATH = b"/usr/bin/second"


def of(number: int, kind: int, name: bytes, body: bytes, flags: int = 0) -> Entry:
    """Return an entry of version 2 about the added container."""
    who = struct.pack("<QQQQ", 0x6666 + number, 4026532991, 9002 + number, 50_000_000_000 + number)
    return buffer_line(name, payload_of(kind, body, identity=who, flags=flags, version=2))


def of_none(kind: int, name: bytes, body: bytes) -> Entry:
    return buffer_line(name, payload_of(kind, body, version=2))


def start(number: int = 0, *, path: str = f"/testbed/{ID}", parent: int = 0, flags: int = 0) -> Entry:
    body = struct.pack("<QIIII", parent, 4026532982, 4026532983, len(path), 0) + path.encode()
    return of(number, 2, b"ctr-start", body, flags)


def image(tree: bytes = TREE, *, version: int = 2) -> Entry:
    return of_none(3, b"ctr-image", struct.pack("<HHIQQ32s", version, 0x000B, 0, 9, 1000, tree))


def launch(number: int = 0, *, table: bytes = TABLE, flags: int = 0, mode: int = 0o755) -> Entry:
    arguments = b"/usr/bin/true\0--now\0"
    numbers = (0x000B, 0, 0, 0, 2, len(arguments), 0, 0, table.count(b"\n"), len(table), mode)
    body = struct.pack("<HHIIIIIIIII32s32s32s32sQQQQ", *numbers, TREE, TREE, TREE, NONE, 0, 0, 0, 0)
    return of(number, 4, b"ctr-launch", body + struct.pack("<II32s", 0, 0, NONE) + arguments + table, flags)


def file(number: int = 0, *, route: int = 1, flags: int = 0, path: bytes = _PATH) -> Entry:
    body = struct.pack("<HHIQ32s", route, 0x000B, len(path), 4, hashlib.sha256(b"true").digest()) + path
    return of(number, 1, b"ctr-file", body, flags)


def violation(why: int) -> Entry:
    return of(0, 5, b"ctr-violation", struct.pack("<HHIQQ", why, 0, len(_PATH), 8 << 32 | 1, 4711) + _PATH)


def loss(count: int = 1, reasons: int = 1, number: int = 0) -> Entry:
    return of(number, 8, b"ctr-loss", struct.pack("<QII", count, reasons, 0))


def mounts(table: bytes, flags: int = 0) -> Entry:
    return of(0, 9, b"ctr-mounts", struct.pack("<QII", 7, table.count(b"\n"), len(table)) + table, flags)


def program(what: int = 1, command: int = 5, digest: bytes = PROGRAM) -> Entry:
    size, algorithm = (16, 0x000B) if any(digest) else (0, 0)
    return of(0, 10, b"ctr-program", struct.pack("<HHIQ32s", what, algorithm, command, size, digest))


def part(number: int, content: bytes = b"part") -> Entry:
    body = struct.pack("<HHIQ32s", number, 0x000B, 0, len(content), hashlib.sha256(content).digest())
    return of_none(11, b"ctr-measurer", body)


def beat(number: int, what: int, proved: int, containers: int) -> Entry:
    times = (number, (10 + number) * _SECOND, what, proved, 0)
    return of_none(6, b"ctr-beat", struct.pack("<QQIIQQQ", *times, 0, containers))


def downgraded(entry: Entry) -> Entry:
    """Return an entry that claims version 1."""
    return as_version(entry, 1)


def as_version(entry: Entry, version: int) -> Entry:
    """Return an entry that claims a version."""
    return buffer_line(event(entry), patched(payload(entry), 4, struct.pack("<H", version)))


def with_policy(honest: Honest, forged: Forged, **keys: Any) -> Forged:
    """Judge by a policy that names an image for the added container. ``keys``: of the document, else of the image."""

    def edit(_: Honest, document: dict[str, Any]) -> None:
        files = {_PATH.decode(): [f"sha256:{hashlib.sha256(b'true').hexdigest()}"]}
        document["images"][NAME] = {"files": files} | {key: value for key, value in keys.items() if key not in _TOP}
        document["containers"] |= keys.get("containers", {ID: [NAME]})
        document.update({key: keys[key] for key in ("measurer", "on", "cgroups") if key in keys})

    return judged(honest, forged, edit)

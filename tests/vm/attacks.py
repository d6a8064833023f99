"""Attacks on the measurer in a container of a guest: what they say that they did, and what the log says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from holes import memory
from robust import CGROUP, MEASURER, VOLUME, Contained, Subject, payload_of

from testbed import measurers
from testbed.attest.entries import parse
from testbed.attest.entries.parse import (
    BeatEntry,
    FileEntry,
    LossEntry,
    OfNone,
    Payload,
    ProgramEntry,
    StartEntry,
    ViolationEntry,
)
from testbed.guest import Completed

# A page fault that the kernel takes is answered by a process of the container.
_RIGHTS = ("CAP_SYS_PTRACE",)
_MODULES = (
    *("extents", "floods", "late", "layers", "memories", "pins", "poison", "programs", "quiet", "refusals", "servers"),
    *("sharers", "tails", "texts", "verities", "victims"),
)
_IMPORTS = f"import json; from holes import {', '.join(_MODULES)}"
_SECONDS = 120
KERNELS = tuple(os.environ.get("TESTBED_KERNELS", "debian-6.1,debian-6.12").split(","))
GOOD, EVIL = memory.GOOD, memory.EVIL
# By the bits of ``ctr-loss``: see ``integrity.REASONS``.
UNREAD, PENDING, VIOLATION, FORGOTTEN, FLOODED = 1, 4, 16, 32, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What an attack said, and what the log got of its container."""

    seq: int
    said: dict[str, object]
    files: tuple[FileEntry, ...]
    violations: tuple[ViolationEntry, ...]
    losses: tuple[LossEntry, ...]
    programs: tuple[ProgramEntry, ...]

    def of(self, path: str) -> list[FileEntry]:
        return [one for one in self.files if one.path == path.encode()]

    def told(self, path: str) -> set[int]:
        """Return the violations of a path."""
        return {one.violation for one in self.violations if one.path == path.encode()}

    def shows(self, path: str, content: bytes) -> bool:
        """Say whether the log has this content of a path, or says that it cannot tell."""
        return digest(content) in {one.digest for one in self.of(path)} or bool(self.told(path))


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


Change = Callable[[dict[str, Any]], None]


def attack(call: str, *rights: str, changes: tuple[Change, ...] = ()) -> Contained:
    """Return a container in which a function of ``holes`` is called."""
    words = f"{_IMPORTS}; print(json.dumps({call}))"
    return Contained(
        argv=("/usr/bin/python3", "-c", words), rights=(*_RIGHTS, *rights), changes=(with_devices, *changes)
    )


def with_devices(config: dict[str, Any]) -> None:
    """Let a container serve files and use any device."""
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
    config["linux"]["devices"] = [fuse]
    config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}


def with_cgroups(config: dict[str, Any]) -> None:
    """Let a container make cgroups below its own."""
    for one in config["mounts"]:
        if one["type"] == "cgroup":
            one["options"] = [word for word in one["options"] if word != "ro"] + ["rw"]


def play(subject: Subject, call: str, *rights: str, changes: tuple[Change, ...] = ()) -> Played:
    """Run an attack to its end."""
    one = attack(call, *rights, changes=changes)
    said = subject.start(one).text
    return outcome(subject, one, said)


def outcome(subject: Subject, one: Contained, said: str) -> Played:
    """Return what an attack that has ended came to."""
    files = subject.files(one)
    seq = number_of(subject, one)
    mine = [it for it in payloads(subject) if not isinstance(it, OfNone) and it.container.seq == seq]
    return Played(
        seq=seq,
        said=json.loads(said),
        files=tuple(files),
        violations=tuple(it for it in mine if isinstance(it, ViolationEntry)),
        losses=tuple(it for it in mine if isinstance(it, LossEntry)),
        programs=tuple(it for it in mine if isinstance(it, ProgramEntry)),
    )


@contextmanager
def running(subject: Subject, one: Contained) -> Iterator[Future[Completed]]:
    """Run a container meanwhile; it is killed if something fails, and else waited for."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(subject.start, one, check=False)
        try:
            yield future
        except BaseException:
            kill(subject, one)
            raise


def kill(subject: Subject, one: Contained) -> None:
    subject.guest.run(("sh", "-c", f"echo 1 >/sys/fs/cgroup{CGROUP}/{one.id}/cgroup.kill"), check=False)


def pipes(subject: Subject, name: str) -> str:
    """Make a place by whose pipes a container says that it has ``asked`` for something, and gets its ``release``."""
    place = subject.place(name)
    subject.guest.run(("mkfifo", f"/root{place}/asked", f"/root{place}/release"))
    return place


def wait_for(subject: Subject, place: str) -> None:
    subject.guest.run(("cat", f"/root{place}/asked"), timeout=_SECONDS)


def release(subject: Subject, place: str) -> None:
    subject.guest.run(("sh", "-c", f"echo >/root{place}/release"))


def payloads(subject: Subject) -> list[Payload]:
    return [payload_of(entry) for entry in subject.log()]


def number_of(subject: Subject, one: Contained) -> int:
    """Return the number that the log gives a container, which may be running."""
    starts = [it for it in payloads(subject) if isinstance(it, StartEntry)]
    (mine,) = (it for it in starts if parse.runtime_id(it.cgroup_path) == one.id and not it.parent)
    return mine.container.seq


def on_the_host(subject: Subject, call: str) -> dict[str, object]:
    """Run an attack outside of any container, where nothing is measured: it must succeed there."""
    words = f"import sys; sys.path.insert(0, '/root{VOLUME}'); {_IMPORTS}; print(json.dumps({call}))"
    # What it mounts goes with it.
    said = subject.guest.run(("unshare", "--mount", "python3", "-c", words), timeout=_SECONDS).text
    return dict(json.loads(said))


def lost(subject: Subject) -> int:
    """Return how often the log lacks something of which no container can be named."""
    measurers.beat(MEASURER, subject.guest)
    *_, last = (it for it in payloads(subject) if isinstance(it, BeatEntry))
    return last.lost


@contextmanager
def nothing_lost(subject: Subject) -> Iterator[None]:
    """Check that the machine as a whole has lost nothing meanwhile."""
    before = lost(subject)
    yield
    assert lost(subject) == before


def played(subject: Subject, call: str, *rights: str) -> Played:
    """Run an attack that is no reason for a loss, neither of its container nor of the machine."""
    with nothing_lost(subject):
        got = play(subject, call, *rights)
    assert got.losses == ()
    return got

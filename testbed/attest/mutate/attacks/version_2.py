"""Attacks of root with entries of version 2: its new kinds, and what is new in the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.attacks.version_2_entries import (
    NONE,
    PROGRAM,
    TABLE,
    TREE,
    beat,
    downgraded,
    file,
    image,
    launch,
    loss,
    mounts,
    part,
    program,
    start,
    violation,
    with_policy,
)
from testbed.attest.mutate.engine.lines import ForgedMachine, event, highest_seq, needs_containers, quote
from testbed.attest.mutate.engine.model import Forged, Honest, by_root

_PARTS = ("module", "object", "loader")
_EVIL_MOUNT = b"/usr/bin tmpfs tmpfs / rw,relatime rw\n"
_OPEN, _ALL = 0x20, 0x3FF


def _beaten(honest: Honest, beats: tuple[tuple[int, int, int], ...]) -> Forged:
    """Show these beats, each a number, an event and hooks, and no others."""
    rest = [entry for entry in honest.covered() if event(entry) != b"ctr-beat"]
    lines = [beat(*one, highest_seq(rest[:-1])) for one in beats]
    return quote(honest, ForgedMachine(lines=[*rest[:-1], *lines, rest[-1]]))


def _added(honest: Honest, lines: tuple[Entry, ...]) -> Forged:
    return added(honest, *lines)


def _without_parts(honest: Honest) -> list[Entry]:
    """Return what is covered, without the entries about the measurer's parts: attacks add their own."""
    return [entry for entry in honest.covered() if event(entry) != b"ctr-measurer"]


def _by_policy(honest: Honest, lines: tuple[Entry, ...], keys: Mapping[str, Any]) -> Forged:
    if "measurer" in keys:
        return with_policy(honest, quote(honest, ForgedMachine(lines=[*_without_parts(honest), *lines])), **keys)
    return with_policy(honest, added(honest, *lines), **keys)


def _later(honest: Honest, lines: tuple[Entry, ...], keys: Mapping[str, Any]) -> Forged:
    """Save a state after the container's start, and judge the rest from there."""
    first = [*honest.covered(), *GOOD]
    now = quote(honest, ForgedMachine(lines=[*first, *lines], clock=60_000))
    before = with_policy(honest, quote(honest, ForgedMachine(lines=first)), **keys)
    return replace(with_policy(honest, now, **keys), since=before)


GOOD = (start(), image(), launch(), file())
_MEASURER = tuple(part(number) for number in (1, 2, 3))
_GOOD_PART = f"sha256:{hashlib.sha256(b'part').hexdigest()}"
_PINNED = {"measurer": {key: [_GOOD_PART] for key in _PARTS}}
_USUAL = {"mounts": ["usual"]}
_LISTED = {"programs": [f"sha256:{PROGRAM.hex()}", "bpf:2"]}
_COMMAND = program(2, 2, NONE)
_LINES: tuple[tuple[str, str, str, tuple[Entry, ...], tuple[str, ...]], ...] = (
    ("good", "T47", "no attack: a container with start, image, launch and file", GOOD, ()),
    ("late-mapping", "T10", "no attack: a large mapping, hashed late", (*GOOD, file(route=2, flags=8)), ()),
    ("late-execve", "T60", "an execve that was hashed late", (*GOOD, file(flags=8)), (Kind.MALFORMED,)),
    ("not-bound", "T10", "a file whose content is not bound", (*GOOD, file(flags=16)), (Kind.NOT_BOUND,)),
    (
        "not-bound-in-version-1",
        "T60",
        "a flag of version 2 in version 1",
        (*GOOD, downgraded(file(flags=16))),
        (Kind.MALFORMED,),
    ),
    ("changed", "T37", "code that changed before it was hashed", (*GOOD, violation(3)), (Kind.VIOLATION,)),
    ("tail", "T37", "code with bytes after the end of its file", (*GOOD, violation(4)), (Kind.VIOLATION,)),
    ("unsettled", "T37", "code with pages that could not be dropped", (*GOOD, violation(5)), (Kind.VIOLATION,)),
    ("violation-unknown", "T60", "a violation of an unknown kind", (*GOOD, violation(6)), (Kind.MALFORMED,)),
    ("loss", "T69", "code of a container without an entry", (*GOOD, loss()), (Kind.UNKNOWN_WINDOW,)),
    ("loss-flooded", "T69", "more entries than a container may write", (*GOOD, loss(8, 64)), (Kind.UNKNOWN_WINDOW,)),
    ("loss-of-none", "T60", "a loss of 0 events", (*GOOD, loss(0)), (Kind.MALFORMED,)),
    ("loss-without-reason", "T60", "a loss without a reason", (*GOOD, loss(1, 0)), (Kind.MALFORMED,)),
    ("loss-reason-unknown", "T60", "a loss for an unknown reason", (*GOOD, loss(1, 128)), (Kind.MALFORMED,)),
    (
        "loss-without-start",
        "T52",
        "a loss of a container that never started",
        (loss(),),
        (Kind.MALFORMED, Kind.UNKNOWN_WINDOW),
    ),
    ("loss-in-version-1", "T60", "a kind of version 2 in version 1", (*GOOD, downgraded(loss())), (Kind.UNSUPPORTED,)),
    ("program", "T20", "a container that loads a BPF program", (*GOOD, program()), (Kind.UNKNOWN_FILE,)),
    ("program-command", "T20", "a container that reaches BPF maps", (*GOOD, _COMMAND), (Kind.UNKNOWN_FILE,)),
    ("program-module", "T20", "a container that loads a module", (*GOOD, program(3, 0)), (Kind.UNKNOWN_FILE,)),
    ("program-without-digest", "T60", "a program without a digest", (*GOOD, program(1, 5, NONE)), (Kind.UNSUPPORTED,)),
    ("program-other-command", "T60", "a program loaded by another command", (*GOOD, program(1, 6)), (Kind.MALFORMED,)),
    ("mounts", "T47", "no attack: mounts listed again, and no policy", (*GOOD, mounts(TABLE + _EVIL_MOUNT)), ()),
    ("mounts-count", "T60", "a list of mounts without the final line break", (mounts(TABLE[:-1]),), (Kind.MALFORMED,)),
    (
        "mounts-escape",
        "T60",
        "a mount with an escape that the kernel never writes",
        (start(), image(), launch(table=TABLE + _EVIL_MOUNT.replace(b"bin", b"\\101"))),
        (Kind.MALFORMED,),
    ),
    (
        "mounts-hidden-by-flag",
        "T60",
        "mounts, and the flag for no mounts",
        (start(), image(), launch(flags=64)),
        (Kind.MALFORMED,),
    ),
    (
        "root-mode",
        "T60",
        "a root directory whose mode contains a file type",
        (start(), image(), launch(mode=0o40755)),
        (Kind.MALFORMED,),
    ),
    ("image-of-tree-1", "T60", "an image's tree digest of version 1", (image(version=1),), (Kind.UNSUPPORTED,)),
    ("measurer", "T69", "no attack: the measurer names its parts, and no policy", _MEASURER, ()),
    ("measurer-unknown-part", "T60", "an unknown part of the measurer", (part(4),), (Kind.MALFORMED,)),
)
_BEATS: tuple[tuple[str, str, tuple[tuple[int, int, int], ...], tuple[str, ...]], ...] = (
    ("good", "no attack: all hooks proved", ((1, 1, 0), (2, 2, _OPEN), (3, 3, _ALL), (4, 2, _ALL)), ()),
    (
        "unproved",
        "a requested beat that has not seen one of the hooks run",
        ((1, 1, 0), (2, 3, _ALL - 8)),
        (Kind.UNKNOWN_WINDOW,),
    ),
    (
        "blind",
        "a periodic beat that has not seen file_open run",
        ((1, 1, 0), (2, 2, _ALL - 32)),
        (Kind.UNKNOWN_WINDOW,),
    ),
    ("hook-unknown", "a hook that does not exist", ((1, 1, 1 << 10),), (Kind.MALFORMED,)),
)
_POLICIES: tuple[tuple[str, str, str, tuple[Entry, ...], Mapping[str, Any], tuple[str, ...]], ...] = (
    ("not-bound-noted", "T10", "a file that is not bound", (*GOOD, file(flags=16)), {"on": {"not-bound": "note"}}, ()),
    (
        "not-bound-unknown-noted",
        "T10",
        "a file that is not bound is not excused by `on.unknown`",
        (*GOOD, file(flags=16)),
        {"on": {"unknown": "note", "violation": "note"}},
        (Kind.NOT_BOUND,),
    ),
    ("mounts-usual", "T47", "no attack: mounts as any runtime makes them", GOOD, _USUAL, ()),
    (
        "mounts-more",
        "T47",
        "a mount over the image's programs",
        (start(), image(), launch(table=TABLE + _EVIL_MOUNT), file()),
        _USUAL,
        (Kind.WRONG_LAUNCH,),
    ),
    (
        "mounts-later",
        "T47",
        "a mount over the image's programs, after the start",
        (*GOOD, mounts(TABLE + _EVIL_MOUNT)),
        _USUAL,
        (Kind.WRONG_LAUNCH,),
    ),
    (
        "mounts-cut",
        "T47",
        "an incomplete list of mounts",
        (start(), image(), launch(flags=2), file()),
        _USUAL,
        (Kind.WRONG_LAUNCH,),
    ),
    ("mounts-unread", "T47", "mounts that could not be read", (*GOOD, mounts(b"", 2)), _USUAL, (Kind.WRONG_LAUNCH,)),
    (
        "mounts-no-launch",
        "T47",
        "no launch where mounts are demanded",
        (start(), image(), file()),
        _USUAL,
        (Kind.WRONG_DIGEST,),
    ),
    ("arguments", "T47", "no attack: arguments as listed", GOOD, {"arguments": [["/usr/bin/true", "--now"]]}, ()),
    (
        "arguments-other",
        "T47",
        "arguments that are not listed",
        GOOD,
        {"arguments": [["/usr/bin/true"]]},
        (Kind.WRONG_LAUNCH,),
    ),
    (
        "program-listed",
        "T20",
        "no attack: a program and a command that are listed",
        (*GOOD, program(), _COMMAND),
        _LISTED,
        (),
    ),
    (
        "program-other",
        "T20",
        "a program that is not listed",
        (*GOOD, program(1, 5, TREE)),
        _LISTED,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "program-noted",
        "T20",
        "a program is not excused by `on.unknown`",
        (*GOOD, program()),
        {"on": {"unknown": "note"}},
        (Kind.UNKNOWN_FILE,),
    ),
    ("measurer", "T69", "no attack: the measurer's parts are listed", _MEASURER, _PINNED, ()),
    ("measurer-missing", "T69", "no entry of the measurer's parts", GOOD, _PINNED, (Kind.MISSING,)),
    ("measurer-part-missing", "T69", "no entry of one part", _MEASURER[:2], _PINNED, (Kind.MISSING,)),
    (
        "measurer-other",
        "T69",
        "a second object after the good one",
        (*_MEASURER, part(2, b"evil")),
        _PINNED,
        (Kind.WRONG_DIGEST,),
    ),
)
_SAVED: tuple[tuple[str, str, tuple[Entry, ...], Mapping[str, Any], tuple[str, ...]], ...] = (
    ("mounts", "a mount after the state was saved", (mounts(TABLE + _EVIL_MOUNT),), _USUAL, (Kind.WRONG_LAUNCH,)),
    ("loss", "a loss after the state was saved", (loss(),), {}, (Kind.UNKNOWN_WINDOW,)),
)


def _measurer_saved(honest: Honest, after: tuple[Entry, ...]) -> Forged:
    """Save a state of a log that names the measurer's parts."""
    first = [*_without_parts(honest), *_MEASURER]
    before = with_policy(honest, quote(honest, ForgedMachine(lines=first)), **_PINNED)
    now = quote(honest, ForgedMachine(lines=[*first, *after], clock=60_000))
    return replace(with_policy(honest, now, **_PINNED), since=before)


_row = partial(by_root, applies=needs_containers)
_Forge = Callable[[Honest], Forged]

ATTACKS = (
    *(
        _row(f"v2-{name}", row, f"version 2: {summary}", partial(_added, lines=lines), *expect)
        for name, row, summary, lines, expect in _LINES
    ),
    *(
        _row(f"v2-beats-{name}", "T69", f"version 2, beats: {summary}", partial(_beaten, beats=beats), *expect)
        for name, summary, beats, expect in _BEATS
    ),
    *(
        _row(
            f"policy-v2-{name}", row, f"with a policy: {summary}", partial(_by_policy, lines=lines, keys=keys), *expect
        )
        for name, row, summary, lines, keys, expect in _POLICIES
    ),
    *(
        _row(f"saved-v2-{name}", "T68", f"version 2: {summary}", partial(_later, lines=lines, keys=keys), *expect)
        for name, summary, lines, keys, expect in _SAVED
    ),
    _row(
        "saved-v2-measurer",
        "T68",
        "no attack: the measurer's parts are known from the state",
        partial(_measurer_saved, after=()),
    ),
    _row(
        "saved-v2-measurer-other",
        "T68",
        "another loader after the state was saved",
        partial(_measurer_saved, after=(part(3, b"evil"),)),
        Kind.WRONG_DIGEST,
    ),
)

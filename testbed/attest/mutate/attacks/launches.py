"""Attacks of root with entries about images and launches: correctly extended, with wrong content."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from functools import partial
from typing import Any

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.policies import judged
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    buffer_line,
    needs_containers,
    patched,
    payload,
    payload_of,
    quote,
)
from testbed.attest.mutate.engine.model import Forged, Honest, by_root

_MINUTE = 60_000
_ID = "7e" * 32  # of container 0
_TREE, _OTHER, _CONFIG = (hashlib.sha256(name).digest() for name in (b"tree", b"other tree", b"config.json"))
_NONE = bytes(32)
_NAME = "launched"


def _identity(number: int) -> bytes:
    return struct.pack("<QQQQ", 0x7777 + number, 4026532981, 9001, 40_000_000_000)


def start(number: int = 0) -> Entry:
    """Return the start of a container that the attack adds."""
    path = f"/testbed/{f'{0x7E + number:02x}' * 32}".encode()
    body = struct.pack("<QIIII", 0, 4026532982, 4026532983, len(path), 0) + path
    return buffer_line(b"ctr-start", payload_of(2, body, identity=_identity(number)))


def image(tree: bytes = _TREE, *, outcome: int = 0, version: int = 1) -> Entry:
    body = struct.pack("<HHIQQ32s", version, 0x000B, outcome, 9, 1000, tree)
    return buffer_line(b"ctr-image", payload_of(3, body))


def launch(tree: bytes = _TREE, *, outcome: int = 0, number: int = 0, config: bytes = _NONE) -> Entry:
    arguments = b"/usr/bin/true\0"
    numbers = (0x000B, outcome, 0, 0, 1, len(arguments), 0, 0, 0, 0, 0)
    body = struct.pack("<HHIIIIIIIII32s32s32s32sQQQQ", *numbers, tree, _TREE, _TREE, config, 0, 0, 0, 0) + arguments
    flags = 8 if any(config) else 0
    return buffer_line(b"ctr-launch", payload_of(4, body, identity=_identity(number), flags=flags))


def _edited(entry: Entry, at: int, new: bytes) -> Entry:
    return buffer_line(b"ctr-launch", patched(payload(entry), at, new))


def _added(honest: Honest, lines: tuple[Entry, ...]) -> Forged:
    return added(honest, *lines)


def _later(honest: Honest, before: tuple[Entry, ...], after: tuple[Entry, ...]) -> Forged:
    """Save a state after some of the lines."""
    first = [*honest.covered(), *before]
    now = quote(honest, ForgedMachine(lines=[*first, *after], clock=_MINUTE))
    return replace(now, since=quote(honest, ForgedMachine(lines=first)))


def _by_policy(honest: Honest, lines: tuple[Entry, ...], **wanted: Any) -> Forged:
    """Judge the added container by a policy that names its image."""

    def edit(_: Honest, document: dict[str, Any]) -> None:
        document["images"][_NAME] = wanted
        document["containers"][_ID] = [_NAME]

    return judged(honest, added(honest, *lines), edit)


_GOOD = (start(), image(), launch())
_CLAIMED = (start(), image(), launch(config=_CONFIG))
_LINES: tuple[tuple[str, str, str, tuple[Entry, ...], tuple[str, ...]], ...] = (
    ("good", "T47", "no attack: start, image and launch of a container", _GOOD, ()),
    ("image-shared", "T47", "no attack: two containers of one image", (*_GOOD, start(1), launch(number=1)), ()),
    ("twice", "T47", "a second launch of one container", (*_GOOD, launch(config=_CONFIG)), (Kind.MALFORMED,)),
    ("before-start", "T52", "a launch before its container's start", (image(), launch(), start()), (Kind.MALFORMED,)),
    ("without-start", "T52", "a launch of a container that never started", (image(), launch()), (Kind.MALFORMED,)),
    ("without-image", "T46", "a launch of an image that was never measured", (start(), launch()), (Kind.MALFORMED,)),
    (
        "image-later",
        "T46",
        "a launch before the image that it names",
        (start(), launch(), image()),
        (Kind.MALFORMED,),
    ),
    (
        "other-image",
        "T46",
        "a launch of an image other than the measured one",
        (start(), image(_OTHER), launch()),
        (Kind.MALFORMED,),
    ),
    (
        "over-the-limit",
        "T45",
        "an image of too many files",
        (start(), image(_NONE, outcome=1), launch(_NONE, outcome=1)),
        (Kind.NO_CONTENT,),
    ),
    (
        "unreadable",
        "T45",
        "an image with a file that could not be read",
        (start(), image(_NONE, outcome=4), launch(_NONE, outcome=4)),
        (Kind.NO_CONTENT,),
    ),
    (
        "image-killed",
        "T45",
        "no attack: a container that was killed before it ran",
        (start(), image(_NONE, outcome=5)),
        (),
    ),
    (
        "image-of-nothing",
        "T46",
        "an image digest of zeros that claims to be complete",
        (image(_NONE),),
        (Kind.MALFORMED,),
    ),
    (
        "image-version",
        "T60",
        "an image's tree digest whose version is not the entry's",
        (image(version=2),),
        (Kind.UNSUPPORTED,),
    ),
    ("image-outcome", "T60", "an unknown outcome", (image(_NONE, outcome=7),), (Kind.MALFORMED,)),
    (
        "other-identity",
        "T52",
        "a launch with a mount namespace other than its container's",
        (start(), image(), _edited(launch(), 24, b"\1")),
        (Kind.MALFORMED,),
    ),
    (
        "sizes",
        "T60",
        "a launch with wrong lengths",
        (start(), image(), _edited(launch(), 64, b"\1")),
        (Kind.MALFORMED,),
    ),
    (
        "config-unflagged",
        "T60",
        "a launch with a claimed digest, without the flag for it",
        (start(), image(), _edited(launch(), 184, _CONFIG)),
        (Kind.MALFORMED,),
    ),
)
_SAVED: tuple[tuple[str, str, tuple[Entry, ...], tuple[Entry, ...], tuple[str, ...]], ...] = (
    ("image-known", "no attack: an image that the saved state knows", _GOOD, (start(1), launch(number=1)), ()),
    ("launch-again", "a second launch of a container of the saved state", _GOOD, (launch(),), (Kind.MALFORMED,)),
    (
        "image-unknown",
        "an image that was never measured",
        _GOOD,
        (start(1), launch(_OTHER, number=1)),
        (Kind.MALFORMED,),
    ),
    ("launch-late", "no attack: a launch after the state was saved", _GOOD[:2], _GOOD[2:], ()),
)
_POLICIES: tuple[tuple[str, str, tuple[Entry, ...], dict[str, Any], tuple[str, ...]], ...] = (
    ("tree", "no attack: the policy lists the image's tree", _GOOD, {"digest": _TREE.hex()}, ()),
    ("tree-other", "an image's tree other than the listed one", _GOOD, {"digest": _OTHER.hex()}, (Kind.WRONG_DIGEST,)),
    (
        "config",
        "no attack: the claimed digest of config.json is the demanded one",
        _CLAIMED,
        {"config": [_OTHER.hex(), _CONFIG.hex()]},
        (),
    ),
    (
        "config-other",
        "a claimed digest of config.json other than the demanded one",
        _CLAIMED,
        {"config": [_OTHER.hex()]},
        (Kind.WRONG_DIGEST,),
    ),
    (
        "config-none",
        "no claimed digest of config.json where one is demanded",
        _GOOD,
        {"config": [_CONFIG.hex()]},
        (Kind.WRONG_DIGEST,),
    ),
    (
        "config-no-launch",
        "no launch where a claimed digest is demanded",
        _GOOD[:2],
        {"config": [_CONFIG.hex()]},
        (Kind.WRONG_DIGEST,),
    ),
    (
        "tree-no-launch",
        "no attack: no launch, and the policy demands only the tree",
        _GOOD[:2],
        {"digest": _TREE.hex()},
        (),
    ),
)
_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(f"launch-{name}", row, f"launches, extended: {summary}", partial(_added, lines=lines), *expect)
        for name, row, summary, lines, expect in _LINES
    ),
    *(
        _row(f"saved-{name}", "T68", f"launches: {summary}", partial(_later, before=before, after=after), *expect)
        for name, summary, before, after, expect in _SAVED
    ),
    *(
        _row(
            f"policy-launch-{name}",
            "T47",
            f"with a policy: {summary}",
            partial(_by_policy, lines=lines, **keys),
            *expect,
        )
        for name, summary, lines, keys, expect in _POLICIES
    ),
)

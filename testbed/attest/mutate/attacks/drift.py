"""Attacks on a launch whose image's digest stands for its files, and on the entries of code beside the image."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from testbed.attest.entries.launch import DRIFT
from testbed.attest.entries.parse import LAYER, TOMTOU
from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.attacks.version_2_entries import (
    NONE,
    TREE,
    as_version,
    image,
    launch,
    of,
    start,
    violation,
    with_policy,
)
from testbed.attest.mutate.engine.lines import ForgedMachine, buffer_line, grown, join, needs_containers, patched, quote
from testbed.attest.mutate.engine.lines import payload as payload_bytes
from testbed.attest.mutate.engine.model import Forged, Honest, by_files, by_root

_new = partial(as_version, version=3)
# Of the image whose digest the policy has, and beside it.
_OWN, _PLUGIN = b"/usr/bin/second", b"/opt/plugin"
_OUTCOME, _IMAGE = 50, 88


def _file(path: bytes = _PLUGIN, content: bytes = b"plugin", number: int = 0) -> Entry:
    digest = hashlib.sha256(content).digest()
    return _new(of(number, 1, b"ctr-file", struct.pack("<HHIQ32s", 1, 0x000B, len(path), 6, digest) + path))


def _without_digest(entry: Entry) -> Entry:
    """Return a launch that says that its image's tree was over the limit of files."""
    told = patched(patched(payload_bytes(entry), _OUTCOME, b"\1\0"), _IMAGE, NONE)
    return buffer_line(b"ctr-launch", told)


_START, _TREE, _LAUNCH, _SILENT = _new(start()), _new(image()), _new(launch(flags=DRIFT)), _new(launch())
_BEGUN = (_START, _TREE, _LAUNCH)
_LAYER, _OTHER = _new(violation(LAYER)), _new(violation(TOMTOU))
# A second container of the same image: what is logged of one must not count for the other.
_TWO = (*_BEGUN, _new(start(1, path=f"/testbed/{'7e' * 32}")), _new(launch(1, flags=DRIFT)))
Lines = tuple[Entry, ...]

_TRANSIT: tuple[tuple[str, str, Lines, Lines, tuple[str, ...]], ...] = (
    ("flag-cleared", "the flag is cleared in the launch", (*_BEGUN, _file()), (_START, _TREE, _SILENT, _file()), ()),
    ("flag-set", "the flag is set in the launch, and a file left out", (_START, _TREE, _SILENT, _file()), _BEGUN, ()),
    ("file-gone", "an entry of code beside the image is left out", (*_BEGUN, _file()), _BEGUN, ()),
    ("file-of-another", "code beside the image of another container", (*_TWO, _file()), (*_TWO, _file(number=1)), ()),
    (
        "file-renamed",
        "code beside the image is called like a file of it",
        (*_BEGUN, _file()),
        (*_BEGUN, _file(_OWN)),
        (),
    ),
    ("layer-gone", "the violation of a changed layer is left out", (*_BEGUN, _LAYER), _BEGUN, ()),
    (
        "layer-as-another",
        "the violation of a changed layer is called another",
        (*_BEGUN, _LAYER),
        (*_BEGUN, _OTHER),
        (Kind.VIOLATION,),
    ),
)
_LINES: tuple[tuple[str, str, str, Lines, tuple[str, ...]], ...] = (
    ("good", "T47", "no attack: a launch, and code beside the image", (*_BEGUN, _file()), ()),
    ("layer", "T37", "a layer that was changed after the launch", (*_BEGUN, _LAYER), (Kind.VIOLATION,)),
    (
        "layer-in-version-2",
        "T60",
        "a changed layer in an entry of version 2",
        (*_BEGUN, violation(LAYER)),
        (Kind.MALFORMED,),
    ),
    ("violation-unknown", "T60", "a violation of an unknown kind", (*_BEGUN, _new(violation(7))), (Kind.MALFORMED,)),
    (
        "flag-in-version-2",
        "T60",
        "the flag in a launch of version 2",
        (_START, _TREE, launch(flags=DRIFT)),
        (Kind.MALFORMED,),
    ),
    (
        "without-digest",
        "T60",
        "the flag in a launch whose image has no digest",
        (_START, _without_digest(_LAUNCH)),
        (Kind.MALFORMED,),
    ),
    ("second-launch", "T60", "a second launch without the flag", (*_BEGUN, _SILENT), (Kind.MALFORMED,)),
)
_LISTED: Mapping[str, Any] = {_PLUGIN.decode(): [f"sha256:{hashlib.sha256(b'plugin').hexdigest()}"]}
_KNOWN: dict[str, Any] = {"digest": TREE.hex(), "drift": _LISTED}
_NOTED: dict[str, Any] = _KNOWN | {"on": {"unknown": "note", "violation": "note"}}
_POLICIES: tuple[tuple[str, str, Lines, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("good", "no attack: code that is listed beside the image", (*_BEGUN, _file()), _KNOWN, ()),
    ("not-listed", "code that is not listed", (*_BEGUN, _file(b"/opt/evil")), _KNOWN, (Kind.UNKNOWN_FILE,)),
    ("other-content", "other content than is listed", (*_BEGUN, _file(content=b"evil")), _KNOWN, (Kind.WRONG_DIGEST,)),
    (
        "over-the-image",
        "other content at the path of a file of the image",
        (*_BEGUN, _file(_OWN, b"evil")),
        _NOTED,
        (Kind.WRONG_DIGEST,),
    ),
    (
        "copied",
        "a file of the image that came by another way: its owner, its mode can be others",
        (*_BEGUN, _file(_OWN, b"true")),
        _KNOWN,
        (Kind.UNKNOWN_FILE,),
    ),
    ("noted", "no attack: code that is not listed is noted", (*_BEGUN, _file(b"/opt/new"), _LAYER), _NOTED, ()),
    (
        "of-another",
        "code that is listed beside another container's image",
        (*_TWO, _file(number=1)),
        _KNOWN | {"containers": {"7e" * 32: ["image"]}},
        (Kind.WRONG_DIGEST, Kind.UNKNOWN_FILE),
    ),
    (
        "flag-cleared",
        "code beside the image, and the flag is cleared",
        (_START, _TREE, _SILENT, _file()),
        _KNOWN,
        (Kind.UNKNOWN_FILE,),
    ),
    ("other-tree", "an image of another digest", _BEGUN, {"digest": "11" * 32}, (Kind.WRONG_DIGEST,)),
    ("unknown-tree", "an image whose digest the policy does not have", _BEGUN, {}, (Kind.WRONG_DIGEST,)),
)
_SAVED: tuple[tuple[str, str, Lines, tuple[str, ...]], ...] = (
    ("good", "no attack: code that is listed, after the state was saved", (_file(),), ()),
    (
        "copied",
        "a file of the image by another way, after the state was saved",
        (_file(_OWN, b"true"),),
        (Kind.UNKNOWN_FILE,),
    ),
)


def _shown(honest: Honest, measured: Lines, shown: Lines) -> Forged:
    """Show other lines than the PCRs were extended by."""
    machine = ForgedMachine(lines=grown(honest, *measured), log=join(grown(honest, *shown)))
    return quote(honest, machine)


def _added(honest: Honest, lines: Lines) -> Forged:
    return added(honest, *lines)


def _by_policy(honest: Honest, lines: Lines, keys: Mapping[str, Any]) -> Forged:
    return with_policy(honest, added(honest, *lines), **keys)


def _later(honest: Honest, lines: Lines) -> Forged:
    """Save a state after the container's launch, and judge the rest from there."""
    first = [*honest.covered(), *_BEGUN]
    now = quote(honest, ForgedMachine(lines=[*first, *lines], clock=60_000))
    before = with_policy(honest, quote(honest, ForgedMachine(lines=first)), **_KNOWN)
    return replace(with_policy(honest, now, **_KNOWN), since=before)


_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        by_files(
            f"drift-{name}",
            "T46",
            f"drift: {summary}",
            partial(_shown, measured=measured, shown=shown),
            Kind.REPLAY_MISMATCH,
            *more,
            applies=needs_containers,
        )
        for name, summary, measured, shown, more in _TRANSIT
    ),
    *(
        _row(f"drift-{name}", row, f"drift: {summary}", partial(_added, lines=lines), *expect)
        for name, row, summary, lines, expect in _LINES
    ),
    *(
        _row(
            f"policy-drift-{name}",
            "T10",
            f"drift, with a policy: {summary}",
            partial(_by_policy, lines=lines, keys=keys),
            *expect,
        )
        for name, summary, lines, keys, expect in _POLICIES
    ),
    *(
        _row(f"saved-drift-{name}", "T68", f"drift: {summary}", partial(_later, lines=lines), *expect)
        for name, summary, lines, expect in _SAVED
    ),
)

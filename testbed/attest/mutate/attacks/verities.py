"""Entries whose digest is that of fs-verity (version 3): its kind must not be taken for the other one."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import partial
from typing import Any

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.image.verity import digests_of
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.policies import judged
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.attacks.version_2_entries import ID, NAME, image, launch, start
from testbed.attest.mutate.engine.lines import buffer_line, needs_containers, payload_of
from testbed.attest.mutate.engine.model import Forged, Honest, by_root

_PATH = b"/usr/bin/second"
_TRUE, _EVIL = (digests_of(io.BytesIO(content)) for content in (b"true", b"evil"))
_VERITY = 32
_SHA = f"sha256:{_TRUE.sha256}"
_BOTH = [_SHA, f"verity:sha256:{_TRUE.verity}"]
# Of another content, by the same path.
_OTHERS = [f"sha256:{_EVIL.sha256}", f"verity:sha256:{_EVIL.verity}"]


def _file(digest: str, *, flags: int = _VERITY, version: int = 3, path: bytes = _PATH) -> Entry:
    who = struct.pack("<QQQQ", 0x6666, 4026532991, 9002, 50_000_000_000)
    body = struct.pack("<HHIQ32s", 1, 0x000B, len(path), 4, bytes.fromhex(digest)) + path
    return buffer_line(b"ctr-file", payload_of(1, body, identity=who, flags=flags, version=version))


def _judged(honest: Honest, lines: tuple[Entry, ...], listed: list[str], more: Mapping[str, Any]) -> Forged:
    def edit(_: Honest, document: dict[str, Any]) -> None:
        document["images"][NAME] = {"files": {_PATH.decode(): listed}}
        document["containers"] |= {ID: [NAME]}
        document.update(more)

    return judged(honest, added(honest, start(), image(), launch(), *lines), edit)


_NOTED = {"on": {"unknown": "note"}}
_ROWS: tuple[tuple[str, str, str, Entry, list[str], Mapping[str, Any], tuple[str, ...]], ...] = (
    ("good", "T10", "no attack: the digest of fs-verity is listed", _file(_TRUE.verity), _BOTH, {}, ()),
    ("sha256", "T10", "no attack: the same file without fs-verity", _file(_TRUE.sha256, flags=0), _BOTH, {}, ()),
    ("set", "T10", "a SHA-256 that is called one of fs-verity", _file(_TRUE.sha256), _BOTH, {}, (Kind.WRONG_DIGEST,)),
    (
        "cleared",
        "T10",
        "a file of the bytes that the fs-verity digest of a good file is computed of",
        _file(_TRUE.verity, flags=0),
        _BOTH,
        {},
        (Kind.WRONG_DIGEST,),
    ),
    ("other", "T10", "another content with fs-verity", _file(_EVIL.verity), _BOTH, {}, (Kind.WRONG_DIGEST,)),
    (
        "unlisted",
        "T10",
        "an fs-verity digest, where the policy has SHA-256 only",
        _file(_TRUE.verity),
        [_SHA],
        {},
        (Kind.WRONG_DIGEST,),
    ),
    (
        "unlisted-noted",
        "T10",
        "a kind of digest that the policy does not list is not excused by `on.unknown`",
        _file(_EVIL.verity),
        [_SHA],
        _NOTED,
        (Kind.WRONG_DIGEST,),
    ),
    (
        "unknown",
        "T10",
        "a file with fs-verity that is not listed",
        _file(_TRUE.verity, path=b"/usr/bin/third"),
        _BOTH,
        {},
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "listed-by-another-name",
        "T10",
        "an fs-verity digest that is listed for another content",
        _file(_TRUE.verity),
        _OTHERS,
        {},
        (Kind.WRONG_DIGEST,),
    ),
    (
        "not-bound",
        "T10",
        "a file with fs-verity that another thread may have run unchecked",
        _file(_TRUE.verity, flags=_VERITY | 16),
        _BOTH,
        {},
        (Kind.NOT_BOUND,),
    ),
    (
        "in-version-2",
        "T60",
        "a flag of version 3 in version 2",
        _file(_TRUE.verity, version=2),
        _BOTH,
        {},
        (Kind.MALFORMED,),
    ),
    ("unknown-flag", "T60", "a flag that does not exist", _file(_TRUE.sha256, flags=64), _BOTH, {}, (Kind.MALFORMED,)),
)

ATTACKS = tuple(
    by_root(
        f"policy-verity-{name}",
        row,
        f"with a policy: {summary}",
        partial(_judged, lines=(line,), listed=listed, more=more),
        *expect,
        applies=needs_containers,
    )
    for name, row, summary, line, listed, more, expect in _ROWS
)

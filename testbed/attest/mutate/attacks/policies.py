"""Files that a policy does not list, and policies that would excuse them, which the verifier must reject."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from testbed.attest.entries.parse import FileEntry, parse_payload
from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import BOOT_AGGREGATES, Entry
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    PATH,
    ForgedMachine,
    as_it_is,
    buffer_line,
    file_line,
    file_places,
    flipped,
    grown,
    needs_containers,
    payload,
    quote,
    victim_payload,
    violation_line,
)
from testbed.attest.mutate.engine.model import IMA_PCR, Forged, Honest, by_root
from testbed.attest.policy.image import kind_text, of_kind
from testbed.attest.policy.paths import escape_path

Document = dict[str, Any]
Edit = Callable[[Honest, Document], None]
GOOD = "sha256:" + "11" * 32
EVIL = "/opt/evil"
IMAGE = "image"


def _file(payload_bytes: bytes) -> FileEntry:
    parsed = parse_payload(b"ctr-file", payload_bytes)
    assert isinstance(parsed, FileEntry)
    return parsed


def reference(honest: Honest) -> Document:
    """Return the policy that accepts the honest evidence and nothing else."""
    host: dict[str, list[str]] = {}
    boots: list[str] = []
    for entry in honest.covered():
        if entry.pcr == IMA_PCR and not entry.violation and entry.template != b"ima-buf":
            fields = parse_fields(entry)
            digests = boots if fields.name in BOOT_AGGREGATES else host.setdefault(escape_path(fields.name), [])
            digests.append(f"{fields.algorithm}:{fields.digest.hex()}")
    files: dict[str, list[str]] = {}
    for place in file_places(honest):
        measured = _file(payload(honest.entries[place]))
        digest = kind_text(of_kind(measured.digest, verity=measured.verity))
        files.setdefault(escape_path(measured.path), []).append(digest)
    return {
        "schema": 1,
        "host": {"files": host, "boot_aggregate": boots},
        "images": {IMAGE: {"files": files}},
        "containers": {"*": [IMAGE]},
    }


def judged(honest: Honest, forged: Forged, edit: Edit | None = None) -> Forged:
    document = reference(honest)
    if edit is not None:
        edit(honest, document)
    return replace(forged, policy=json.dumps(document).encode())


def _with_lines(honest: Honest, made: Callable[[Honest], Entry], edit: Edit | None = None) -> Forged:
    return judged(honest, quote(honest, ForgedMachine(lines=grown(honest, made(honest)))), edit)


def with_policy(honest: Honest, edit: Edit) -> Forged:
    return judged(honest, as_it_is(honest), edit)


def _evil(_: Honest) -> Entry:
    return file_line(EVIL, b"evil")


def _other_content(honest: Honest) -> Entry:
    return buffer_line(b"ctr-file", flipped(victim_payload(honest), DIGEST))


def _other_path(honest: Honest) -> Entry:
    return buffer_line(b"ctr-file", flipped(victim_payload(honest), PATH + 1))


def victim_name(honest: Honest) -> str:
    return escape_path(_file(victim_payload(honest)).path)


def setting(**changes: Any) -> Edit:
    """Return an edit that sets keys of the host, or keys of the document that the host does not have."""

    def edit(_: Honest, document: Document) -> None:
        for key, value in changes.items():
            table = document["host"] if key in {"exclude", "buffers", "boot_aggregate"} else document
            table[key] = value

    return edit


def knowing_evil(*, digest: str, exclude: str = "") -> Edit:
    def edit(_: Honest, document: Document) -> None:
        document["host"]["files"][EVIL] = [digest]
        document["host"]["exclude"] = [exclude] if exclude else []

    return edit


def _evil_named(name: str) -> Callable[[Honest], Entry]:
    return lambda _: file_line(name, b"evil")


def _boot(_: Honest) -> Entry:
    return file_line("boot_aggregate", b"another boot")


def _kernel_buffer(_: Honest) -> Entry:
    return buffer_line(b"kernel_version", b"6.1.0-evil", IMA_PCR)


def _violation(_: Honest) -> Entry:
    return violation_line("/usr/bin/x")


_NOTED = setting(on={"violation": "note", "unknown": "note"})
_LINES: tuple[tuple[str, str, str, Callable[[Honest], Entry], Edit | None, tuple[str, ...]], ...] = (
    ("unknown-file", "T05", "a program on the host that is not listed", _evil, None, (Kind.UNKNOWN_FILE,)),
    (
        "wrong-digest",
        "T04",
        "a listed program on the host with other content",
        _evil,
        knowing_evil(digest=GOOD),
        (Kind.WRONG_DIGEST,),
    ),
    (
        "container-unknown-file",
        "T05",
        "a file in a container that its image does not have",
        _other_path,
        None,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "container-wrong-digest",
        "T04",
        "a file of a container's image with other content",
        _other_content,
        None,
        (Kind.WRONG_DIGEST,),
    ),
    ("boot-aggregate", "T64", "a boot_aggregate that is not listed", _boot, None, (Kind.WRONG_DIGEST,)),
    (
        "buffer-unknown",
        "T60",
        "a buffer of the kernel that is not listed",
        _kernel_buffer,
        None,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "buffer-wrong",
        "T60",
        "a listed buffer with other content",
        _kernel_buffer,
        setting(buffers={"kernel_version": [GOOD]}),
        (Kind.WRONG_DIGEST,),
    ),
    (
        "violation",
        "T59",
        "a violation, and the policy does not mention violations",
        _violation,
        None,
        (Kind.VIOLATION,),
    ),
    ("violation-noted", "T59", "a violation that the policy tolerates", _violation, _NOTED, ()),
    ("unknown-noted", "T05", "an unknown file that the policy tolerates", _evil, _NOTED, ()),
    (
        "wrong-digest-noted",
        "T04",
        "other content is not excused by `on.unknown`",
        _other_content,
        _NOTED,
        (Kind.WRONG_DIGEST,),
    ),
    (
        "excluded",
        "T70",
        "an unknown file that an exclude pattern matches",
        _evil_named("/var/cache/x/evil"),
        setting(exclude=["/var/cache/.*"]),
        (),
    ),
    (
        "exclude-climbs",
        "T70",
        "a name that begins like an excluded one and contains .. later",
        _evil_named("/var/cache/../../usr/bin/evil"),
        setting(exclude=["/var/cache/.*"]),
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "exclude-prefix",
        "T70",
        "a name with an excluded one in its middle: patterns match whole paths",
        _evil_named("/opt/var/cache/evil"),
        setting(exclude=["/var/cache/.*"]),
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "exclude-listed",
        "T70",
        "a listed file with other content, which an exclude pattern matches too",
        _evil,
        knowing_evil(digest=GOOD, exclude="/opt/.*"),
        (Kind.WRONG_DIGEST,),
    ),
)

ATTACKS = (
    *(
        by_root(
            f"policy-{name}",
            row,
            f"with a policy: {summary}",
            partial(_with_lines, made=made, edit=edit),
            *expect,
            applies=needs_containers,
        )
        for name, row, summary, made, edit, expect in _LINES
    ),
)

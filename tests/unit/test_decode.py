"""Entries decoded for people: nothing lost, nothing raised, PCR values that are those of the quote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import evidence as b
import pytest
from evidence import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.decoded.decode import BOOT, BUFFER, FILE, UNREADABLE, VIOLATION, DecodedEntry, decode, decode_bundle
from testbed.attest.entries.parse import KINDS
from testbed.attest.log.ima import read_entries
from testbed.attest.quote import parse_nonce
from testbed.attest.verify import verify

BUNDLES = sorted(path.parent for path in GOLDEN.glob("*/bundle.json"))


def one(line: bytes) -> DecodedEntry:
    (decoded,) = decode(read_entries(line))
    return decoded


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_last_values_are_the_quoted_ones(bundle: Path) -> None:
    described = json.loads((bundle / "bundle.json").read_bytes())
    verdict = verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=parse_nonce(described["nonce"]))
    decoded = list(decode_bundle(bundle, verdict.attested))
    assert len(decoded) == verdict.entries
    last = {entry.pcr: entry.value for entry in decoded if entry.attested}
    assert last == dict(verdict.pcrs)
    assert sum(bool(entry.attested) for entry in decoded) == sum(verdict.attested.values())
    per_container = {seq: sum(entry.container == seq for entry in decoded) for seq in verdict.containers}
    assert per_container == {seq: container.entries for seq, container in verdict.containers.items()}
    assert UNREADABLE not in {entry.kind for entry in decoded}


@pytest.mark.parametrize("title", [name for name in b.page_vectors() if name.startswith("ctr-")])
def test_every_field_of_the_page_is_shown(title: str) -> None:
    vector = b.page_vectors()[title]
    name = title.partition(":")[0]
    decoded = one(b.ima_buf(name, bytes.fromhex(vector["payload"])))
    assert (decoded.kind, decoded.name) == (name, name)
    assert decoded.says
    shown = dict(decoded.fields)
    renamed = {"origin": "from", "size": "bytes", "mounts": "mount_list"}
    assert not {renamed.get(key, key) for key in shown} - {*vector, "bytes", "size", "part"}
    for key in ("path", "digest", "image", "environment", "cgroup_path", "seq", "joined", "lost", "number"):
        if key in shown:
            assert shown[key] == vector[key]


def test_kinds() -> None:
    assert one(b.BOOT).kind == BOOT
    assert one(b.ima_ng("/usr/bin/x", b"")).kind == FILE
    assert one(b.violation("/x")).kind == VIOLATION
    assert one(b.ima_buf("kernel_version", b"6.12", pcr=10)).fields == (("buf", b"6.12".hex()),)
    assert one(b.ima_buf("kernel_version", b"6.12", pcr=10)).kind == BUFFER
    broken = one(b.entry(10, b"unknown", b"x"))
    assert (broken.kind, "template" in broken.says) == (UNREADABLE, True)
    assert one(b.ima_buf("ctr-file", b"x")).kind == UNREADABLE
    assert {one(b.ima_ng("/x", b"", pcr=99)).value, one(b.ima_ng("/x", b"", pcr=99)).extension} == {""}


def test_what_the_quote_covers() -> None:
    log = b.BOOT + b.ima_ng("/a", b"") + b.ima_ng("/b", b"", pcr=11) + b.ima_ng("/c", b"")
    covered = [entry.attested for entry in decode(read_entries(log), {10: 2})]
    assert covered == [True, True, False, False]
    assert {entry.attested for entry in decode(read_entries(log))} == {None}


NASTY = ["/a\nb", "/a\x1b[31mred", "/a\u202etxt.exe", "/a\udcffb", "/<script>alert(1)</script>", "/a\tb\r"]


@pytest.mark.parametrize("name", NASTY)
def test_no_name_moves_the_cursor(name: str) -> None:
    raw = name.encode(errors="surrogateescape")
    data = b.digest_field(bytes(32)) + b.field(raw + b"\0")
    for decoded in (one(b.entry(10, b"ima-ng", data)), one(b.ima_buf("ctr-file", b.ctr_file(raw, b"")))):
        for text in (decoded.name, decoded.says, *(text for _, text in decoded.fields)):
            assert text.isprintable(), text


@given(st.sampled_from([*KINDS, b"x", b"/a"]), st.binary(max_size=300), st.booleans())
def test_nothing_is_raised(name: bytes, data: bytes, whole: bool) -> None:
    payload = b.ctr_file(b"/x", b"")[:48] + data if whole else data
    decoded = one(b.ima_buf(name.decode(), payload))
    assert re.fullmatch("[0-9a-f]{64}", decoded.value)
    assert decoded.says

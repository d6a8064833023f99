"""The log's parser, hashes and replay, against logs that `evidence.py` writes."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import evidence as b
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import shell
from testbed.attest import ima
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.ima import parse_fields, read_entries, template_digest
from testbed.attest.replay import replay, search, start_value, take
from testbed.errors import EvidenceError

CONTENTS = st.binary(max_size=200)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def sole(log: bytes) -> ima.Entry:
    (entry,) = read_entries(log)
    return entry


@given(NAMES, CONTENTS, st.integers(0, 2**32 - 1))
def test_round_trip(name: str, content: bytes, pcr: int) -> None:
    digest = hashlib.sha256(content).digest()
    log = b.ima_ng(name, content, pcr) + b.ima_sig(name, content, b"\x03sig", pcr) + b.ima_buf(name, content, pcr)
    ng, sig, buf = read_entries(log)
    assert [e.pcr for e in (ng, sig, buf)] == [pcr] * 3
    assert b"".join(log[e.offset : e.end] for e in (ng, sig, buf)) == log
    assert parse_fields(ng) == ima.Fields("sha256", digest, name.encode())
    assert parse_fields(sig).sig == b"\x03sig"
    assert parse_fields(buf).buf == content
    assert all(template_digest(e) == e.digest for e in (ng, sig, buf))


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=255), CONTENTS)
def test_round_trip_of_the_old_template(name: str, content: bytes) -> None:
    entry, after = read_entries(b.ima_old(name, content) + b.ima_ng("/next", b""))
    assert parse_fields(entry) == ima.Fields("sha1", hashlib.sha1(content).digest(), name.encode())
    assert template_digest(entry) == entry.digest
    assert parse_fields(after).name == b"/next"


def test_typed_digest() -> None:
    data = b.field(b"verity:sha256:\0" + bytes(32)) + b.field(b"/x\0")
    fields = parse_fields(sole(b.entry(10, b"ima-ngv2", data)))
    assert (fields.digest_type, fields.algorithm, fields.name) == ("verity", "sha256", b"/x")


@given(st.binary(max_size=120))
def test_any_bytes_are_a_log_or_malformed(data: bytes) -> None:
    try:
        entries = list(read_entries(data))
    except BadEvidence:
        return
    assert (entries[-1].end if entries else 0) == len(data)


@pytest.mark.parametrize("cut", range(1, len(b.ima_ng("/bin/x", b""))))
def test_cut_anywhere(cut: int) -> None:
    log = b.ima_ng("/bin/x", b"")
    with pytest.raises(EvidenceError, match=f"entry 2 at byte {len(log)}"):
        list(read_entries(log + log[:cut]))


HUGE = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@pytest.mark.parametrize("length", [0, 256, *HUGE])
def test_bad_name_length(length: int) -> None:
    log = bytearray(b.ima_ng("/bin/x", b"x" * 400))
    log[24:28] = struct.pack("<I", length)
    with pytest.raises(BadEvidence, match="template name of 1 to"):
        list(read_entries(bytes(log)))


@pytest.mark.parametrize("length", HUGE)
@pytest.mark.parametrize("where", [34, 38, 82])
def test_huge_lengths(where: int, length: int) -> None:
    """Of the template data, of field d-ng, of field n-ng."""
    log = bytearray(b.ima_ng("/bin/x", b""))
    log[where : where + 4] = struct.pack("<I", length)
    with pytest.raises(BadEvidence, match="at most"):
        parse_fields(sole(bytes(log)))


DIGEST = b.digest_field(bytes(32))
NAME = b.field(b"/x\0")


@pytest.mark.parametrize(
    ("template", "data", "what"),
    [
        (b"ima-ng", DIGEST + NAME + b"\0", "template data"),
        (b"ima-ng", DIGEST, "field n-ng"),
        (b"ima-sig", DIGEST + NAME, "field sig"),
        (b"ima-sig", DIGEST + NAME + b.field(b"TBCM"), "field sig"),
        (b"ima-ng", DIGEST + b.field(b"/x"), "name field"),
        (b"ima-ng", DIGEST + b.field(b""), "name field"),
        (b"ima-ng", DIGEST + b.field(b"/x\0y\0"), "name field"),
        (b"ima-ng", DIGEST + b.field(b"/x\0\0"), "name field"),
        (b"ima-ng", b.digest_field(bytes(31)) + NAME, "32 bytes of sha256"),
        (b"ima-ng", b.field(b"sha256" + bytes(33)) + NAME, "digest field"),
        (b"ima-ng", b.field(b"sha256:" + b"x" * 32) + NAME, "digest field"),
        (b"ima-ng", b.field(b"verity:sha256:\0" + bytes(32)) + NAME, "digest field"),
        (b"ima-ngv2", b.field(b"mtime:sha256:\0" + bytes(32)) + NAME, "digest field"),
    ],
)
def test_malformed_fields(template: bytes, data: bytes, what: str) -> None:
    with pytest.raises(BadEvidence, match=what):
        parse_fields(sole(b.entry(10, template, data)))


@pytest.mark.parametrize(
    ("template", "data"),
    [
        (b"ima-modsig", DIGEST + NAME),
        (b"d-ng|n-ng", DIGEST + NAME),
        (b"dep", b"anything"),
        (b"ima-ng", b.field(b"streebog256:\0" + bytes(32)) + NAME),
    ],
)
def test_unsupported_is_said_and_still_replayed(template: bytes, data: bytes) -> None:
    entry = sole(log := b.entry(10, template, data))
    with pytest.raises(UnsupportedEvidence):
        parse_fields(entry)
    assert replay(log, "sha256", [10], {10: b.extended(log, 10)}).complete


def test_unprintable_template_name() -> None:
    with pytest.raises(BadEvidence, match="printable"):
        list(read_entries(b.entry(10, b"ima\x1b[2J", b"")))


MIXED = b"".join([*b.sample_log(), b.ima_old("/bin/old", b"old"), b.violation("/bin/v"), b.entry(11, b"dep", b"?")])


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512"])
def test_replay_in_each_bank(bank: str) -> None:
    values = {pcr: b.extended(MIXED, pcr, bank) for pcr in (10, 11)}
    found = replay(MIXED, bank, (10, 11), values)
    assert found.complete
    assert found.unattested == 0
    assert found.entries == sum(found.reached.values()) == 24
    assert search(MIXED, bank, (10, 11), "sha256", hashlib.sha256(values[10] + values[11]).digest()) == values


def test_each_pcr_is_a_prefix_of_its_own() -> None:
    first, second, third = b.ima_ng("/1", b""), b.ima_ng("/2", b"", 11), b.ima_ng("/3", b"")
    log = first + second + third + b.ima_ng("/4", b"", 12)
    found = replay(log, "sha256", (10, 11), {10: b.extended(first, 10), 11: b.extended(log, 11)})
    assert dict(found.reached) == {10: 1, 11: 1}
    assert (found.unattested, found.foreign, found.boundary) == (2, 0, len(first + second))
    assert [e.number for e in take(log, dict(found.reached))] == [1, 2]


def test_a_pcr_that_was_not_quoted_is_foreign_before_the_boundary() -> None:
    log = b.ima_ng("/1", b"") + b.ima_ng("/x", b"", 12) + b.ima_ng("/2", b"")
    found = replay(log, "sha256", (10,), {10: b.extended(log, 10)})
    assert (found.foreign, found.unattested) == (1, 0)
    assert found.first_foreign is not None
    assert found.first_foreign.number == 2


def test_nothing_extended() -> None:
    found = replay(MIXED, "sha256", (10, 16), {10: start_value(10, "sha256"), 16: bytes(32)})
    assert dict(found.reached) == {10: 0, 16: 0}
    assert (found.boundary, found.unattested) == (0, 24)
    assert start_value(17, "sha1") == b"\xff" * 20


def test_take_ends_with_its_last_entry() -> None:
    """A broken tail behind it is not even read."""
    log = b.ima_ng("/1", b"") + b"garbage"
    assert [e.number for e in take(log, {10: 1, 11: 0})] == [1]
    assert [e.number for e in take(log, {10: None})] == [1]


@pytest.mark.skipif(shell.which("evmctl") is None, reason="no evmctl on this machine (package ima-evm-utils)")
def test_evmctl_agrees(tmp_path: Path) -> None:
    """An independent replay comes to the same values, and not to those of a log with one bit changed."""
    log = b"".join(b.sample_log())
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    code, said = _evmctl(tmp_path, log, values)
    assert code == 0
    for pcr, value in values.items():
        assert re.findall(rf"sha256: PCRAgg +{pcr}: ([0-9a-f]+)", said)[-1] == value.hex()
    assert replay(log, "sha256", (10, 11), values).complete
    bad = bytearray(log)
    bad[80] ^= 1
    assert _evmctl(tmp_path, bytes(bad), values)[0] != 0


def _evmctl(directory: Path, log: bytes, values: dict[int, bytes]) -> tuple[int, str]:
    lines = [f"PCR-{pcr:02d}: {values.get(pcr, bytes(32)).hex()}\n" for pcr in range(24)]
    (directory / "pcrs").write_text("".join(lines))
    (directory / "log").write_bytes(log)
    argv = ["evmctl", "ima_measurement", "-v", "--pcrs", f"sha256,{directory / 'pcrs'}", str(directory / "log")]
    done = shell.run(argv, timeout=30, check=False)
    return done.code, (done.out + done.err).decode()

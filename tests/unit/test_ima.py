"""The log's parser, hashes and replay, against logs that `evidence.py` writes."""

from __future__ import annotations

import hashlib
import re
import struct

import evidence as b
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.log import fields as log_fields
from testbed.attest.log import ima
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import read_entries, template_digest
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
    assert parse_fields(ng) == log_fields.Fields("sha256", digest, name.encode())
    assert parse_fields(sig).sig == b"\x03sig"
    assert parse_fields(buf).buf == content
    assert all(template_digest(e) == e.digest for e in (ng, sig, buf))


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=255), CONTENTS)
def test_round_trip_of_the_old_template(name: str, content: bytes) -> None:
    entry, after = read_entries(b.ima_old(name, content) + b.ima_ng("/next", b""))
    assert parse_fields(entry) == log_fields.Fields("sha1", hashlib.sha1(content).digest(), name.encode())
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
        (b"dep", b"anything"),
        (b"d-ng|n-ng|dep", DIGEST + NAME + b.field(b"")),
        (b"n-ng|sig", NAME + b.field(b"")),  # no digest
        (b"d-ng|sig", DIGEST + b.field(b"")),  # no name
        (b"d-ng|n-ng|n-ng", DIGEST + NAME + NAME),
        (b"|".join([b"d-ng", b"n-ng", *[b"sig"] * 15]), DIGEST + NAME + 15 * b.field(b"")),
        (b"ima-ng", b.field(b"sm3-256:\0" + bytes(32)) + NAME),  # what the kernel called it while it had none
    ],
)
def test_unsupported_is_said(template: bytes, data: bytes) -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_fields(sole(b.entry(10, template, data)))


EVM = [
    b.field(value) for value in (b"\x05sig", b"security.ima|user.x", bytes(8), b"values", bytes(4), bytes(4), bytes(2))
]


def test_the_longer_templates() -> None:
    fields = parse_fields(sole(b.entry(10, b"evm-sig", DIGEST + NAME + b"".join(EVM))))
    assert fields.others["xattrnames"] == b"security.ima|user.x"
    assert fields.others["imode"] == bytes(2)
    modsig = b.field(b"\x03sig") + DIGEST + b.field(b"PKCS#7")
    fields = parse_fields(sole(b.entry(10, b"ima-modsig", DIGEST + NAME + modsig)))
    assert (fields.sig, fields.others["modsig"]) == (b"\x03sig", b"PKCS#7")
    absent = b.field(b"") + b.field(b"") + b.field(b"")
    assert parse_fields(sole(b.entry(10, b"ima-modsig", DIGEST + NAME + absent))).others["d-modsig"] == b""


NUMBERS = b"d-ng|n-ng|iuid|igid|imode"


@pytest.mark.parametrize("template", [b"evm-sig", NUMBERS, b"d-ng|imode|n-ng|sig|modsig|d-modsig"])
@pytest.mark.parametrize("name", [b"boot_aggregate", b"boot_aggregate_late", b"kernel_version", b"/keyring"])
def test_an_entry_without_a_file_has_nothing_in_the_fields_of_an_inode(template: bytes, name: bytes) -> None:
    """The boot aggregate, and buffers under a rule with `template=evm-sig`."""
    written = {"d-ng": DIGEST, "n-ng": b.field(name + b"\0")}
    names = log_fields.fields_of(template) or ()
    entry = sole(b.entry(10, template, b"".join(written.get(field, b.field(b"")) for field in names)))
    fields = parse_fields(entry)
    assert (fields.name, fields.digest) == (name, bytes(32))
    assert not any(fields.others.values())


@pytest.mark.parametrize(
    ("template", "values", "what"),
    [
        (NUMBERS, (b"", bytes(4), bytes(2)), "field iuid: expected 4 bytes, got 0"),
        (NUMBERS, (bytes(4), bytes(4), b""), "field imode: expected 2 bytes, got 0"),
        (NUMBERS, (b"", b"", b"\1"), "field iuid: expected 4 bytes, got 0"),
        (b"d-ng|n-ng|sig|iuid", (b"\3sig", b""), "field sig: expected nothing"),
        (b"d-ng|n-ng|imode|xattrnames", (b"", b"a"), "field xattrnames: expected nothing"),
        (b"d-ng|n-ng|igid|modsig", (b"", b"a"), "field modsig: expected nothing"),
        (b"evm-sig", (b"\5sig", b"", b"", b"", b"", b"", b""), "field evmsig: expected nothing"),
    ],
)
def test_a_part_of_an_inode_is_malformed(template: bytes, values: tuple[bytes, ...], what: str) -> None:
    with pytest.raises(BadEvidence, match=re.escape(what)):
        parse_fields(sole(b.entry(10, template, DIGEST + NAME + b"".join(map(b.field, values)))))


def test_no_buffer_is_empty() -> None:
    """A file that is measured by a template with `buf` (`ima_template=ima-buf`) leaves it empty."""
    assert parse_fields(sole(b.ima_buf("/x", b""))).of_file
    assert parse_fields(sole(b.ima_ng("/x", b""))).of_file
    assert not parse_fields(sole(b.ima_buf("/x", b"1"))).of_file


def test_a_violation_of_an_older_kernel_can_be_read() -> None:
    """It has 20 zeros for the digest, whatever the algorithm (IMA_DIGEST_SIZE)."""
    data = b.digest_field(bytes(20)) + NAME
    assert parse_fields(sole(b.entry(10, b"ima-ng", data, digest=bytes(20)))).name == b"/x"
    for digest, shown in ((bytes(20), b"\1" * 20), (bytes(19) + b"\1", bytes(20)), (bytes(21), bytes(20))):
        with pytest.raises(BadEvidence, match="32 bytes of sha256"):
            parse_fields(sole(b.entry(10, b"ima-ng", b.digest_field(digest) + NAME, digest=shown)))


@pytest.mark.parametrize("size", [16, 20])
def test_a_template_that_is_a_list_of_fields(size: int) -> None:
    """As `ima_template_fmt=` makes it: its lengths and terminators are those of the new templates."""
    fields = parse_fields(sole(b.entry(10, b"n|sig|d", b.field(b"/a b\0") + b.field(b"") + b.field(bytes(size)))))
    assert (fields.name, fields.digest, fields.algorithm) == (b"/a b", bytes(size), {16: "md5", 20: "sha1"}[size])
    fields = parse_fields(sole(b.entry(10, b"d-ngv2|n-ng", b.field(b"ima:sha1:\0" + bytes(20)) + NAME)))
    assert (fields.algorithm, fields.digest_type) == ("sha1", "ima")


@pytest.mark.parametrize(
    ("template", "data", "what"),
    [
        (b"evm-sig", DIGEST + NAME + b"".join([*EVM[:4], b.field(bytes(5)), *EVM[5:]]), "field iuid: expected 4 bytes"),
        (b"evm-sig", DIGEST + NAME + b"".join([*EVM[:6], b.field(b"")]), "field imode: expected 2 bytes"),
        (b"ima-modsig", DIGEST + NAME + b.field(b"") + b.field(b"sha256") + b.field(b""), "digest field"),
        (b"d-modsig|n-ng|sig|d-ng|modsig", DIGEST + NAME + b.field(b"") + DIGEST + b.field(b""), "d-modsig after"),
        (b"d-ng|n-ng|modsig", b.buf_data("ctr-loss", b"x"), "field modsig: expected nothing of which"),
        (b"d-ng|n-ng|evmsig", b.buf_data("x", b"\x03x"), "field evmsig: expected nothing of which"),
        (b"ima-sig", b.buf_data("x", b"\x03x"), "field sig: expected nothing of which"),
        (b"d|n", b.field(bytes(19)) + NAME, "16 bytes of md5 or 20 of sha1"),
        (b"d|n", b.field(bytes(20)) + b.field(b"/x"), "name field"),
    ],
)
def test_malformed_fields_of_longer_templates(template: bytes, data: bytes, what: str) -> None:
    with pytest.raises(BadEvidence, match=re.escape(what)):
        parse_fields(sole(b.entry(10, template, data)))


@given(st.sampled_from([*ima.TEMPLATES, b"d-ng|n-ng"]), st.binary(min_size=20, max_size=20), st.binary(max_size=99))
def test_what_is_encoded_is_read(template: bytes, digest: bytes, data: bytes) -> None:
    if template == b"ima":
        data = bytes(20) + b.field(data)
    entry = sole(log := ima.encode(11, digest, template, data))
    assert (entry.pcr, entry.digest, entry.template, entry.data, entry.end) == (11, digest, template, data, len(log))


def test_template_data_have_a_limit() -> None:
    """However long the log is: one length field must not decide how much memory is used."""
    log = ima.encode(10, bytes(20), b"ima-buf", bytes(ima.DATA_MAX + 1))
    with pytest.raises(BadEvidence, match=f"at most {ima.DATA_MAX} bytes of template data"):
        sole(log)


def test_unprintable_template_name() -> None:
    with pytest.raises(BadEvidence, match="printable"):
        list(read_entries(b.entry(10, b"ima\x1b[2J", b"")))

"""The log as text: what the kernel shows of an entry, and back. The writer here follows the kernel, line by line."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import evidence as b
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.finding import UnsupportedEvidence
from testbed.attest.log import fields as log_fields
from testbed.attest.log import ima, pasted
from testbed.attest.log.ascii import Line, damaged, read_line
from testbed.attest.log.repair import repair
from testbed.attest.log.text import JOINED, read_lines

GOLDEN = Path(__file__).parents[1] / "golden"
SLIDES = GOLDEN / "slides"
TEMPLATES = {
    b"ima-ng": (b"d-ng", b"n-ng"),
    b"ima-ngv2": (b"d-ngv2", b"n-ng"),
    b"ima-sig": (b"d-ng", b"n-ng", b"sig"),
    b"ima-sigv2": (b"d-ngv2", b"n-ng", b"sig"),
    b"ima-buf": (b"d-ng", b"n-ng", b"buf"),
    b"ima-modsig": (b"d-ng", b"n-ng", b"sig", b"d-modsig", b"modsig"),
    b"evm-sig": (
        b"d-ng",
        b"n-ng",
        b"evmsig",
        b"xattrnames",
        b"xattrlengths",
        b"xattrvalues",
        b"iuid",
        b"igid",
        b"imode",
    ),
}


def shown_field(name: bytes, value: bytes) -> bytes:
    """What the kernel prints of a field."""
    if name in (b"d-ng", b"d-ngv2", b"d-modsig"):
        head, _, digest = value.partition(b"\0")
        return (head if head != b":" else b"") + digest.hex().encode()
    if name in (b"n", b"n-ng", b"xattrnames"):
        return value.split(b"\0")[0]
    if name in (b"iuid", b"igid", b"imode"):
        return b"%d" % int.from_bytes(value, "little")
    return value.hex().encode()


def values_of(data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack_from("<I", data)
        yield data[4 : 4 + size]
        data = data[4 + size :]


def shown(pcr: int, digest: bytes, template: bytes, data: bytes) -> bytes:
    """A line of ascii_runtime_measurements."""
    out = b"%2d %s %s" % (pcr, digest.hex().encode(), template)
    if template == b"ima":
        return out + b" %s %s\n" % (data[:20].hex().encode(), data[24:])
    names = TEMPLATES.get(template, tuple(template.split(b"|")))
    for name, value in zip(names, values_of(data), strict=True):
        out += b" "
        if value:
            out += shown_field(name, value)
    return out + b"\n"


def as_text(log: bytes) -> bytes:
    return b"".join(shown(e.pcr, e.digest, e.template, e.data) for e in ima.read_entries(log))


def entries_of(text: bytes) -> list[ima.Entry]:
    """Return the entries of a text in which every line is one."""
    found = [line.entry for line in read_lines(text)]
    assert None not in found
    return [entry for entry in found if entry is not None]


def same(log: bytes) -> None:
    """The text of a binary log is read as the same entries."""
    want, got = list(ima.read_entries(log)), entries_of(as_text(log))
    assert [e._replace(offset=0, end=0) for e in got] == [e._replace(offset=0, end=0) for e in want]
    assert not any(damaged(line) for line in read_lines(as_text(log)))


def evm_fields(names: bytes = b"", lengths: bytes = b"", values: bytes = b"", evmsig: bytes = b"") -> bytes:
    ids = (
        b.field(struct.pack("<I", 1000)) + b.field(struct.pack("<I", 4294967295)) + b.field(struct.pack("<H", 0o100755))
    )
    return b.field(evmsig) + b.field(names) + b.field(lengths) + b.field(values) + ids


DIGEST, NAME = b.digest_field(bytes(range(32))), b.field(b"/bin/x\0")
V2 = b.field(b"verity:sha256:\0" + bytes(range(32)))
SHAPES = [
    (b"ima-ng", DIGEST + NAME),
    (b"ima-ng", b.digest_field(bytes(20), "sha1") + NAME),
    (b"ima-ng", b.digest_field(bytes(16), "md5") + NAME),
    (b"ima-ng", b.digest_field(bytes(48), "sha384") + NAME),
    (b"ima-ng", b.digest_field(bytes(64), "sha3-512") + NAME),
    (b"ima-ng", b.field(b":\0" + bytes(20)) + NAME),
    (b"ima-ng", DIGEST + b.field(b"\0")),
    (b"ima-ng", DIGEST + b.field(b"4026532981:/a b:\xff\t\r\0")),
    (b"ima-ngv2", V2 + NAME),
    (b"ima-sig", DIGEST + NAME + b.field(b"")),
    (b"ima-sig", DIGEST + NAME + b.field(b"\x03\x02")),
    (b"ima-sig", DIGEST + b.field(b"/a b\0") + b.field(b"")),
    (b"ima-sigv2", V2 + NAME + b.field(b"\x06\x02")),
    (b"ima-buf", DIGEST + NAME + b.field(b"payload")),
    (b"ima-buf", DIGEST + NAME + b.field(b"")),
    (b"ima-modsig", DIGEST + NAME + b.field(b"") + b.field(b"") + b.field(b"")),
    (b"ima-modsig", DIGEST + NAME + b.field(b"\x03s") + b.digest_field(bytes(20), "sha1") + b.field(b"0\x82")),
    (b"evm-sig", DIGEST + NAME + evm_fields()),
    (b"evm-sig", DIGEST + NAME + evm_fields(b"security.ima|security.selinux\0", bytes(8), b"\x01\x02", b"\x05")),
    (b"d-ng|n-ng|sig", DIGEST + NAME + b.field(b"\x03")),
    (b"n-ng|d-ng", NAME + DIGEST),
    (b"d|n", b.field(bytes(20)) + NAME),
    (b"d-ng", DIGEST),
]


@pytest.mark.parametrize(("template", "data"), SHAPES)
def test_every_template_is_the_same_in_text(template: bytes, data: bytes) -> None:
    same(b.entry(10, template, data) + b.entry(4, template, data) + b.entry(0xFFFFFFFF, template, data))


@pytest.mark.parametrize("name", ["debian-6.1", "debian-6.12", "synthetic", "synthetic-ecdsa"])
def test_real_logs_are_the_same_in_text(name: str) -> None:
    same((GOLDEN / f"bundle-{name}" / "ima.bin").read_bytes())


def test_old_template_and_violations() -> None:
    same(b.ima_old("/bin/with space", b"old") + b.violation("/bin/v") + b.ima_ng("/x", b""))


def test_a_violation_of_an_old_kernel_has_twenty_zero_bytes() -> None:
    same(b.entry(10, b"ima-ng", b.digest_field(bytes(20)) + NAME, digest=bytes(20)))


def test_separators_as_the_kernel_writes_them() -> None:
    """An empty field at the end keeps the space before it."""
    zeros = b"0" * 64
    (sig,) = ima.read_entries(b.entry(10, b"ima-sig", b.digest_field(bytes(32)) + NAME + b.field(b"")))
    text = as_text(b.entry(10, b"ima-sig", sig.data))
    assert text == b"10 %s ima-sig sha256:%s /bin/x \n" % (sig.digest.hex().encode(), zeros)
    assert read_line(text[:-1]).fits
    assert damaged(read_line(text[:-2]))


def test_a_pcr_has_two_columns() -> None:
    """No digest covers it. What is read of a line that lost its first character would be another PCR."""
    for pcr in (0, 9, 10, 23, 99, 100):
        line = as_text(b.ima_ng("/x", b"", pcr=pcr))[:-1]
        assert read_line(line).fits
        shorter = read_line(line[1:])
        assert damaged(shorter) or (shorter.entry is not None and pcr == 100)
    assert "expected two columns" in str(read_line(b"0 " + HASH + b" ima-ng sha256:00 /x").problem)
    assert damaged(read_line(b"00 " + HASH + b" ima-ng sha256:00 /x"))


names = st.binary(max_size=60).map(lambda name: name.replace(b"\0", b"\n"))
NEWLINED = st.lists(st.sampled_from([b"a", b"\n", b" ", b"10 ", b"f" * 40, b" ima-ng ", b"sha256:00 /x"])).map(b"".join)


@given(st.lists(st.tuples(names | NEWLINED, st.binary(max_size=9), st.integers(0, 23)), max_size=8))
def test_round_trip_of_any_name(entries: list[tuple[bytes, bytes, int]]) -> None:
    log = b""
    for name, sig, pcr in entries:
        digest = b.digest_field(hashlib.sha256(name).digest())
        log += b.entry(pcr, b"ima-ng", digest + b.field(name + b"\0"))
        log += b.entry(pcr, b"ima-sig", digest + b.field(name + b"\0") + b.field(sig))
    same(log)


@given(
    st.binary(max_size=300) | st.lists(st.sampled_from([b"10 ", b"ab", b"\n", b" ima-ng ", b"f" * 40])).map(b"".join)
)
def test_any_text_is_lines_that_are_all_of_it(text: bytes) -> None:
    lines = list(read_lines(text))
    assert b"\n".join(line.raw for line in lines) == text.removesuffix(b"\n")
    assert [line.offset for line in lines] == [text.index(line.raw, line.offset) for line in lines]
    assert all(line.number == 1 + text[: line.offset].count(b"\n") for line in lines)


def test_a_name_that_looks_like_a_line_of_the_log() -> None:
    """Its inner line is consistent; taken alone it would be an entry that the kernel never made."""
    forged = as_text(b.ima_ng("/forged", b"never ran"))
    log = b.ima_ng("/tmp/\n" + forged.decode() + "x", b"") + b.ima_ng("/next", b"")
    same(log)
    first, second = read_lines(as_text(log))
    assert (first.number, second.number) == (1, 4)
    assert first.entry is not None
    assert second.entry is not None
    assert (second.entry.number, second.entry.offset) == (2, first.entry.end)


def test_a_name_of_newlines_alone() -> None:
    same(b.ima_ng("/" + "\n" * 4000, b"") + b.ima_ng("\n", b""))


def test_a_join_has_a_bound() -> None:
    too_long = as_text(b.ima_ng("/\n" + "x" * JOINED, b""))
    line, rest = read_lines(too_long)
    assert damaged(line)
    assert (rest.entry, rest.problem) == (None, None)


def test_tries_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines are damaged and each is tried with those behind it, until the text's share of work is used up."""
    tries = 0
    parse = log_fields.fields_of

    def counted(template: bytes) -> tuple[str, ...] | None:
        nonlocal tries
        tries += 1
        return parse(template)

    monkeypatch.setattr("testbed.attest.log.ascii.fields_of", counted)
    monkeypatch.setattr("testbed.attest.log.text._WORK_LEAST", 0)
    monkeypatch.setattr("testbed.attest.log.text.FAILURES", 0)
    text = (b"10 " + b"1" * 40 + b" ima-ng sha256:00 /x\n") * 2000
    lines = list(read_lines(text))
    assert (len(lines), all(map(damaged, lines))) == (2000, True)
    # Each line once by itself, once more to say what is wrong with it, and with those behind it.
    assert 2 * 2000 < tries <= 4 * 2000 + 64 * 2000 // 40


def test_lines_on_which_everything_was_tried_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some, the rest is not searched; but what was undone before is still undone."""
    searched = 0
    attempts = pasted.attempts

    def counted(line: str) -> Iterator[tuple[str, pasted.Recipe]]:
        nonlocal searched
        searched += 1
        return attempts(line)

    monkeypatch.setattr("testbed.attest.log.pasted.attempts", counted)
    monkeypatch.setattr("testbed.attest.log.text.FAILURES", 3)
    bad = b"10 " + HASH + b" ima-ng sha256:00 /x\n"
    good = as_text(b.ima_sig("/x", b"")).replace(b" \n", b"\n")
    lines = list(read_lines(bad * 10 + good + bad + b"> " + as_text(b.ima_ng("/y", b""))))
    assert [damaged(line) for line in lines] == [True] * 10 + [False, True, True]
    assert searched == 4
    assert "expected fewer damaged lines" in str(lines[-1].problem)


def test_a_violation_is_never_joined() -> None:
    """It would fit whatever follows: here, the sound entry behind it."""
    broken = b"10 " + b"0" * 40 + b" ima-sig sha256:00 /a\n"
    first, second = read_lines(broken + as_text(b.ima_sig("/good", b"")))
    assert damaged(first)
    assert second.entry is not None
    assert second.fits


def sole(text: bytes) -> Line:
    (line,) = read_lines(text)
    assert damaged(line) == damaged(read_line(text))
    return line


HASH = b"1" * 40


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"10 748", "PCR, template digest"),
        (b"99999999999 " + HASH + b" ima-ng sha256:00 /x", "PCR, template digest"),
        (b"4294967296 " + HASH + b" ima-ng sha256:00 /x", "PCR, template digest"),
        (b"10 " + HASH[1:] + b" ima-ng sha256:00 /x", "40 hex digits of SHA-1, got 39"),
        (b"10 " + HASH + b" ima-ng", "PCR, template digest"),
        (b"10 " + HASH + b" ima-ng sha256:00", "2 fields"),
        (b"10 " + HASH + b" ima-ng sha256:0 /x", "field d-ng: expected pairs"),
        (b"10 " + HASH + b" ima-ng sha256:AA /x", "field d-ng: expected pairs"),
        (b"10 " + HASH + b" ima-ng sha256:\xff\xff /x", "field d-ng: expected pairs"),
        (b"10 " + HASH + b" ima-ng SHA256:00 /x", "field d-ng: expected 'ALGORITHM:'"),
        (b"10 " + HASH + b" ima-ng sha256:00 /x\0", "no zero byte"),
        (b"10 " + HASH + b" d-ng|n-ng|imode sha256:00 /x 65536", "field imode: expected a number below 65536"),
        (b"10 " + HASH + b" d-ng|n-ng|iuid sha256:00 /x 007", "field iuid"),
        (b"10 " + HASH + b" ima 00 /x", "40 hex digits and a name"),
        (b"10 " + HASH + b" ima " + HASH + b" " + b"x" * 256, "40 hex digits and a name"),
    ],
)
def test_a_line_that_is_none(text: bytes, what: str) -> None:
    assert damaged(sole(text))
    line = read_line(text)
    assert line.problem is not None
    assert what in str(line.problem)
    good = as_text(b.ima_ng("/x", b""))
    (_, second) = read_lines(good + text)
    assert f"{second.problem}".startswith(f"line 2 at byte {len(good)}: ")
    assert not isinstance(second.problem, UnsupportedEvidence)


@pytest.mark.parametrize(
    "text",
    [
        b"10 " + HASH + b" ima-xx sha256:00 /x",
        b"10 " + b"1" * 64 + b" ima-ng sha256:00 /x",
        b"10 " + HASH + b" ima " + b"1" * 32 + b" /x",
    ],
)
def test_unsupported_is_said_and_is_not_damage(text: bytes) -> None:
    assert not damaged(sole(text))
    problem = sole(text).problem
    assert isinstance(problem, UnsupportedEvidence)
    assert "line 1 at byte 0" in f"{problem}"


def test_what_is_no_line_of_a_log_is_neither_entry_nor_problem() -> None:
    good = as_text(b.ima_ng("/x", b""))
    (_, second) = read_lines(good + b"[user@host ~]$ \n")
    assert (second.entry, second.problem, second.offset) == (None, None, len(good))
    assert entries_of(b"") == []


def test_an_entry_that_does_not_fit_is_the_callers_to_judge() -> None:
    text = as_text(b.ima_ng("/x", b"")).replace(b"/x", b"/y")
    (entry,) = entries_of(text)
    assert ima.template_digest(entry) != entry.digest
    assert damaged(sole(text))


@pytest.mark.parametrize(
    ("excerpt", "lines", "bad"),
    [
        ("host-and-container-in-one-log", 20, [4, 11, 15, 16]),
        ("namespaced-files", 25, [2, 3, 11, 14]),
        ("container-files-unreadable", 36, list(range(1, 37))),
        ("image-digest", 10, [7, 10]),
    ],
)
def test_damaged_lines_of_the_slides(excerpt: str, lines: int, bad: list[int]) -> None:
    found = list(read_lines((SLIDES / f"{excerpt}.txt").read_bytes()))
    assert sum(line.entry is not None or line.problem is not None for line in found) == lines
    assert [line.number for line in found if damaged(line)] == bad


def test_every_damaged_line_but_the_unreadable_ones_lacks_one_character() -> None:
    said = {}
    for excerpt in ("host-and-container-in-one-log", "namespaced-files", "image-digest"):
        for line in read_lines((SLIDES / f"{excerpt}.txt").read_bytes()):
            if damaged(line):
                found = repair(line.raw)
                assert found is not None
                assert found[0].fits
                said[excerpt, line.number] = found[1]
    assert len(said) == 10
    assert said["host-and-container-in-one-log", 16] == "'f' missing at column 91"
    assert said["host-and-container-in-one-log", 15] == "'a' for 'e' at column 91"
    assert said["host-and-container-in-one-log", 11] == "'0' missing at column 162"
    assert said["namespaced-files", 2] == said["namespaced-files", 14] == "'d' too much at column 86"
    unreadable = (SLIDES / "container-files-unreadable.txt").read_bytes().splitlines()
    assert [repair(raw) for raw in unreadable] == [None] * 36


LINE = as_text(b.ima_ng("/bin/x", b"content")).rstrip(b"\n")


@pytest.mark.parametrize("at", [3, 10, 42, 58, 90, len(LINE) - 1])
def test_repair_of_each_kind(at: int) -> None:
    other = b"0" if LINE[at : at + 1] != b"0" else b"1"
    for raw in (LINE[:at] + LINE[at + 1 :], LINE[:at] + other + LINE[at + 1 :], LINE[:at] + other + LINE[at:]):
        found = repair(raw)
        assert found is not None
        assert found[0].raw == LINE


@pytest.mark.parametrize("raw", [b"", b"10 748", LINE[:-2], LINE[:4] + LINE[6:], LINE + b"x" * 500, LINE + b"\nx"])
def test_what_one_character_cannot_repair(raw: bytes) -> None:
    assert repair(raw) is None


def test_a_violation_is_not_repaired() -> None:
    """It has no digest: it would fit with any character that is put in."""
    line = as_text(b.violation("/v"))[:-1]
    at = line.index(b" /v")
    assert damaged(read_line(line[: at - 1] + line[at:]))
    assert repair(line[: at - 1] + line[at:]) is None

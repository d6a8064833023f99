"""Runs: the same entries as one by one, whatever the bytes; and the memory that a log takes."""

from __future__ import annotations

import hashlib
import io
import random
import struct
from collections.abc import Callable

import evidence as b
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.attest.finding import BadEvidence
from testbed.attest.log import stream
from testbed.attest.log.ima import Entry, encode, read_entries
from testbed.attest.log.stream import Run, read_runs, synchronize


def streamed(log: bytes, offset: int = 0, number: int = 0) -> tuple[list[Entry], str]:
    """Every entry that comes out of the stream, and what it ended with."""
    found: list[Entry] = []
    try:
        for item in read_runs(io.BytesIO(log), len(log), offset=offset, number=number):
            found += item.entries() if isinstance(item, Run) else [item]
    except BadEvidence as error:
        return found, error.message
    return found, ""


def one_by_one(log: bytes) -> tuple[list[Entry], str]:
    found: list[Entry] = []
    try:
        for entry in read_entries(log):
            found.append(entry)  # noqa: PERF402 - what came before the error counts
    except BadEvidence as error:
        return found, error.message
    return found, ""


def in_buf(path: str, content: bytes, pcr: int = 10) -> bytes:
    """A file under a rule with `template=ima-buf`, whose buffer is empty."""
    data = b.digest_field(hashlib.sha256(content).digest()) + b.field(path.encode() + b"\0") + b.field(b"")
    return b.entry(pcr, b"ima-buf", data)


MAKERS: dict[bytes, Callable[..., bytes]] = {b"ima-ng": b.ima_ng, b"ima-sig": b.ima_sig, b"ima-buf": in_buf}


def plain(count: int, template: bytes = b"ima-ng") -> list[bytes]:
    return [MAKERS[template](f"/usr/bin/{n}", b"%d" % n, pcr=10 + n % 2) for n in range(count)]


SPECIAL = [
    b.violation("/bin/v"),
    b.ima_ng("boot_aggregate", b""),
    b.ima_ng("boot_aggregate_late", b""),
    b.ima_old("/bin/old", b""),
    b.ima_buf("ctr-start", b.ctr_start(b.libpod())),
    in_buf("ctr-start", b""),
    in_buf("4026532900", b""),
    b.ima_ng("ctr-file", b""),
    b.ima_sig("/bin/signed", b"", b"\x03" + bytes(30)),
    b.ima_sig("/bin/signed", b"", bytes(4)),
    b.entry(11, b"dep", b"?"),
    b.entry(10, b"ima-ng", b""),
    b.entry(10, b"ima-ng", b"\x06\0\0\0ima-ng"),
    b.entry(10, b"ima-ng", b.field(b"\x06\0\0\0ima-ng")),
    b.ima_ng("4026532900:/bin/x", b""),
    b.ima_ng("", b""),
    b.ima_ng("boot_aggregate2", b""),
    b.ima_ng("/bin/(.)[\\", b"", pcr=255),
    b.ima_ng("/bin/x", b"", pcr=256),
    *(
        b.entry(10, b"ima-ng", b.digest_field(hashlib.new(name, b"x").digest(), name) + b.field(b"/bin/x\0"))
        for name in ("md5", "sha1", "sha1", "sha1", "sha384", "sha512", "sha512")
    ),
    # Digests and names of a wrong size.
    b.entry(10, b"ima-ng", b.digest_field(bytes(31)) + b.field(b"/bin/x\0")),
    b.entry(10, b"ima-ng", b.digest_field(bytes(33)) + b.field(b"/bin/x\0")),
    b.entry(10, b"ima-ng", b.digest_field(bytes(32)) + b.field(b"/bin/x")),
    b.entry(10, b"ima-ng", b.digest_field(bytes(32)) + b.field(b"/bin\0/x\0")),
    # The mark within a digest, and a body that itself looks like two entries.
    encode(10, b"\x06\0\0\0ima-ng" + bytes(10), b"ima-ng", b"x"),
    encode(10, bytes(range(20)), b"ima-ng", b"".join(plain(3))),
]


@given(
    st.lists(st.sampled_from([*plain(20), *plain(5, b"ima-sig"), *plain(5, b"ima-buf"), *SPECIAL]), max_size=60),
    st.integers(0, 2**32),
)
def test_runs_are_the_same_entries(parts: list[bytes], seed: int) -> None:
    log = bytearray(b"".join(parts))
    assert streamed(bytes(log)) == one_by_one(bytes(log))
    if log:
        log[seed % len(log)] ^= 1 + seed % 255
        assert streamed(bytes(log)) == one_by_one(bytes(log))
        cut = bytes(log[: seed % len(log)])
        assert streamed(cut) == one_by_one(cut)


@given(st.binary(max_size=80), st.integers(0, 3))
@example(b"", 1)
@example(b"\0" * 27, 2)
def test_hostile_bytes_behind_a_run(tail: bytes, marks: int) -> None:
    """Also those that look like the middle of an entry: the mark without what must be around it."""
    log = b"".join(plain(4)) + marks * b"\x06\0\0\0ima-ng" + tail
    assert streamed(log) == one_by_one(log)


@pytest.mark.parametrize("template", MAKERS)
def test_ordinary_entries_come_in_runs(template: bytes) -> None:
    log = b"".join(plain(5000, template))
    items = list(read_runs(io.BytesIO(log), len(log)))
    runs = [item for item in items if isinstance(item, Run)]
    assert sum(len(run.data) for run in runs) > 4900
    assert len(runs) < 30
    assert all(run.fields[0] == run.data[0][: len(run.fields[0])] for run in runs)
    assert runs[0].fields[0].endswith(b"/usr/bin/0\0")


def test_special_entries_are_in_no_run() -> None:
    log = b"".join([*plain(10), SPECIAL[0], *plain(10), SPECIAL[1], *plain(10), SPECIAL[2], *plain(10)])
    for item in read_runs(io.BytesIO(log), len(log)):
        if isinstance(item, Run):
            assert bytes(20) not in item.shown
            assert not any(b"boot_aggregate" in data for data in item.data)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_runs_of_each_algorithm(algorithm: str) -> None:
    digests = [hashlib.new(algorithm, b"%d" % n).digest() for n in range(500)]
    data = [b.digest_field(one, algorithm) + b.field(b"/bin/%d\0" % n) for n, one in enumerate(digests)]
    log = b"".join(b.entry(10, b"ima-ng", one) for one in data)
    assert streamed(log) == one_by_one(log)
    items = list(read_runs(io.BytesIO(log), len(log)))
    assert sum(len(item.data) for item in items if isinstance(item, Run)) > 490


@given(st.lists(st.sampled_from([*plain(20), *SPECIAL]), max_size=40), st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_part_of_a_log(parts: list[bytes], first: int, last: int) -> None:
    """Up to a byte, no entry that begins later is read, and none is left out."""
    log = b"".join(parts)
    whole, _ = one_by_one(log)
    begin = whole[first % len(whole)] if whole else None
    stop = last % (len(log) + 1)
    at, number = (begin.offset, begin.number - 1) if begin else (0, 0)
    found: list[Entry] = []
    for item in read_runs(io.BytesIO(log), len(log), offset=at, number=number, stop=stop):
        found += item.entries() if isinstance(item, Run) else [item]
    assert found == [entry for entry in whole if at <= entry.offset < stop]


def test_the_middle_of_a_log_is_entered_at_an_entry() -> None:
    parts = plain(2000)
    log = b"".join(parts)
    begins = {entry.offset for entry in read_entries(log)}
    for start in range(0, len(log) - 5000, 997):
        found = synchronize(io.BytesIO(log), start, len(log))
        assert found in begins
        assert start <= found < start + 200
    assert synchronize(io.BytesIO(bytes(9000)), 10, 9000) is None
    assert synchronize(io.BytesIO(b"\x06\0\0\0ima-ng" * 900), 10, 9000) is None


def test_chunks_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries over the borders of what is read at once; begun in the middle; the same numbers and bytes."""
    rnd = random.Random(7)
    parts = [*plain(300), *SPECIAL * 20, *[b.ima_buf("e", rnd.randbytes(rnd.randrange(900))) for _ in range(50)]]
    rnd.shuffle(parts)
    log = b"".join(parts)
    whole = one_by_one(log)
    for size in (64, 100, 1000, 4096):
        monkeypatch.setattr(stream, "_CHUNK", size)
        assert streamed(log) == whole
    half = whole[0][len(parts) // 2]
    assert streamed(log, half.offset, half.number - 1)[0] == whole[0][half.number - 1 :]
    assert streamed(log, len(log), len(parts)) == ([], "")


def test_a_log_that_is_cut_while_it_is_read() -> None:
    log = b"".join(plain(3))
    with pytest.raises(BadEvidence, match=r"entry 3 at byte \d+: expected \d+ bytes of log"):
        list(read_runs(io.BytesIO(log[:-1]), len(log)))


class Counting(io.BytesIO):
    """A file that tells how much was asked of it at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.most = max(self.most, size)
        return super().read(size)


def test_no_more_is_read_than_is_needed() -> None:
    """A length field reserves nothing: the log's own end comes first, and one entry has a limit."""
    head = struct.pack("<I20sI", 10, hashlib.sha1(b"").digest(), 6) + b"ima-ng"
    log = b"".join(plain(10)) + head + struct.pack("<I", 0xFFFFFFFF) + bytes(3 << 20)
    file = Counting(log)
    with pytest.raises(BadEvidence, match="entry 11"):
        list(read_runs(file, len(log)))
    assert file.most <= 1 << 20

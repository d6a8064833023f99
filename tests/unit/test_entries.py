"""Our payloads: the vectors of docs/formats.md, a round trip, and each rule of the page broken once."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import evidence as b
import pytest
from evidence import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest import entries
from testbed.attest.entries import BeatEntry, FileEntry, Identity, JoinEntry, StartEntry, parse_payload, runtime_id
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.ima import parse_fields, read_entries, template_digest

TEXT = st.binary(min_size=1, max_size=80).map(lambda raw: raw.replace(b"\0", b"/"))
SEQ = st.integers(1, 2**64 - 8000)


@given(TEXT, st.binary(max_size=50), SEQ, st.sampled_from([1, 2]), st.sampled_from([0, 2, 4, 6]))
def test_file_round_trip(path: bytes, content: bytes, seq: int, route: int, flags: int) -> None:
    parsed = parse_payload(b"ctr-file", b.ctr_file(path, content, seq=seq % 10**9 + 1, route=route, flags=flags))
    assert isinstance(parsed, FileEntry)
    assert (parsed.path, parsed.route, parsed.flags, parsed.size) == (path, route, flags, len(content))
    assert parsed.digest == hashlib.sha256(content).digest()
    assert parsed.container.seq == seq % 10**9 + 1


@given(TEXT, st.integers(0, 2**64 - 1))
def test_start_round_trip(cgroup: bytes, parent: int) -> None:
    parsed = parse_payload(b"ctr-start", b.ctr_start(cgroup, seq=9, parent=parent if parent != 9 else 0))
    assert isinstance(parsed, StartEntry)
    assert parsed.container == Identity(seq=9, mntns=4026532500, cgroup=7009, started=30_000_000_009)
    assert (parsed.cgroup_path, parsed.pidns, parsed.utsns) == (cgroup, 4026532600, 4026531838)


def test_late_file_and_container_before() -> None:
    parsed = parse_payload(b"ctr-file", b.ctr_file(b"/a", b"x", route=entries.RUNNING, flags=entries.LATE))
    assert isinstance(parsed, FileEntry)
    assert (parsed.route, parsed.flags) == (5, 8)
    parsed = parse_payload(b"ctr-start", b.ctr_start(b"/c", flags=entries.BEFORE))
    assert isinstance(parsed, StartEntry)
    assert parsed.flags == 2


@given(st.integers(1, 2**64 - 1), st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**64 - 1))
def test_beat_round_trip(number: int, event: int, lost: int) -> None:
    number %= 2**63
    parsed = parse_payload(b"ctr-beat", b.ctr_beat(number + 1, event, lost=lost, interval=5))
    assert isinstance(parsed, BeatEntry)
    assert (parsed.number, parsed.event, parsed.lost, parsed.interval) == (number + 1, event, lost, 5)
    assert (parsed.time, parsed.containers) == (40_000_000_001 + number, 7)


def test_join_round_trip() -> None:
    parsed = parse_payload(b"ctr-join", b.ctr_join(seq=3, origin=2))
    assert isinstance(parsed, JoinEntry)
    assert (parsed.container.seq, parsed.joined, parsed.origin) == (3, 50_000_000_000, 2)


def test_no_path() -> None:
    parsed = parse_payload(b"ctr-file", b.ctr_file(b"", b"x", flags=entries.NO_PATH))
    assert isinstance(parsed, FileEntry)
    assert parsed.path == b""


def changed(payload: bytes, at: int, fmt: str, value: int) -> bytes:
    raw = bytearray(payload)
    struct.pack_into(fmt, raw, at, value)
    return bytes(raw)


FILE = b.ctr_file(b"/usr/bin/true", b"content")
START = b.ctr_start(b.libpod())
BEAT = b.ctr_beat(1)
JOIN = b.ctr_join()


@pytest.mark.parametrize(
    ("name", "payload", "what"),
    [
        (b"ctr-file", b"", "header"),
        (b"ctr-file", FILE[:47], "header"),
        (b"ctr-file", FILE[:60], "length"),
        (b"ctr-file", b.header(1, 60) + bytes(12), "96 bytes"),
        (b"ctr-start", b.header(2, 60) + bytes(12), "72 bytes"),
        (b"ctr-file", changed(FILE, 0, "<I", 0), "magic"),
        (b"ctr-start", FILE, "kind"),
        (b"ctr-file", FILE + b"x", "length"),
        (b"ctr-file", changed(FILE, 12, "<I", 8), "flags"),
        (b"ctr-file", changed(FILE, 48, "<H", 5), "flags"),
        (b"ctr-start", changed(START, 12, "<I", 4), "flags"),
        (b"ctr-file", changed(FILE, 16, "<Q", 0), "seq"),
        (b"ctr-file", changed(FILE, 48, "<H", 3), "route"),
        (b"ctr-file", changed(FILE, 52, "<I", 12), "path length"),
        (b"ctr-file", changed(FILE, 52, "<I", 0xFFFFFFFF), "path length"),
        (b"ctr-file", changed(FILE, 12, "<I", entries.NO_PATH), "path"),
        (b"ctr-file", b.ctr_file(b"", b"x"), "path"),
        (b"ctr-file", b.ctr_file(b"/a\0b", b"x"), "zero byte"),
        (b"ctr-start", changed(START, 68, "<I", 1), "reserved"),
        (b"ctr-start", changed(START, 48, "<Q", 1), "parent"),
        (b"ctr-start", b.ctr_start(b""), "cgroup_path"),
        (b"ctr-beat", JOIN, "kind"),
        (b"ctr-beat", changed(BEAT, 16, "<Q", 1), "seq"),
        (b"ctr-beat", changed(BEAT, 12, "<I", 1), "flags"),
        (b"ctr-beat", changed(BEAT, 48, "<Q", 0), "number"),
        (b"ctr-beat", changed(BEAT, 64, "<I", 0), "event"),
        (b"ctr-beat", changed(BEAT, 64, "<I", 5), "event"),
        (b"ctr-beat", changed(BEAT, 68, "<I", 1), "reserved"),
        (b"ctr-beat", changed(BEAT + b"x", 8, "<I", 97), "96 bytes"),
        (b"ctr-join", changed(JOIN, 16, "<Q", 0), "seq"),
        (b"ctr-join", changed(JOIN, 56, "<Q", 1), "from"),
        (b"ctr-join", changed(JOIN[:56], 8, "<I", 56), "64 bytes"),
    ],
)
def test_malformed(name: bytes, payload: bytes, what: str) -> None:
    with pytest.raises(BadEvidence, match=what) as caught:
        parse_payload(name, payload)
    assert not isinstance(caught.value, UnsupportedEvidence)


@pytest.mark.parametrize(
    "payload", [changed(FILE, 4, "<H", 2), changed(FILE, 6, "<H", 3), changed(FILE, 50, "<H", 0x000C)]
)
def test_unsupported(payload: bytes) -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_payload(b"ctr-file", payload)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for payload in (data, FILE[:48] + data, START[:48] + data):
        for name in entries.KINDS:
            with contextlib.suppress(BadEvidence):
                parsed = parse_payload(name, payload)
                if not isinstance(parsed, entries.FileEntry | entries.StartEntry):
                    continue
                text = parsed.path if isinstance(parsed, entries.FileEntry) else parsed.cgroup_path
                assert payload.endswith(text)


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        (f"/machine.slice/libpod-{ID}.scope/container", ID),
        (f"/libpod_parent/libpod-{ID}", ID),
        (f"libpod-{ID}", ID),
        (f"/testbed/containers/{ID}", ID),
        (f"/system.slice/docker-{ID}.scope", ID),
        (f"/machine.slice/libpod-{'e' * 64}.scope/libpod-{ID}.scope", ID),
        (f"/machine.slice/libpod-conmon-{ID}.scope", None),
        (f"/machine.slice/libpod-{ID}0.scope", None),
        (f"/machine.slice/xlibpod-{ID}.scope", None),
        ("/system.slice/ssh.service", None),
    ],
)
def test_runtime_id(cgroup: str, found: str | None) -> None:
    assert runtime_id(cgroup.encode()) == found


def test_collision_files_have_different_entries() -> None:
    """Two files that the prototype's rule cannot tell apart: their SHA-256 agree in the bytes that it hashes."""
    contents = [(GOLDEN / f"collision_{name}.bin").read_bytes() for name in "ab"]
    first, second = (hashlib.sha256(content).digest() for content in contents)
    assert first[:8] == second[:8]
    assert first != second
    logged = [b.ima_buf("ctr-file", b.ctr_file(b"/script", content)) for content in contents]
    ours = [parse_fields(entry) for line in logged for entry in read_entries(line)]
    assert ours[0].digest[:8] != ours[1].digest[:8]
    assert logged[0][4:24] != logged[1][4:24]


@pytest.mark.parametrize("name", ["ctr-file", "ctr-start"])
def test_vectors_of_the_page(name: str) -> None:
    """The bytes in docs/formats.md parse to what the page says, and hash to what it says."""
    vector = b.page_vectors()[name]
    payload = bytes.fromhex(vector["payload"])
    data = b.buf_data(name, payload)
    assert hashlib.sha256(payload).hexdigest() == vector["d-ng"]
    assert hashlib.sha1(data).hexdigest() == vector["template sha1"]
    assert hashlib.sha256(data).hexdigest() == vector["template sha256"]
    (entry,) = read_entries(b.ima_buf(name, payload))
    assert template_digest(entry).hex() == vector["template sha1"]
    parsed = parse_payload(name.encode(), payload)
    said = [vector[field] for field in ("seq", "mntns", "cgroup", "started")]
    who = parsed.container
    assert [str(value) for value in (who.seq, who.mntns, who.cgroup, who.started)] == said
    if isinstance(parsed, FileEntry):
        assert (parsed.path.decode(), str(parsed.size), parsed.digest.hex()) == (
            vector["path"],
            vector["size"],
            vector["digest"],
        )
        assert (str(parsed.route), str(parsed.flags)) == (vector["route"], vector["flags"])
    else:
        assert (parsed.cgroup_path.decode(), str(parsed.parent)) == (vector["cgroup_path"], vector["parent"])
        assert (str(parsed.pidns), str(parsed.utsns)) == (vector["pidns"], vector["utsns"])

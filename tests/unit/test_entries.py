"""Our payloads: the vectors of docs/formats.md, a round trip, and each rule of the page broken once."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import Any

import evidence as b
import pytest
from evidence import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest import entries
from testbed.attest.entries import (
    BeatEntry,
    FileEntry,
    Identity,
    ImageEntry,
    JoinEntry,
    LaunchEntry,
    Payload,
    StartEntry,
    ViolationEntry,
    parse_payload,
    runtime_id,
)
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.ima import parse_fields, read_entries, template_digest

TEXT = st.binary(min_size=1, max_size=80).map(lambda raw: raw.replace(b"\0", b"/"))
SEQ = st.integers(1, 2**64 - 8000)


@given(TEXT, st.binary(max_size=50), SEQ, st.sampled_from([1, 2, 3]), st.sampled_from([0, 2, 4, 6]))
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
    for route in (4, 5):
        parsed = parse_payload(b"ctr-file", b.ctr_file(b"/a", b"x", route=route, flags=entries.LATE))
        assert isinstance(parsed, FileEntry)
        assert (parsed.route, parsed.flags) == (route, 8)
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
    for name, payload in (
        ("ctr-file", b.ctr_file(b"", b"x", flags=1)),
        ("ctr-violation", b.ctr_violation(b"", flags=1)),
    ):
        parsed = parse_payload(name.encode(), payload)
        assert isinstance(parsed, FileEntry | ViolationEntry)
        assert parsed.path == b""


@given(TEXT, st.sampled_from([1, 2]), st.integers(0, 6).map(lambda n: n & 6), st.integers(0, 2**64 - 1))
def test_violation_round_trip(path: bytes, violation: int, flags: int, inode: int) -> None:
    device = (inode % 4095, inode % 2**20)
    payload = b.ctr_violation(path, seq=3, violation=violation, flags=flags, device=device, inode=inode)
    parsed = parse_payload(b"ctr-violation", payload)
    assert isinstance(parsed, ViolationEntry)
    assert (parsed.path, parsed.violation, parsed.flags) == (path, violation, flags)
    assert (parsed.device, parsed.inode, parsed.container.seq) == (device, inode, 3)


@given(st.integers(0, 6), st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_image_round_trip(outcome: int, files: int, size: int) -> None:
    digest = bytes(32) if outcome else b"d" * 32
    parsed = parse_payload(b"ctr-image", b.ctr_image(digest, outcome=outcome, files=files, size=size))
    assert parsed == ImageEntry(outcome=outcome, files=files, size=size, digest=digest)


RANGES = st.lists(st.tuples(*[st.integers(1, 2**32 - 1)] * 3), max_size=5).map(tuple)
ARGUMENTS = st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\0", b" ")), max_size=6).map(tuple)


@given(ARGUMENTS, RANGES, RANGES, st.lists(st.tuples(TEXT, TEXT, st.integers(0, 255)), max_size=4), st.booleans())
def test_launch_round_trip(
    args: tuple[bytes, ...],
    uid_map: tuple[tuple[int, int, int], ...],
    gid_map: tuple[tuple[int, int, int], ...],
    mounts: list[tuple[bytes, bytes, int]],
    there: bool,
) -> None:
    wish = [(b"/" + path, kind, flags) for path, kind, flags in mounts]
    digest = b"d" * 32 if there else bytes(32)
    payload = b.ctr_launch(
        b"i" * 32,
        args,
        uid_map=uid_map,
        gid_map=gid_map,
        mounts=tuple(b.mount(*one) for one in wish),
        environment=digest,
        runtime=digest,
        config=digest,
        caps=(1, 2, 3, 2**63),
        user=5,
        group=6,
    )
    parsed = parse_payload(b"ctr-launch", payload)
    assert isinstance(parsed, LaunchEntry)
    assert (parsed.args, parsed.arguments) == (len(args), args)
    assert [(one.inside, one.outside, one.count) for one in parsed.uid_map] == list(uid_map)
    assert [(one.inside, one.outside, one.count) for one in parsed.gid_map] == list(gid_map)
    assert [(one.path, one.type, one.flags) for one in parsed.mounts] == wish
    assert {parsed.environment, parsed.runtime, parsed.config} == {digest}
    assert (parsed.user, parsed.group, parsed.image, parsed.outcome) == (5, 6, b"i" * 32, 0)
    caps = (parsed.cap_permitted, parsed.cap_bounding, parsed.cap_inheritable, parsed.cap_ambient)
    assert caps == (1, 2, 3, 2**63)


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        (b"", ()),
        (b"a\0b\0", (b"a", b"b")),
        (b"a\0bc", (b"a", b"bc")),
        (b"\0" * 3, (b"", b"", b"")),
        (b"x" * 4096, None),
    ],
)
def test_cut_arguments(said: bytes, parts: tuple[bytes, ...] | None) -> None:
    parsed = parse_payload(b"ctr-launch", b.ctr_launch(b"i" * 32, (b"a",) * 3, arguments=said, flags=1))
    assert isinstance(parsed, LaunchEntry)
    assert parsed.args == 3
    assert parsed.arguments == ((said,) if parts is None else parts)


def test_maps_that_were_cut() -> None:
    many = ((1, 1, 1),) * 64
    parsed = parse_payload(b"ctr-launch", b.ctr_launch(b"i" * 32, gid_map=many, flags=16))
    assert isinstance(parsed, LaunchEntry)
    assert len(parsed.gid_map) == 64


def changed(payload: bytes, at: int, fmt: str, value: int) -> bytes:
    raw = bytearray(payload)
    struct.pack_into(fmt, raw, at, value)
    return bytes(raw)


FILE = b.ctr_file(b"/usr/bin/true", b"content")
START = b.ctr_start(b.libpod())
BEAT = b.ctr_beat(1)
JOIN = b.ctr_join()
IMAGE = b.ctr_image(b"d" * 32)
VIOLATION = b.ctr_violation(b"/usr/bin/true")
LAUNCH = b.ctr_launch(b"i" * 32, (b"a", b"b"), config=b"c" * 32)
MOUNT = len(LAUNCH) - 12 - len(b"/proc" + b"proc")


def launch(**wish: Any) -> bytes:
    return b.ctr_launch(b"i" * 32, (b"a", b"b"), **wish)


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
        (b"ctr-file", changed(FILE, 48, "<H", 0), "route"),
        (b"ctr-file", changed(FILE, 48, "<H", 6), "route"),
        (b"ctr-file", changed(FILE, 48, "<H", 4), "flags"),
        (b"ctr-file", b.ctr_file(b"/a", b"x", route=3, flags=8), "flags"),
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
        (b"ctr-image", changed(IMAGE, 12, "<I", 1), "flags"),
        (b"ctr-image", changed(IMAGE, 24, "<Q", 1), "seq"),
        (b"ctr-image", changed(IMAGE[:96], 8, "<I", 96), "104 bytes"),
        (b"ctr-image", changed(IMAGE, 52, "<I", 7), "outcome"),
        (b"ctr-image", changed(IMAGE, 52, "<I", 1), "digest"),
        (b"ctr-image", b.ctr_image(bytes(32)), "digest"),
        (b"ctr-image", changed(IMAGE, 56, "<Q", 0), "files"),
        (b"ctr-violation", changed(VIOLATION, 12, "<I", 8), "flags"),
        (b"ctr-violation", changed(VIOLATION, 16, "<Q", 0), "seq"),
        (b"ctr-violation", changed(VIOLATION, 48, "<H", 0), "violation"),
        (b"ctr-violation", changed(VIOLATION, 48, "<H", 3), "violation"),
        (b"ctr-violation", changed(VIOLATION, 50, "<H", 1), "reserved"),
        (b"ctr-violation", changed(VIOLATION, 52, "<I", 1), "path length"),
        (b"ctr-violation", b.ctr_violation(b""), "path"),
        (b"ctr-violation", changed(VIOLATION[:60], 8, "<I", 60), "72 bytes"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 0x40), "flags"),
        (b"ctr-launch", changed(LAUNCH, 16, "<Q", 0), "seq"),
        (b"ctr-launch", changed(LAUNCH[:200], 8, "<I", 200), "248 bytes"),
        (b"ctr-launch", changed(LAUNCH, 50, "<H", 7), "outcome"),
        (b"ctr-launch", changed(LAUNCH, 50, "<H", 3), "image"),
        (b"ctr-launch", b.ctr_launch(bytes(32)), "image"),
        (b"ctr-launch", changed(LAUNCH, 84, "<I", 1), "reserved"),
        (b"ctr-launch", changed(LAUNCH, 60, "<I", 1), "arguments"),
        (b"ctr-launch", changed(LAUNCH, 60, "<I", 3), "arguments"),
        (b"ctr-launch", launch(arguments=b"a\0b\0c"), "arguments"),
        (b"ctr-launch", launch(arguments=b"a\0b\0c\0", flags=1), "arguments"),
        (b"ctr-launch", launch(arguments=b"a" * 4097, flags=1), "args_len"),
        (b"ctr-launch", changed(LAUNCH, 64, "<I", 5), "args_len, uid_maps"),
        (b"ctr-launch", launch(uid_map=((1, 1, 1),) * 65), "uid_maps"),
        (b"ctr-launch", launch(gid_map=((1, 1, 1),) * 65), "gid_maps"),
        (b"ctr-launch", launch(gid_map=((1, 1, 1),) * 63, flags=16), "MAPS_CUT"),
        (b"ctr-launch", launch(uid_map=((1, 1, 0),)), "uid_map"),
        (b"ctr-launch", launch(gid_map=((1, 1, 0),)), "gid_map"),
        (b"ctr-launch", launch(mounts=(b.mount(b"/x" * 2048),)), "mounts_len"),
        (b"ctr-launch", launch(mounts=(b.mount(b"x"),)), "whole path"),
        (b"ctr-launch", launch(mounts=(b.mount(b""),)), "whole path"),
        (b"ctr-launch", launch(mounts=(b.mount(b"/x", b""),)), "whole path"),
        (b"ctr-launch", launch(mounts=(b.mount(b"/x\0"),)), "whole path"),
        (b"ctr-launch", launch(mounts=(b.mount(b"/x", b"t", 256),)), "mnt_flags"),
        (b"ctr-launch", launch(mounts=(b.mount(b"/x"), b"12345678901")), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 4, "<I", 6), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 8, "<I", 0xFFFFFFFF), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 8, "<I", 3), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, 76, "<I", 2), "mounts"),
        (b"ctr-launch", changed(LAUNCH, 76, "<I", 0), "mounts"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 8 | 4), "runtime"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 8 | 32), "environment"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 0), "config"),
        (b"ctr-launch", changed(launch(), 12, "<I", 8), "config"),
        (b"ctr-launch", changed(launch(runtime=bytes(32)), 12, "<I", 0), "runtime"),
    ],
)
def test_malformed(name: bytes, payload: bytes, what: str) -> None:
    with pytest.raises(BadEvidence, match=what) as caught:
        parse_payload(name, payload)
    assert not isinstance(caught.value, UnsupportedEvidence)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        (b"ctr-file", changed(FILE, 4, "<H", 2)),
        (b"ctr-file", changed(FILE, 6, "<H", 8)),
        (b"ctr-file", changed(FILE, 50, "<H", 0x000C)),
        (b"ctr-image", changed(IMAGE, 48, "<H", 2)),
        (b"ctr-image", changed(IMAGE, 50, "<H", 4)),
        (b"ctr-launch", changed(LAUNCH, 48, "<H", 4)),
    ],
)
def test_unsupported(name: bytes, payload: bytes) -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_payload(name, payload)


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    bodies = (FILE[:48], START[:48], LAUNCH[:48], LAUNCH[:248], VIOLATION[:48], IMAGE[:48])
    for payload in (data, *(changed(body + data, 8, "<I", len(body + data)) for body in bodies)):
        for name in entries.KINDS:
            with contextlib.suppress(BadEvidence):
                parsed = parse_payload(name, payload)
                if isinstance(parsed, FileEntry | ViolationEntry):
                    assert payload.endswith(parsed.path)
                elif isinstance(parsed, StartEntry):
                    assert payload.endswith(parsed.cgroup_path)
                elif isinstance(parsed, LaunchEntry) and parsed.mounts:
                    assert payload.endswith(parsed.mounts[-1].type)


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


VECTORS = [name for name in b.page_vectors() if name.startswith("ctr-")]


def shown(parsed: Payload) -> dict[str, str]:
    """What the page writes of an entry, field by field."""
    told = {slot: getattr(parsed, slot) for slot in parsed.__slots__}
    if isinstance(parsed, BeatEntry | ImageEntry):
        told |= {"flags": 0}
    if isinstance(parsed, ImageEntry):
        told |= {"tree_version": 1, "bytes": told.pop("size")}
    if isinstance(parsed, LaunchEntry):
        told["arguments"] = b"|".join(parsed.arguments)
        for name in ("uid_map", "gid_map"):
            told[name] = ", ".join(f"{one.inside} {one.outside} {one.count}" for one in told[name]) or "none"
        rows = [f"{one.flags} {one.path.decode()} {one.type.decode()}" for one in told.pop("mounts")]
        told["mount_list"] = ", ".join(rows) or "none"
        told |= {name: f"0x{value:x}" for name, value in told.items() if name.startswith("cap_")}
    if isinstance(parsed, JoinEntry):
        told |= {"flags": 0, "from": told.pop("origin")}
    if isinstance(parsed, ViolationEntry):
        told["device"] = "{}:{}".format(*parsed.device)
    if who := told.pop("container", None):
        told |= {slot: getattr(who, slot) for slot in Identity.__slots__}
    binary = {"digest", "image", "environment", "runtime", "config"}
    return {
        name: (value.hex() if name in binary else value.decode()) if isinstance(value, bytes) else str(value)
        for name, value in told.items()
    }


def test_every_kind_has_a_vector() -> None:
    assert {name.partition(":")[0].encode() for name in VECTORS} == set(entries.KINDS)


@pytest.mark.parametrize("title", VECTORS)
def test_vectors_of_the_page(title: str) -> None:
    """The bytes in docs/formats.md parse to what the page says, and hash to what it says."""
    vector = b.page_vectors()[title]
    name, payload = title.partition(":")[0], bytes.fromhex(vector.pop("payload"))
    data = b.buf_data(name, payload)
    assert hashlib.sha256(payload).hexdigest() == vector.pop("d-ng")
    (entry,) = read_entries(b.ima_buf(name, payload))
    assert template_digest(entry).hex() == vector["template sha1"]
    assert hashlib.sha1(data).hexdigest() == vector.pop("template sha1")
    assert hashlib.sha256(data).hexdigest() == vector.pop("template sha256")
    assert shown(parse_payload(name.encode(), payload)) == vector


def test_the_writers_of_the_tests_write_the_vectors() -> None:
    """So that a mistake in a block of the page is none of both."""
    vectors = {
        title: bytes.fromhex(fields["payload"]) for title, fields in b.page_vectors().items() if title in VECTORS
    }
    image = hashlib.sha256(b"image").digest()
    assert vectors["ctr-image"] == b.ctr_image(image, files=264, size=31457280)
    launch = b.ctr_launch(
        image,
        (b"/usr/bin/bash", b"-c", b"exit 0"),
        uid_map=((0, 100000, 65536), (65536, 1000, 1)),
        gid_map=((0, 100000, 65536),),
        mounts=(b.mount(b"/proc", b"proc", 14), b.mount(b"/etc/hosts", b"ext4", 33)),
        environment=hashlib.sha256(b"PATH=/usr/bin\0").digest(),
        runtime=hashlib.sha256(b"crun").digest(),
        config=hashlib.sha256(b"{}").digest(),
        user=100033,
        group=100033,
        caps=(0x800405FB, 0x800405FB, 0, 0x400),
    )
    assert vectors["ctr-launch"][48:] == launch[48:]
    violation = b.ctr_violation(b"/srv/tool", violation=2, device=(254, 3), inode=131073)
    assert vectors["ctr-violation"][48:] == violation[48:]
    assert vectors["ctr-beat"][48:56] == b.ctr_beat(3)[48:56]
    assert vectors["ctr-join"][56:] == b.ctr_join(origin=3)[56:]

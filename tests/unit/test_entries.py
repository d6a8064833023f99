"""Our payloads: the vectors of docs/formats.md, a round trip, and each rule of the page broken once."""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from evidence import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.entries import launch, parse
from testbed.attest.entries.integrity import HOOKS, PARTS, REASONS, names
from testbed.attest.entries.mounts import Mount
from testbed.attest.entries.parse import (
    BeatEntry,
    FileEntry,
    Identity,
    ImageEntry,
    JoinEntry,
    LaunchEntry,
    LossEntry,
    MeasurerEntry,
    MountsEntry,
    Payload,
    ProgramEntry,
    StartEntry,
    ViolationEntry,
    parse_payload,
    runtime_id,
)
from testbed.attest.entries.payload import VERSIONS
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import read_entries, template_digest

# Bits 0 to 7 of mnt_flags (include/linux/mount.h), by what /proc/PID/mountinfo shows for them.
MNT_FLAGS = {
    "rw": 0,
    "nosuid": 1,
    "nodev": 2,
    "noexec": 4,
    "noatime": 8,
    "nodiratime": 16,
    "relatime": 32,
    "ro": 64,
    "nosymfollow": 128,
}
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
        parsed = parse_payload(b"ctr-file", b.ctr_file(b"/a", b"x", route=route, flags=parse.LATE))
        assert isinstance(parsed, FileEntry)
        assert (parsed.route, parsed.flags) == (route, 8)
    parsed = parse_payload(b"ctr-start", b.ctr_start(b"/c", flags=parse.BEFORE))
    assert isinstance(parsed, StartEntry)
    assert parsed.flags == 2


@given(st.integers(1, 2**64 - 1), st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**64 - 1))
def test_beat_round_trip(number: int, event: int, lost: int) -> None:
    number %= 2**63
    parsed = parse_payload(b"ctr-beat", b.ctr_beat(number + 1, event, lost=lost, interval=5, containers=7))
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
    assert parsed == ImageEntry(tree_version=1, outcome=outcome, files=files, size=size, digest=digest)


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
    assert [(one.target, one.type, sum(map(MNT_FLAGS.__getitem__, one.options))) for one in parsed.mounts] == wish
    assert {(one.source, one.root, one.super_read_only) for one in parsed.mounts} <= {(None, None, None)}
    assert (parsed.version, parsed.root, parsed.whole_mounts) == (1, None, False)
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


@pytest.mark.parametrize("version", [2, 3])
def test_late_and_not_bound_from_version_2_on(version: int) -> None:
    for route, flags in ((1, 16), (2, 8), (2, 24), (3, 16), (4, 8), (4, 24), (5, 24)):
        payload = b.ctr_file(b"/a", b"x", route=route, flags=flags, version=version)
        parsed = parse_payload(b"ctr-file", payload)
        assert isinstance(parsed, FileEntry)
        assert (parsed.route, parsed.flags) == (route, flags)


def test_what_is_new_in_version_3() -> None:
    file = parse_payload(b"ctr-file", b.ctr_file(b"/a", b"x", flags=parse.VERITY, version=3, digest=b"v" * 32))
    assert isinstance(file, FileEntry)
    assert (file.flags, file.digest) == (32, b"v" * 32)
    begun = parse_payload(b"ctr-launch", LAUNCH_3)
    assert isinstance(begun, LaunchEntry)
    assert (begun.version, begun.flags, begun.whole_mounts) == (3, 128, True)
    assert begun.root is not None
    layer = parse_payload(b"ctr-violation", b.ctr_violation(b"/a", violation=6, version=3))
    assert isinstance(layer, ViolationEntry)
    assert layer.violation == parse.LAYER
    for tree in (launch.COMPOSEFS, launch.DM_VERITY):
        image = parse_payload(b"ctr-image", b.ctr_image(b"d" * 32, files=0, size=0, tree=tree, version=3))
        assert image == ImageEntry(tree_version=tree, outcome=0, files=0, size=0, digest=b"d" * 32)


def escaped(raw: bytes, more: bytes = b"") -> bytes:
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" + more else bytes([byte]) for byte in raw)


WORDS = st.lists(st.sampled_from(["nosuid", "nodev", "noexec", "relatime", "idmapped"]), unique=True).map(tuple)
MOUNT_VALUES = st.builds(
    Mount,
    target=TEXT.map(lambda raw: b"/" + raw),
    type=TEXT,
    source=TEXT | st.just(b""),
    root=TEXT,
    options=st.builds(lambda first, rest: (first, *rest), st.sampled_from(["rw", "ro"]), WORDS),
    super_read_only=st.booleans(),
)


def line(one: Mount) -> bytes:
    assert one.source is not None
    assert one.root is not None
    names = (escaped(one.target), escaped(one.type, b"#"), escaped(one.source, b"#"), escaped(one.root))
    return b" ".join((*names, ",".join(one.options).encode(), b"ro" if one.super_read_only else b"rw")) + b"\n"


@given(st.lists(MOUNT_VALUES, max_size=4).map(tuple), st.integers(0, 0o7777), st.integers(0, 2**32 - 1))
def test_launch_and_mounts_round_trip_in_version_2(mounts: tuple[Mount, ...], mode: int, user: int) -> None:
    table = b"".join(map(line, mounts))
    payload = b.ctr_launch(b"i" * 32, (b"a", b""), table=table, root=(mode, user, 6, b"x" * 32))
    parsed = parse_payload(b"ctr-launch", payload)
    assert isinstance(parsed, LaunchEntry)
    assert parsed.mounts == mounts
    assert parsed.root is not None
    assert (parsed.root.mode, parsed.root.user, parsed.root.group, parsed.root.xattrs) == (mode, user, 6, b"x" * 32)
    assert (parsed.version, parsed.arguments, parsed.whole_mounts) == (2, (b"a", b""), True)
    again = parse_payload(b"ctr-mounts", b.ctr_mounts(table, seq=3, event=2**64 - 1))
    assert isinstance(again, MountsEntry)
    assert (again.mounts, again.event, again.container.seq, again.whole) == (mounts, 2**64 - 1, 3, True)


def test_mounts_that_are_not_whole() -> None:
    for flags, table in ((1, b.TABLE), (2, b"")):
        parsed = parse_payload(b"ctr-mounts", b.ctr_mounts(table, flags=flags))
        assert isinstance(parsed, MountsEntry)
        assert not parsed.whole
    for flags, table in ((2, b.TABLE), (64, b"")):
        told = parse_payload(b"ctr-launch", b.ctr_launch(b"i" * 32, table=table, flags=flags))
        assert isinstance(told, LaunchEntry)
        assert not told.whole_mounts


@given(st.integers(1, 2**64 - 1), st.integers(1, 127))
def test_loss_round_trip(lost: int, reasons: int) -> None:
    parsed = parse_payload(b"ctr-loss", b.ctr_loss(lost, reasons, seq=3))
    assert isinstance(parsed, LossEntry)
    assert (parsed.lost, parsed.reasons, parsed.container.seq) == (lost, reasons, 3)
    assert len(names(reasons, REASONS)) == reasons.bit_count()


def test_program_and_measurer_round_trip() -> None:
    for what in (1, 3):
        parsed = parse_payload(b"ctr-program", b.ctr_program(b"abc", what=what))
        assert isinstance(parsed, ProgramEntry)
        assert (parsed.what, parsed.size, parsed.digest) == (what, 3, hashlib.sha256(b"abc").digest())
    for number, part in enumerate(("module", "object", "loader"), 1):
        told = parse_payload(b"ctr-measurer", b.ctr_measurer(number, b"abc"))
        assert told == MeasurerEntry(part=part, size=3, digest=hashlib.sha256(b"abc").digest())


@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, 0x3FF))
def test_proved_hooks(event: int, proved: int) -> None:
    parsed = parse_payload(b"ctr-beat", b.ctr_beat(1, event, proved=proved))
    assert isinstance(parsed, BeatEntry)
    assert parsed.proved == proved


def changed(payload: bytes, at: int, fmt: str, value: int) -> bytes:
    raw = bytearray(payload)
    struct.pack_into(fmt, raw, at, *[value] * (len(fmt) - 1))
    return bytes(raw)


FILE = b.ctr_file(b"/usr/bin/true", b"content")
START = b.ctr_start(b.libpod())
BEAT = b.ctr_beat(1)
JOIN = b.ctr_join()
IMAGE = b.ctr_image(b"d" * 32)
VIOLATION = b.ctr_violation(b"/usr/bin/true")
LAUNCH = b.ctr_launch(b"i" * 32, (b"a", b"b"), config=b"c" * 32)
FILE_2 = b.ctr_file(b"/usr/bin/true", b"content", version=2)
FILE_3 = b.ctr_file(b"/usr/bin/true", b"content", version=3)
IMAGE_3 = b.ctr_image(b"d" * 32, version=3)
LAUNCH_2 = b.ctr_launch(b"i" * 32, (b"a", b"b"), table=b.TABLE)
LAUNCH_3 = b.ctr_launch(b"i" * 32, (b"a", b"b"), table=b.TABLE, flags=launch.DRIFT, version=3)
LOSS = b.ctr_loss()
MOUNTS = b.ctr_mounts(b.TABLE)
PROGRAM = b.ctr_program()
PART = b.ctr_measurer()
MOUNT = len(LAUNCH) - 12 - len(b"/proc" + b"proc")


def launched(**wish: Any) -> bytes:
    return b.ctr_launch(b"i" * 32, (b"a", b"b"), **wish)


def listed(*lines: bytes) -> bytes:
    """A launch of version 2 with these mounts."""
    return launched(table=b"".join(line + b"\n" for line in lines))


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
        (b"ctr-file", changed(FILE, 12, "<I", parse.NO_PATH), "path"),
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
        (b"ctr-launch", launched(arguments=b"a\0b\0c"), "arguments"),
        (b"ctr-launch", launched(arguments=b"a\0b\0c\0", flags=1), "arguments"),
        (b"ctr-launch", launched(arguments=b"a" * 4097, flags=1), "args_len"),
        (b"ctr-launch", changed(LAUNCH, 64, "<I", 5), "args_len, uid_maps"),
        (b"ctr-launch", launched(uid_map=((1, 1, 1),) * 65), "uid_maps"),
        (b"ctr-launch", launched(gid_map=((1, 1, 1),) * 65), "gid_maps"),
        (b"ctr-launch", launched(gid_map=((1, 1, 1),) * 63, flags=16), "MAPS_CUT"),
        (b"ctr-launch", launched(uid_map=((1, 1, 0),)), "uid_map"),
        (b"ctr-launch", launched(gid_map=((1, 1, 0),)), "gid_map"),
        (b"ctr-launch", launched(mounts=(b.mount(b"/x" * 2048),)), "mounts_len"),
        (b"ctr-launch", launched(mounts=(b.mount(b"x"),)), "whole path"),
        (b"ctr-launch", launched(mounts=(b.mount(b""),)), "whole path"),
        (b"ctr-launch", launched(mounts=(b.mount(b"/x", b""),)), "whole path"),
        (b"ctr-launch", launched(mounts=(b.mount(b"/x\0"),)), "whole path"),
        (b"ctr-launch", launched(mounts=(b.mount(b"/x", b"t", 256),)), "mnt_flags"),
        (b"ctr-launch", launched(mounts=(b.mount(b"/x"), b"12345678901")), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 4, "<I", 6), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 8, "<I", 0xFFFFFFFF), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, MOUNT + 8, "<I", 3), "mount_list"),
        (b"ctr-launch", changed(LAUNCH, 76, "<I", 2), "mounts"),
        (b"ctr-launch", changed(LAUNCH, 76, "<I", 0), "mounts"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 8 | 4), "runtime"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 8 | 32), "environment"),
        (b"ctr-launch", changed(LAUNCH, 12, "<I", 0), "config"),
        (b"ctr-launch", changed(launched(), 12, "<I", 8), "config"),
        (b"ctr-launch", changed(launched(runtime=bytes(32)), 12, "<I", 0), "runtime"),
        (b"ctr-file", changed(FILE, 12, "<I", parse.NOT_BOUND), "flags"),
        (b"ctr-file", changed(FILE_2, 12, "<I", parse.VERITY), "flags"),
        (b"ctr-file", changed(FILE_3, 12, "<I", 0x40), "flags"),
        (b"ctr-file", changed(FILE_3, 12, "<I", parse.LATE), "flags"),
        (b"ctr-file", changed(FILE_2, 12, "<I", parse.LATE), "flags"),
        (b"ctr-file", b.ctr_file(b"/a", b"x", route=3, flags=8, version=2), "flags"),
        (b"ctr-file", b.ctr_file(b"/a", b"x", route=4, flags=16, version=2), "flags"),
        (b"ctr-file", b.ctr_file(b"/a", b"x", route=2, flags=8), "flags"),
        (b"ctr-violation", b.ctr_violation(b"/a", violation=6, version=2), "violation"),
        (b"ctr-violation", b.ctr_violation(b"/a", violation=0, version=2), "violation"),
        (b"ctr-violation", b.ctr_violation(b"/a", violation=7, version=3), "violation"),
        (b"ctr-beat", b.ctr_beat(1, 1, proved=0x400), "proved"),
        (b"ctr-launch", changed(LAUNCH_2, 12, "<I", launch.DRIFT), "flags"),
        (b"ctr-launch", changed(LAUNCH_3, 12, "<I", 0x100), "flags"),
        (b"ctr-launch", b.ctr_launch(bytes(32), table=b.TABLE, outcome=1, flags=launch.DRIFT, version=3), "DRIFT only"),
        (b"ctr-image", changed(IMAGE_3, 48, "<H", launch.COMPOSEFS), "files"),
        (b"ctr-image", b.ctr_image(b"d" * 32, files=0, tree=launch.DM_VERITY, version=3), "bytes"),
        (b"ctr-image", changed(IMAGE_3, 56, "<Q", 0), "files"),
        (b"ctr-launch", changed(LAUNCH_2[:270], 8, "<I", 270), "bytes of the root"),
        (b"ctr-launch", changed(LAUNCH_2, 84, "<I", 0o10755), "root_mode"),
        (b"ctr-launch", changed(LAUNCH_2, 12, "<I", 64), "no bytes, as the flag says"),
        (b"ctr-launch", changed(LAUNCH_2, 76, "<I", 3), "mounts"),
        (b"ctr-launch", launched(table=b.TABLE[:-1]), "a line break"),
        (b"ctr-launch", listed(b"/ a b / rw " + b"rw" * 9000), "mounts_len"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw"), "6 fields"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw rw rw"), "6 fields"),
        (b"ctr-launch", listed(b""), "6 fields"),
        (b"ctr-launch", listed(b"/ over\0lay overlay / rw rw"), "6 fields"),
        (b"ctr-launch", listed(b"/ over\tlay overlay / rw rw"), "6 fields"),
        (b"ctr-launch", listed(b"/ overlay overlay / nosuid rw"), "options"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw, rw"), "options"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw,,ro rw"), "options"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw,\xe9 rw"), "options"),
        (b"ctr-launch", listed(b"/ overlay overlay / rw RW"), "options"),
        (b"ctr-launch", listed(b"proc proc proc / rw rw"), "whole path"),
        (b"ctr-launch", listed(b"/  proc / rw rw"), "whole path"),
        (b"ctr-launch", listed(b"/ proc proc  rw rw"), "whole path"),
        (b"ctr-launch", listed(b"/\\041 proc proc / rw rw"), "escapes"),
        (b"ctr-launch", listed(b"/\\043 proc proc / rw rw"), "escapes"),
        (b"ctr-launch", listed(b"/\\999 proc proc / rw rw"), "backslash"),
        (b"ctr-launch", listed(b"/\\40 proc proc / rw rw"), "backslash"),
        (b"ctr-mounts", changed(MOUNTS, 12, "<I", 8), "flags"),
        (b"ctr-mounts", changed(MOUNTS, 12, "<I", 2), "no bytes, as the flag says"),
        (b"ctr-mounts", changed(b.ctr_mounts(b"", flags=2), 56, "<I", 1), "mounts"),
        (b"ctr-mounts", changed(MOUNTS, 56, "<I", 5), "mounts"),
        (b"ctr-mounts", changed(MOUNTS, 60, "<I", 5), "mounts_len"),
        (b"ctr-mounts", b.ctr_mounts(b"/ a b / rw rw\n" * 1200), "at most 16384"),
        (b"ctr-mounts", changed(MOUNTS, 16, "<Q", 0), "seq"),
        (b"ctr-loss", changed(LOSS, 12, "<I", 1), "flags"),
        (b"ctr-loss", changed(LOSS, 16, "<Q", 0), "seq"),
        (b"ctr-loss", b.ctr_loss(0), "lost"),
        (b"ctr-loss", b.ctr_loss(1, 0), "reasons"),
        (b"ctr-loss", b.ctr_loss(1, 128), "reasons"),
        (b"ctr-loss", changed(LOSS, 60, "<I", 1), "reserved"),
        (b"ctr-loss", changed(LOSS + b"x", 8, "<I", 65), "64 bytes"),
        (b"ctr-program", changed(PROGRAM, 48, "<H", 0), "what"),
        (b"ctr-program", changed(PROGRAM, 48, "<H", 4), "what"),
        (b"ctr-program", changed(PROGRAM, 48, "<H", 2), "hash_alg"),
        (b"ctr-program", changed(b.ctr_program(what=2), 56, "<Q", 1), "size"),
        (b"ctr-program", changed(b.ctr_program(what=2), 64, "<I", 1), "digest"),
        (b"ctr-program", changed(PROGRAM, 64, "<QQQQ", 0), "digest"),
        (b"ctr-program", b.ctr_program(command=6), "command"),
        (b"ctr-program", b.ctr_program(what=2, command=5), "command"),
        (b"ctr-program", b.ctr_program(what=3, command=5), "command"),
        (b"ctr-measurer", changed(PART, 16, "<Q", 1), "seq"),
        (b"ctr-measurer", changed(PART, 48, "<H", 0), "part"),
        (b"ctr-measurer", changed(PART, 48, "<H", 4), "part"),
        (b"ctr-measurer", changed(PART, 52, "<I", 1), "reserved"),
        (b"ctr-measurer", changed(PART, 64, "<QQQQ", 0), "digest"),
    ],
)
def test_malformed(name: bytes, payload: bytes, what: str) -> None:
    with pytest.raises(BadEvidence, match=what) as caught:
        parse_payload(name, payload)
    assert not isinstance(caught.value, UnsupportedEvidence)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        (b"ctr-file", changed(FILE, 4, "<H", 4)),
        (b"ctr-file", changed(FILE, 4, "<H", 0)),
        (b"ctr-file", changed(FILE, 6, "<H", 8)),
        (b"ctr-file", changed(FILE_2, 6, "<H", 12)),
        (b"ctr-loss", changed(LOSS, 4, "<H", 1)),
        (b"ctr-measurer", changed(PART, 4, "<H", 1)),
        (b"ctr-measurer", changed(PART, 50, "<H", 4)),
        (b"ctr-program", changed(PROGRAM, 50, "<H", 0)),
        (b"ctr-image", b.ctr_image(b"d" * 32, version=2).replace(b"\2\0\x0b", b"\1\0\x0b")),
        (b"ctr-file", changed(FILE, 50, "<H", 0x000C)),
        (b"ctr-image", changed(IMAGE, 48, "<H", 2)),
        (b"ctr-image", changed(IMAGE_3, 48, "<H", 1)),
        (b"ctr-image", changed(IMAGE_3, 48, "<H", 3)),
        (b"ctr-image", b.ctr_image(b"d" * 32, files=0, size=0, tree=launch.COMPOSEFS, version=2)),
        (b"ctr-image", changed(IMAGE, 50, "<H", 4)),
        (b"ctr-launch", changed(LAUNCH, 48, "<H", 4)),
    ],
)
def test_unsupported(name: bytes, payload: bytes) -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_payload(name, payload)


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    bodies: tuple[bytes, ...] = (FILE[:48], START[:48], LAUNCH[:48], LAUNCH[:248], VIOLATION[:48], IMAGE[:48])
    bodies += (
        FILE_2[:48],
        LAUNCH_2[:288],
        FILE_3[:48],
        IMAGE_3[:48],
        LAUNCH_3[:288],
        MOUNTS[:48],
        LOSS[:48],
        PROGRAM[:48],
        PART[:48],
    )
    for payload in (data, *(changed(body + data, 8, "<I", len(body + data)) for body in bodies)):
        for name in parse.KINDS:
            with contextlib.suppress(BadEvidence):
                parsed = parse_payload(name, payload)
                if isinstance(parsed, FileEntry | ViolationEntry):
                    assert payload.endswith(parsed.path)
                elif isinstance(parsed, StartEntry):
                    assert payload.endswith(parsed.cgroup_path)
                elif isinstance(parsed, LaunchEntry) and parsed.version == 1 and parsed.mounts:
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
        (f"/machine.slice/libpod-{ID}.scope/libpod-{'e' * 64}.scope", ID),
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
    slots = parsed._fields if isinstance(parsed, FileEntry | JoinEntry) else parsed.__slots__
    told = {slot: getattr(parsed, slot) for slot in slots if slot != "version"}
    if not hasattr(parsed, "flags"):
        told |= {"flags": 0}
    if isinstance(parsed, ImageEntry):
        told |= {"bytes": told.pop("size")}
    if isinstance(parsed, LaunchEntry):
        told |= launch_text(parsed)
    if isinstance(parsed, LaunchEntry | MountsEntry):
        told["mount_list"] = ", ".join(map(mount_text, told.pop("mounts"))) or "none"
    if isinstance(parsed, JoinEntry):
        told |= {"from": told.pop("origin")}
    if isinstance(parsed, ViolationEntry):
        told["device"] = "{}:{}".format(*parsed.device)
    for name in {"reasons", "proved"} & told.keys():
        told[name] = None if told[name] is None else f"0x{told[name]:x}"
    if who := told.pop("container", None):
        told |= who._asdict()
    binary = {"digest", "image", "environment", "runtime", "config", "root_xattrs"}
    return {
        name: (value.hex() if name in binary else value.decode()) if isinstance(value, bytes) else str(value)
        for name, value in told.items()
        if value is not None
    }


def launch_text(parsed: LaunchEntry) -> dict[str, Any]:
    """What the page writes of a launch where it is not simply the field."""
    told: dict[str, Any] = {"arguments": b"|".join(parsed.arguments), "root": None}
    for name, ranges in (("uid_map", parsed.uid_map), ("gid_map", parsed.gid_map)):
        told[name] = ", ".join(f"{one.inside} {one.outside} {one.count}" for one in ranges) or "none"
    for name in ("cap_permitted", "cap_bounding", "cap_inheritable", "cap_ambient"):
        told[name] = f"0x{getattr(parsed, name):x}"
    if root := parsed.root:
        told |= {"root": f"{root.mode:04o} {root.user} {root.group}", "root_xattrs": root.xattrs}
    return told


def mount_text(one: Mount) -> str:
    """Write a mount as the page does: in version 1 the kernel's flags, a path and a type."""
    if one.source is None or one.root is None:
        bits = sum(MNT_FLAGS[word] for word in one.options)
        return f"{bits} {one.target.decode()} {one.type.decode()}"
    words = (one.target, one.type, one.source, one.root)
    return " ".join((*map(bytes.decode, words), ",".join(one.options), "ro" if one.super_read_only else "rw"))


def test_every_kind_has_a_vector() -> None:
    assert {name.partition(":")[0].encode() for name in VECTORS} == set(parse.KINDS)


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
    begun = b.ctr_launch(
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
    assert vectors["ctr-launch"][48:] == begun[48:]
    violation = b.ctr_violation(b"/srv/tool", violation=2, device=(254, 3), inode=131073)
    assert vectors["ctr-violation"][48:] == violation[48:]
    assert vectors["ctr-beat"][48:56] == b.ctr_beat(3)[48:56]
    assert vectors["ctr-join"][56:] == b.ctr_join(origin=3)[56:]
    assert vectors["ctr-image: version 2"] == b.ctr_image(image, files=264, size=31457280, version=2)
    file = b.ctr_file(b"/dev/shm/jit.so", b"tmpfs\n", route=2, flags=24, version=2)
    assert vectors["ctr-file: version 2, late and not bound"][48:] == file[48:]
    assert vectors["ctr-beat: version 2"][48:56] == b.ctr_beat(4, 3, proved=0x3FF)[48:56]
    assert vectors["ctr-loss"][48:] == b.ctr_loss(4, 0x21)[48:]
    assert vectors["ctr-program: a kernel module"][48:] == b.ctr_program(b"\x7fELF mod", what=3)[48:]
    assert vectors["ctr-measurer: the loader"] == b.ctr_measurer(3, b"loader")
    table = b"/ overlay overlay / rw,relatime rw\n/proc proc proc / rw,nosuid,nodev,noexec,relatime rw\n"
    verity = bytes.fromhex(b.page_vectors()["fs-verity"]["4096"])
    told = b.ctr_file(b"/usr/bin/true", b"a" * 4096, flags=parse.VERITY, version=3, digest=verity)
    assert vectors["ctr-file: version 3, an fs-verity digest"][48:] == told[48:]
    composefs = b.ctr_image(image, files=0, size=0, tree=launch.COMPOSEFS, version=3)
    assert vectors["ctr-image: version 3, composefs"] == composefs
    assert vectors["ctr-mounts"][48:] == b.ctr_mounts(table, flags=1, event=12)[48:]


HEADER_FILE = Path(__file__).parents[2] / "bpf" / "measurer.h"
# What measurer.h calls a kind's structure, by the event's name.
STRUCTURES = {
    "ctr-file": "file",
    "ctr-start": "start",
    "ctr-image": "image",
    "ctr-launch": "launch",
    "ctr-violation": "violation",
    "ctr-beat": "beat",
    "ctr-join": "join",
    "ctr-loss": "loss",
    "ctr-mounts": "mounts",
    "ctr-program": "program",
    "ctr-measurer": "measurer",
}


def page_offsets() -> dict[str, dict[str, tuple[int, int]]]:
    """Offset and size of each field of fixed place, by event, as the page's tables have them."""
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, tuple[int, int]]] = {}
    sections = re.findall(r"^### (Header|Kind \d+, `(ctr-\w+)`).*\n((?:(?!^#).*\n)*)", page, re.MULTILINE)
    for _, name, body in sections:
        rows = re.findall(r"^\| (\d+) \| (\d+) \| `?(\w+)`? \|", body, re.MULTILINE)
        found[name or "header"] = {field: (int(at), int(size)) for at, size, field in rows}
    return found


def test_the_c_header_has_the_offsets_of_the_page() -> None:
    """The compiler holds measurer.h to its assertions, and this the assertions to the page."""
    text = HEADER_FILE.read_text(encoding="utf-8")
    asserted = re.findall(r"TESTBED_OFFSET\(testbed_(\w+), (\w+), (\d+)\);", text)
    page = page_offsets()
    for name, fields in page.items():
        structure = "header" if name == "header" else f"{STRUCTURES[name]}_entry"
        ours = {member: int(at) for struct_name, member, at in asserted if struct_name == structure}
        assert len(fields) >= 2, name
        assert {field: at for field, (at, _) in fields.items()}.items() <= ours.items(), name
        # What is asserted beyond the table is the place where the variable part begins.
        (size,) = re.findall(rf"TESTBED_SIZE\(testbed_{structure}, (\d+)\);", text)
        assert {at for member, at in ours.items() if member not in fields} <= {int(size)}, name
        assert max(at + size for at, size in fields.values()) == int(size), name
    assert page.keys() == {"header", *STRUCTURES}


def test_the_c_header_has_the_numbers_of_version_3() -> None:
    text = HEADER_FILE.read_text(encoding="utf-8")
    defined = {name: int(number) for name, number in re.findall(r"#define TESTBED_(\w+) (\d+)", text)}
    assert defined["VERSION"] == max(VERSIONS)
    trees = (defined["TREE_VERSION"], defined["TREE_COMPOSEFS"], defined["TREE_DM_VERITY"])
    assert trees == (launch.TREE_2, launch.COMPOSEFS, launch.DM_VERITY)
    bits = {name: 1 << int(bit) for name, bit in re.findall(r"TESTBED_((?:FILE|LAUNCH)_\w+) = 1 << (\d+)", text)}
    assert (bits["FILE_VERITY"], bits["LAUNCH_DRIFT"]) == (parse.VERITY, launch.DRIFT)
    assert int(re.findall(r"TESTBED_VIOLATION_LAYER = (\d+)", text)[0]) == parse.LAYER


def test_the_c_header_has_the_kinds_and_bits_of_python() -> None:
    text = HEADER_FILE.read_text(encoding="utf-8")
    kinds = re.findall(r"TESTBED_KIND_(\w+) = (\d+)", text)
    assert {f"ctr-{name.lower()}".encode(): int(number) for name, number in kinds} == parse.KINDS
    hooks = re.findall(r"TESTBED_PROOF_\w+ = 1 << (\d+),\s*/\* (\w+) \*/", text)
    assert [name for _, name in sorted(hooks, key=lambda one: int(one[0]))] == list(HOOKS)
    assert len(re.findall(r"TESTBED_LOSS_\w+ = 1 <<", text)) == len(REASONS)
    assert {int(n): w.lower() for w, n in re.findall(r"TESTBED_PART_(\w+) = (\d+)", text)} == PARTS

"""One boot a kernel: a container has a content measured and then changes it, and another container gets the file.

The measurer remembers contents across containers, so what is wrong about one would be wrong in the log of others. Each
attack is made by one container, or by the host. Then two others get its file: one by the same mount, and one by an
overlay of its own. For each the log must have the digest of what it really ran, a violation, or ``NOT_BOUND``. Those
that are marked as variants run by ``make holes`` alone.
"""

from __future__ import annotations

import errno
import io
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import robust
import stress
from attacks import (
    EVIL,
    GOOD,
    KERNELS,
    Played,
    attack,
    digest,
    on_the_host,
    outcome,
    payloads,
    pipes,
    play,
    release,
    running,
    wait_for,
)
from booted import Saves
from holes import memory
from holes.extents import two_pages
from robust import Subject

from testbed import measurers
from testbed.attest.entries import parse
from testbed.attest.entries.parse import BeatEntry, FileEntry
from testbed.attest.image import tree
from testbed.lab.block import Parts

variant = pytest.mark.variant
Contents = Mapping[int, bytes]
# What ends with a status, or returns it.
PROGRAMS = {GOOD: stress.padded(b"good", GOOD), EVIL: stress.padded(b"evil", EVIL)}
FUNCTIONS = {GOOD: memory.function(GOOD), EVIL: memory.function(EVIL)}
LARGE = 80 << 20
# MS_I_VERSION, as Python's source.
COUNTS_VERSIONS = "(1 << 23)"
# More than the module has places for.
CROWD = 40_000


@pytest.fixture(scope="module", params=KERNELS)
def subject(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    with robust.subject(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as opened:
        opened.guest.run(("modprobe", "fuse"))
        yield opened


# What the others get.


def victims(subject: Subject, call: str, *paths: str, bind: str = "") -> dict[str, Played]:
    """Run a container for each path, all at once, in which a function of ``victims`` is called with the path.

    ``bind``: what of the guest they have at ``/bound``.
    """
    changes = (bound(bind),) if bind else ()
    ones = {path: attack(call.format(path=repr(path)), changes=changes) for path in paths}
    lines = [json.loads(line) for line in subject.start(*ones.values()).text.splitlines()]
    said = {line["path"]: line for line in lines}
    return {path: outcome(subject, one, json.dumps(said[path])) for path, one in ones.items()}


def both_ways(path: str) -> tuple[str, str]:
    """Return a file of the volume as others see it: by the mount, and by an overlay over the guest's root."""
    return path, f"/root{path}"


def is_told(got: Played, path: str, content: bytes) -> bool:
    """Say whether the log has just this content of a path, or says that it cannot tell."""
    entries = got.of(path)
    doubt = bool(got.told(path)) or any(one.flags & parse.NOT_BOUND for one in entries)
    return bool(entries) and (doubt or all(one.digest == digest_of(one, content) for one in entries))


def digest_of(entry: FileEntry, content: bytes) -> bytes:
    """Return the digest that an entry must have: SHA-256, or that of fs-verity if the entry says so."""
    return tree.verity_digest(io.BytesIO(content)) if entry.flags & parse.VERITY else digest(content)


def check_others(subject: Subject, path: str, contents: Contents, how: str = "executed", bind: str = "") -> set[int]:
    """Have other containers get a file; check what the log says of each, and return what they ran."""
    paths = both_ways(path) if not bind else (path,)
    ran = set()
    for one, got in victims(subject, f"victims.{how}({{path}})", *paths, bind=bind).items():
        status = int(str(got.said["ran"]))
        assert is_told(got, one, contents[status]), (one, status, got)
        ran.add(status)
    return ran


def bound(source: str) -> Callable[[dict[str, Any]], None]:
    """Return a change by which a container has a directory of the guest at ``/bound``, with the mounts in it."""

    def change(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/bound", "type": "bind", "source": source, "options": ["rbind"]})

    return change


def test_a_known_content_is_not_read_again(subject: Subject) -> None:
    place = subject.place("known")
    play(subject, f"poison.only_measured({place!r})")
    before = subject.counters()
    assert check_others(subject, f"{place}/it", PROGRAMS) == {GOOD}
    after = subject.counters()
    assert after["bytes_hashed"] == before["bytes_hashed"]
    # Each has its own entries: of the program, of Python and of its libraries.
    assert after["recalled"] - before["recalled"] >= after["files"] - before["files"] > 2


# The proofs of the holes, each with others who get the file afterwards.


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An attack of ``holes``. ``contents`` of its file, by what they run; ``how`` others get it, ``where`` it is."""

    name: str
    call: str
    contents: Callable[[dict[str, object]], Contents]
    how: str = "executed"
    where: str = "/it"


def exchanged(said: dict[str, object]) -> Contents:
    """Return the contents of a file of two pages whose second one is exchanged, by its status then."""
    content = bytes.fromhex(str(said["content"]))
    return {GOOD: two_pages(GOOD), content[stress.PAGE]: content}


def fixed(contents: Contents) -> Callable[[dict[str, object]], Contents]:
    return lambda _: contents


def twice(_: dict[str, object]) -> Contents:
    return {GOOD: stress.program(b"twice", GOOD)}


LARGE_ONES = {status: content.ljust(LARGE, b"\0") for status, content in FUNCTIONS.items()}
ONE_OF_EACH = (
    Proof(name="pinned", call="pins.copied_slowly({place})", contents=fixed(PROGRAMS)),
    Proof(name="exchanged", call="extents.exchanged({place})", contents=exchanged),
    Proof(name="late", call="late.side_by_side({place}, 'eb')", contents=fixed(FUNCTIONS), how="called"),
    Proof(
        name="rewritten",
        call=f"late.rewritten_by_a_mapping({{place}}, {64 << 20})",
        contents=fixed(FUNCTIONS),
        how="called",
    ),
    Proof(name="unbound", call="late.not_bound_any_more({place})", contents=twice),
    Proof(name="lower", call="layers.mapped({place})", contents=fixed(FUNCTIONS), how="called", where="/lower/it"),
)
MORE = (
    Proof(name="pinned-fork", call="pins.copied_slowly({place}, forked=True)", contents=fixed(PROGRAMS)),
    Proof(
        name="pinned-overlay",
        call="pins.copied_slowly({place}, overlay=True)",
        contents=fixed(PROGRAMS),
        where="/upper/it",
    ),
    Proof(name="pinned-cold", call="pins.copied_from_a_cold_file({place})", contents=fixed(PROGRAMS)),
    *(
        Proof(name=f"pinned-{how}", call=f"pins.read_directly({{place}}, {how!r})", contents=fixed(PROGRAMS))
        for how in ("read", "aio", "uring")
    ),
    Proof(name="registered", call="pins.registered({place})", contents=fixed(PROGRAMS)),
    Proof(name="exchanged-other", call="extents.exchanged({place}, donor=False)", contents=exchanged),
    Proof(
        name="exchanged-overlay", call="extents.exchanged({place}, overlay=True)", contents=exchanged, where="/upper/it"
    ),
    Proof(name="exchanged-race", call="extents.exchanged({place}, racing=True)", contents=exchanged),
    Proof(name="late-beb", call="late.side_by_side({place}, 'beb')", contents=fixed(FUNCTIONS), how="called"),
    Proof(name="late-be", call="late.side_by_side({place}, 'be')", contents=fixed(FUNCTIONS), how="called"),
    Proof(name="late-two", call="late.two_threads({place})", contents=fixed(FUNCTIONS), how="called"),
    Proof(name="late-large", call=f"late.large_itself({{place}}, {LARGE})", contents=fixed(LARGE_ONES), how="called"),
    Proof(name="upper", call="layers.mapped({place})", contents=fixed(FUNCTIONS), how="called", where="/upper/it"),
    Proof(
        name="lower-late",
        call="layers.mapped({place}, later=True)",
        contents=fixed(FUNCTIONS),
        how="called",
        where="/lower/it",
    ),
    Proof(
        name="lower-changed",
        call="layers.mapped({place}, changed=True)",
        contents=fixed(FUNCTIONS),
        how="called",
        where="/lower/it",
    ),
    Proof(name="text", call="texts.by_memory({place})", contents=fixed(FUNCTIONS), how="called"),
)


def named(proof: Proof) -> str:
    return proof.name


@pytest.mark.parametrize("proof", [*ONE_OF_EACH, *(pytest.param(it, marks=variant) for it in MORE)], ids=named)
def test_others_get_the_file_of_a_proof(subject: Subject, proof: Proof) -> None:
    place = subject.place(f"second-{proof.name}")
    got = play(subject, proof.call.format(place=repr(place)))
    check_others(subject, f"{place}{proof.where}", proof.contents(got.said), proof.how)


def behind(subject: Subject, name: str, call: str) -> None:
    place = subject.place(name)
    play(subject, call.format(place=repr(place)))
    content = stress.program(b"t" * 100)
    paths = both_ways(f"{place}/it")
    for path, got in victims(subject, f"victims.called({{path}}, {len(content) + 8})", *paths).items():
        # Zeros that are run to the end of the mapping are a fault.
        assert got.said["ran"] != EVIL or got.told(path) == {parse.TAIL}
        assert digest(content) in {one.digest for one in got.of(path)}


def test_others_get_code_behind_the_end_of_a_file(subject: Subject) -> None:
    behind(subject, "second-tail", "tails.mapped({place})")


@variant
def test_others_get_code_behind_the_end_of_a_file_by_mprotect(subject: Subject) -> None:
    behind(subject, "second-tail-late", "tails.mapped({place}, later=True)")


@variant
def test_a_file_that_was_only_asked_about(subject: Subject) -> None:
    place = subject.place("second-asked")
    subject.prepare(f"write('/root{place}/it', padded(b'good', {GOOD}))")
    got = play(subject, f"programs.checked_only('{place}/it')")
    if got.said["error"]:
        pytest.skip("this kernel has no AT_EXECVE_CHECK, 6.14 has")
    subject.prepare(f"write('/root{place}/it', padded(b'evil', {EVIL}))")
    assert check_others(subject, f"{place}/it", PROGRAMS) == {EVIL}


# Other ways to change what was measured.


@pytest.mark.parametrize(
    "how",
    [
        "write",
        "store",
        *(
            pytest.param(how, marks=variant)
            for how in ("direct", "child", "copy", "splice", "replace", "exchange", "anew", "truncate")
        ),
    ],
)
def test_a_file_is_overwritten_with_its_size_and_its_times(subject: Subject, how: str) -> None:
    place = subject.place(f"over-{how}")
    got = play(subject, f"poison.overwritten({place!r}, {how!r})")
    assert got.said == {"content": True}, "no attack"
    assert check_others(subject, f"{place}/it", PROGRAMS) == {EVIL}


@pytest.mark.parametrize(
    "how", ["truncate", *(pytest.param(how, marks=variant) for how in ("punch", "zero", "insert", "collapse"))]
)
def test_a_page_of_a_file_changes_and_nobody_writes_to_it(subject: Subject, how: str) -> None:
    place = subject.place(f"shape-{how}")
    got = play(subject, f"poison.reshaped({place!r}, {how!r})")
    assert got.said["before"] == [GOOD, GOOD]
    assert "error" not in got.said, "no attack"
    content = bytes.fromhex(str(got.said["content"]))
    assert content != two_pages(GOOD)
    contents = {content[stress.PAGE]: content}
    assert check_others(subject, f"{place}/it", contents) == set(contents)


@variant
@pytest.mark.parametrize("same", [False, True])
def test_a_file_gets_the_blocks_of_another(subject: Subject, same: bool) -> None:
    place = subject.place(f"shared-{same}")
    got = play(subject, f"poison.shared_blocks({place!r}, same={same})")
    check_others(
        subject, f"{place}/it", {status: it for status, it in PROGRAMS.items() if it.hex() == got.said["content"]}
    )


@variant
def test_the_flags_of_a_file_are_changed(subject: Subject) -> None:
    place = subject.place("flags")
    got = play(subject, f"poison.flagged({place!r})", "CAP_LINUX_IMMUTABLE", "CAP_SYS_RESOURCE")
    assert got.said == {"content": True}
    assert check_others(subject, f"{place}/it", PROGRAMS) == {EVIL}


def test_the_digest_of_fs_verity_is_not_that_of_a_file(subject: Subject) -> None:
    place = subject.place("verity")
    got = play(subject, f"poison.made_verity({place!r})")
    assert got.said == {"ran": [GOOD, GOOD]}
    assert check_others(subject, f"{place}/it", PROGRAMS) == {GOOD}


@pytest.mark.parametrize("mapped", [False, pytest.param(True, marks=variant)])
def test_a_writer_stays(subject: Subject, mapped: bool) -> None:
    place, waits = pipes(subject, f"stays-{mapped}"), pipes(subject, f"waits-{mapped}")
    path = f"{place}/it"
    victim = attack(f"victims.called_twice({path!r}, {waits!r})")
    writer = attack(f"poison.held_open({place!r}, mapped={mapped})")
    with running(subject, writer) as written:
        wait_for(subject, place)
        with running(subject, victim) as ended:
            wait_for(subject, waits)
            release(subject, place)
            wait_for(subject, place)
            release(subject, waits)
        got = outcome(subject, victim, ended.result().text)
        assert got.said == {"before": GOOD, "after": EVIL}
        assert parse.OPEN_WRITERS in got.told(path)
        check_others(subject, path, FUNCTIONS, "called")
        release(subject, place)
    written.result()
    last = victims(subject, "victims.called({path})", *both_ways(path))
    assert [it.violations for it in last.values()] == [(), ()]
    assert {one.digest for path, it in last.items() for one in it.of(path)} == {digest(FUNCTIONS[EVIL])}


@variant
def test_a_hash_that_was_not_finished_is_not_remembered(subject: Subject) -> None:
    place = subject.place("unfinished")
    one = attack(f"poison.killed({place!r}, {LARGE})")
    assert int(subject.start(one, kill_after=4 << 20).text) == 128 + 9
    assert outcome(subject, one, "{}").of(f"{place}/it") == []
    contents = {EVIL: FUNCTIONS[EVIL].ljust(LARGE, b"\0")}
    assert check_others(subject, f"{place}/it", contents, "called") == {EVIL}


@variant
def test_an_overlay_of_a_user_namespace(subject: Subject) -> None:
    place = subject.place("user")
    got = play(subject, f"poison.in_a_user_namespace({place!r})")
    assert got.said == {"ran": [GOOD, GOOD, EVIL]}
    assert check_others(subject, f"{place}/lower/it", PROGRAMS) == {EVIL}


@pytest.mark.parametrize("sealed", [False, pytest.param(True, marks=variant)])
def test_a_memfd_is_sent_to_another_container(subject: Subject, sealed: bool) -> None:
    place = pipes(subject, f"sent-{sealed}")
    victim = attack(f"victims.received({place!r})")
    with running(subject, attack(f"poison.sent({place!r}, sealed={sealed})")) as ended:
        wait_for(subject, place)
        got = outcome(subject, victim, subject.start(victim).text)
    ended.result()
    path = "/memfd:sent (deleted)"
    assert got.said == {"before": GOOD, "after": GOOD if sealed else EVIL}
    assert got.told(path) == (set() if sealed else {parse.OPEN_WRITERS})
    assert {one.digest for one in got.of(path)} == {digest(FUNCTIONS[GOOD])}


# File systems that the host mounts.


def image(tmp: Path, size: str = "8M", options: str = "^metadata_csum,^has_journal") -> bytes:
    """Return an empty ext4."""
    path = tmp / "disk.raw"
    subprocess.run(("mke2fs", "-q", "-F", "-t", "ext4", "-O", options, path, size), check=True)
    return bytes(path.read_bytes())


@contextmanager
def mounted(subject: Subject, name: str, device: str, options: str = "defaults") -> Iterator[str]:
    """Mount a device, or an image, in the guest; yield the directory, from which it is unmounted at last."""
    at = f"/root/{name}"
    subject.guest.run(("mkdir", "-p", at))
    subject.guest.run(("mount", "-o", options, device, at))
    try:
        yield at
    finally:
        subject.guest.run(("umount", at))


def exchange_below(subject: Subject, device: str) -> None:
    """Write the evil program where the good one is, on a device, and have it forget what it read there before."""
    subject.prepare(
        f"d = open('{device}', 'r+b'); c = d.read(); at = c.index(padded(b'good', {GOOD})); d.seek(at);"
        f" d.write(padded(b'evil', {EVIL})); d.flush(); os.fsync(d.fileno())"
    )


def drop_caches(subject: Subject) -> None:
    subject.guest.run(("sh", "-c", "sync; echo 1 >/proc/sys/vm/drop_caches"))


@pytest.fixture
def memory_disk(subject: Subject, tmp_path: Path) -> Iterator[str]:
    """Return a block device of the guest that is no file of it, with an ext4."""
    subject.guest.run(("modprobe", "brd", "rd_nr=1", "rd_size=65536"))
    subject.guest.put(image(tmp_path), "/root/disk.raw")
    subject.guest.run(("dd", "if=/root/disk.raw", "of=/dev/ram0", "bs=1M", "conv=fsync"))
    yield "/dev/ram0"
    subject.guest.run(("rmmod", "brd"))


def measured_on(subject: Subject, at: str) -> None:
    got = play(subject, "poison.only_measured('/bound')", changes=(bound(at),))
    assert got.said == {"path": "/bound/it"}


def test_the_image_of_a_file_system_is_written_below_it(subject: Subject, tmp_path: Path) -> None:
    subject.guest.run(("modprobe", "loop"))
    subject.guest.put(image(tmp_path), "/root/below.raw")
    with mounted(subject, "below", "/root/below.raw", "loop") as at:
        measured_on(subject, at)
        drop_caches(subject)
        exchange_below(subject, "/root/below.raw")
        drop_caches(subject)
        assert check_others(subject, "/bound/it", PROGRAMS, bind=at) == {EVIL}


@variant
def test_a_file_system_comes_again_with_another_content(subject: Subject, memory_disk: str) -> None:
    with mounted(subject, "again", memory_disk) as at:
        measured_on(subject, at)
    exchange_below(subject, memory_disk)
    with mounted(subject, "again", memory_disk) as at:
        assert check_others(subject, "/bound/it", PROGRAMS, bind=at) == {EVIL}


@variant
@pytest.mark.parametrize("flags", ["MS_RDONLY", "0"])
def test_a_file_system_is_mounted_again_with_other_options(subject: Subject, memory_disk: str, flags: str) -> None:
    def remount(flags: str) -> None:
        subject.prepare(f"mount('none', {at!r}, '', MS_REMOUNT | {flags})")

    with mounted(subject, "back", memory_disk) as at:
        play(subject, "extents.prepared('/bound')", changes=(bound(at),))
        # Without the flag by which a file system says that it counts versions.
        remount(flags)
        if flags == "MS_RDONLY":
            remount("0")
        # Neither a version nor a time changes by that, unless somebody sees who opens the file.
        said = on_the_host(subject, f"extents.moved({at!r})")
        remount(COUNTS_VERSIONS)
        content = bytes.fromhex(str(said["content"]))
        assert content != two_pages(GOOD)
        contents = {content[stress.PAGE]: content}
        assert check_others(subject, "/bound/it", contents, bind=at) == set(contents)


FAULTY = """
modprobe null_blk nr_devices=0
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/nullb
mkdir faulty
cd faulty
echo 64 >size
echo 1 >memory_backed
echo 1 >power
"""


@pytest.fixture
def faulty_disk(subject: Subject, tmp_path: Path) -> Iterator[str]:
    """Return a block device of the guest of which some sectors can be made bad, with an ext4 of small blocks."""
    subject.guest.run(("sh", "-ec", FAULTY))
    subject.guest.put(image(tmp_path), "/root/disk.raw")
    subject.guest.run(("dd", "if=/root/disk.raw", "of=/dev/nullb0", "bs=1M", "conv=fsync"))
    yield "/dev/nullb0"
    subject.guest.run(("sh", "-ec", "cd /sys/kernel/config/nullb; echo 0 >faulty/power; rmdir faulty; rmmod null_blk"))


@variant
def test_what_is_written_does_not_reach_the_disk(subject: Subject, faulty_disk: str) -> None:
    def mark(sign: str, block: int) -> None:
        line = f"echo {sign}{2 * block}-{2 * block + 1} >/sys/kernel/config/nullb/faulty/badblocks"
        subject.guest.run(("sh", "-c", line))

    with mounted(subject, "faulty", faulty_disk) as at:
        measured_on(subject, at)
        drop_caches(subject)
        where = on_the_host(subject, f"poison.blocks({at + '/it'!r}, 1024)")["blocks"]
        assert isinstance(where, list)
        for block in where:
            mark("+", block)
        assert on_the_host(subject, f"poison.failed({at + '/it'!r})") == {"error": errno.EIO}
        for block in where:
            mark("-", block)
        check_others(subject, "/bound/it", PROGRAMS, bind=at)


@variant
def test_a_file_of_a_tmpfs_of_the_host(subject: Subject) -> None:
    with mounted(subject, "shared-memory", "tmpfs", "size=1m") as at:
        measured_on(subject, at)
        on_the_host(subject, f"poison.rewritten({at + '/it'!r})")
        assert check_others(subject, "/bound/it", PROGRAMS, bind=at) == {EVIL}


# So many files that what is remembered of others gives way.


@variant
def test_a_crowd_of_files_leaves_others_what_is_known_of_theirs(subject: Subject) -> None:
    def recalled() -> float:
        before = subject.counters()
        place = subject.place(f"beside-{before['files']}")
        play(subject, f"poison.only_measured({place!r})")
        after = subject.counters()
        # One of its files is its own.
        return (after["recalled"] - before["recalled"]) / (after["files"] - before["files"] - 1)

    recalled()
    assert recalled() >= 1
    crowd = attack(f"floods.flood({subject.place('crowd')!r}, {CROWD}, 100)")
    before = subject.counters()
    subject.start(crowd, seconds=1800)
    assert subject.counters()["bytes_hashed"] - before["bytes_hashed"] >= CROWD * stress.PAGE
    assert recalled() > 0.9


# The hooks are off meanwhile. These come last.


def loader(subject: Subject, *argv: str) -> None:
    subject.guest.run((f"{measurers.DEPLOYED}/measurer", *argv, "--pin", measurers.PINS))


def attach(subject: Subject) -> None:
    loader(subject, "attach", "--mode", str(robust.MEASURER.mode))


def test_the_measurer_is_detached_meanwhile(subject: Subject) -> None:
    place = subject.place("detached")
    play(subject, f"extents.prepared({place!r})")
    loader(subject, "detach")
    said = on_the_host(subject, f"extents.moved('/root{place}')")
    attach(subject)
    content = bytes.fromhex(str(said["content"]))
    assert content != two_pages(GOOD)
    contents = {content[stress.PAGE]: content}
    assert check_others(subject, f"{place}/it", contents) == set(contents)


SWITCH = """
import os, sys
sys.path.insert(0, '/root/volume')
from holes import extents, memory
switch = os.open('/proc/sys/kernel/ftrace_enabled', os.O_WRONLY)
memory.pause('{place}')
os.pwrite(switch, b'0', 0)
extents.moved('{place}')
os.pwrite(switch, b'1', 0)
"""


def test_the_hooks_are_switched_off_meanwhile(subject: Subject) -> None:
    place = pipes(subject, "switched")
    before = len(subject.log())
    try:
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(subject.guest.run, ("python3", "-c", SWITCH.format(place=f"/root{place}")), timeout=120)
            wait_for(subject, place)
            # Somebody can switch the hooks off already, and the log says so: what is measured now is not remembered.
            play(subject, f"extents.prepared({place!r})")
            release(subject, place)
            ended.result()
        content = subject.guest.get(f"/root{place}/it")
        assert content != two_pages(GOOD)
        contents = {content[stress.PAGE]: content}
        assert check_others(subject, f"{place}/it", contents) == set(contents)
        beats = [it for it in payloads(subject)[before:] if isinstance(it, BeatEntry)]
        assert [it.event for it in beats] == [parse.DETACHED]
    finally:
        subject.guest.run((f"{measurers.DEPLOYED}/measurer", "detach", "--pin", measurers.PINS), check=False)
        attach(subject)


def test_the_kernel_has_nothing_to_say(subject: Subject) -> None:
    assert subject.splats() == []

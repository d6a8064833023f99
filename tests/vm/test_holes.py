"""One boot a kernel: ways to run code that the log does not show, or to have it say what is not so.

Each attack proves in the guest that it did what it is called; what is tested is what the log makes of it. Those that
are marked as variants run by ``make holes`` alone.
"""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import robust
import stress
from attacks import (
    EVIL,
    GOOD,
    KERNELS,
    UNREAD,
    Played,
    digest,
    nothing_lost,
    on_the_host,
    play,
    played,
)
from booted import Saves
from holes import memory, programs
from holes.extents import two_pages
from robust import Subject

from testbed.attest.entries import integrity, parse
from testbed.lab.block import Parts

# More than what is hashed before the mapping is there.
BOUND = 80 << 20
# So much is hashed in a hook, if other threads can run it.
IN_HOOK = 16 << 20
variant = pytest.mark.variant


@pytest.fixture(scope="module", params=KERNELS)
def subject(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    with robust.subject(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as opened:
        opened.guest.run(("modprobe", "fuse"))
        yield opened


# A page that is written through a reference which outlives the mapping.


def pinned(subject: Subject, name: str, call: str, where: str = "") -> None:
    path = f"{subject.place(name)}{where}"
    control = f"/root{subject.place(f'{name}-host')}"
    host = on_the_host(subject, call.format(place=repr(control)))
    assert host == {"before": [GOOD, GOOD], "writing": True, "after": [EVIL, EVIL]}, "no attack"
    got = played(subject, call.format(place=repr(path.removesuffix(where))))
    assert (got.said["before"], got.said["writing"]) == ([GOOD, GOOD], True)
    its = f"{path}/it"
    assert digest(stress.padded(b"good", GOOD)) in {one.digest for one in got.of(its)}
    # The writer has a page that is the file's no more, or the log says what it became.
    detached = got.said["after"] == [GOOD, GOOD]
    assert detached or got.shows(its, stress.padded(b"evil", EVIL))


def test_a_pinned_page_is_written_after_its_mapping_has_gone(subject: Subject) -> None:
    pinned(subject, "pinned", "pins.copied_slowly({place})")


@variant
def test_a_pinned_page_of_a_process_that_has_forked(subject: Subject) -> None:
    pinned(subject, "pinned-fork", "pins.copied_slowly({place}, forked=True)")


@variant
def test_a_pinned_page_on_an_overlay(subject: Subject) -> None:
    pinned(subject, "pinned-overlay", "pins.copied_slowly({place}, overlay=True)", "/merged")


@variant
def test_a_pinned_page_is_written_from_a_cold_file(subject: Subject) -> None:
    pinned(subject, "pinned-cold", "pins.copied_from_a_cold_file({place})")


@variant
@pytest.mark.parametrize("how", ["read", "aio", "uring"])
def test_a_pinned_page_is_read_into(subject: Subject, how: str) -> None:
    pinned(subject, f"pinned-{how}", f"pins.read_directly({{place}}, {how!r})")


@variant
def test_a_page_that_is_a_buffer_of_a_ring(subject: Subject) -> None:
    got = played(subject, f"pins.registered({subject.place('registered')!r})")
    # The kernel registers no page of a file on a disk (EOPNOTSUPP, later EFAULT); if it does, this is an attack.
    if "register" in got.said:
        assert got.said["register"] in {errno.EOPNOTSUPP, errno.EFAULT}
        return
    path = "/volume/registered/it"
    assert got.said["after"] == [GOOD, GOOD] or got.shows(path, stress.padded(b"evil", EVIL))


# Blocks that change their file.


def exchanged(subject: Subject, name: str, options: str = "", where: str = "") -> None:
    place = subject.place(name)
    got = played(subject, f"extents.exchanged({place!r}{options})")
    assert (got.said["before"], got.said["moved"], got.said["same"]) == ([GOOD, GOOD], 1, True)
    content = bytes.fromhex(str(got.said["content"]))
    assert got.said["after"] != [GOOD, GOOD]
    assert content != two_pages(GOOD)
    path = f"{place}{where}/it"
    assert digest(two_pages(GOOD)) in {one.digest for one in got.of(path)}
    assert got.shows(path, content)


def test_blocks_are_exchanged(subject: Subject) -> None:
    exchanged(subject, "moved")


@variant
def test_blocks_are_exchanged_and_the_content_stays(subject: Subject) -> None:
    got = played(subject, f"extents.exchanged({subject.place('moved-other')!r}, donor=False)")
    assert (got.said["after"], got.said["moved"]) == ([GOOD, GOOD], 1)
    assert {one.digest for one in got.of("/volume/moved-other/it")} == {digest(two_pages(GOOD))}
    assert got.violations == ()


@variant
def test_blocks_are_exchanged_below_an_overlay(subject: Subject) -> None:
    exchanged(subject, "moved-overlay", ", overlay=True", "/merged")


@variant
def test_blocks_are_exchanged_by_a_descriptor_that_is_swapped(subject: Subject) -> None:
    exchanged(subject, "moved-race", ", racing=True")


@pytest.fixture(scope="module")
def plain(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where the guest has an ext4 without checksums, on which a file's generation can be changed."""
    image = tmp_path_factory.mktemp("plain") / "plain.raw"
    options = ("-q", "-F", "-t", "ext4", "-O", "^metadata_csum,^has_journal")
    subprocess.run(("mke2fs", *options, image, "8M"), check=True)
    subject.guest.put(image.read_bytes(), "/root/plain.raw")
    subject.guest.run(("modprobe", "loop"))
    subject.guest.run(("mkdir", "-p", "/root/plain"))
    subject.guest.run(("mount", "-o", "loop", "/root/plain.raw", "/root/plain"))
    return "/root/plain"


@variant
def test_a_file_with_another_generation_is_opened_for_writing(subject: Subject, plain: str) -> None:
    def bind(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/plain", "type": "bind", "source": plain, "options": ["bind"]})

    got = play(subject, "extents.renumbered('/plain')", changes=(bind,))
    assert got.said == {"ran": EVIL}, "no attack"
    assert got.told("/plain/it") == {parse.TOMTOU}


# Code that is executable before the call that makes it so has returned.


def early(subject: Subject, name: str, call: str) -> Played:
    got = played(subject, call.format(place=repr(subject.place(name))))
    assert got.said == {"ran": EVIL, "early": True, "written_early": True}
    return got


def test_a_late_file_is_changed_before_it_is_hashed(subject: Subject) -> None:
    got = early(subject, "late", "late.side_by_side({place}, 'eb')")
    assert got.shows("/volume/late/it", memory.function(EVIL))


@variant
def test_a_late_file_between_two_large_ones(subject: Subject) -> None:
    got = early(subject, "late-beb", "late.side_by_side({place}, 'beb')")
    assert got.shows("/volume/late-beb/it", memory.function(EVIL))


@variant
def test_a_late_file_after_a_large_one(subject: Subject) -> None:
    got = early(subject, "late-be", "late.side_by_side({place}, 'be')")
    assert got.shows("/volume/late-be/it", memory.function(EVIL))


@variant
def test_late_files_of_two_threads(subject: Subject) -> None:
    got = early(subject, "late-two", "late.two_threads({place})")
    assert got.shows("/volume/late-two/it", memory.function(EVIL))


@variant
def test_a_late_file_on_a_tmpfs_is_not_bound(subject: Subject) -> None:
    got = early(subject, "late-memory", "late.side_by_side({place}, 'eb', memory=True)")
    (one,) = got.of("/volume/late-memory/memory/it")
    assert (one.route, one.flags) == (parse.MPROTECT, parse.LATE | parse.NOT_BOUND)


@variant
def test_a_large_file_is_mapped_and_changed_before_it_is_hashed(subject: Subject) -> None:
    place = subject.place("late-large")
    got = played(subject, f"late.large_itself({place!r}, {BOUND})")
    content = memory.function(EVIL).ljust(BOUND, b"\0")
    assert got.said["ran"] == EVIL
    assert got.shows(f"{place}/it", content)


def test_a_late_file_is_written_by_a_mapping_from_before(subject: Subject) -> None:
    place = subject.place("rewritten")
    got = played(subject, f"late.rewritten_by_a_mapping({place!r}, {4 * IN_HOOK})")
    assert got.said == {"ran": EVIL, "again": memory.GOOD, "early": True}
    assert got.shows(f"{place}/it", memory.function(EVIL))


def test_a_content_that_is_known_is_not_bound_any_more(subject: Subject) -> None:
    place = subject.place("unbound")
    got = played(subject, f"late.not_bound_any_more({place!r})")
    assert got.said == {"before": memory.GOOD, "code": True}
    first, second = got.of(f"{place}/it")
    assert first.digest == second.digest
    assert (first.flags, second.flags) == (0, parse.LATE | parse.NOT_BOUND)


# Code that others run who share the memory of the task that maps it.


@pytest.mark.parametrize("size", [IN_HOOK, pytest.param(2 * IN_HOOK, marks=variant)])
def test_who_maps_a_file_is_killed_while_it_is_hashed(subject: Subject, size: int) -> None:
    place = subject.place(f"sharer-{size}")
    with nothing_lost(subject):
        got = play(subject, f"sharers.killed({place!r}, {size})")
    assert got.said == {"killed": True, "ran": EVIL}
    content = memory.function(EVIL).ljust(size, b"\0")
    assert got.shows(f"{place}/it", content) or [it.reasons for it in got.losses] == [UNREAD]


@pytest.mark.parametrize("size", [2 * IN_HOOK, pytest.param(IN_HOOK, marks=variant)])
def test_a_tracer_says_that_a_mapping_was_refused(subject: Subject, size: int) -> None:
    place = subject.place(f"tracer-{size}")
    got = played(subject, f"sharers.refused_by_a_tracer({place!r}, {size})")
    assert got.said == {"status": 0, "ran": EVIL}
    assert got.shows(f"{place}/it", memory.function(EVIL).ljust(size, b"\0"))


# Code behind the end of its file.


def behind(subject: Subject, name: str, call: str, where: str = "") -> None:
    place, control = subject.place(name), f"/root{subject.place(f'{name}-host')}"
    assert on_the_host(subject, call.format(place=repr(control))) == {"ran": EVIL, "content": True}, "no attack"
    got = played(subject, call.format(place=repr(place)))
    assert got.said["content"]
    path = f"{place}{where}/it"
    assert got.told(path) == {parse.TAIL}
    # A process that reads the file after that finds zeros there.
    assert got.said["ran"] in {EVIL, -signal.SIGSEGV}


def test_code_behind_the_end_of_a_file(subject: Subject) -> None:
    behind(subject, "tail", "tails.mapped({place})")


@variant
def test_code_behind_the_end_that_is_executed(subject: Subject) -> None:
    behind(subject, "tail-run", "tails.executed({place})")


@variant
def test_code_behind_the_end_on_an_overlay(subject: Subject) -> None:
    behind(subject, "tail-overlay", "tails.mapped({place}, 'overlay')", "/merged")


@variant
def test_code_behind_the_end_on_a_tmpfs(subject: Subject) -> None:
    behind(subject, "tail-memory", "tails.mapped({place}, 'tmpfs')", "/memory")


@variant
def test_code_behind_the_end_by_mprotect(subject: Subject) -> None:
    behind(subject, "tail-late", "tails.mapped({place}, later=True)")


@variant
def test_code_behind_the_end_in_a_huge_page(subject: Subject) -> None:
    place = subject.place("tail-huge")
    got = played(subject, f"tails.huge({place!r})")
    assert got.said["content"]
    if got.said["ran"] == -signal.SIGBUS:
        pytest.skip("this kernel maps nothing behind a file's last small page")
    assert got.said["ran"] == EVIL
    assert got.told(f"{place}/huge/it") == {parse.TAIL}


# A server of files that answers as it likes.


def lied(subject: Subject, name: str, call: str, where: str = "/served") -> Played:
    place = subject.place(name)
    got = played(subject, call.format(place=repr(place)))
    flags = {one.flags & parse.NOT_BOUND for one in got.of(f"{place}{where}/it")}
    assert flags == {parse.NOT_BOUND}
    return got


def test_a_server_lies_about_a_program(subject: Subject) -> None:
    got = lied(subject, "lied", "servers.executed({place})")
    assert got.said == {"ran": EVIL}


@variant
@pytest.mark.parametrize("later", [False, True])
def test_a_server_lies_about_a_mapping(subject: Subject, later: bool) -> None:
    got = lied(subject, f"lied-map-{later}", f"servers.mapped({{place}}, later={later})")
    assert got.said == {"before": GOOD, "after": EVIL}


@variant
def test_a_server_lies_below_an_overlay(subject: Subject) -> None:
    got = lied(subject, "lied-overlay", "servers.executed({place}, below=True)", "/merged")
    assert got.said == {"ran": EVIL}


@variant
def test_a_server_of_a_user_namespace_lies(subject: Subject) -> None:
    got = lied(subject, "lied-user", "servers.in_a_user_namespace({place})")
    assert got.said == {"ran": EVIL}


@variant
def test_a_server_gives_another_content_each_time(subject: Subject) -> None:
    got = lied(subject, "lied-twice", "servers.second_read({place})")
    assert int(str(got.said["reads"])) >= 4


# A lower file that is mapped while the upper one would be read.


def lower(subject: Subject, name: str, call: str, content: bytes) -> Played:
    place = subject.place(name)
    got = played(subject, call.format(place=repr(place)))
    assert got.said == {"ran": EVIL, "upper": True}
    assert [one.digest for one in got.of(f"{place}/merged/it")] == [digest(content)]
    return got


def test_a_descriptor_from_before_the_copy(subject: Subject) -> None:
    got = lower(subject, "lower", "layers.mapped({place})", memory.function(EVIL))
    assert got.violations == ()


@variant
def test_a_descriptor_from_before_the_copy_by_mprotect(subject: Subject) -> None:
    lower(subject, "lower-late", "layers.mapped({place}, later=True)", memory.function(EVIL))


@variant
def test_a_descriptor_from_before_the_copy_is_executed(subject: Subject) -> None:
    got = played(subject, f"layers.executed({subject.place('lower-run')!r})")
    assert got.said == {"ran": GOOD, "upper": True}, "the kernel opens the file anew"
    assert [one.digest for one in got.of("/volume/lower-run/merged/it")] == [digest(stress.padded(b"upper", GOOD))]


@variant
def test_a_lower_file_is_opened_for_writing_while_it_is_code(subject: Subject) -> None:
    got = lower(subject, "lower-changed", "layers.mapped({place}, changed=True)", memory.function(EVIL))
    assert got.told("/volume/lower-changed/merged/it") == {parse.TOMTOU}


# Text that is written where it is mapped.


def rewritten(subject: Subject, name: str, call: str, counter: str) -> None:
    before = subject.counters()
    got = played(subject, call.format(place=repr(subject.place(name))))
    assert got.said == {"before": GOOD, "after": EVIL}
    assert [one.digest for one in got.of(f"/volume/{name}/it")] == [digest(memory.function(GOOD))]
    assert got.violations == ()
    after = subject.counters()
    changed = {word: after.get(word, 0) - before.get(word, 0) for word in ("private_exec", "memory_opened")}
    assert changed == dict.fromkeys(changed, 0) | {counter: 1}


def test_text_is_written_when_it_is_no_code(subject: Subject) -> None:
    rewritten(subject, "text", "texts.by_protection({place})", "private_exec")


@variant
@pytest.mark.parametrize("mapped", [False, True])
def test_text_is_written_while_it_is_code(subject: Subject, mapped: bool) -> None:
    rewritten(subject, f"text-{mapped}", f"texts.at_once({{place}}, mapped={mapped})", "private_exec")


def test_text_is_written_as_memory(subject: Subject) -> None:
    rewritten(subject, "text-mem", "texts.by_memory({place})", "memory_opened")


@variant
def test_text_is_written_as_memory_of_a_thread(subject: Subject) -> None:
    call = "texts.by_memory({place}, '/proc/self/task/THREAD/mem')"
    rewritten(subject, "text-thread", call, "memory_opened")


@variant
def test_text_of_another_process_is_written(subject: Subject) -> None:
    rewritten(subject, "text-other", "texts.by_another({place})", "memory_opened")


# Memory that has a name.


@contextmanager
def huge_pages(subject: Subject, count: int) -> Iterator[None]:
    setting = "/proc/sys/vm/nr_hugepages"
    subject.guest.run(("sh", "-c", f"echo {count} > {setting}"))
    if (got := int(subject.guest.get(setting))) < count:
        pytest.skip(f"the guest has {got} huge pages left together, not {count}")
    yield
    subject.guest.run(("sh", "-c", f"echo 0 > {setting}"))


def test_a_memfd_that_can_still_be_written(subject: Subject) -> None:
    got = played(subject, "memories.written()")
    assert got.said == {"before": GOOD, "after": EVIL}
    assert got.told("/memfd:written (deleted)") == {parse.OPEN_WRITERS}


@variant
def test_a_memfd_that_can_still_be_written_and_is_mapped_private(subject: Subject) -> None:
    got = played(subject, "memories.written(shared=False)")
    assert got.said == {"before": GOOD, "after": EVIL}
    assert got.told("/memfd:written (deleted)") == {parse.OPEN_WRITERS}


def test_a_memfd_that_nobody_can_write(subject: Subject) -> None:
    got = played(subject, "memories.sealed()")
    assert got.said == {"before": GOOD, "write": 1}
    assert got.violations == ()
    assert [one.digest for one in got.of("/memfd:sealed (deleted)")] == [digest(memory.function(GOOD))]


@variant
def test_a_memfd_that_is_sealed_too_late(subject: Subject) -> None:
    got = played(subject, "memories.sealed_too_late()")
    assert got.said == {"before": GOOD, "after": EVIL}
    assert got.told("/memfd:late-seal (deleted)") == {parse.OPEN_WRITERS}


@variant
def test_a_segment_that_is_attached_twice(subject: Subject) -> None:
    got = played(subject, "memories.segment()")
    assert got.said == {"before": GOOD, "after": EVIL}
    (one,) = got.of("/SYSV00000000 (deleted)")
    assert got.told("/SYSV00000000 (deleted)") or one.flags & parse.NOT_BOUND


@variant
def test_a_memfd_of_huge_pages_that_can_still_be_written(subject: Subject) -> None:
    with huge_pages(subject, 3):
        got = played(subject, "memories.huge()")
    assert got.said == {"before": GOOD, "after": EVIL}
    assert got.told("/memfd:huge (deleted)") == {parse.OPEN_WRITERS}


def test_a_file_of_a_tmpfs_is_not_bound(subject: Subject) -> None:
    got = played(subject, f"memories.on_tmpfs({subject.place('memory')!r})")
    assert got.said == {"ran": EVIL}
    (one,) = got.of("/volume/memory/memory/it")
    assert (one.digest, one.flags) == (digest(memory.function(EVIL)), parse.NOT_BOUND)
    assert got.violations == ()


# What a container puts into the kernel.


def test_bpf_programs_of_a_container(subject: Subject) -> None:
    got = played(subject, "programs.loaded(20251)")
    assert got.said["taken"]
    (one,) = (it for it in got.programs if it.what == integrity.BPF)
    assert (one.digest.hex(), one.size) == (got.said["digest"], got.said["size"])
    others = {it.command for it in got.programs if it.what == integrity.COMMAND}
    assert {programs.MAP_CREATE, programs.PROG_BY_ID} <= others


def test_a_bpf_call_that_is_refused_is_not_in_the_log(subject: Subject) -> None:
    got = played(subject, "programs.refused()")
    assert got.said == {"status": 0}
    assert got.programs == ()


@variant
def test_a_module_from_memory(subject: Subject) -> None:
    path = subject.guest.run(("modinfo", "-n", "dummy")).text.strip()
    got = played(subject, f"programs.inserted({path!r}, 'numdummies=0')", "CAP_SYS_MODULE")
    subject.guest.run(("rmmod", "dummy"))
    (one,) = got.programs
    assert (one.what, one.digest.hex(), one.size) == (integrity.KERNEL_MODULE, got.said["digest"], got.said["size"])


@variant
def test_the_host_loads_what_it_likes(subject: Subject) -> None:
    before = len(subject.log())
    assert on_the_host(subject, "programs.loaded(20252)")["taken"]
    assert len(subject.log()) == before


# A program that is asked about and not executed.


def test_what_could_be_executed_is_measured(subject: Subject) -> None:
    place = subject.place("asked")
    subject.prepare(f"write('/root{place}/it', program(b'asked'))")
    got = played(subject, f"programs.checked_only('{place}/it')")
    if got.said["error"] == errno.EINVAL:
        pytest.skip(f"kernel {subject.guest.run(('uname', '-r')).text.strip()} has no AT_EXECVE_CHECK, 6.14 has")
    assert got.said["error"] == 0
    (one,) = got.of(f"{place}/it")
    assert (one.route, one.digest) == (parse.EXECVE, digest(stress.program(b"asked")))


def test_the_kernel_has_nothing_to_say(subject: Subject) -> None:
    assert subject.splats() == []

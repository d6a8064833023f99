"""One boot a kernel: ways to make the measurer lose what it knows, blame others, or stand in the way.

Each attack proves in the guest that it did what it is called; what is tested is what the log makes of it. Those that
are marked as variants run by ``make holes`` alone.
"""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import robust
import stress
from attacks import (
    EVIL,
    FLOODED,
    FORGOTTEN,
    GOOD,
    KERNELS,
    PENDING,
    UNREAD,
    VIOLATION,
    Change,
    attack,
    digest,
    kill,
    lost,
    nothing_lost,
    number_of,
    on_the_host,
    outcome,
    payloads,
    pipes,
    play,
    played,
    release,
    running,
    wait_for,
    with_cgroups,
)
from booted import Saves
from robust import Contained, Subject

from testbed import measurers
from testbed.attest.entries import parse
from testbed.attest.entries.parse import BeatEntry, FileEntry, LossEntry, StartEntry
from testbed.attest.finding import FindingKind
from testbed.lab.block import Parts

# With paths of 4 KiB, more than is remembered of all code: 16 MiB.
FLOOD = 4100
# Seconds after which a program is said to be stalled, here, and how many ticks a second has.
STALLED, TICKS = 4, 250
# More than a container may write.
VIOLATIONS = 1100
# Gives a network interface a name by which proc then has a file, and opens that for writing.
NAMED = """
import fcntl, os, socket, struct
fcntl.ioctl(socket.socket(), 0x8923, struct.pack("16s16s", b"dummy0", b"ftrace_enabled"))
os.open("/proc/net/dev_snmp6/ftrace_enabled", os.O_WRONLY)
"""
variant = pytest.mark.variant


@pytest.fixture(scope="module", params=KERNELS)
def subject(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    with robust.subject(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as opened:
        opened.guest.run(("modprobe", "fuse"))
        yield opened


# What the kernel refuses.


def test_what_is_refused_is_neither_lost_nor_in_the_log(subject: Subject) -> None:
    place = subject.place("refused")
    got = played(subject, f"refusals.mappings({place!r})")
    # The mount of /proc lets nobody execute, the others have what cannot be mapped.
    refused = {"/proc/self/status": errno.EPERM, "/proc/self/comm": errno.EPERM}
    assert got.said == refused | {"/": errno.ENODEV, place: errno.ENODEV}
    assert [one.path for one in got.files if not one.path.startswith(b"/usr/")] == []


@variant
def test_a_file_that_nobody_may_execute(subject: Subject) -> None:
    place = subject.place("noexec")
    got = played(subject, f"refusals.noexec({place!r})")
    assert got.said == {"map": 1, "run": 13}
    assert got.of(f"{place}/noexec/never") == []


@variant
def test_arguments_that_are_refused(subject: Subject) -> None:
    place = subject.place("arguments")
    got = played(subject, f"refusals.arguments({place!r})")
    words = ("no length", "no page", "beyond the end of memory", "not open for reading", "fifo")
    assert set(got.said) == set(words)
    assert got.of(f"{place}/never") == []


@variant
def test_who_is_killed_while_its_file_is_hashed_runs_nothing(subject: Subject) -> None:
    place = subject.place("killed")
    one = attack(f"refusals.killed({place!r}, {256 << 20})")
    before = subject.counters()["bytes_hashed"]
    with nothing_lost(subject):
        code = subject.start(one, kill_after=4 << 20).text
    assert int(code) == 128 + 9
    assert subject.counters()["bytes_hashed"] - before < 256 << 20, "it was killed too late"
    got = outcome(subject, one, "{}")
    assert got.of(f"{place}/killed") == []
    assert got.losses == ()


def test_code_that_could_not_be_read_is_a_loss_of_its_container(subject: Subject) -> None:
    with nothing_lost(subject):
        got = play(subject, f"servers.unreadable({subject.place('unreadable')!r})")
    assert got.said == {"ran": EVIL}
    assert [(it.lost, it.reasons) for it in got.losses] == [(1, UNREAD)]


@variant
def test_memory_that_nobody_can_read_is_a_loss_of_its_container(subject: Subject) -> None:
    with nothing_lost(subject):
        got = play(subject, "refusals.secret()")
    if "secret" in got.said:
        pytest.skip(f"this kernel has no secret memory: error {got.said['secret']}")
    assert [one.lost for one in got.losses] == [1]


@variant
def test_a_device_without_content_is_no_loss_of_the_machine(subject: Subject) -> None:
    with nothing_lost(subject):
        got = play(subject, "refusals.device()")
    assert got.said == {"device": True}


# Containers that have ended.


def test_the_code_of_the_dead_is_nobodys(subject: Subject) -> None:
    place = subject.place("dead")
    one = attack(f"tails.plain({place!r})")
    said = subject.start(one).text
    assert outcome(subject, one, said).of(f"{place}/it")
    open_in_use(subject, f"{place}/it")
    assert outcome(subject, one, said).violations == ()


def open_in_use(subject: Subject, path: str) -> None:
    """Have the host open a file for writing while somebody reads it."""
    subject.prepare(f"a = os.open('/root{path}', os.O_RDONLY); os.open('/root{path}', os.O_WRONLY)")


ENTER = """
group=/sys/fs/cgroup{cgroup}
exec 9</proc/$(head -n1 $group/cgroup.procs)/ns/mnt
echo >/root{place}/release
while [ -e $group ]; do sleep 0.1; done
nsenter --mount=/proc/self/fd/9 {words}
"""


@variant
def test_who_enters_what_is_left_of_a_container_is_another_one(subject: Subject) -> None:
    place = pipes(subject, "kept")
    one = attack(f"floods.held({place!r})")
    with running(subject, one):
        wait_for(subject, place)
        words = ENTER.format(cgroup=f"{robust.CGROUP}/{one.id}", place=place, words="/usr/bin/true")
        before = len(subject.log())
        subject.guest.run(("sh", "-c", words))
    first = number_of(subject, one)
    added = payloads(subject)[before:]
    new = {it.container.seq for it in added if isinstance(it, StartEntry)}
    files = [it for it in added if isinstance(it, FileEntry) and it.path == b"/usr/bin/true"]
    assert len(new) == 1
    assert {it.container.seq for it in files} == new
    assert first not in new


@variant
def test_who_outlives_the_first_process_has_its_code(subject: Subject) -> None:
    place, other = pipes(subject, "outlived"), pipes(subject, "outlives")
    one = attack(f"floods.held({place!r})")
    call = f"import sys; sys.path.insert(0, '/volume'); from holes import floods; floods.held({other!r})"
    script = f"""
        pid=$(head -n1 /sys/fs/cgroup{robust.CGROUP}/{one.id}/cgroup.procs)
        exec 9</proc/$pid/ns/mnt
        nsenter --mount=/proc/self/fd/9 python3 -c "{call}"
    """
    with running(subject, one), ThreadPoolExecutor(1) as pool:
        wait_for(subject, place)
        entered = pool.submit(subject.guest.run, ("sh", "-c", script), timeout=120)
        wait_for(subject, other)
        release(subject, place)
        subject.guest.run(("sh", "-c", f"while [ -e /sys/fs/cgroup{robust.CGROUP}/{one.id} ]; do sleep 0.1; done"))
        open_in_use(subject, f"{other}/it")
        release(subject, other)
        entered.result()
    assert outcome(subject, one, "{}").told(f"{other}/it") == {parse.TOMTOU}


# A reader that waits for a server.


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=variant)])
def test_a_server_that_does_not_answer_delays_nobody(subject: Subject, alone: bool) -> None:
    place = pipes(subject, f"stalled-{alone}")
    one = attack(f"servers.stalled({place!r}, alone={alone})")
    with nothing_lost(subject), running(subject, one) as ended:
        wait_for(subject, place)
        lost(subject)
        number = number_of(subject, one)
        waiting = [it for it in payloads(subject) if isinstance(it, LossEntry) and it.container.seq == number]
        assert not ended.done(), "it does not wait any more"
        release(subject, place)
    got = outcome(subject, one, ended.result().text)
    assert got.said == {"ran": EVIL}
    # What another thread can run, and is not read yet, is a loss of its container.
    assert [it.reasons for it in waiting] == ([] if alone else [PENDING])
    (it,) = got.of(f"{place}/served/it")
    assert it.flags & parse.NOT_BOUND


# Code that takes minutes to hash.

SLOW = "/sys/module/rcupdate/parameters/rcu_task_stall_timeout"


def uptime(subject: Subject) -> float:
    return float(subject.guest.get("/proc/uptime").split()[0])


def test_a_file_of_gigabytes_holds_nobody_up(subject: Subject) -> None:
    place = pipes(subject, "endless")
    one = attack(f"late.endless({place!r}, {16 << 30})")
    # In ticks: a program that sleeps for so long is reported while anybody waits for such programs to end. On a busy
    # host each program sleeps for a second now and then.
    usual = subject.guest.get(SLOW).decode().strip()
    subject.guest.run(("sh", "-c", f"echo {STALLED * TICKS} >{SLOW}"))
    with nothing_lost(subject), running(subject, one) as ended:
        wait_for(subject, place)
        begun = uptime(subject)
        for number in itertools.count():
            if number >= 4 and uptime(subject) > begun + 3 * STALLED:
                break
            on_the_host(subject, "programs.freed()")
            other = play(subject, f"tails.plain({subject.place(f'beside-{number}')!r})")
            assert other.of(f"/volume/beside-{number}/it")
        assert not ended.done(), "it is hashed already"
        kill(subject, one)
    subject.guest.run(("sh", "-c", f"echo {usual} >{SLOW}"))
    assert [line for line in subject.guest.run(("dmesg",)).text.splitlines() if "stall" in line] == []
    assert subject.splats() == []


@variant
def test_a_memfd_of_terabytes_is_not_hashed(subject: Subject) -> None:
    with nothing_lost(subject):
        got = play(subject, "memories.doubled()")
    assert got.said == {"ran": GOOD}
    assert [it.reasons for it in got.losses] == [UNREAD]
    assert got.told("/memfd:doublemapper (deleted)") == {parse.OPEN_WRITERS}


# Another container's name.


def test_a_nested_container_with_the_name_of_another_one(subject: Subject) -> None:
    place = subject.place("named")
    victim = attack(f"tails.plain({subject.place('named-victim')!r})")
    subject.start(victim)
    first = number_of(subject, victim)
    call = f"floods.nested({place!r}, 'libpod-{victim.id}.scope')"
    one = attack(call, changes=(with_cgroups,))
    with nothing_lost(subject):
        said = json.loads(subject.start(one).text)
    assert said == {"ran": EVIL}
    outer = number_of(subject, one)
    starts = [it for it in payloads(subject) if isinstance(it, StartEntry)]
    (nested,) = (it for it in starts if it.parent == outer)
    theirs = [it for it in payloads(subject) if isinstance(it, FileEntry) and it.container == nested.container]
    assert [it.digest for it in theirs] == [digest(stress.program(b"nested", EVIL))]
    _, verdict = subject.judged()
    known = verdict.containers
    assert known[str(first)].runtime_id == victim.id
    assert known[str(nested.container.seq)].runtime_id != victim.id


@variant
def test_two_containers_of_one_name(subject: Subject) -> None:
    place = subject.place("twice")
    one = attack(f"tails.plain({place!r})")
    for _ in range(2):
        subject.start(one)
    _, verdict = subject.judged()
    both = {key for key, known in verdict.containers.items() if known.runtime_id == one.id}
    assert len(both) == 2
    assert both <= {it.container for it in verdict.findings if it.kind == FindingKind.AMBIGUOUS_IDENTITY}


# So much that what is remembered of others gives way.


def flooded(subject: Subject, name: str, call: str, *, changes: tuple[Change, ...] = ()) -> Contained:
    """Flood the measurer while another container holds code, which the host then opens for writing."""
    place = pipes(subject, f"{name}-victim")
    victim, flooder = attack(f"floods.held({place!r})"), attack(call, changes=changes)
    with nothing_lost(subject):
        with running(subject, victim) as ended:
            wait_for(subject, place)
            subject.start(flooder)
            open_in_use(subject, f"{place}/it")
            release(subject, place)
        got = outcome(subject, victim, ended.result().text)
    assert got.said == {"ran": EVIL}
    assert (got.told(f"{place}/it"), got.losses) == ({parse.TOMTOU}, ())
    return flooder


def test_a_flood_of_code_is_the_flooders_loss(subject: Subject) -> None:
    place = subject.place("flood")
    one = flooded(subject, "flood", f"floods.flood({place!r}, {FLOOD}, 4090)")
    got = outcome(subject, one, "{}")
    assert len([it for it in got.files if b"/flood/" in it.path]) == FLOOD
    assert {it.reasons & ~(FORGOTTEN | FLOODED) for it in got.losses} == {0}


@variant
def test_a_flood_of_a_nested_container_is_its_own_loss(subject: Subject) -> None:
    place = subject.place("flood-nested")
    call = f"floods.nested_flood({place!r}, 'inner', {FLOOD}, 4090)"
    one = flooded(subject, "nested-flood", call, changes=(with_cgroups,))
    outer = number_of(subject, one)
    starts = [it for it in payloads(subject) if isinstance(it, StartEntry)]
    mine = {outer} | {it.container.seq for it in starts if it.parent == outer}
    assert len(mine) == 2
    assert mine & {it.container.seq for it in payloads(subject) if isinstance(it, LossEntry)}


@variant
def test_a_flood_of_violations_is_the_flooders_loss(subject: Subject) -> None:
    place = subject.place("flood-violations")
    one = flooded(subject, "violations", f"floods.changes({place!r}, {VIOLATIONS})")
    got = outcome(subject, one, "{}")
    assert 0 < len(got.violations) < VIOLATIONS
    assert got.losses[-1].reasons & (FLOODED | VIOLATION)


@variant
def test_two_floods_are_not_the_loss_of_a_third_container(subject: Subject) -> None:
    places = [pipes(subject, f"half-{number}") for number in range(2)]
    floods = [attack(f"floods.flooded({place!r}, {FLOOD // 2}, 4090)") for place in places]
    with running(subject, floods[0]), running(subject, floods[1]):
        for place in places:
            wait_for(subject, place)
        got = played(subject, f"floods.flood({subject.place('third')!r}, 40, 100)")
        for place in places:
            release(subject, place)
    assert got.said == {"mapped": 40}


# What the host's root can do to the measurer itself.


def test_nobody_changes_the_maps(subject: Subject) -> None:
    said = on_the_host(subject, "programs.written_maps()")
    assert said
    assert said == dict.fromkeys(said, errno.EPERM)


# The switch that takes all hooks out. These come last.

PATH = "/proc/sys/kernel/ftrace_enabled"
OTHER = f"/run/proc/{PATH.removeprefix('/proc/')}"


@variant
def test_another_file_of_the_same_name_is_no_switch(subject: Subject) -> None:
    before = len(subject.log())
    subject.guest.run(("modprobe", "dummy", "numdummies=1"))
    subject.guest.run(("python3", "-c", NAMED))
    subject.guest.run(("rmmod", "dummy"))
    assert [it for it in payloads(subject)[before:] if isinstance(it, BeatEntry)] == []
    lost(subject)


@pytest.mark.parametrize("path", [PATH, pytest.param(OTHER, marks=variant)])
def test_the_switch_of_all_hooks_is_in_the_log(subject: Subject, path: str) -> None:
    guest = subject.guest
    guest.run(("sh", "-c", "mkdir -p /run/proc; mountpoint -q /run/proc || mount -t proc proc /run/proc"))
    before = len(subject.log())
    guest.run(("sh", "-c", f"echo 0 >{path}"))
    try:
        measurers.beat(robust.MEASURER, guest)
        added = [it for it in payloads(subject)[before:] if isinstance(it, BeatEntry)]
        _, verdict = subject.judged()
    finally:
        guest.run(("sh", "-c", f"echo 1 >{path}"))
        guest.run((f"{measurers.DEPLOYED}/measurer", "detach", "--pin", measurers.PINS), check=False)
        attach = ("attach", "--mode", str(robust.MEASURER.mode), "--pin", measurers.PINS)
        guest.run((f"{measurers.DEPLOYED}/measurer", *attach))
    assert [it.event for it in added] == [parse.DETACHED]
    assert FindingKind.UNKNOWN_WINDOW in {it.kind for it in verdict.findings}
    # Attached again they see all.
    name = f"anew-{path.count('/')}"
    got = played(subject, f"tails.plain({subject.place(name)!r})")
    assert [it.digest for it in got.of(f"/volume/{name}/it")] == [digest(stress.program(b"plain", EVIL))]


def test_the_kernel_has_nothing_to_say(subject: Subject) -> None:
    assert subject.splats() == []

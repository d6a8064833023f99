"""One boot a kernel: the measurer says when it was there, who ran before it, who entered what, whose child is whose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from booted import Booted, complaints

from testbed import measurers, plugins
from testbed.attest.entries import parse
from testbed.attest.entries.parse import BeatEntry, FileEntry, JoinEntry, Payload, StartEntry
from testbed.attest.finding import FindingKind

MEASURER = plugins.measurer("container-file")
LOADER = f"{measurers.DEPLOYED}/measurer"
PODMAN = "podman --cgroup-manager=cgroupfs"
EARLY = "early"
# Namespaces and roots of their own, and yet no containers: process 1 starts them.
SERVICES = {
    "private": """
[Service]
Type=oneshot
ExecStart=/usr/bin/true
PrivateMounts=yes
PrivateTmp=yes
ProtectHostname=yes
ProtectSystem=strict
""",
    "rooted": """
[Service]
Type=oneshot
ExecStart=/usr/bin/bash -c '/usr/bin/id; /usr/bin/true'
RootDirectory={root}
""",
}
# In a privileged container; /host has the host's /usr. First everything that leaves the container what it is, then a
# sandbox in a cgroup of its own, then a container as a container engine makes one.
NESTED = b"""
set -e
export PATH=/usr/bin:/usr/sbin:/host/bin LD_LIBRARY_PATH=/host/lib/x86_64-linux-gnu
mkdir -p /tmp/b/rootfs/usr/bin /tmp/b/rootfs/usr/lib
cd /tmp/b
cp -a /bin /lib /lib64 rootfs/
cp -a /usr/lib64 rootfs/usr/ || true
cp -a /usr/lib/x86_64-linux-gnu rootfs/usr/lib/
cp -a /usr/bin/id /usr/bin/wc /usr/bin/sort rootfs/usr/bin/
unshare --mount --uts --ipc /usr/bin/true
chroot rootfs /usr/bin/id
unshare --mount chroot rootfs /usr/bin/id
unshare --user --map-root-user --mount chroot rootfs /usr/bin/id
mkdir /sys/fs/cgroup/inner
echo $$ >/sys/fs/cgroup/inner/cgroup.procs
unshare --mount --uts /usr/bin/true
unshare --mount chroot rootfs /usr/bin/wc --version
crun spec
sed -i 's/"terminal": true/"terminal": false/; s,"sh","/usr/bin/sort"\\,"--version",' config.json
crun run inner-crun
"""
# BPF_OBJ_GET of the link (argument 1), then BPF_LINK_DETACH.
COUNT = "grep -c ctr-beat /sys/kernel/security/ima/ascii_runtime_measurements"
DETACH = b"""
import ctypes, struct, sys
def bpf(command, attr):
    return ctypes.CDLL(None).syscall(321, command, attr.ljust(128, b"\\0"), 128)
path = ctypes.create_string_buffer(sys.argv[1].encode())
link = bpf(7, struct.pack("<QII", ctypes.addressof(path), 0, 0))
assert link > 0
sys.exit(bpf(34, struct.pack("<I", link)) == 0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    """A booted machine whose measurer came after its first container."""

    def added(self, script: str) -> list[Payload]:
        """Return what the log got while the guest's shell ran a script."""
        before = len(self.log())
        self.guest.run(("sh", "-c", script), timeout=180)
        return self.log()[before:]

    def early(self) -> StartEntry:
        """Return the first container's latest start."""
        wanted = self.guest.run(("sh", "-c", f"{PODMAN} inspect -f '{{{{.Id}}}}' {EARLY}")).text.strip()
        return [one for one in starts(self.log()) if parse.runtime_id(one.cgroup_path) == wanted][-1]


def starts(log: list[Payload]) -> list[StartEntry]:
    return [one for one in log if isinstance(one, StartEntry)]


def files(log: list[Payload], seq: int) -> list[FileEntry]:
    return [one for one in log if isinstance(one, FileEntry) and one.container.seq == seq]


def joins(log: list[Payload]) -> list[JoinEntry]:
    return [one for one in log if isinstance(one, JoinEntry)]


def beats(log: list[Payload]) -> list[BeatEntry]:
    return [one for one in log if isinstance(one, BeatEntry)]


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    guest = booted.guest
    guest.run(("sh", "-c", f"{PODMAN} run -d --name={EARLY} --network=none {booted.image} /usr/bin/sleep 1000"))
    with MEASURER.attach(MEASURER, guest):
        yield Subject.of(booted)


def test_it_says_that_it_came_and_lists_what_ran(subject: Subject) -> None:
    first, *rest = subject.log()
    assert isinstance(first, BeatEntry)
    assert (first.number, first.event, first.lost, first.interval) == (1, parse.ATTACHED, 0, 0)
    (start,) = starts(rest)
    assert start == subject.early()
    assert start.flags == parse.BEFORE
    (program,) = files(rest, start.container.seq)
    assert (program.path, program.route, program.flags) == (b"/usr/bin/sleep", parse.RUNNING, parse.LATE)


def test_it_says_that_it_is_there_when_asked(subject: Subject) -> None:
    for _ in range(2):
        measurers.beat(MEASURER, subject.guest)
    said = beats(subject.log())
    assert [one.number for one in said] == [1, 2, 3]
    assert {one.event for one in said[1:]} == {parse.ASKED}
    assert said[1].time < said[2].time


def test_who_enters_a_container_joins_it(subject: Subject) -> None:
    early = subject.early().container
    pid = f"$({PODMAN} inspect -f '{{{{.State.Pid}}}}' {EARLY})"
    added = subject.added(f"{PODMAN} exec {EARLY} /usr/bin/true; nsenter --target {pid} --mount /usr/bin/id")
    assert [(one.container, one.origin) for one in joins(added)] == [(early, 0)] * 2
    assert {b"/usr/bin/true", b"/usr/bin/id"} <= {one.path for one in files(added, early.seq)}
    assert starts(added) == []


def test_services_are_the_host(subject: Subject) -> None:
    guest = subject.guest
    root = guest.run(("sh", "-c", f"{PODMAN} mount {EARLY}")).text.strip()
    for name, unit in SERVICES.items():
        guest.put(unit.format(root=root).encode(), f"/run/systemd/system/{name}.service")
    names = " ".join(SERVICES)
    assert subject.added(f"systemctl daemon-reload && systemctl start {names}") == []
    said = guest.run(("systemctl", "show", "--property=Result", *(f"{name}.service" for name in SERVICES))).text
    assert said.split() == ["Result=success"] * len(SERVICES)


def test_shared_namespaces_do_not_make_one_container(subject: Subject) -> None:
    early = subject.early()
    # As the containers of a pod have them.
    pod = " ".join(f"--{kind}=container:{EARLY}" for kind in ("uts", "ipc", "pid", "network"))
    host = "--uts=host --ipc=host --pid=host --network=host"
    script = "; ".join(f"{PODMAN} run --rm {shared} {subject.image} /usr/bin/true" for shared in (pod, host))
    added = subject.added(script)
    of_pod, of_host = starts(added)
    assert of_pod.utsns == early.utsns
    assert of_host.utsns != early.utsns
    assert len({one.container.seq for one in (early, of_pod, of_host)}) == 3
    for one in (of_pod, of_host):
        assert (one.parent, one.flags) == (0, 0)
        assert b"/usr/bin/true" in {file.path for file in files(added, one.container.seq)}
    assert joins(added) == []


def test_what_a_container_does_stays_its_own(subject: Subject) -> None:
    subject.guest.put(NESTED, "/root/nested/nested.sh")
    options = "--privileged --network=none --volume=/usr:/host:ro --volume=/root/nested:/n:ro"
    added = subject.added(f"{PODMAN} run --rm {options} {subject.image} /usr/bin/bash /n/nested.sh")
    outer, sandbox, inner = starts(added)
    seq = outer.container.seq
    assert [one.parent for one in (outer, sandbox, inner)] == [0, seq, seq]
    assert sandbox.cgroup_path == outer.cgroup_path + b"/inner"
    assert b"inner-crun" in inner.cgroup_path
    of = {one.container.seq: {file.path for file in files(added, one.container.seq)} for one in starts(added)}
    assert b"/usr/bin/wc" in of[sandbox.container.seq]
    assert b"/usr/bin/sort" in of[inner.container.seq]
    assert b"/usr/bin/id" in {path.removeprefix(b"/tmp/b/rootfs") for path in of[seq]}
    assert joins(added) == []


def test_no_pin_goes_unsaid(subject: Subject) -> None:
    guest = subject.guest
    guest.put(DETACH, "/root/detach.py")
    assert guest.run(("python3", "/root/detach.py", f"{measurers.PINS}/link-inherit")).code == 0, "refused"
    assert subject.added("true") == []
    last = beats(subject.log())[-1].number

    added = subject.added(f"rm {measurers.PINS}/link-inherit; ! {LOADER} beat --pin {measurers.PINS}")
    assert [(one.number, one.event) for one in beats(added)] == [(last + 1, parse.DETACHED)]
    assert subject.added(f"{LOADER} detach --pin {measurers.PINS}") == [], "once is enough"

    former = subject.early().container
    there = "mkdir -p /run/pins && mount -t tmpfs none /run/pins && mkdir /run/pins/b && mount -t bpf bpf /run/pins/b"
    begin = f"{LOADER} attach --mode file --pin /run/pins/b/here --beat 1"
    # Lazily, and of the mount above: nothing ever asks to unmount the file system of the pins.
    # Until a beat came by itself: on a busy host that takes longer than its second.
    beaten = f"until [ $({COUNT}) -gt $(($before + 1)) ]; do sleep 0.2; done"
    ended = f"until [ $({COUNT}) -gt $then ]; do sleep 0.2; done"
    wait = f"before=$({COUNT}); {begin} && {beaten} && then=$({COUNT}) && umount --lazy /run/pins && {ended}"
    added = subject.added(f"{there} && {wait} && sleep 1.5")
    came, *periodic, gone = beats(added)
    assert [one.event for one in (came, gone)] == [parse.ATTACHED, parse.DETACHED]
    assert {one.event for one in periodic} == {parse.PERIODIC}
    assert [one.number for one in beats(added)] == [*range(last + 2, last + 4 + len(periodic))]
    again = subject.early()
    assert (again.container.mntns, again.container.started) == (former.mntns, former.started)
    assert again.container.seq > former.seq
    assert again.flags == parse.BEFORE


def test_the_quote_covers_it_all(subject: Subject) -> None:
    _, verdict = subject.judged()
    assert verdict.attested[11] == len(subject.log())
    # It was away for a while, a container was there before it, and one ran crun, which loads a BPF program.
    assert {finding.kind for finding in verdict.findings} == {FindingKind.UNKNOWN_WINDOW, FindingKind.UNKNOWN_FILE}
    assert complaints(subject.guest) == []

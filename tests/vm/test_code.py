"""One boot a kernel: every way by which a container gets code, and who changes code that a container has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from booted import Booted, complaints

from testbed import measurers, plugins
from testbed.attest.entries import parse
from testbed.attest.entries.integrity import KERNEL_MODULE
from testbed.attest.entries.parse import FileEntry, LossEntry, Payload, ProgramEntry, StartEntry, ViolationEntry
from testbed.attest.finding import FindingKind
from testbed.lab.build import debian

MEASURER = plugins.measurer("container-file")
LOADER = f"{measurers.DEPLOYED}/measurer"
PODMAN = "podman --cgroup-manager=cgroupfs"
# On the guest's disk, and the same in the container; /code/code is the program of code.c.
VOLUME = "/root/code"
FIRST, SECOND = parse.OPEN_WRITERS, parse.TOMTOU
# More mappings in one call than measurements of one task may be pending at once.
PENDING = 4096
# Why a container lost code: enum testbed_loss.
WAITING = 4
# All that this module causes, the open writers of two files in memory among them.
VIOLATIONS = 8
# All that an image's programs do every day: run, read, write a new script, run it, change it, run it again, replace it.
ORDINARY = """
set -e
sha256sum /etc/passwd >/sum
printf '#!/usr/bin/bash\\ntrue\\n' >/script
chmod 755 /script
/script
echo true >>/script
/script
cp /usr/bin/true /mine
/mine
cp /usr/bin/true /mine
/mine
cp /mine /code/mine
/code/mine
rm /code/mine /mine
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    """With its measurer attached, and the program of ``code.c`` in a volume."""

    program: bytes = b""

    def log(self) -> list[Payload]:
        """Return what PCR 11's entries say; what is under way is waited for."""
        measurers.beat(MEASURER, self.guest)
        # No bare super(): a dataclass with slots is another class than the one that was written.
        return Booted.log(self)

    def added(self, script: str) -> list[Payload]:
        """Return what the log got while the guest's shell ran a script."""
        before = len(self.log())
        self.guest.run(("sh", "-c", script), timeout=180)
        return self.log()[before:]

    def run(self, *argv: str, options: str = "") -> list[Payload]:
        """Return what the log got from a container that ran these words."""
        words = " ".join(f"'{word}'" for word in argv)
        return self.added(f"{PODMAN} run --rm --network=none --volume={VOLUME}:/code {options} {self.image} {words}")

    def code(self, *argv: str, options: str = "") -> list[Payload]:
        return self.run("/code/code", *argv, options=options)

    def file(self, name: str) -> bytes:
        """Put a new file into the volume, executable, and return its content."""
        content = f"{name}\n".encode() * 1000
        self.guest.put(content, f"{VOLUME}/{name}", mode=0o755)
        return content

    def counted(self, name: str) -> int:
        return measurers.counters(MEASURER, self.guest)[name]


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    program = _compile(booted)
    booted.guest.put(program, f"{VOLUME}/code", mode=0o755)
    with MEASURER.attach(MEASURER, booted.guest):
        yield replace(Subject.of(booted), program=program)


def _compile(booted: Booted) -> bytes:
    out = booted.directory / "out"
    out.mkdir()
    flags = ("-O2", "-std=gnu11", "-static", "-Wall", "-Wextra", "-Werror")
    argv = ("clang", *flags, "-o", "/out/code", "/src/code.c")
    debian.enter(booted.machine.spec.kernel.build_root, argv, read={Path(__file__).parent: "/src"}, write={out: "/out"})
    return (out / "code").read_bytes()


def files(log: list[Payload], path: str) -> list[FileEntry]:
    return [one for one in log if isinstance(one, FileEntry) and one.path == path.encode()]


def only(log: list[Payload], path: str, content: bytes) -> FileEntry:
    """Return the one entry of a path; it must be of this content and of the container that began."""
    (one,) = files(log, path)
    (start,) = (entry for entry in log if isinstance(entry, StartEntry))
    assert one.container == start.container
    assert (one.digest, one.size) == (hashlib.sha256(content).digest(), len(content))
    return one


def violations(log: list[Payload]) -> list[tuple[int, bytes]]:
    return [(one.violation, one.path) for one in log if isinstance(one, ViolationEntry)]


def test_an_ordinary_run_violates_nothing(subject: Subject) -> None:
    log = subject.run("/usr/bin/bash", "-c", ORDINARY.replace("'", "'\\''"))
    assert len(files(log, "/script")) == 2
    assert files(log, "/code/mine")
    assert violations(log) == []
    assert {one.route for one in log if isinstance(one, FileEntry)} == {parse.EXECVE, parse.MMAP}


def test_mprotect_is_measured_late(subject: Subject) -> None:
    content = subject.file("late")
    one = only(subject.code("late", "/code/late"), "/code/late", content)
    assert (one.route, one.flags) == (parse.MPROTECT, parse.LATE)


def test_mprotect_of_an_overlays_file_has_the_containers_path(subject: Subject) -> None:
    content = subject.guest.run(("sh", "-c", f"{PODMAN} run --rm --network=none {subject.image} cat /etc/passwd")).out
    one = only(subject.code("late", "/etc/passwd"), "/etc/passwd", content)
    assert (one.route, one.flags) == (parse.MPROTECT, parse.LATE)


def test_mprotect_of_what_is_known_adds_nothing(subject: Subject) -> None:
    subject.file("known")
    script = "/code/known; /code/code late /code/known; true"
    (one,) = files(subject.run("/usr/bin/bash", "-c", script), "/code/known")
    assert one.route == parse.EXECVE


def test_the_hosts_mprotect_is_not_measured(subject: Subject) -> None:
    subject.file("host")
    assert subject.added(f"{VOLUME}/code late {VOLUME}/host; {VOLUME}/code used {VOLUME}/host")[:-1] == []


def test_what_the_kernel_reads_for_a_container_is_measured(subject: Subject) -> None:
    module = f"{measurers.DEPLOYED}/testbed_measurer.ko"
    subject.guest.run(("cp", module, f"{VOLUME}/module.ko"))
    content = subject.guest.get(module)
    one = only(subject.code("module", "/code/module.ko", options="--privileged"), "/code/module.ko", content)
    assert (one.route, one.flags) == (parse.KERNEL_READ, 0)
    assert subject.added(f"{VOLUME}/code module {VOLUME}/module.ko")[:-1] == [], "the host's"


@pytest.mark.parametrize("way", ["written", "shared"])
def test_open_writers(subject: Subject, way: str) -> None:
    content = subject.file(way)
    log = subject.code(way, f"/code/{way}")
    only(log, f"/code/{way}", content)
    assert violations(log) == [(FIRST, f"/code/{way}".encode())]
    (one,) = (entry for entry in log if isinstance(entry, ViolationEntry))
    (start,) = (entry for entry in log if isinstance(entry, StartEntry))
    assert one.container == start.container
    inode, device = subject.guest.run(("stat", "-c", "%i %Hd:%Ld", f"{VOLUME}/{way}")).text.split()
    major, minor = map(int, device.split(":"))
    assert (one.inode, one.device) == (int(inode), (major, minor))


@pytest.mark.parametrize("way", ["used", "cut"])
def test_a_container_changes_code_in_use(subject: Subject, way: str) -> None:
    subject.file(way)
    log = subject.code(way, f"/code/{way}")
    assert violations(log) == [(SECOND, f"/code/{way}".encode())]


HOLD = f"""
{PODMAN} run --rm --network=none --volume={VOLUME}:/code {{image}} /code/code hold {{path}} /code/flag &
until [ -e {VOLUME}/flag ]; do sleep 0.1; done
{{change}}
rm {VOLUME}/flag
wait
"""


def test_the_host_changes_code_in_use(subject: Subject) -> None:
    subject.file("held")
    touch = f"true >>{VOLUME}/held"
    log = subject.added(HOLD.format(image=subject.image, path="/code/held", change=f"{touch}; {touch}"))
    assert violations(log) == [(SECOND, b"/code/held")], "once, with the container's path"
    assert violations(subject.added(touch)) == [], "it is not in use any more"


def test_the_host_changes_a_lower_layer_in_use(subject: Subject) -> None:
    lower = "$(find /var/lib/containers/storage/overlay -path '*/diff/usr/bin/gawk')"
    log = subject.added(HOLD.format(image=subject.image, path="/usr/bin/gawk", change=f"true >>{lower}"))
    assert violations(log) == [(SECOND, b"/usr/bin/gawk")]


def test_an_overlays_copy_is_another_file(subject: Subject) -> None:
    log = subject.code("used", "/usr/bin/gawk")
    assert files(log, "/usr/bin/gawk")
    assert violations(log) == [], "what is mapped stays the lower file"


@pytest.mark.parametrize("name", ["x", "n" * 249])
def test_a_memfd_is_measured_and_flagged(subject: Subject, name: str) -> None:
    log = subject.code("memfd", name)
    one = only(log, f"/memfd:{name} (deleted)", subject.program)
    assert (one.route, one.flags) == (parse.EXECVE, parse.ANON_FILE | parse.NOT_BOUND)
    assert violations(log) == [(FIRST, one.path)], "its first descriptor can write to it"


def test_a_sealed_memfd_is_bound(subject: Subject) -> None:
    log = subject.code("sealed", "x")
    one = only(log, "/memfd:x (deleted)", subject.program)
    assert (one.route, one.flags) == (parse.EXECVE, parse.ANON_FILE)
    assert violations(log) == []


def test_a_tmpfs_is_measured(subject: Subject) -> None:
    log = subject.run(
        "/usr/bin/bash", "-c", "cp /code/code /scratch/code; /scratch/code", options="--tmpfs=/scratch:rw,exec"
    )
    one = only(log, "/scratch/code", subject.program)
    assert (one.route, one.flags) == (parse.EXECVE, parse.NOT_BOUND)


@pytest.mark.parametrize("place", ["/gone", "/code/gone", "/scratch/gone"])
def test_an_unlinked_file_is_measured_and_flagged(subject: Subject, place: str) -> None:
    log = subject.code("unlinked", place, options="--tmpfs=/scratch:rw,exec")
    one = only(log, place, subject.program)
    bound = 0 if not place.startswith("/scratch") else parse.NOT_BOUND
    assert (one.route, one.flags) == (parse.EXECVE, parse.UNLINKED | bound)


def test_read_implies_exec_is_measured(subject: Subject) -> None:
    contents = [subject.file(name) for name in ("implied", "implied-late")]
    log = subject.code("implied", "/code/implied", "/code/implied-late", options="--security-opt=seccomp=unconfined")
    one, other = (only(log, f"/code/{n}", c) for n, c in zip(("implied", "implied-late"), contents, strict=True))
    assert (one.route, one.flags) == (parse.MMAP, 0)
    assert (other.route, other.flags) == (parse.MPROTECT, parse.LATE)


def test_nothing_was_missed(subject: Subject) -> None:
    counted = measurers.counters(MEASURER, subject.guest)
    assert counted["violations"] == VIOLATIONS
    assert {name: n for name, n in counted.items() if n and name.startswith("unmeasured_")} == {}
    (beat,) = (one for one in subject.log()[-1:] if isinstance(one, parse.BeatEntry))
    assert beat.lost == 0
    assert complaints(subject.guest) == []


def test_a_quote_covers_it_all_and_names_the_violations(subject: Subject) -> None:
    _, verdict = subject.judged()
    log = subject.log()
    assert verdict.attested[11] == len(log) - 1, "but for the beat of the last line"
    assert len(violations(log)) == VIOLATIONS
    assert {finding.kind for finding in verdict.findings} == {FindingKind.VIOLATION, FindingKind.NOT_BOUND}


def test_a_module_from_memory_is_in_the_log(subject: Subject) -> None:
    log = subject.code("module-from-memory", options="--privileged")
    (one,) = (it for it in log if isinstance(it, ProgramEntry))
    nothing = bytes(4096)
    assert (one.what, one.size, one.digest) == (KERNEL_MODULE, len(nothing), hashlib.sha256(nothing).digest())
    assert [it for it in log if isinstance(it, LossEntry)] == []


def test_what_is_too_much_at_once_is_a_loss_of_its_container(subject: Subject) -> None:
    content = subject.file("many")
    more = PENDING // 2 + 10
    log = subject.code("many", "/code/many", str(more))
    only(log, "/code/many", content)
    assert losses(log) == (20, WAITING)
    assert subject.counted("unmeasured_pending") == 20


def losses(log: list[Payload]) -> tuple[int, int]:
    """Return how much the one container of this log has lost, and why; the machine has lost nothing."""
    assert isinstance(log[-1], parse.BeatEntry)
    assert log[-1].lost == 0
    last = [one for one in log if isinstance(one, LossEntry)][-1]
    (start,) = (one for one in log if isinstance(one, StartEntry))
    assert last.container == start.container
    return last.lost, last.reasons

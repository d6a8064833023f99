"""One boot a kernel: TPM, IMA, measurer; containers on PCR 11, the host not; what must not crash it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booted import Booted, complaints

from testbed import measurers, plugins
from testbed.attest import verify
from testbed.attest.entries.parse import FileEntry, StartEntry, parse_payload
from testbed.attest.image.ground_truth import executed
from testbed.attest.log.fields import parse_fields
from testbed.attest.verdict import Verdict
from testbed.guest import Completed

GOLDEN = Path(__file__).parents[1] / "golden"
# A service with namespaces of its own is no container.
HARDENED = b"""
[Service]
Type=oneshot
ExecStart=/root/host-only
PrivateMounts=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHostname=yes
"""
POLICY = ("measure func=BPRM_CHECK", "measure func=MMAP_CHECK mask=MAY_EXEC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    """A booted machine with its measurer attached, and everything to judge it by."""

    def podman(self, *argv: str, runtime: str = "crun", options: tuple[str, ...] = ()) -> Completed:
        words = ("podman", "--cgroup-manager=cgroupfs", f"--runtime={runtime}", "run", "--rm", "--network=none")
        return self.guest.run((*words, *options, self.image, *argv), timeout=180)

    def entries(self) -> tuple[list[StartEntry], list[FileEntry], Verdict]:
        """Quote, verify, and return what PCR 11 attests."""
        where, verdict = self.judged()
        found = [e for e in verify.attested_entries(where, verdict) if e.pcr == 11]
        payloads = [parse_payload(fields.name, fields.buf or b"") for fields in map(parse_fields, found)]
        starts = [one for one in payloads if isinstance(one, StartEntry)]
        return starts, [one for one in payloads if isinstance(one, FileEntry)], verdict


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    """A machine whose measurer is attached under a policy that keeps PCR 10 alive, too."""
    both = measurers.Measurer(name="both", summary="PCR 10 and 11", policy=(*POLICY, *_FILE.policy), mode="file")
    with both.attach(both, booted.guest):
        yield Subject.of(booted)


def test_it_booted_with_tpm_and_ima(subject: Subject) -> None:
    guest = subject.guest
    assert guest.run(("uname", "-r")).text.strip() == subject.machine.spec.kernel.release
    assert guest.get("/sys/class/tpm/tpm0/tpm_version_major").strip() == b"2"
    assert int(guest.get("/sys/kernel/security/ima/runtime_measurements_count")) > 0
    assert "bpf" in guest.get("/sys/kernel/security/lsm").decode().split(",")


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_containers_code_is_on_pcr_11(subject: Subject, runtime: str) -> None:
    subject.podman("/usr/bin/sha256sum", "/etc/passwd", runtime=runtime)
    starts, files, verdict = subject.entries()
    assert verdict.ok, verdict.findings
    mine = starts[-1].container
    got = {(entry.path.decode(), entry.digest.hex()) for entry in files if entry.container == mine}
    truth = executed(subject.archive, "", ["/usr/bin/sha256sum"])
    assert got == {(str(one.path), one.digest) for one in truth}


def test_the_host_is_not_on_pcr_11(subject: Subject) -> None:
    guest = subject.guest
    before = subject.entries()
    guest.run(("sh", "-c", "cp /usr/bin/true /root/host-only && /root/host-only"))
    guest.run(("unshare", "--mount", "--uts", "--pid", "--fork", "/root/host-only"))
    guest.put(HARDENED, "/run/systemd/system/hardened.service")
    guest.run(("systemctl", "daemon-reload"))
    guest.run(("systemctl", "start", "hardened.service"))
    after = subject.entries()
    assert after[:2] == before[:2]
    assert after[2].ok
    ima = guest.get("/sys/kernel/security/ima/ascii_runtime_measurements").decode()
    assert any(line.startswith("10 ") and line.endswith(" /root/host-only") for line in ima.splitlines())


def test_one_file_in_two_containers_gives_two_digests(subject: Subject) -> None:
    for _ in range(2):
        subject.podman("/usr/bin/true")
    starts, files, verdict = subject.entries()
    assert verdict.ok
    two = [start.container for start in starts[-2:]]
    entries = [next(f for f in files if f.container == who and f.path == b"/usr/bin/true") for who in two]
    assert entries[0].digest == entries[1].digest, "the same content"
    assert entries[0].container != entries[1].container
    log = subject.guest.get("/sys/kernel/security/ima/ascii_runtime_measurements").decode().splitlines()
    bound = [line.split()[3] for line in log if line.startswith("11 ") and b"/usr/bin/true".hex() in line]
    assert len(bound) == len(set(bound)) >= 2


def test_files_with_one_digest_prefix_give_two_entries(subject: Subject) -> None:
    guest = subject.guest
    for name in ("collision_a.bin", "collision_b.bin"):
        guest.put((GOLDEN / name).read_bytes(), f"/root/pair/{name}", mode=0o755)
    # The kernel refuses them as programs (their first line names no interpreter) after it has measured them.
    script = "/pair/collision_a.bin; /pair/collision_b.bin; true"
    subject.podman("/usr/bin/bash", "-c", script, options=("--volume=/root/pair:/pair:ro",))
    _, files, verdict = subject.entries()
    assert verdict.ok
    pair = [entry for entry in files if entry.path.startswith(b"/pair/collision_")]
    assert [entry.path for entry in pair] == [b"/pair/collision_a.bin", b"/pair/collision_b.bin"]
    assert pair[0].digest[:8] == pair[1].digest[:8]
    assert pair[0].digest != pair[1].digest


# A volume is the disk's own file system, all else the overlay. What ends in a changed byte has the size that it had.
REWRITE = """
set -eu
printf '#!/usr/bin/bash\\n#0' > /new
cp /new /volume/new
chmod 755 /new /volume/new
for file in /new /volume/new /usr/bin/true; do
  $file; $file; $file
  printf 1 | dd of=$file bs=1 seek=18 conv=notrunc status=none
  $file || true; $file || true; $file || true
done
"""


def test_a_file_changed_in_place_is_measured_anew(subject: Subject) -> None:
    subject.guest.run(("mkdir", "-p", "/root/volume"))
    before = measurers.counters(_FILE, subject.guest)
    subject.podman("/usr/bin/bash", "-c", REWRITE, options=("--volume=/root/volume:/volume",))
    after = measurers.counters(_FILE, subject.guest)
    _, files, verdict = subject.entries()
    assert verdict.ok
    for path in (b"/new", b"/volume/new", b"/usr/bin/true"):
        mine = [entry.digest for entry in files if entry.path == path and entry.container == files[-1].container]
        assert len(mine) == len(set(mine)) == 2, path
    # Of the second execution of each content the module tells that it is known, of the third the programs know it.
    hits, slow = (after[name] - before[name] for name in ("cache_hits", "slow_hits"))
    assert slow > 0
    assert hits - slow >= 6


def test_executable_memory_that_is_no_file_is_survived(subject: Subject) -> None:
    guest = subject.guest
    before = measurers.counters(_FILE, guest)["anon_exec"]
    # MMAP_PAGE_ZERO: execve itself maps a page that is executable, has no file and is not MAP_ANONYMOUS.
    page_zero = ("setarch", "--mmap-page-zero", "podman", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=none")
    guest.run((*page_zero, "--security-opt=seccomp=unconfined", subject.image, "/usr/bin/true"), timeout=180)
    assert measurers.counters(_FILE, guest)["anon_exec"] > before
    code = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)"
    guest.run(("python3", "-c", code))
    assert guest.run(("true",)).code == 0
    assert complaints(guest) == []


def test_nothing_was_missed_and_pcr_10_is_alive(subject: Subject) -> None:
    counted = measurers.counters(_FILE, subject.guest)
    assert counted["files"] > 0
    assert {name: n for name, n in counted.items() if name.startswith("unmeasured_") and n} == {}
    *_, verdict = subject.entries()
    assert verdict.ok
    assert verdict.attested[10] > 1
    assert verdict.attested[11] > 1


_FILE = plugins.measurer("container-file")

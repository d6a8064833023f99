"""The prototypes' rules in live containers: their lines bit for bit, and what a verifier must say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from booted import Booted, complaints

from testbed import measurers, plugins
from testbed.attest import verify
from testbed.attest.image.ground_truth import executed
from testbed.attest.log import rules
from testbed.attest.log.fields import parse_fields
from testbed.attest.truth import compare
from testbed.attest.verdict import Verdict
from testbed.measurers import Executed

GOLDEN = Path(__file__).parents[1] / "golden"
LOADER = f"{measurers.DEPLOYED}/measurer"
# The container tells its own UTS namespace, so that the log need not be asked.
NAMESPACE = "/usr/bin/ls -Li /proc/self/ns/uts"
MAPPING = """
import mmap, os, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC)
print(os.stat("/proc/self/ns/uts").st_ino)
"""
PAIR = ("collision_a.bin", "collision_b.bin")
FILE, IMAGE = plugins.measurer("prototype-file"), plugins.measurer("prototype-image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    def namespace(self, script: str = "true", *, options: tuple[str, ...] = ()) -> bytes:
        """Run a container and return the number of its UTS namespace, as it said itself."""
        words = ("podman", "--cgroup-manager=cgroupfs", "--runtime=crun", "run", "--rm", "--network=none", *options)
        argv = (*words, self.image, "/usr/bin/bash", "-c", f"{script}; {NAMESPACE}")
        return self.guest.run(argv, timeout=180).text.split()[0].encode()


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    for name in PAIR:
        booted.guest.put((GOLDEN / name).read_bytes(), f"/root/pair/{name}", mode=0o755)
    with FILE.attach(FILE, booted.guest):
        yield Subject.of(booted)


def lines(where: Path, verdict: Verdict, pcr: int) -> dict[bytes, set[bytes]]:
    """Return the attested names and digests on one PCR."""
    found: dict[bytes, set[bytes]] = {}
    for entry in verify.attested_entries(where, verdict):
        if entry.pcr == pcr:
            fields = parse_fields(entry)
            found.setdefault(fields.name, set()).add(fields.digest)
    return found


def test_each_line_is_what_the_rule_makes_of_the_file(subject: Subject) -> None:
    namespace = subject.namespace()
    where, verdict = subject.judged()
    truth = executed(subject.archive, "any", ["/usr/bin/bash", "/usr/bin/ls"])
    prefix = namespace + b":"
    got = {name: digests for name, digests in lines(where, verdict, 11).items() if name.startswith(prefix)}
    assert got == {
        prefix + str(one.path).encode(): {rules.prototype_file(bytes.fromhex(one.digest), namespace)} for one in truth
    }
    claimed = FILE.claim(truth)
    assert {claim.pcr for claim in claimed} == {10, 11}
    findings = compare(verify.attested_entries(where, verdict), claimed, verdict.containers, truth)
    assert {str(one.kind) for one in findings} <= FILE.expect


def test_the_verifier_says_how_little_it_binds(subject: Subject) -> None:
    subject.namespace()
    _, verdict = subject.judged()
    assert {str(one.kind) for one in verdict.findings} == FILE.expect
    said = " ".join(one.got for one in verdict.findings)
    assert "64" in said


def test_two_contents_have_one_line(subject: Subject) -> None:
    # No container is needed: to the prototype everything in a UTS namespace of its own is one.
    names = [f"/root/pair/{name}" for name in PAIR]
    namespace = subject.guest.run(("unshare", "--uts", "python3", "-c", MAPPING, *names)).text.strip().encode()
    where, verdict = subject.judged()
    ours, plain = lines(where, verdict, 11), lines(where, verdict, 10)
    one, two = (ours[namespace + b":" + name.encode()] for name in names)
    assert one == two
    one, two = (plain[name.encode()] for name in names)
    assert one.isdisjoint(two)
    truth = [_executed(name) for name in names]
    claims = {claim for claim in FILE.claim(truth) if claim.pcr == 11}
    assert len({claim.digest for claim in claims}) == 1
    findings = compare(verify.attested_entries(where, verdict), frozenset(claims), verdict.containers, truth)
    assert {str(one.kind) for one in findings} == {"weak-binding"}
    assert any(all(name in finding.got for name in names) for finding in findings)


def _executed(name: str) -> Executed:
    content = (GOLDEN / Path(name).name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Executed(container="", path=PurePosixPath(name), digest=digest, size=len(content))


def test_an_image_digest_of_nothing(subject: Subject) -> None:
    guest = subject.guest
    guest.run((LOADER, "detach", "--pin", measurers.PINS))
    guest.run((LOADER, "attach", "--mode", "prototype-image", "--pin", measurers.PINS))
    namespace = subject.namespace()
    where, verdict = subject.judged()
    assert lines(where, verdict, 11)[namespace] == {hashlib.sha256(bytes(rules.POINTER)).digest()}
    assert "no-content" in {str(one.kind) for one in verdict.findings}
    counted = measurers.counters(IMAGE, guest)
    assert counted["lines"] >= 1
    assert {name: n for name, n in counted.items() if name.startswith("unmeasured_") and n} == {}
    assert complaints(guest) == []

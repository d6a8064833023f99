"""What a test that boots gets: a machine with everything in it that a measurer needs, and nothing attached yet."""

from __future__ import annotations

import fcntl
import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from testbed import kernel_complaints, measurers
from testbed.attest import verify
from testbed.attest.entries import parse
from testbed.attest.entries.launch import LaunchEntry
from testbed.attest.entries.parse import Payload, StartEntry
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import read_entries
from testbed.attest.verdict import Verdict
from testbed.guest import Guest
from testbed.lab import attestation, block
from testbed.lab.block import Parts
from testbed.lab.machines.domain import MachineSpec
from testbed.lab.machines.lab import Lab
from testbed.lab.machines.machine import Machine
from testbed.lab.machines.save import Saved
from testbed.measurers import Measurer


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """A machine, its AK, and its one container image: ``image`` is what podman calls it.

    A test module that wants more methods makes a subclass, and ``of`` one of these.
    """

    machine: Machine
    ak: bytes
    image: str
    archive: Path
    directory: Path

    @classmethod
    def of(cls, booted: Booted) -> Self:
        return cls(**{field.name: getattr(booted, field.name) for field in fields(Booted)})

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    def log(self) -> list[Payload]:
        """Return what PCR 11's entries say."""
        raw = self.guest.get("/sys/kernel/security/ima/binary_runtime_measurements")
        found = [parse_fields(entry) for entry in read_entries(raw) if entry.pcr == 11]
        return [parse.parse_payload(fields.name, fields.buf or b"") for fields in found]

    def launches(self) -> dict[str, LaunchEntry]:
        """Return the launches by the last part of the container's cgroup."""
        log = self.log()
        names = {one.container.seq: one.cgroup_path.decode() for one in log if isinstance(one, StartEntry)}
        found = [one for one in log if isinstance(one, LaunchEntry)]
        return {names[one.container.seq].rpartition("/")[2]: one for one in found}

    def judged(self) -> tuple[Path, Verdict]:
        """Quote both PCRs and verify; return where the evidence is, too."""
        where = self.directory / secrets.token_hex(4)
        got = attestation.collect(self.guest, (10, 11), secrets.token_bytes(32), self.machine.clone_id, where)
        return where, verify.verify(where, ak=self.ak, nonce=got.nonce)


@contextmanager
def changes(measurer: Measurer, guest: Guest) -> Iterator[dict[str, int]]:
    """Hold a dictionary that has, at the end, the counters that changed meanwhile, and by how much."""
    before = measurers.counters(measurer, guest)
    changed: dict[str, int] = {}
    yield changed
    after = measurers.counters(measurer, guest)
    changed.update({name: n - before[name] for name, n in after.items() if n != before[name]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Saves:
    """Machines that are booted and saved once, and restored for each module that wants one, by any worker.

    ``home``: one directory for all workers of a run.
    """

    lab: Lab
    home: Path

    @contextmanager
    def restored(
        self, spec: MachineSpec, directory: Path, what: str, bring: Callable[[Guest], None]
    ) -> Iterator[tuple[Machine, bytes]]:
        """Hold a clone, and its AK. ``bring`` is what is done in the guest before the save; ``what`` names it."""
        where = self.home / hashlib.sha256(f"{spec!r} {what}".encode()).hexdigest()[:16]
        ak = where.with_suffix(".ak")
        self.home.mkdir(parents=True, exist_ok=True)
        # The other worker may be saving the same machine.
        with where.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            saved = Saved.load(where)
            if saved is None:
                with self.lab.boot(spec, directory / "boot") as machine:
                    bring(machine.guest)
                    ak.write_bytes(attestation.enrol(machine.guest, machine.tpm))
                    machine.guest.run(("sync",))
                    saved = machine.save(where)
        with self.lab.restore(saved, directory / "restored") as machine:
            yield machine, ak.read_bytes()


@contextmanager
def hold(saves: Saves, parts: Parts, directory: Path) -> Iterator[Booted]:
    """Hold a machine that has its measurer's parts and podman's image, and nothing attached."""
    (image,) = parts.images

    def bring(guest: Guest) -> None:
        block.load(guest, "podman", image)
        block.deploy(guest, parts.bundle)

    with saves.restored(parts.machine, directory, "image", bring) as (machine, ak):
        yield Booted(machine=machine, ak=ak, image=block.reference(image), archive=image.archive, directory=directory)


def complaints(guest: Guest) -> list[str]:
    """Return the lines by which the kernel complains of itself since the measurer's module is there.

    Before that a busy host can hold a guest's processor for longer than its watchdog likes.
    """
    before, there, since = guest.run(("dmesg",)).text.partition("testbed_measurer: ")
    # What is old falls out of the kernel's buffer.
    return kernel_complaints.complaints(since if there else before)

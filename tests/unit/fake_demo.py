"""A machine for tests of the demo: its TPM signs, its log grows, and it may misbehave. It boots in no time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import evidence
import image_files
from cryptography.hazmat.primitives.asymmetric import ec
from image_files import member

from testbed.guest import Completed
from testbed.lab.block import Ready
from testbed.lab.build.image import ContainerImage
from testbed.lab.demo import scene
from testbed.lab.machines.lab import Lab
from testbed.lab.machines.machine import Machine

KEY = ec.generate_private_key(ec.SECP256R1())
AK = evidence.tpm2b_public(KEY)
LAYER = "1a" * 32
PROGRAMS = ("bash", "sleep", "ls", "sha256sum", "sort", "tail")
FILES = {path: path.encode() for path in (scene.LIBRARY, *(f"/usr/bin/{name}" for name in PROGRAMS))}
REFUSED = b"""WARNING:esys:src/tss2-esys/api/Esys_PCR_Reset.c:287: Received TPM Error
ERROR: Esys_PCR_Reset(0x907) - tpm:warn(2.0): bad locality
ERROR: Could not reset PCR index: 11
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How this machine differs from one in which the demo succeeds. ``interrupted``: at which command Ctrl-C comes."""

    resets: bool = False
    extends: bool = True
    silent: bool = False
    starts: bool = True
    ends: bool = True
    tampered: bool = False
    interrupted: int = 0
    name: bytes = b"/usr/bin/sort"


@dataclass(slots=True, kw_only=True)
class FakeGuest:
    """The guest. ``late``: entries that a later reading of the log finds."""

    faults: Faults
    log: bytes = evidence.BOOT
    extended: tuple[bytes, ...] = ()
    late: tuple[bytes, ...] = ()
    beats: int = 0
    commands: list[Sequence[str]] = field(default_factory=list)
    reset: bool = False
    spec: Any = None
    clone_id: str = "ab" * 16

    @property
    def guest(self) -> FakeGuest:
        return self

    @property
    def tpm(self) -> None:
        return None

    def save(self, to: Path) -> FakeGuest:
        to.mkdir()
        return copy(self)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        pass

    def get(self, path: str) -> bytes:
        if path.endswith("boot_id"):
            return b"00000000-0000-4000-8000-000000000000\n"
        now, self.late = self.late[:3], self.late[3:]
        self.add(*now)
        return self.log

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        self.commands.append(argv)
        if len(self.commands) == self.faults.interrupted:
            raise KeyboardInterrupt
        for words, answer in self._answers().items():
            if words in " ".join(argv):
                code, out, err = answer(list(argv))
                return Completed(argv=tuple(argv), code=code, out=out, err=err, seconds=0.0)
        return Completed(argv=tuple(argv), code=0, out=b"", err=b"", seconds=0.0)

    def add(self, *lines: bytes) -> None:
        self.log += b"".join(lines)

    def _answers(self) -> dict[str, Any]:
        return {
            "tpm2_quote": self._quote,
            "cat /var/lib/testbed/store/images": lambda _: (0, f"{LAYER}\n".encode(), b""),
            "drive.py begin": self._start,
            "demo/status": lambda _: (0, b"0\n", b"") if self.faults.starts else (0, b"1\ncrun: no such image\n", b""),
            "measurer attach": lambda _: self._beat(1),
            "measurer beat": lambda _: self._beat(3),
            "printf x": self._write,
            "crun exec": self._again,
            "tpm2_pcrread": lambda _: (0, f"sha256:\n    11: 0x{self._value(11).hex().upper()}\n".encode(), b""),
            "tpm2_pcrreset": self._reset,
            "tpm2_pcrextend": self._extend,
        }

    def _value(self, pcr: int) -> bytes:
        if pcr == 11 and self.reset:
            return bytes(32)
        value = evidence.extended(self.log, pcr)
        for digest in self.extended if pcr == 11 else ():
            value = hashlib.sha256(value + digest).digest()
        return value

    def _quote(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        values = self._value(10) + self._value(11)
        signed = evidence.attest(bytes.fromhex(argv[-1]), hashlib.sha256(values).digest())
        parts = (signed, evidence.sign(KEY, signed, scheme=0x0018), values)
        return 0, b"\n".join(map(base64.b64encode, parts)), b""

    def _start(self, _: list[str]) -> tuple[int, bytes, bytes]:
        if self.faults.tampered:
            self.extended = (b"\xee" * 32,)
        lines = []
        for seq in (1, 2):
            lines.append(evidence.ima_buf("ctr-start", evidence.ctr_start(evidence.libpod(f"{seq:064x}"), seq=seq)))
            for path, content in FILES.items():
                named = self.faults.name if path == "/usr/bin/sort" else path.encode()
                last = path == scene.WAITING
                if not last or self.faults.ends:
                    lines.append(evidence.ima_buf("ctr-file", evidence.ctr_file(named, content, seq=seq)))
        self.late = tuple(lines) if self.faults.starts else ()
        return 0, b"", b""

    def _beat(self, event: int) -> tuple[int, bytes, bytes]:
        self.beats += 1
        known = self.log.count(b"ctr-start")
        self.add(evidence.ima_buf("ctr-beat", evidence.ctr_beat(self.beats, event, containers=known)))
        return 0, b"", b""

    def _write(self, _: list[str]) -> tuple[int, bytes, bytes]:
        if not self.faults.silent:
            for seq in (1, 2):
                payload = evidence.ctr_violation(scene.LIBRARY.encode(), seq=seq, violation=2)
                self.add(evidence.ima_buf("ctr-violation", payload))
        return 0, b"", b""

    def _again(self, _: list[str]) -> tuple[int, bytes, bytes]:
        if not self.faults.silent:
            self.add(evidence.ima_buf("ctr-file", evidence.ctr_file(scene.LIBRARY.encode(), b"changed", seq=1)))
        return 0, b"", b""

    def _reset(self, _: list[str]) -> tuple[int, bytes, bytes]:
        self.reset = self.faults.resets
        return (0, b"", b"") if self.faults.resets else (1, b"", REFUSED)

    def _extend(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        if self.faults.extends:
            self.extended += (bytes.fromhex(argv[1].partition("=")[2]),)
        return 0, b"", b""


@dataclass(slots=True)
class FakeLab:
    """Boots and restores machines, and counts those that run. ``commands``: of all machines so far."""

    faults: Faults = field(default_factory=Faults)
    running: int = 0
    started: int = 0
    commands: list[Sequence[str]] = field(default_factory=list)

    @contextmanager
    def boot(self, spec: Any, directory: Path) -> Iterator[FakeGuest]:
        with self._held(FakeGuest(faults=self.faults, spec=spec)) as machine:
            yield machine

    @contextmanager
    def restore(self, saved: FakeGuest, directory: Path) -> Iterator[FakeGuest]:
        with self._held(copy(saved)) as machine:
            machine.clone_id = f"{self.started:032x}"
            yield machine

    @contextmanager
    def _held(self, machine: FakeGuest) -> Iterator[FakeGuest]:
        self.running += 1
        self.started += 1
        machine.commands = self.commands
        try:
            yield machine
        finally:
            self.running -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    name: str = "debian-6.12"
    tier: str = "tcg"


def image(directory: Path) -> ContainerImage:
    """An archive that has the files which the containers run."""
    layer = image_files.tar([member(path.removeprefix("/"), what=content) for path, content in FILES.items()])
    archive = image_files.write_tar(directory / "tools.oci.tar", image_files.oci([layer]))
    return ContainerImage(
        name="tools", archive=archive, digest="sha256:" + "cd" * 32, reference="tools", config=cast("Any", None)
    )


SPEC = _Spec()


def ready(machine: FakeGuest) -> Ready:
    machine.spec = SPEC
    return Ready(machine=cast("Machine", machine), ak=AK)


def as_lab(lab: FakeLab) -> Lab:
    return cast("Lab", lab)

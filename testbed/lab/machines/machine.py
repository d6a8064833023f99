"""A running machine: what is known of it, where its files are, and how it is saved."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from testbed.errors import LabError
from testbed.lab.machines import save, ssh, swtpm
from testbed.lab.machines.domain import MachineSpec, Wiring
from testbed.lab.machines.hypervisor import libvirt
from testbed.lab.machines.save import Notes, Saved

_SWTPM_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlace:
    """Where one machine works: its texts stay in ``directory``, ``live`` goes away with it."""

    directory: Path
    live: Path
    socket: Path
    uuid: str

    @property
    def disk(self) -> Path:
        return self.live / "disk.qcow2"

    @property
    def tpm_state(self) -> Path:
        return self.live / "tpm"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    def wiring(self, port: int) -> Wiring:
        return Wiring(
            domain=self.live.name,
            uuid=self.uuid,
            disk=self.disk,
            console=self.console,
            tpm_socket=self.socket,
            port=port,
        )


@dataclass(slots=True, kw_only=True)
class Machine:
    """A running machine.

    ``ready_seconds``: host time from its start to the first answered command; ``boot_seconds``: the same of the boot
    that a clone descends from. ``clone_id``: 32 hex digits that no other machine has, also in
    ``/run/testbed/clone-id``. ``port`` of 127.0.0.1 leads to its sshd, ``private_key`` opens it. ``tpm``: who certified
    its TPM. ``console`` and ``domain_xml`` are files.
    """

    spec: MachineSpec
    guest: ssh.SshGuest
    fate: ssh.Fate
    tpm: swtpm.CertificateAuthority
    console: Path
    domain_xml: Path
    clone_id: str
    ready_seconds: float
    boot_seconds: float
    port: int
    private_key: str = field(repr=False)
    _place: MachinePlace = field(repr=False)
    _domain: libvirt.virDomain = field(repr=False)
    _emulator: subprocess.Popen[bytes] | None = field(repr=False)
    _versions: dict[str, int]

    def save(self, to: Path) -> Saved:
        """Save the machine at ``to``, which ends it. Raises ``LabError`` if ``to`` exists or libvirt refuses."""
        if to.exists():
            raise LabError(f"cannot save {self.spec.name}: {to} exists")
        notes = Notes(
            schema=save.SCHEMA,
            spec=self.spec,
            host_key=self.guest.host_key,
            versions=self._versions,
            authority=self.tpm.directory,
            boot_seconds=self.boot_seconds,
        )
        return save.write_saved(to, notes, self.private_key, self._freeze)

    def _freeze(self, target: Path) -> None:
        try:
            self._domain.save(str(target / "memory"))
        except libvirt.libvirtError as error:
            raise LabError(f"libvirt cannot save {self.spec.name}: {error}") from error
        shutil.move(self._place.disk, target / "disk.qcow2")
        if self._emulator:
            # The TPM's process leaves with QEMU's connection; only then is its state whole.
            self._emulator.wait(_SWTPM_SECONDS)
            swtpm.copy_state(self._place.tpm_state, target / "tpm")

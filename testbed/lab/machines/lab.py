"""Where machines are booted and restored. Each is a context manager; only the machine's text files stay on disk."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import shell
from testbed.errors import LabError
from testbed.lab.machines import console, hypervisor, reap, save, ssh, swtpm
from testbed.lab.machines.domain import MachineSpec, Wiring, command_line, domain_xml, rewire
from testbed.lab.machines.hypervisor import libvirt
from testbed.lab.machines.machine import Machine, MachinePlace
from testbed.lab.machines.save import Saved
from testbed.record import Tier

log = logging.getLogger(__name__)

BOOT_SECONDS = 600.0  # 35 s alone on a host, 200 s when emulated beside as many others as it has processors
RESTORE_SECONDS = 120.0
_PORT_TRIES = 5
_PORT_TAKEN = "Could not set up host forwarding rule"  # QEMU's words

# How a machine ended, by the detail of libvirt's event (virDomainEventStoppedDetailType).
_ENDS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shut down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "ended",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "was saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "failed (QEMU ended)",
}

# Names the clone, then mixes the host's randomness in. What is written to /dev/urandom is mixed into the pool;
# RNDRESEEDCRNG (0x5207, linux/random.h) makes the next random number depend on it. perl is essential in Debian.
_GREET = """
set -e
mkdir -p /run/testbed
printf %s "$1" >/run/testbed/clone-id
cat >/dev/urandom
perl -e 'open(my $r, ">", "/dev/urandom") or die; ioctl($r, 0x5207, 0) or die "RNDRESEEDCRNG: $!"'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """How a machine comes to run. ``prepare`` fills its place, ``run`` has libvirt start it; both can be repeated."""

    spec: MachineSpec
    place: MachinePlace
    key: str
    host_key: str | None = None
    boot_seconds: float | None = None
    timeout: float
    prepare: Callable[[], None]
    run: Callable[[Wiring], object]


class Lab:
    """Where machines are started: a connection to libvirt. Its methods may be called from several threads."""

    def __init__(self, connection: libvirt.virConnect, sockets: Path, authority: swtpm.CertificateAuthority) -> None:
        self._connection = connection
        self._sockets = sockets
        self._authority = authority
        self._fates: dict[str, ssh.Fate] = {}
        self.versions = {"libvirt": connection.getLibVersion(), "qemu": connection.getVersion()}

    @contextmanager
    def boot(self, spec: MachineSpec, directory: Path, *, timeout: float = BOOT_SECONDS) -> Iterator[Machine]:
        """Hold a freshly booted machine; ``directory`` keeps its ``console.log`` and ``domain.xml``.

        Raises ``LostMachine``, ``DeadlineExceeded`` after ``timeout`` seconds without an answer, ``LabError``.
        """
        private, public = ssh.new_key()
        with self._place(directory) as place:

            def prepare() -> None:
                if spec.tpm:
                    swtpm.manufacture(place.tpm_state, self._authority, spec.name, spec.pcr_banks)
                _make_overlay(spec.image.disk, "raw", place.disk)

            def run(wiring: Wiring) -> None:
                xml = domain_xml(spec, wiring, command_line(spec, public))
                (place.directory / "domain.xml").write_text(xml, encoding="utf-8")
                self._connection.createXML(xml)

            start = _Start(spec=spec, place=place, key=private, timeout=timeout, prepare=prepare, run=run)
            with self._running(start) as machine:
                yield machine

    @contextmanager
    def restore(self, saved: Saved, directory: Path, *, timeout: float = RESTORE_SECONDS) -> Iterator[Machine]:
        """Hold a clone of a saved machine: same memory, disk, TPM and clock; own ``clone_id`` and random numbers.

        The guest's clock goes on from the save, in every tier: setting it would fire timers and make clones differ.
        Raises as ``boot`` does, and ``LabError`` if the emulator is another one than at the save.
        """
        if saved.notes.versions != self.versions:
            raise LabError(
                f"{saved.directory}: saved by {saved.notes.versions}, this host has {self.versions}",
                f"remove {saved.directory}; it will be made again",
            )
        xml = save.read_xml(saved.memory)
        with self._place(directory) as place:
            memory = place.live / "memory"

            def prepare() -> None:
                if saved.spec.tpm:
                    swtpm.copy_state(saved.tpm_state, place.tpm_state)
                _make_overlay(saved.disk, "qcow2", place.disk)

            def run(wiring: Wiring) -> None:
                rewired = rewire(xml, wiring)
                (place.directory / "domain.xml").write_text(rewired, encoding="utf-8")
                save.copy_with_xml(saved.memory, memory, rewired)
                self._connection.restore(str(memory))
                memory.unlink()

            start = _Start(
                spec=saved.spec,
                place=place,
                key=saved.private_key,
                host_key=saved.notes.host_key,
                boot_seconds=saved.notes.boot_seconds,
                timeout=timeout,
                prepare=prepare,
                run=run,
            )
            with self._running(start) as machine:
                yield machine

    def destroy_all(self) -> None:
        """End every machine at once; all code that waits for one gets ``LostMachine``."""
        for name in list(self._fates):
            self._destroy(name)

    def on_event(self, domain: str, reason: str) -> None:
        """Note that a machine (its UUID) ended; called from libvirt's event thread."""
        fate = self._fates.get(domain)
        if fate:
            fate.end(reason)

    @contextmanager
    def _place(self, directory: Path) -> Iterator[MachinePlace]:
        name = reap.private_name()
        domain = str(uuid.uuid4())
        control = self._sockets / name
        with reap.holding(directory.absolute() / name, uri=self._connection.getURI(), domain=domain) as live:
            yield MachinePlace(directory=directory.absolute(), live=live, socket=control, uuid=domain)

    @contextmanager
    def _running(self, start: _Start) -> Iterator[Machine]:
        place = start.place
        fate = self._fates[place.uuid] = ssh.Fate()
        place.console.touch()
        begun = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._fates.pop, place.uuid)
            emulator, port = self._start(stack, start)
            guest = ssh.connect(
                port,
                start.key,
                fate,
                lambda: console.last_words(place.console),
                timeout=start.timeout,
                host_key=start.host_key,
            )
            stack.callback(guest.close)
            ready = time.monotonic() - begun
            clone_id = secrets.token_hex(16)
            guest.run(["sh", "-c", _GREET, "greet", clone_id], input=secrets.token_bytes(32))
            yield Machine(
                spec=start.spec,
                guest=guest,
                fate=fate,
                tpm=self._authority,
                console=place.console,
                domain_xml=place.directory / "domain.xml",
                clone_id=clone_id,
                ready_seconds=ready,
                boot_seconds=start.boot_seconds or ready,
                _place=place,
                _domain=self._connection.lookupByUUIDString(place.uuid),
                _emulator=emulator,
                port=port,
                private_key=start.key,
                _versions=self.versions,
            )

    def _start(self, stack: ExitStack, start: _Start) -> tuple[subprocess.Popen[bytes] | None, int]:
        # A port that is free now may be taken when QEMU binds it. Then everything starts again, because the TPM's
        # process ends with the QEMU that failed.
        place = start.place
        for attempt in range(_PORT_TRIES):
            start.prepare()
            port = _free_port()
            with ExitStack() as once:
                emulator = once.enter_context(_emulator(start.spec, place))
                once.callback(self._destroy, place.uuid)
                try:
                    start.run(place.wiring(port))
                except libvirt.libvirtError as error:
                    if _PORT_TAKEN in str(error) and attempt + 1 < _PORT_TRIES:
                        log.info("another program took port %d: trying another port", port)
                        continue
                    message = f"{start.spec.name}: libvirt cannot start it: {error}"
                    raise LabError(message, _hint(start.spec.tier)) from error
                stack.push(once.pop_all())
                return emulator, port
        raise AssertionError

    def _destroy(self, domain: str) -> None:
        # By its id, so that a machine is also found when we were interrupted while it started.
        with suppress(libvirt.libvirtError):
            self._connection.lookupByUUIDString(domain).destroy()


@contextmanager
def open_lab(uri: str | None = None) -> Iterator[Lab]:
    """Hold a lab at a libvirt URI; ``None`` is the embedded driver. What killed processes left is cleaned up first.

    Raises ``HostError`` if libvirt cannot be reached.
    """
    for line in reap.collect(hypervisor.destroy):
        log.warning("%s", line)
    with (
        hypervisor.connection(uri) as connection,
        reap.holding(hypervisor.short_directory() / reap.private_name()) as own,
    ):
        lab = Lab(connection, own, swtpm.CertificateAuthority(directory=reap.state_directory() / "tpm-ca"))

        def note(_connection: Any, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any) -> None:
            if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
                lab.on_event(domain.UUIDString(), _ENDS.get(detail, f"stopped ({detail})"))

        number = connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, note, None)
        try:
            yield lab
        finally:
            lab.destroy_all()
            connection.domainEventDeregisterAny(number)


def _emulator(spec: MachineSpec, place: MachinePlace) -> AbstractContextManager[subprocess.Popen[bytes] | None]:
    return swtpm.emulator(place.tpm_state, place.socket, place.live / "swtpm.log") if spec.tpm else nullcontext()


def _make_overlay(base: Path, form: str, overlay: Path) -> None:
    overlay.unlink(missing_ok=True)
    shell.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", form, overlay], timeout=60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _hint(tier: Tier) -> str:
    return "`testbed doctor` shows what this host can run" if tier is Tier.KVM else ""

"""A machine as values: its shape (``MachineSpec``), its connections on this host, and the XML for libvirt.

Everything here is pure. Differences between tiers are rows of ``TIERS``, not branches.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from testbed.errors import SpecError
from testbed.lab.build.image import GuestDisk
from testbed.lab.build.kernel import Kernel
from testbed.record import Tier

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
CPU = "Haswell-noTSX"
"""One named model for every emulated machine. Counts of instructions depend on it, so it is a checked fact.

It is the newest with AVX2 that QEMU's TCG emulates since 7.2, except for the masked features (``_NOT_EMULATED``).
"""

HOST_CPU = "host"
"""Instead of a model's name, under KVM only: the processor of this host."""

# TCG of QEMU 7.2 warns about the first four, later ones emulate some of them: when they are masked, a guest sees the
# same features on all versions. cx16: TCG of 7.2 clobbers flags in CMPXCHG16B when there is more than one processor,
# and Linux 6.12 double-faults in kmem_cache_alloc. It is masked with one processor too, so that all emulated machines
# are alike.
_NOT_EMULATED = ("pcid", "x2apic", "tsc-deadline", "invpcid", "cx16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRow:
    """A tier in the domain's XML: libvirt's type, masked features, additional words for QEMU and for the kernel."""

    virt: str
    masked: tuple[str, ...] = ()
    qemu: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()


# TCG does not speculate. On an emulated Haswell the guest would work around the bugs of the real one (page tables
# switched at each entry, retpolines). That takes a fifth of the host's time, and is counted as a cost of each system
# call.
_NO_WORKAROUNDS = ("mitigations=off",)

# Interrupt handlers and RCU callbacks (which free what an ended container leaves) run on top of the current task. These
# kernels do not count interrupt time separately, so it counts as that task's time. Equal starts differed by 0.15 %;
# starts that read a disk differed by 0.16 %, because a block arrives before or after the task sleeps. In threads of
# their own, handlers and callbacks are not counted as the task's (docs/machines.md).
_INTERRUPTS_APART = ("rcu_nocbs=all", "threadirqs")

# In Debian's kernels a task that should be preempted continues in the kernel until it yields. What it does until then
# is charged to the next task (docs/machines.md): one start in thirty was 2 % too cheap. With immediate preemption,
# equal starts of Python differ by 0.003 %; before, they differed by up to 0.14 %.
_PREEMPTED = ("preempt=full",)

# A huge page is cleared byte by byte: 4.3 million instructions, as many as a small program, at each start of a program
# whose allocator wants 2 MiB (jemalloc); and whether one is free depends on what ran before.
_SMALL_PAGES = ("transparent_hugepage=never",)

# The start of a process, a cgroup or a network allocates per-processor memory, and the kernel searches for it block by
# block. By default a chunk has 2 MiB, 512 blocks (mm/percpu.c). The number of blocks that the search passes depends on
# the holes that others left: of 60 clones a quarter always needed 1.2 % less for a start. With chunks of pages, the
# smallest possible, the same clones differ by 0.07 % (standard deviation).
_SMALL_CHUNKS = ("percpu_alloc=page",)

# For one processor slabs are small, eight objects of some kinds (mm/slub.c). A loop that allocates and frees objects
# may cross the end of a slab each time, which takes the slow path, or never: of equal loops of fork and exec a fifth
# needed 0.2 % more, throughout their lifetime. With slabs of eight pages they differ by 0.02 %.
_LARGE_SLABS = ("slub_min_order=3",)

# With "fast strings" the kernel clears and copies by `rep stosb` and `rep movsb`, which QEMU emulates and counts byte
# by byte: 4,096 instructions per page, where a processor that has them needs some hundred cycles. Without them the
# kernel copies eight bytes at a time. A full slab allocates pages, which are cleared, and whether a slab is full
# differs between clones: eight starts of a container differed by 0.33 % (standard deviation), without fast strings by
# 0.13 %.
_BYTE_BY_BYTE = ("erms",)

TIERS = {
    Tier.KVM: TierRow(virt="kvm"),
    Tier.TCG: TierRow(virt="qemu", masked=_NOT_EMULATED, kernel=_NO_WORKAROUNDS),
    # shift=0: one instruction is one nanosecond of the guest's clock. sleep=on: an idle guest waits in real time,
    # otherwise its timers would run ahead of the network and of the lab.
    Tier.ICOUNT: TierRow(
        virt="qemu",
        masked=(*_NOT_EMULATED, *_BYTE_BY_BYTE),
        qemu=("-icount", "shift=0,sleep=on"),
        kernel=(*_NO_WORKAROUNDS, *_INTERRUPTS_APART, *_PREEMPTED, *_SMALL_PAGES, *_SMALL_CHUNKS, *_LARGE_SLABS),
    ),
}

# The kernel words of every guest. `panic=-1 oops=panic`: a splat ends the machine at once, and libvirt reports that.
# `loglevel=5` keeps warnings on the console and drops the other messages of the boot, which a serial port under TCG
# prints slowly.
_KERNEL_WORDS = (
    "root=/dev/vda",
    "rw",
    "console=ttyS0",
    "ima_template=ima-ng",
    "loglevel=5",
    "panic=-1",
    "oops=panic",
    "systemd.show_status=0",
    "systemd.ssh_auto=no",
    "net.ifnames=0",
)
_CREDENTIAL = "systemd.set_credential_binary="


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What to boot. ``cpu``: a model's name, or ``HOST_CPU``; ``kernel_words``: added to the kernel's command line.

    ``unmasked``: features of the model that this machine has although its tier masks them. ``store``: a raw disk with
    container images (``lab.build.store``), which the machine only reads; other machines read it at the same time.
    ``pcr_banks``: the active banks of its TPM; without ``tpm`` it has no TPM, and IMA extends nothing.
    ``tuned``: whether its kernel has the words and settings of its tier (``spec.Shape.command_line``).
    """

    name: str
    kernel: Kernel
    image: GuestDisk
    tier: Tier
    vcpus: int = 1
    memory_mib: int = 1024
    cpu: str = CPU
    unmasked: tuple[str, ...] = ()
    kernel_words: tuple[str, ...] = ()
    store: Path | None = None
    pcr_banks: tuple[str, ...] = ("sha256",)
    tpm: bool = True
    tuned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """One machine's files, sockets and port on this host. ``port`` of 127.0.0.1 leads to the guest's sshd."""

    domain: str
    uuid: str
    disk: Path
    console: Path
    tpm_socket: Path
    port: int


def masked(spec: MachineSpec) -> tuple[str, ...]:
    """Return the model's features that the machine's processor does not have; they change counts of instructions."""
    return tuple(feature for feature in TIERS[spec.tier].masked if feature not in spec.unmasked)


def check_words(words: Sequence[str], tier: Tier | None = None, *, tuned: bool = True) -> None:
    """Raise ``SpecError`` for a user's word that sets what the testbed sets on the kernel's command line.

    ``tier``: if it is known yet, the words of the tier count too, for a machine that is ``tuned``.

    Of two words with one key the kernel uses the last one, so the machine would not have the settings of its tier.
    """
    of_tier = TIERS[tier].kernel if tier and tuned else ()
    ours = {_word_key(word): word for word in (*_KERNEL_WORDS, *of_tier, f"{_CREDENTIAL}...")}
    for word in words:
        if (key := _word_key(word)) in ours:
            message = f"key 'kernel_args': {word!r}: the testbed sets this word itself: {ours[key]}"
            raise SpecError(message, "leave it out; docs/images.md and docs/machines.md list the testbed's words")


def _word_key(word: str) -> str:
    """Return what a word sets: the kernel treats `-` and `_` alike; ``ro`` and ``rw`` are values of one switch."""
    key = word.partition("=")[0].replace("-", "_")
    return "rw" if key == "ro" else key


def command_line(spec: MachineSpec, public_key: str) -> str:
    """Return the kernel's command line; the guest's root accepts ``public_key`` (one line of OpenSSH format)."""
    credential = base64.b64encode(public_key.encode()).decode()
    return " ".join(
        (
            *_KERNEL_WORDS,
            *(TIERS[spec.tier].kernel if spec.tuned else ()),
            *spec.kernel_words,
            f"{_CREDENTIAL}ssh.authorized_keys.root:{credential}",
        )
    )


def domain_xml(spec: MachineSpec, wiring: Wiring, kernel_command_line: str) -> str:
    """Return libvirt's XML of the machine."""
    row = TIERS[spec.tier]
    domain = etree.Element("domain", {"type": row.virt}, nsmap={"qemu": QEMU_NAMESPACE})
    _add(domain, "name", text=wiring.domain)
    _add(domain, "uuid", text=wiring.uuid)
    _add(domain, "memory", text=str(spec.memory_mib), unit="MiB")
    _add(domain, "vcpu", text=str(spec.vcpus))
    _add_boot(domain, spec, kernel_command_line)
    _add_cpu(domain, spec)
    _add(domain, "clock", offset="utc")
    # A guest that stops for any reason ends its machine, and libvirt reports that as an event.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _add(domain, event, text="destroy")
    _add_devices(domain, wiring, spec)
    _add_qemu_words(domain, (*network_words(wiring.port), *row.qemu))
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def network_words(port: int) -> tuple[str, ...]:
    """Return QEMU's words for a user-mode network; libvirt's own port forwarding needs passt, which is newer."""
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:22"
    return ("-netdev", f"user,id=n0,{forward}", "-device", "virtio-net-pci,netdev=n0,addr=0x10,mac=52:54:00:74:62:01")


def rewire(xml: str, wiring: Wiring) -> str:
    """Return the XML of a saved machine for a clone of it: the same machine with its own files, sockets and port.

    libvirt identifies a machine by name and UUID, so each clone has its own: two can run at the same time.
    """
    domain = etree.fromstring(xml)
    _find(domain, "name").text = wiring.domain
    _find(domain, "uuid").text = wiring.uuid
    _find(domain, "devices/disk/source").set("file", str(wiring.disk))
    for device in ("serial", "console"):
        for source in domain.iterfind(f"devices/{device}/source"):
            source.set("path", str(wiring.console))
    for source in domain.iterfind("devices/tpm/backend/source"):
        source.set("path", str(wiring.tpm_socket))
    for word in domain.iterfind(f"{{{QEMU_NAMESPACE}}}commandline/{{{QEMU_NAMESPACE}}}arg"):
        if word.get("value", "").startswith("user,"):
            word.set("value", network_words(wiring.port)[1])
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def _add_boot(domain: etree._Element, spec: MachineSpec, kernel_command_line: str) -> None:
    os = _add(domain, "os")
    _add(os, "type", text="hvm", arch="x86_64", machine="q35")
    _add(os, "kernel", text=str(spec.kernel.vmlinuz))
    _add(os, "initrd", text=str(spec.kernel.initrd))
    _add(os, "cmdline", text=kernel_command_line)
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")


def _add_cpu(domain: etree._Element, spec: MachineSpec) -> None:
    if spec.cpu == HOST_CPU:
        _add(domain, "cpu", mode="host-passthrough")
        return
    # check=none: otherwise libvirt compares the model with the host's processor, which does not matter for an emulated
    # one.
    check = "full" if spec.tier is Tier.KVM else "none"
    cpu = _add(domain, "cpu", mode="custom", match="exact", check=check)
    _add(cpu, "model", text=spec.cpu, fallback="forbid")
    for feature in masked(spec):
        _add(cpu, "feature", policy="disable", name=feature)


def _add_devices(domain: etree._Element, wiring: Wiring, spec: MachineSpec) -> None:
    devices = _add(domain, "devices")
    disk = _add(devices, "disk", type="file", device="disk")
    # cache=unsafe: the disk of a machine is not needed after its host died, and flushes would measure the host's disk.
    _add(disk, "driver", name="qemu", type="qcow2", cache="unsafe", discard="unmap")
    _add(disk, "source", file=str(wiring.disk))
    _add(disk, "target", dev="vda", bus="virtio")
    if spec.store:
        images = _add(devices, "disk", type="file", device="disk")
        _add(images, "driver", name="qemu", type="raw")
        _add(images, "source", file=str(spec.store))
        _add(images, "target", dev="vdb", bus="virtio")
        _add(images, "readonly")
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=str(wiring.console), append="on")
    if spec.tpm:
        tpm = _add(devices, "tpm", model="tpm-crb")
        backend = _add(tpm, "backend", type="external")
        _add(backend, "source", type="unix", path=str(wiring.tpm_socket), mode="connect")
    rng = _add(devices, "rng", model="virtio")
    _add(rng, "backend", text="/dev/urandom", model="random")
    _add(devices, "memballoon", model="none")
    _add(devices, "controller", type="usb", model="none")


def _add_qemu_words(domain: etree._Element, words: tuple[str, ...]) -> None:
    line = etree.SubElement(domain, f"{{{QEMU_NAMESPACE}}}commandline")
    for word in words:
        etree.SubElement(line, f"{{{QEMU_NAMESPACE}}}arg", {"value": word})


def _add(parent: etree._Element, tag: str, *, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _find(domain: etree._Element, path: str) -> etree._Element:
    element = domain.find(path)
    if element is None:
        raise ValueError(f"no <{path}> in this domain")
    return element

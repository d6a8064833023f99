"""One block's machine: boot it without an IMA policy, copy everything into it, enrol its AK, save it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import plugins, rundir
from testbed.guest import Guest
from testbed.lab import attestation, facts, iterate
from testbed.lab.build import store
from testbed.lab.build.image import ContainerImage
from testbed.lab.build.measurer import MeasurerBundle, Products
from testbed.lab.machines.domain import MachineSpec
from testbed.lab.machines.save import Saved
from testbed.measurers import DEPLOYED, PINS, Measurer
from testbed.plan import Block, Cell
from testbed.record import Tier

if TYPE_CHECKING:  # these import libvirt, which a desk does not have
    from testbed.lab.machines.lab import Lab
    from testbed.lab.machines.machine import Machine

_LOAD_SECONDS = 300.0
_ARCHIVE = "/var/tmp/image.oci.tar"  # noqa: S108 - in the guest, where nobody else is

# Where the clock counts instructions, the tick that ends a task's slice falls at another instruction in each arm. Which
# task runs next decides which pages a fork copies: of 140 processes, 0.07 % instead of 0.03 %. EEVDF (6.6 and later)
# has one name for the length of a slice, its predecessor had two.
_SLICE_NS = 100_000_000
_LONG_SLICES = f"""
mount -t debugfs debugfs /sys/kernel/debug
for name in base_slice_ns latency_ns min_granularity_ns; do
    if [ -e /sys/kernel/debug/sched/$name ]; then echo {_SLICE_NS} >/sys/kernel/debug/sched/$name; fi
done
umount /sys/kernel/debug
"""

# The kernel (6.7 and later, mm/page_alloc.c) adjusts how many free pages a processor keeps for itself, once a second
# and as they are asked for, and moves up to 2,016 of them at once: 425,000 instructions of the task that allocates at
# that moment, in one of ten runs. With a fixed share of the memory it does not adjust; an eighth, the largest value
# that it accepts, is so much that no page is moved,
_FREE_SHARE = 8
# unless slabs are freed one after the other: then it gives back as many, whatever the share. So empty slabs are kept.
_SLABS_KEPT = 10_000
_KEEP_SLABS = f"""
for file in /sys/kernel/slab/*/min_partial; do echo {_SLABS_KEPT} >$file; done
"""

# With programs that measure nothing a start was 0.9 % cheaper than in the baseline, and the kernel's slabs grew less:
# loading programs seems to leave slabs behind that the next container takes. So every machine loaded them once, and
# removed them. A kernel that refuses them has nothing to leave behind. Programs hold the module until RCU freed them.
_LOADED_ONCE = f"""
insmod {DEPLOYED}/testbed_measurer.ko 2>/dev/null || exit 0
{DEPLOYED}/measurer attach --mode hooks --pin {PINS} 2>/dev/null && {DEPLOYED}/measurer detach --pin {PINS}
for again in $(seq 100); do rmmod testbed_measurer 2>/dev/null && exit 0; sleep 0.1; done
rmmod testbed_measurer
"""

_COUNTED, _TIMED = frozenset({Tier.ICOUNT}), frozenset({Tier.ICOUNT, Tier.KVM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting that the lab applies in a guest before the save. ``value``: as in a record; ``argv`` applies it.

    ``tunes``: it changes how the kernel works, so only a tuned machine has it.
    """

    name: str
    value: str
    argv: tuple[str, ...]
    tiers: frozenset[Tier] = frozenset(Tier)
    tunes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one kernel's blocks. ``products``: of each foreign measurer, by its name.

    ``rebuilt``: the same machine with its disks laid out otherwise, for the builds after the first.
    """

    machine: MachineSpec
    bundle: MeasurerBundle
    images: tuple[ContainerImage, ...]
    products: Mapping[str, Products] = field(default_factory=dict)
    rebuilt: tuple[MachineSpec, ...] = ()

    @property
    def machines(self) -> tuple[MachineSpec, ...]:
        """The machine of each build."""
        return self.machine, *self.rebuilt

    def of(self, build: int) -> Parts:
        """Return the parts for the blocks of one build."""
        return replace(self, machine=self.machines[build], rebuilt=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A running machine with everything in it, and the attestation key that it was enrolled with."""

    machine: Machine
    ak: bytes


def source_digest() -> str:
    """Return SHA-256 over this module: settings before the save can change what is measured."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def prepare(lab: Lab, parts: Parts, block: Block, saved_at: Path, campaign: rundir.Campaign) -> Saved:
    """Boot a block's machine, copy everything into it and save it; its facts and its AK go into the campaign.

    Raises ``LostMachine`` and ``DeadlineExceeded`` for a boot that failed, ``DeployError`` for what the guest rejected.
    """
    directory = campaign.block_path(block)
    rundir.retire(directory)
    directory.mkdir(parents=True)
    with boot(lab, parts, block.cells, directory) as ready:
        machine, guest = ready.machine, ready.machine.guest
        (directory / "ak.pub").write_bytes(ready.ak)
        known = facts.guest(guest) | {"boot_seconds": machine.boot_seconds}
        saved = machine.save(saved_at)
    rundir.write_json(directory / "facts.json", known)
    return saved


@contextmanager
def boot(lab: Lab, parts: Parts, cells: Sequence[Cell], directory: Path) -> Iterator[Ready]:
    """Hold a machine that was booted and has all that these cells need. Raises as ``prepare`` does."""
    with lab.boot(parts.machine, directory) as machine:
        guest = machine.guest
        if parts.machine.store:
            for words in store.mount_words():
                guest.run(words)
        for runtime, name in sorted({(cell.runtime, plugins.workload(cell.workload).image) for cell in cells}):
            if not (parts.machine.store and plugins.runtime(runtime).unpacked):
                load(guest, runtime, next(image for image in parts.images if image.name == name))
        deploy(guest, parts.bundle)
        ak = attestation.enrol(guest, machine.tpm)
        hold_still(guest, parts.machine)
        yield Ready(machine=machine, ak=ak)


@contextmanager
def restore(lab: Lab, saved: Saved, ak: bytes, directory: Path) -> Iterator[Ready]:
    """Hold a clone of a block's saved machine. Raises as ``Lab.restore`` does."""
    with lab.restore(saved, directory) as machine:
        yield Ready(machine=machine, ak=ak)


def hold_still(guest: Guest, machine: MachineSpec) -> None:
    """Set in a guest what must be set before it is saved."""
    for setting in settings(machine):
        guest.run(setting.argv)


def settings(machine: MachineSpec) -> tuple[Setting, ...]:
    """Return the settings of this machine before the save, in this order."""
    every = _every_setting(machine.memory_mib)
    return tuple(one for one in every if machine.tier in one.tiers and (machine.tuned or not one.tunes))


def _every_setting(memory_mib: int) -> tuple[Setting, ...]:
    """Return the table of settings: they keep the kernel from doing deferred work at another moment in each clone.

    It is both applied (``boot``) and recorded (``MadeBy.settings``).
    """
    given_back = memory_mib // _FREE_SHARE
    return (
        _tuned("slice of a task", f"{_SLICE_NS} ns", "sh", "-ec", _LONG_SLICES),
        _sysctl("vm.percpu_pagelist_high_fraction", _FREE_SHARE),
        _tuned("empty slabs kept", f"{_SLABS_KEPT}", "sh", "-ec", _KEEP_SLABS),
        # A process keeps eight pages for what it sends, and frees them all together when it ends: with the same effect
        # as slabs (0.3 % of nginx). So it keeps single pages.
        _sysctl("net.core.high_order_alloc_disable", 1),
        # The processor keeps the pages that are given back.
        _tuned("memory used and given back", f"{given_back} MiB", "python3", "-c", f"bytearray({given_back} << 20)"),
        Setting(name="programs", value="loaded and removed", argv=("sh", "-c", _LOADED_ONCE), tiers=_TIMED),
        # Pending and dirty data at the save would be written at another moment in each arm.
        Setting(name="udev events", value="handled", argv=("udevadm", "settle")),
        Setting(name="file systems", value="written to disk", argv=("sync",)),
    )


def _tuned(name: str, value: str, *argv: str) -> Setting:
    """Return a setting that a tuned machine has whose instructions are counted."""
    return Setting(name=name, value=value, argv=argv, tiers=_COUNTED, tunes=True)


def _sysctl(name: str, value: int) -> Setting:
    return _tuned(name, f"{value}", "sysctl", "-qw", f"{name}={value}")


def deploy(guest: Guest, bundle: MeasurerBundle) -> None:
    """Copy the measurer's parts and the workload driver into the guest."""
    guest.put(bundle.module.read_bytes(), f"{DEPLOYED}/testbed_measurer.ko")
    guest.put(bundle.loader.read_bytes(), f"{DEPLOYED}/measurer", mode=0o755)
    iterate.deploy(guest)


def deploy_products(guest: Guest, measurer: Measurer, products: Products) -> None:
    """Copy the products of a foreign measurer into the guest: only into the machines that run it."""
    for path in products.files:
        guest.put(path.read_bytes(), f"{measurer.deployed}/{path.name}", mode=path.stat().st_mode & 0o777)


def reference(image: ContainerImage) -> str:
    """Return the name that identifies exactly this image in a runtime's store."""
    return f"{image.reference}@{image.digest}"


def load(guest: Guest, runtime: str, image: ContainerImage) -> None:
    """Load an image into a runtime's store."""
    guest.put(image.archive.read_bytes(), _ARCHIVE)
    guest.run((*plugins.runtime(runtime).load, _ARCHIVE), timeout=_LOAD_SECONDS)
    guest.run(("rm", _ARCHIVE))

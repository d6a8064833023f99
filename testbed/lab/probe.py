"""What this host can do: each capability is tried, not derived from files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from testbed import progress, shell
from testbed.errors import DeadlineExceeded, HostError, TestbedError, host_error
from testbed.files import write_plain
from testbed.lab import facts, places
from testbed.lab.build import cache, kernel
from testbed.lab.machines import reap
from testbed.record import Tier

KVM = Path("/dev/kvm")
_KVM_SECONDS = 25
_DISK_GIB = 12
_MEMORY_MIB = 3072
# A kernel without a root file system gets to the end of its own start, says this, and with panic=-1 ends its QEMU.
_KERNEL_STARTED = "VFS: Unable to mount root fs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One thing that was looked for. ``needed``: nothing runs without it; ``remedy``: the command that installs it."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that must be there, and Debian's package that has it."""

    name: str
    package: str
    version: tuple[str, ...] = ("--version",)


_PROGRAMS = (
    Program(name="qemu-system-x86_64", package="qemu-system-x86"),
    Program(name="qemu-img", package="qemu-utils"),
    Program(name="swtpm", package="swtpm"),
    Program(name="swtpm_setup", package="swtpm-tools"),
    Program(name="swtpm_localca", package="swtpm-tools"),
    Program(name="mmdebstrap", package="mmdebstrap"),
    Program(name="bwrap", package="bubblewrap"),
    Program(name="mke2fs", package="e2fsprogs", version=("-V",)),
    Program(name="setpriv", package="util-linux"),
)


def capabilities(*, needed_only: bool = False) -> list[Capability]:
    """Look at everything; some seconds, half a minute the first time in a boot of a host whose KVM hangs.

    ``needed_only``: not at KVM.
    """
    looks: dict[str, Callable[[], Capability]] = {
        **{program.name: partial(_program, program) for program in _PROGRAMS},
        "libvirt": _libvirt,
        "tcg, icount": _emulation,
        "kvm": lambda: kvm(known_kernel()),
        "disk": disk,
        "memory": lambda: memory(Path("/proc/meminfo").read_text(encoding="ascii")),
        "cache": lambda: _directory("cache", places.cache()),
        "state directory": lambda: _directory("state directory", places.state()),
        "temporary files": lambda: _directory("temporary files", places.temporary()),
    }
    chosen = {name: look for name, look in looks.items() if name != "kvm" or not needed_only}
    return [_tried(name, look) for name, look in progress.each(chosen.items(), "looking at this machine")]


def choose_tier(
    requested: str | None, wanted: str = "debian-6.12", say: cache.Progress = cache.silent
) -> tuple[Tier, str]:
    """Return the tier to run in and why. ``None`` or ``auto``: KVM if it runs a kernel, else counted instructions.

    If KVM must be tried and no kernel is built yet, ``wanted`` is built: the run needs it anyway. Raises
    ``HostError`` if KVM is requested and does not work.
    """
    if requested in {Tier.ICOUNT, Tier.TCG}:
        return Tier(requested), "as requested"
    image = known_kernel()
    if image is None and os.access(KVM, os.R_OK | os.W_OK):
        image = kernel.build_kernel(kernel.load_kernels()[wanted], say).vmlinuz
    tried = kvm(image)
    if tried.ok:
        return Tier.KVM, tried.found
    if requested == Tier.KVM:
        raise HostError(f"KVM: {tried.found}", tried.remedy or "`--tier icount` counts instructions instead")
    return Tier.ICOUNT, f"KVM: {tried.found}; counting instructions instead of time"


def known_kernel() -> Path | None:
    """Return a stock kernel that exists here: one of the testbed's from the cache, otherwise the host's own."""
    built: list[Path] = []
    with suppress(HostError):  # an installed package has no recipes
        ours = (kernel.cached_kernel(recipe) for recipe in kernel.load_kernels().values())
        built = [cached.vmlinuz for cached in ours if cached]
    hosts = [path for path in sorted(Path("/boot").glob("vmlinuz*")) if os.access(path, os.R_OK)]
    return next(iter(built + hosts), None)


def kvm(image: Path | None) -> Capability:
    """Return whether KVM runs a stock kernel; remembered until the host boots again or QEMU changes."""
    if not KVM.exists():
        return _kvm(ok=False, found="no /dev/kvm", remedy="")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return _kvm(
            ok=False,
            found="/dev/kvm cannot be opened: permission denied",
            remedy='sudo usermod -aG kvm "$USER", then log in again',
        )
    if image is None:
        return _kvm(ok=False, found="not tried yet: no kernel is built (the first run builds one)", remedy="")
    notes = reap.state_directory() / "kvm.json"
    asked = [reap.host_boot_id(), facts.emulator().get("qemu_version"), str(image), image.stat().st_mtime_ns]
    known = _remembered(notes, asked)
    if known is None:
        known = boot_kernel(image, ("-accel", "kvm", "-cpu", "host"), _KVM_SECONDS)
        with suppress(OSError):  # then it is tried again the next time
            notes.parent.mkdir(parents=True, exist_ok=True)
            write_plain(notes, json.dumps({"asked": asked, "failure": known}).encode())
    if known:
        return _kvm(ok=False, found=f"unusable: /dev/kvm opens, but a stock kernel {known}", remedy="")
    return _kvm(ok=True, found="runs a stock kernel", remedy="")


def boot_kernel(image: Path, accelerator: tuple[str, ...], seconds: float) -> str:
    """Boot a kernel without a root file system; return how it failed to finish booting, empty if it did not fail."""
    with tempfile.TemporaryDirectory(prefix="testbed-") as place:
        console = Path(place) / "console"
        argv: list[str | Path] = [
            *("qemu-system-x86_64", "-machine", "q35", *accelerator),
            *("-m", "256", "-smp", "1"),
            *("-nodefaults", "-no-reboot", "-display", "none"),
            *("-kernel", image),
            *("-append", "console=ttyS0 panic=-1"),
            *("-serial", f"file:{console}"),
        ]
        try:
            shell.run(argv, timeout=seconds, check=False)
        except DeadlineExceeded:
            ending = f"did not finish booting in {seconds:g} s"
        else:
            ending = "ended before it finished booting"
        said = console.read_text(encoding="utf-8", errors="backslashreplace") if console.exists() else ""
    return "" if _KERNEL_STARTED in said else f"{ending} ({len(said.splitlines())} lines on its console)"


def disk() -> Capability:
    """Return whether the cache's file system has room for kernels, images and saved machines."""
    where = next(path for path in (cache.root(), *cache.root().parents) if path.is_dir())
    free = shutil.disk_usage(where).free >> 30
    ok = free + (_used_gib() if cache.root().is_dir() else 0) >= _DISK_GIB
    remedy = f"free some space, or use another directory: export TESTBED_CACHE=DIRECTORY (needs {_DISK_GIB} GiB)"
    return Capability(name="disk", ok=ok, found=f"{free} GiB free in {where}", remedy="" if ok else remedy)


def memory(meminfo: str) -> Capability:
    """Return whether there is memory for a machine, from the text of ``/proc/meminfo``."""
    words = next((line.split() for line in meminfo.splitlines() if line.startswith("MemAvailable:")), ["", "0"])
    free = int(words[1]) >> 10
    ok = free >= _MEMORY_MIB
    remedy = "" if ok else f"end other programs: a machine and its builds need {_MEMORY_MIB} MiB"
    return Capability(name="memory", ok=ok, found=f"{free} MiB available", remedy=remedy)


def as_json(host: list[Capability]) -> str:
    """Return everything that was found as JSON."""
    return json.dumps({"schema": 1, "capabilities": [asdict(capability) for capability in host]}, indent=1)


def _kvm(*, ok: bool, found: str, remedy: str) -> Capability:
    return Capability(name="kvm", ok=ok, found=found, needed=False, remedy=remedy)


def _remembered(notes: Path, asked: Sequence[object]) -> str | None:
    try:
        remembered = json.loads(notes.read_text(encoding="utf-8"))
        return str(remembered["failure"]) if remembered["asked"] == asked else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _used_gib() -> int:
    return sum(entry.size for entry in cache.entries()) >> 30


def _tried(name: str, look: Callable[[], Capability]) -> Capability:
    """Return what was found; an error there is what was found, and the others are looked at too."""
    try:
        return look()
    except (TestbedError, OSError) as error:
        told = host_error(error) if isinstance(error, OSError) else error
        return Capability(name=name, ok=False, found=told.message, needed=name != "kvm", remedy=told.hint)


def _directory(name: str, place: places.WorkDirectory) -> Capability:
    places.check(place)
    return Capability(name=name, ok=True, found=f"{place.path}")


def _program(program: Program) -> Capability:
    version = facts.program_version((program.name, *program.version)) if shell.which(program.name) else None
    if shell.which(program.name) is None:
        remedy = f"sudo apt install {program.package}"
        return Capability(name=program.name, ok=False, found="missing", remedy=remedy)
    return Capability(name=program.name, ok=True, found=version or "there")


def _libvirt() -> Capability:
    try:
        from testbed.lab.machines import hypervisor  # noqa: PLC0415 -- to tell what is missing, this must load without it
    except ImportError as error:
        return Capability(name="libvirt", ok=False, found=f"no Python module: {error}", remedy="make setup")
    try:
        with hypervisor.connection(None) as opened:
            version = opened.getLibVersion()
    except HostError as error:
        return Capability(name="libvirt", ok=False, found=error.message, remedy=f"sudo {error.hint}")
    words = f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
    return Capability(name="libvirt", ok=True, found=f"embedded driver of {words} opens")


def _emulation() -> Capability:
    # `-S` does not start the processor: the options alone show whether this QEMU has TCG and counts instructions.
    argv = ["qemu-system-x86_64", "-machine", "none", "-accel", "tcg", "-icount", "shift=0,sleep=on"]
    if shell.which(argv[0]) is None:
        return Capability(name="tcg, icount", ok=False, found="no QEMU", remedy="sudo apt install qemu-system-x86")
    ended = ("-display", "none", "-nodefaults", "-monitor", "stdio", "-S")
    done = shell.run([*argv, *ended], timeout=30, check=False, input=b"quit\n")
    outcome = "this QEMU emulates and counts instructions" if done.code == 0 else shell.tail(done, 2)
    return Capability(name="tcg, icount", ok=done.code == 0, found=outcome, remedy="sudo apt install qemu-system-x86")

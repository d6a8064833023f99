"""Facts of host and guest, for records: what a comparison must agree on, and what may explain a difference."""

from __future__ import annotations

import functools
import os
import platform
import re
from pathlib import Path
from typing import Any

from testbed import shell
from testbed.guest import Guest

_CREDENTIAL = "systemd.set_credential_binary="  # holds a key that is new with each boot
_OUR_TAINTS = 1 << 12 | 1 << 13  # TAINT_OOT_MODULE, TAINT_UNSIGNED_MODULE: the project's own module sets them
_PROGRAMS = {
    "qemu_version": ("qemu-system-x86_64", "--version"),
    "libvirt_version": ("virsh", "--version"),
    "swtpm_version": ("swtpm", "--version"),
}
# One command, as each costs a fraction of a second under emulation.
_LOOK = r"""
uname -r
cat /proc/cmdline
sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1
cat /sys/kernel/security/ima/runtime_measurements_count
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
cat /proc/sys/kernel/random/boot_id
cat /proc/sys/kernel/tainted
"""
_LOOK_AGAIN = """
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
cat /proc/sys/kernel/tainted
"""


@functools.cache
def emulator() -> dict[str, str]:
    """Return the versions of what runs the machines; a program that is missing has none."""
    return {name: version for name, argv in _PROGRAMS.items() if (version := program_version(argv))}


def program_version(argv: tuple[str, ...]) -> str | None:
    """Return the version in the first line that a program prints, ``None`` if there is no such program."""
    path = shell.which(argv[0])
    if path is None:
        return None
    done = shell.run([path, *argv[1:]], timeout=30, check=False)
    lines = (done.out + done.err).decode(errors="backslashreplace").splitlines()
    match = re.search(r"\d+(\.\d+)+", lines[0]) if lines else None
    return match[0] if match else None


def host() -> dict[str, Any]:
    """Return what this host is, and how busy it is now. Times in clock ticks, pressure in percent, memory in MiB."""
    return {
        "kernel": platform.release(),
        "cpu": _first_match(Path("/proc/cpuinfo"), r"^model name\s*: (.*)$"),
        "processors": len(os.sched_getaffinity(0)),
        "memory_mib": int(_first_match(Path("/proc/meminfo"), r"^MemTotal:\s*(\d+)") or 0) >> 10,
        "load": list(os.getloadavg()),
        "pressure": pressure(),
        "steal_ticks": steal(Path("/proc/stat").read_text(encoding="utf-8")),
    } | emulator()


def pressure(where: Path = Path("/proc/pressure")) -> dict[str, float]:
    """Return the share of the last 10 seconds in which some task waited; empty where the kernel does not count it."""
    averages = {name: _first_match(where / name, r"^some avg10=([0-9.]+)") for name in ("cpu", "io", "memory")}
    return {name: float(value) for name, value in averages.items() if value}


def steal(stat: str) -> int:
    """Return the clock ticks that a hypervisor took from this host (``/proc/stat``, eighth figure of ``cpu``)."""
    figures = stat.splitlines()[0].split()[1:]
    return int(figures[7]) if len(figures) > 7 else 0


def guest(machine: Guest) -> dict[str, Any]:
    """Return what a guest is: kernel, command line, processor, entries in its IMA log, clock source, boot, taint."""
    return read_guest(machine.run(["sh", "-ec", _LOOK]).text)


def read_guest(text: str) -> dict[str, Any]:
    """Read what the guest printed, one line per fact."""
    release, cmdline, cpu, entries, clock, boot_id, tainted = text.splitlines()
    words = (word for word in cmdline.split() if not word.startswith(_CREDENTIAL))
    return {
        "kernel_release": release,
        "kernel_command_line": " ".join(words),
        "cpu_model": cpu,
        "ima_entries": int(entries),
        "clocksource": clock,
        "boot_id": boot_id,
        "taint": int(tainted) & ~_OUR_TAINTS,
    }


def aftermath(machine: Guest) -> dict[str, Any]:
    """Return what may have changed while a guest worked: its clock source, its kernel's taint (not 0: something broke).

    The taint is without the bits that the project's own module sets.
    """
    clock, tainted = machine.run(["sh", "-ec", _LOOK_AGAIN]).text.splitlines()
    return {"clocksource_after": clock, "taint": int(tainted) & ~_OUR_TAINTS}


def taint(machine: Guest) -> int:
    """Return the guest kernel's taint bits without those of the project's module: not 0 means a warning or worse."""
    return int(machine.get("/proc/sys/kernel/tainted")) & ~_OUR_TAINTS


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        match = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return match[1] if match else None

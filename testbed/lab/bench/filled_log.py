"""What one more entry of the IMA log costs as the log grows: one machine, filled further and further (``icount``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from testbed import plugins, progress
from testbed.errors import DeployError
from testbed.guest import Guest
from testbed.lab import block
from testbed.lab.bench import events
from testbed.lab.machines.lab import Lab
from testbed.measurers import DEPLOYED

ARM = "container-file"
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
# An entry takes some 500 bytes, and a million of them are to leave the rest of the guest alone.
_MEMORY_MIB = 2048
# The kernel walks the list from its head at each read of a page: the square of the length.
_READ_UP_TO = 100_000
_LOG = "/sys/kernel/security/ima"
# Of a million entries on a busy host: a guest that hangs is to be found all the same.
_FILL_SECONDS = 7200.0
_SECONDS = 1200.0
_FILES, _FILE_BYTES = 9, 64
# Of fewer entries memory says nothing: the rest of the kernel takes and gives back as much meanwhile.
_FEWEST = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedLength:
    """What was counted with so many entries in the log: lines ``EVENT SIZE VALUE`` in ``text``.

    ``entry_bytes``: memory that one entry took since the length before, ``None`` where those were too few.
    """

    entries: int
    text: str
    entry_bytes: float | None


def run(
    lab: Lab, parts: block.Parts, tools: Path, directory: Path, *, to: int, banks: Sequence[str] = ()
) -> Iterator[CountedLength]:
    """Yield what was counted at each length up to ``to``, in one machine that is filled in between.

    ``banks``: of its TPM; without any it has none: IMA extends nothing then, and does all else. Raises ``LabError``,
    ``DeployError``.
    """
    machine_spec = replace(parts.machine, tpm=bool(banks), pcr_banks=tuple(banks), memory_mib=_MEMORY_MIB)
    measurer = plugins.measurer(ARM)
    with progress.waiting_for(lab.boot(machine_spec, directory), f"boot {machine_spec.name}") as machine:
        guest = machine.guest
        block.deploy(guest, parts.bundle)
        events.bring(guest, tools)
        with measurer.attach(measurer, guest):
            guest.run(("insmod", f"{DEPLOYED}/{events.MODULE}"))
            filled = 0
            for length in (entries for entries in LENGTHS if entries <= to):
                before, more = _slab(guest), length - _entries(guest)
                guest.run((f"{events.ROOT}/bench", "fill", str(more)), timeout=_FILL_SECONDS)
                filled += more
                if (entries_now := _entries(guest)) < length:
                    raise DeployError(f"the log has {entries_now} entries, expected {length}", "look at dmesg")
                grown = (_slab(guest) - before) / more if more >= _FEWEST else None
                text = _events(guest, length, filled)
                yield CountedLength(entries=length, text=text, entry_bytes=grown)


def _events(guest: Guest, length: int, filled: int) -> str:
    program, files = f"{events.ROOT}/bench", f"{events.FILES}/{length}"
    text = guest.run((program, "log", str(length), str(filled)), timeout=_SECONDS).text
    guest.run(("mkdir", "-p", f"{events.ROOT}{files}"))
    guest.run((program, "tree", f"{events.ROOT}{files}", str(_FILES), str(_FILE_BYTES)))
    text += events.in_container(guest, "/bench", "new", f"{files}/0", str(length))
    if length <= _READ_UP_TO:
        read = ("sh", "-c", f"cat {_LOG}/binary_runtime_measurements >/dev/null")
        text += guest.run((program, "child", "read", str(length), *read), timeout=_SECONDS).text
    return text


def _entries(guest: Guest) -> int:
    return int(guest.get(f"{_LOG}/runtime_measurements_count"))


def _slab(guest: Guest) -> int:
    """Return the bytes of the kernel's own memory that it cannot give back."""
    match = re.search(r"^SUnreclaim: +(\d+) kB$", guest.get("/proc/meminfo").decode(), re.MULTILINE)
    if match is None:
        raise DeployError("/proc/meminfo of the guest has no line SUnreclaim", "is it another kernel?")
    return int(match[1]) << 10

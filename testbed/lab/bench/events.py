"""What the measurer costs, event by event: one machine, saved, and each arm restored from it (tier ``icount``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed import plugins
from testbed.attest.entries.launch import LaunchEntry
from testbed.attest.entries.parse import parse_payload
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import read_entries
from testbed.errors import DeployError
from testbed.files import tree_digest
from testbed.guest import Guest
from testbed.lab import block, repository
from testbed.lab.build import cache, debian
from testbed.lab.build.kernel import Kernel
from testbed.lab.machines.lab import Lab
from testbed.lab.machines.save import Saved
from testbed.measurers import DEPLOYED
from testbed.runtimes import Start

SOURCE = Path(__file__).parents[3] / "benchmarks" / "measurer"
KIND = "bench"
# Raise it when this module makes something else of the same sources.
BUILDER = 1
# Those that exist are run, in this order.
ARMS = ("none", "hooks-only", "container-file", "container-image", "container-drift", "prototype-file")
_FLOOR_ARM = "container-file"
_NEEDED = 64 << 20
_SECONDS = 300.0
ROOT = "/opt/testbed/bench"
FILES = "/files"
MODULE = "testbed_floor.ko"
_PROGRAMS = ("bench", "host", "true")
# Trees whose digest an arm with images makes at each start of a container: event, its size, files, bytes of each.
_BYTES = (1 << 16, 1 << 18, 1 << 20)
_TREES = (
    *(("files", files, files, 1 << 10) for files in (10, 100, 1000, 10_000)),
    *(("bytes", 16 * size, 16, size) for size in _BYTES),
    *(("verity", 16 * size, 16, size) for size in _BYTES),
)
# The first start of a tree reads it, the others find it as it was. Three of them: the median bears one disturbed.
_STARTS = ("image", "again", "again", "again")
_IMAGE_ARM = "container-image"
# Starts of a container whose content is known: the first one only makes it so. With so many mounts more each time: what
# the launch's table costs is in the difference.
_KNOWN_STARTS = 6
MORE_MOUNTS = (0, 32)
_LOG = "/sys/kernel/security/ima/binary_runtime_measurements"
_MOUNT_OPTIONS = ("nosuid", "nodev", "noexec", "size=64k")


def build_tools(kernel: Kernel, progress: cache.Progress = cache.silent) -> Path:
    """Return the directory with the programs and the module of ``benchmarks/measurer``, cached or compiled now."""

    def build(at: Path) -> None:
        progress(f"benchmarks for {kernel.name}: compile")
        argv = ("sh", "/src/build.sh", "/src", "/out", kernel.release)
        debian.enter(kernel.build_root, argv, read={SOURCE: "/src"}, write={at: "/out"})
        cache.write_meta(at, {"digest": tree_digest(at)})

    parts = {"builder": BUILDER, "source": tree_digest(SOURCE, repository.programs(SOURCE)), "kernel": kernel.digest}
    key = cache.content_key(parts | {"root": kernel.build_digest})
    return cache.entry(KIND, key, build, needed=_NEEDED)


def prepare(lab: Lab, parts: block.Parts, tools: Path, directory: Path) -> Saved:
    """Boot a machine, bring measurer, programs and files in, and save it below ``directory``."""
    with lab.boot(parts.machine, directory / "boot") as machine:
        guest = machine.guest
        block.deploy(guest, parts.bundle)
        bring(guest, tools)
        guest.run((f"{ROOT}/bench", "make", f"{ROOT}{FILES}"), timeout=_SECONDS)
        if _IMAGE_ARM in arms():
            _make_trees(guest)
        # As for a campaign: the kernel must not give pages back at another moment in each arm.
        block.hold_still(guest, parts.machine)
        return machine.save(directory / "saved")


def bring(guest: Guest, tools: Path) -> None:
    """Bring the programs of ``build_tools`` into the guest, as the root of a container, and the module."""
    for name in _PROGRAMS:
        guest.put((tools / name).read_bytes(), f"{ROOT}/{name}", mode=0o755)
    guest.put((tools / MODULE).read_bytes(), f"{DEPLOYED}/{MODULE}")
    # What a runtime mounts over: it would make them, which is no part of any event.
    guest.run(("mkdir", "-p", *(f"{ROOT}{name}" for name in (FILES, "/dev", "/proc", "/sys"))))


def arms() -> tuple[str, ...]:
    """Return the arms whose measurer exists."""
    return tuple(name for name in ARMS if name in plugins.names("measurers"))


def run_arm(lab: Lab, saved: Saved, arm: str, directory: Path) -> str:
    """Restore the machine, attach the arm's measurer, and count its events in a container.

    Returns a line ``EVENT SIZE VALUE`` for each count.
    """
    measurer = plugins.measurer(arm)
    with lab.restore(saved, directory) as machine:
        guest = machine.guest
        with measurer.attach(measurer, guest):
            text = in_container(guest, "/bench", "run", FILES)
            text += _start_known(guest, measurer.pcr)
            if _IMAGE_ARM in arms() and arm in (_IMAGE_ARM, _FLOOR_ARM):
                text += _start_trees(guest)
        if arm == _FLOOR_ARM:
            guest.run(("insmod", f"{DEPLOYED}/{MODULE}"))
            text += guest.run((f"{ROOT}/bench", "floor", f"{ROOT}{FILES}"), timeout=_SECONDS).text
            _same_hash(guest)
    return text


def _tree(event: str, size: int) -> str:
    return f"{ROOT}-trees/{event}-{size}"


def _make_trees(guest: Guest) -> None:
    for event, size, files, bytes_each in _TREES:
        root = _tree(event, size)
        guest.run(("mkdir", "-p", *(f"{root}{name}" for name in (FILES, "/dev", "/proc", "/sys"))))
        guest.run(("cp", f"{ROOT}/true", root))
        kind = "verity" if event == "verity" else "tree"
        make = (f"{ROOT}/bench", kind, f"{root}{FILES}", str(files), str(bytes_each))
        guest.run(make, timeout=_SECONDS)


def _start_trees(guest: Guest) -> str:
    text = ""
    for start in _STARTS:
        for event, size, *_ in _TREES:
            with _container(guest, ("/true",), _tree(event, size)) as command:
                child = (f"{ROOT}/bench", "child", f"{start}-{event}", str(size), *command)
                text += guest.run(child, timeout=_SECONDS).text
    return text


def _start_known(guest: Guest, pcr: int | None) -> str:
    """Start a container again and again: what each start costs, its entries in a register, the mounts in its launch."""
    text = ""
    for mounts in MORE_MOUNTS:
        for number in range(_KNOWN_STARTS):
            before = len(_entries(guest, pcr))
            with _container(guest, ("/true",), ROOT, mounts) as command:
                child = (f"{ROOT}/bench", "child", "container", str(mounts), *command)
                counted = guest.run(child, timeout=_SECONDS).text
            if not number:
                continue
            added = _entries(guest, pcr)[before:]
            text += counted + f"entries {mounts} {len(added)}\n" * (pcr is not None)
            # The lines of a prototype have no payload.
            said = (parse_payload(one.name, one.buf) for one in added if one.buf is not None)
            text += "".join(f"mounts {mounts} {len(one.mounts)}\n" for one in said if isinstance(one, LaunchEntry))
    return text


def _entries(guest: Guest, pcr: int | None) -> list[Fields]:
    return [parse_fields(one) for one in read_entries(guest.get(_LOG)) if one.pcr == pcr]


def in_container(guest: Guest, *argv: str) -> str:
    """Return what a program of ``ROOT`` prints in a container."""
    with _container(guest, argv, ROOT) as command:
        return guest.run(command, timeout=_SECONDS).text


@contextmanager
def _container(guest: Guest, argv: Sequence[str], root: str, mounts: int = 0) -> Iterator[Sequence[str]]:
    """Hold what starts a container; ``mounts``: so many more than a container has anyhow."""
    steps = plugins.runtime("crun").steps(Start(id="bench", image=root, argv=tuple(argv), cgroup="/testbed"))
    for name, text in steps.files.items():
        guest.put(_mount_more(text, mounts).encode(), name)
    for command in steps.before:
        guest.run(command)
    try:
        yield steps.run
    finally:
        for command in steps.after:
            guest.run(command)


def _mount_more(text: str, mounts: int) -> str:
    config = json.loads(text)
    # In its /dev, which is a file system of its own: the runtime makes the directories there, and not in the image.
    config["mounts"] += [
        {"destination": f"/dev/m{number}", "type": "tmpfs", "source": "tmpfs", "options": list(_MOUNT_OPTIONS)}
        for number in range(mounts)
    ]
    return json.dumps(config)


def _same_hash(guest: Guest) -> None:
    """Raise ``DeployError`` if the floor was hashed by another implementation than the measurer's."""
    said = guest.run(("dmesg",)).text.splitlines()
    used = {line.rpartition(" ")[2] for line in said if "testbed" in line and "hashing with" in line}
    if len(used) != 1:
        raise DeployError(f"measurer and floor hash with {sorted(used)}: not comparable", "look at dmesg")

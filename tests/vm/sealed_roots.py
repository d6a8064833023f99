"""Runs in the guest: what ``test_sealed.py`` needs of a kernel, and no program of the guest does.

    python3 sealed_roots.py verity PATH...                       enable fs-verity, also of all files below a directory
    python3 sealed_roots.py start NAME ROOT [JSON]               start a container with crun, in the cgroup /sealed/NAME
    python3 sealed_roots.py change-fd DEVICE FILE                give a loop device that is in use another file
    python3 sealed_roots.py device NAME TARGET SECTORS WORDS     make a read-only device of one target, print its path

``JSON`` is merged into `linux` of the configuration.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# linux/fsverity.h: FS_IOC_ENABLE_VERITY, struct fsverity_enable_arg: version, hash algorithm, block size.
ENABLE_VERITY = 0x40806685
VERITY_ARG = struct.pack("<III", 1, 1, 4096)
LOOP_CHANGE_FD = 0x4C06
# linux/dm-ioctl.h: struct dm_ioctl, struct dm_target_spec.
DM = struct.Struct("<3I7IQ128s129s7x")
DM_TARGET = struct.Struct("<QQiI16s")
DM_CREATE, DM_SUSPEND, DM_LOAD = 0xC138FD03, 0xC138FD06, 0xC138FD09
READ_ONLY = 1


def enable(*paths: str) -> None:
    for path in map(Path, paths):
        for one in [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]:
            with one.open("rb") as file:
                fcntl.ioctl(file, ENABLE_VERITY, array.array("B", VERITY_ARG.ljust(128, b"\0")))


def start(name: str, root: str, more: str = "{}") -> None:
    bundle = Path("/root/bundles") / name
    bundle.mkdir(parents=True)
    Path("/sys/fs/cgroup/sealed").mkdir(exist_ok=True)
    linux = {"namespaces": [{"type": "pid"}, {"type": "mount"}], "cgroupsPath": f"/sealed/{name}"} | json.loads(more)
    configuration = {
        "ociVersion": "1.0.2",
        "root": {"path": root},
        "process": {"args": ["/bin/program"], "env": [], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": linux,
    }
    (bundle / "config.json").write_text(json.dumps(configuration))
    subprocess.run(["crun", "run", "--bundle", bundle, name], check=True)


def change_fd(device: str, path: str) -> None:
    with Path(device).open("rb") as loop, Path(path).open("rb") as other:
        fcntl.ioctl(loop, LOOP_CHANGE_FD, other.fileno())


def device(name: str, target: str, sectors: str, words: str) -> None:
    spec = DM_TARGET.pack(0, int(sectors), 0, 0, target.encode()) + words.encode() + b"\0"
    with Path("/dev/mapper/control").open("rb") as control:
        mapped(control.fileno(), DM_CREATE, name)
        mapped(control.fileno(), DM_LOAD, name, spec.ljust(-len(spec) % 8 + len(spec), b"\0"))
        number = mapped(control.fileno(), DM_SUSPEND, name)
    sys.stdout.write(f"/dev/dm-{os.minor(number)}\n")


def mapped(control: int, request: int, name: str, spec: bytes = b"") -> int:
    size = DM.size + len(spec)
    head = (4, 0, 0, size, DM.size, bool(spec), 0, READ_ONLY if spec else 0, 0, 0, 0, name.encode(), b"")
    buffer = array.array("B", DM.pack(*head) + spec)
    fcntl.ioctl(control, request, buffer)
    return int(DM.unpack(buffer[: DM.size])[10])


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    acts: dict[str, Callable[..., None]] = {"verity": enable, "start": start, "change-fd": change_fd, "device": device}
    acts[what](*arguments)

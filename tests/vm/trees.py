"""Runs in the guest: make a tree of every kind of file, change it in each way, start a container of it each time.

    python3 trees.py PROGRAM TOP

``PROGRAM`` is a static program that a container of the tree runs. Each state is started in a cgroup of its own name and
written as ``TOP/NAME.tar``, so that who has never seen the guest can digest it. Names that begin with ``same-`` are
states in which the tree is the one that it was at first.
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

PROGRAM, TOP = Path(sys.argv[1]), Path(sys.argv[2])
ROOT = os.fsencode(TOP / "rootfs")
CAPS = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
MORE_CAPS = struct.pack("<5I", 0x02000001, 1 << 12, 0, 0, 0)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry) for entry in ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1))
)
# linux/fsverity.h: FS_IOC_ENABLE_VERITY, struct fsverity_enable_arg: version, hash algorithm, block size.
ENABLE_VERITY = 0x40806685
VERITY_ARG = struct.pack("<III", 1, 1, 4096)


def at(name: str | bytes) -> bytes:
    return ROOT + b"/" + os.fsencode(name)


def write(name: str | bytes, content: bytes, mode: int = 0o644) -> None:
    Path(os.fsdecode(at(name))).write_bytes(content)
    os.chmod(at(name), mode)


def make() -> None:
    for name in ("bin", "dev", "etc", "proc", "run", "srv", "srv/empty", "srv/full"):
        os.makedirs(at(name))
    write("bin/program", PROGRAM.read_bytes(), 0o755)
    write("bin/caps", PROGRAM.read_bytes(), 0o4755)
    os.setxattr(at("bin/caps"), "security.capability", CAPS)
    write(b"srv/caf\xe9\xff", b"latin")
    write("srv/new\nline", b"")
    for size in (0, 1, 4095, 4096, 4097, 524288, 524289):
        write(f"srv/size-{size}", bytes(size))
    for number in range(20):
        write(f"srv/full/{number}", b"%d" % number)
    os.link(at("srv/full/1"), at("srv/hard"))
    os.chown(at("srv/full/2"), 1000, 1001)
    os.setxattr(at("srv/full"), "user.b", b"x" * 300)
    os.setxattr(at("srv/full"), "user.a", b"")
    os.symlink("nowhere", at("srv/link"))
    os.mkfifo(at("srv/fifo"), 0o600)
    os.mknod(at("srv/null"), 0o20666, os.makedev(1, 3))
    os.mknod(at("srv/block"), 0o60600, os.makedev(300, 70000))
    write("etc/hosts", b"")


def change_byte(name: str, offset: int) -> Callable[[], None]:
    def change() -> None:
        with open(at(name), "r+b") as file:
            file.seek(offset)
            file.write(b"!")

    return change


def replace(name: str, make_new: Callable[[bytes], object]) -> Callable[[], None]:
    def change() -> None:
        os.unlink(at(name))
        make_new(at(name))

    return change


def swap(one: str, other: str) -> Callable[[], None]:
    def change() -> None:
        os.rename(at(one), at("srv/spare"))
        os.rename(at(other), at(one))
        os.rename(at("srv/spare"), at(other))

    return change


def whiteout(name: str) -> None:
    os.unlink(at(name))
    os.mknod(at(name), 0o20000, os.makedev(0, 0))


def put(name: str, content: bytes) -> Callable[[], None]:
    """Make a file of this content, and its directory where there is none."""

    def change() -> None:
        os.makedirs(os.path.dirname(at(name)), exist_ok=True)
        write(name, content)

    return change


def mark(name: str) -> Callable[[], None]:
    """Give a file or directory an extended attribute, and make it empty where there is none."""

    def change() -> None:
        if not os.path.exists(at(name)):
            write(name, b"")
        os.setxattr(at(name), "user.x", b"")

    return change


def mtab(target: str) -> Callable[[], None]:
    def change() -> None:
        if os.path.lexists(at("etc/mtab")):
            os.unlink(at("etc/mtab"))
        os.symlink(target, at("etc/mtab"))

    return change


def made_by_a_runtime() -> None:
    for name in (".dockerenv", "run/.containerenv", "dev/console", "etc/hostname", "etc/resolv.conf", "etc/mtab"):
        write(name, b"", 0o700)
        os.chown(at(name), 5, 5)
    for name in ("dev/pts", "dev/shm"):
        os.mkdir(at(name), 0o1777)
    os.mkdir(at("sys"), 0o500)
    os.chmod(at("dev"), 0o1777)


# What runtimes make. What an image has there is covered unless it holds nothing.
FILES = (
    *(".dockerenv", "run/.containerenv", "dev/console"),
    *("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"),
)
TARGETS = ("/proc/mounts", "/proc/self/mounts", "../proc/mounts", "../proc/self/mounts")

# Each is made of a fresh copy of the tree.
CHANGES: dict[str, Callable[[], None]] = {
    "byte-first": change_byte("srv/size-524289", 0),
    "byte-last": change_byte("srv/size-524289", 524288),
    "byte-of-the-last-file": change_byte("srv/full/9", 0),
    "byte-more": lambda: write("srv/size-4096", bytes(4095) + b"!"),
    "zero-more": lambda: write("srv/size-4095", bytes(4096)),
    "mode-bit": lambda: os.chmod(at("srv/full/3"), 0o645),
    "mode-setuid": lambda: os.chmod(at("bin/program"), 0o4755),
    "mode-of-a-directory": lambda: os.chmod(at("srv/empty"), 0o1755),
    "owner": lambda: os.chown(at("srv/full/2"), 1001, 1001),
    "group": lambda: os.chown(at("srv/full/2"), 1000, 1000),
    "owner-of-a-link": lambda: os.chown(at("srv/link"), 5, -1, follow_symlinks=False),
    "xattr-value": lambda: os.setxattr(at("srv/full"), "user.b", b"x" * 299 + b"y"),
    "xattr-name": lambda: os.setxattr(at("srv/full"), "user.c", b""),
    "xattr-gone": lambda: os.removexattr(at("srv/full"), "user.a"),
    "xattr-acl": lambda: os.setxattr(at("srv/full/4"), "system.posix_acl_access", ACL),
    "capability": lambda: os.setxattr(at("bin/caps"), "security.capability", MORE_CAPS),
    "capability-gone": lambda: os.removexattr(at("bin/caps"), "security.capability"),
    "name": lambda: os.rename(at("srv/full/5"), at("srv/full/five")),
    "names-swapped": swap("srv/full/6", "srv/full/7"),
    "name-moved": lambda: os.rename(at("srv/full/8"), at("srv/8")),
    "file-more": lambda: write("srv/full/20", b""),
    "file-gone": lambda: os.unlink(at("srv/full/10")),
    "empty-directory-gone": lambda: os.rmdir(at("srv/empty")),
    "link-target": replace("srv/link", lambda path: os.symlink("nowherE", path)),
    "link-becomes-file": replace("srv/link", lambda path: Path(os.fsdecode(path)).write_bytes(b"nowhere")),
    "fifo-becomes-file": replace("srv/fifo", lambda path: os.mknod(path, 0o100600)),
    "device-number": replace("srv/null", lambda path: os.mknod(path, 0o20666, os.makedev(1, 5))),
    "device-type": replace("srv/null", lambda path: os.mknod(path, 0o60666, os.makedev(1, 3))),
    "whiteout": lambda: whiteout("srv/full/11"),
    "left-out-name-elsewhere": lambda: write("srv/hosts", b""),
    "left-out-name-of-another-type": replace("etc/hosts", lambda path: os.symlink("/x", path)),
    "mtab-elsewhere": mtab("/srv/full/1"),
    "mtab-of-another": mtab("/proc/1/mounts"),
    "empty-file-in-dev": put("dev/x", b""),
    **{f"payload-{number}": put(name, b"echo payload") for number, name in enumerate(FILES)},
    **{f"payload-in-{name}": put(f"{name}/x", b"echo payload") for name in ("dev", "proc", "sys")},
    **{f"marked-{number}": mark(name) for number, name in enumerate((*FILES, "dev", "proc"))},
}


def touch() -> None:
    for directory, _, names in os.walk(ROOT):
        for name in names:
            os.utime(os.path.join(directory, name), (1, 1), follow_symlinks=False)


def other_order() -> None:
    """Make the files of a directory again, in another order and so with other inodes."""
    names = os.listdir(at("srv/full"))
    os.rename(at("srv/full"), at("srv/old"))
    os.mkdir(at("srv/full"))
    for key in os.listxattr(at("srv/old")):
        os.setxattr(at("srv/full"), key, os.getxattr(at("srv/old"), key))
    for name in sorted(names, reverse=True):
        subprocess.run(["cp", "-a", at(b"srv/old/" + name), at(b"srv/full/" + name)], check=True)
    subprocess.run(["rm", "-r", at("srv/old")], check=True)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def warm_caches() -> None:
    subprocess.run(["tar", "-cf", "/dev/null", TOP / "rootfs"], check=True, capture_output=True)


def enable_verity() -> None:
    for name in ("bin/program", "srv/size-0", "srv/size-4097", "srv/size-524289"):
        with open(at(name), "rb") as file:
            fcntl.ioctl(file, ENABLE_VERITY, array.array("B", VERITY_ARG.ljust(128, b"\0")))


# The same tree, in another way. Verity is last: what has it can be changed no more.
SAME: dict[str, Callable[[], None]] = {
    "same": lambda: None,
    "same-times": touch,
    "same-order": other_order,
    "same-cold": drop_caches,
    "same-warm": warm_caches,
    "same-left-out": made_by_a_runtime,
    "same-left-out-labelled": lambda: os.setxattr(at("etc/hosts"), "security.selinux", b"x"),
    **{f"same-mtab-{number}": mtab(target) for number, target in enumerate(TARGETS)},
    "same-verity": enable_verity,
    "same-verity-cold": drop_caches,
}


def start(name: str) -> None:
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", TOP / f"{name}.tar", "-C", ROOT, "."],
        check=True,
    )
    configuration = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["/bin/program"], "env": [], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        # With nothing on /dev the runtime makes devices in the tree.
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount")], "cgroupsPath": f"/trees/{name}"},
    }
    (TOP / "config.json").write_text(json.dumps(configuration))
    subprocess.run(["crun", "run", "--bundle", TOP, name], check=True)


def main() -> None:
    make()
    spare = TOP / "spare"
    subprocess.run(["cp", "-a", TOP / "rootfs", spare], check=True)
    for name, change in CHANGES.items():
        subprocess.run(["rm", "-rf", TOP / "rootfs"], check=True)
        subprocess.run(["cp", "-a", spare, TOP / "rootfs"], check=True)
        change()
        start(name)
    subprocess.run(["rm", "-rf", TOP / "rootfs"], check=True)
    spare.rename(TOP / "rootfs")
    for name, change in SAME.items():
        change()
        start(name)
    print(json.dumps([*CHANGES, *SAME]))


main()

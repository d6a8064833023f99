"""What a hostile or busy container does. Put into the guest and imported by scripts there; its contents are the truth.

A guest has Python but no compiler: the programs are made of bytes, each with a tag that tells it from all others.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
MS_RDONLY, MS_NOEXEC, MS_REMOUNT = 1, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PAGE = 4096


def program(tag: bytes, status: int = 0) -> bytes:
    """Return a static program for x86-64 that ends with a status and does nothing else."""
    code = b"\xb8\xe7\0\0\0" + b"\xbf" + struct.pack("<I", status) + b"\x0f\x05"  # exit_group(status)
    size = 64 + 56 + len(code)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400000 + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, PAGE) + code + tag


def padded(tag: bytes, status: int = 0) -> bytes:
    """Return such a program of a page, so that another one fits over it without a change of size."""
    return program(tag, status).ljust(PAGE, b"\0")


def write(path: str | bytes, content: bytes, at: int | None = None) -> None:
    """Write an executable file, relative to the directory ``at`` if there is one."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755, dir_fd=at)
    os.write(file, content)
    os.close(file)


def run(path: str | bytes) -> int:
    """Execute a file; return its status."""
    return _status(os.posix_spawn(path, [path], {}))


def run_fd(file: int) -> int:
    """Execute what a descriptor is open on; return its status."""
    return _status(child(lambda: os.execve(file, ["it"], {})))


def refused(path: str) -> int:
    """Execute a file; return the kernel's error, 0 if there is none."""
    try:
        run(path)
    except OSError as error:
        return int(error.errno or 0)
    return 0


def child(work: Callable[[], object]) -> int:
    """Fork a process that does something and ends; return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def wait(pid: int) -> None:
    assert _status(pid) == 0, "a process of this test failed"


def map_code(file: int, length: int = PAGE) -> None:
    """Map a file as code."""
    mmap.mmap(file, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()


def store(file: int, content: bytes) -> None:
    """Change a file by a mapping alone: its page is looked at first, so that storing causes no fault on tmpfs."""
    with mmap.mmap(file, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        assert memory[0] == 0x7F
        memory[: len(content)] = content


def mount(source: str, target: str, kind: str, flags: int = 0, data: str | None = None) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    options = data.encode() if data else None
    assert libc.mount(source.encode(), target.encode(), kind.encode(), flags, options) == 0, os.strerror(
        ctypes.get_errno()
    )


def detach(target: str) -> None:
    """Unmount lazily: what is in use stays in use."""
    assert libc.umount2(target.encode(), MNT_DETACH) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def inside(directory: int) -> Iterator[None]:
    """Work in a directory, whose path may be longer than any that the kernel takes."""
    os.fchdir(directory)
    try:
        yield
    finally:
        os.chdir("/")


def long_path(base: str, length: int) -> list[str]:
    """Return the directories below ``base`` that give a file ``x`` in the last of them a path of ``length`` bytes."""
    names = []
    left = length - len(base) - len("/x")
    while left:
        # A slash and a name each; never one byte left, which is no name.
        size = 100 if left == 201 else min(left, 200)
        names.append("d" * (size - 1))
        left -= size
    return names


def nest(base: str, names: Iterable[str]) -> int:
    """Make one directory in the other below ``base``; open the last."""
    Path(base).mkdir(parents=True)
    here = os.open(base, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        here, former = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(former)
    return here


def deep_tree(root: str, levels: int) -> None:
    """Make a directory in a directory, so many times, and a file in the last."""
    bottom = nest(root, ["d"] * levels)
    write("bottom", program(b"bottom"), bottom)
    os.close(bottom)


def wide_tree(root: str, files: int, each: int = 1000) -> None:
    """Make so many files, ``each`` in a directory, with one byte of content or two."""
    for first in range(0, files, each):
        Path(f"{root}/{first}").mkdir(parents=True)
        directory = os.open(f"{root}/{first}", os.O_RDONLY)
        for number in range(first, min(first + each, files)):
            write(str(number), b"%d" % (number % 100), directory)
        os.close(directory)


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

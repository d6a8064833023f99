"""Mappings by address, functions made of bytes that are called there, and a step that another process waits for."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stress import PAGE, libc

READ, WRITE, EXEC = 1, 2, 4
SHARED, PRIVATE, FIXED, ANONYMOUS = 1, 2, 0x10, 0x20
GOOD, EVIL = 1, 77
_FAILED = 2**64 - 1

libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.syscall.restype = ctypes.c_long


def function(value: int) -> bytes:
    """Return a page whose first bytes are a function for x86-64 that returns a value."""
    return (b"\xb8" + struct.pack("<I", value) + b"\xc3").ljust(PAGE, b"\xcc")


def call(address: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


def checked(result: int | None, what: str) -> int:
    """Return what a call of the C library gave. Raises ``OSError`` if it says that it failed."""
    if result in (-1, _FAILED):
        raise OSError(ctypes.get_errno(), what)
    return result or 0


def system(number: int, *words: object) -> int:
    return checked(libc.syscall(number, *words), f"system call {number}")


def place_at(  # noqa: PLR0917 - as mmap has them
    address: int | None, size: int, protection: int, flags: int, file: int = -1, offset: int = 0
) -> int:
    return checked(libc.mmap(address, size, protection, flags, file, offset), "mmap")


def map_file(path: str, protection: int, flags: int = PRIVATE, *, size: int = PAGE, offset: int = 0) -> int:
    """Map a file and close it."""
    file = os.open(path, os.O_RDWR if flags & SHARED and protection & WRITE else os.O_RDONLY)
    try:
        return place_at(None, size, protection, flags, file, offset)
    finally:
        os.close(file)


def unmap(address: int, size: int = PAGE) -> None:
    checked(libc.munmap(address, size), "munmap")


def protect(address: int, protection: int, size: int = PAGE) -> None:
    checked(libc.mprotect(address, size, protection), "mprotect")


def store_at(address: int, content: bytes) -> None:
    ctypes.memmove(address, content, len(content))


def is_code(address: int) -> bool:
    """Say whether the mapping that begins at an address can be executed."""
    begin = f"{address:x}-"
    lines = Path("/proc/self/maps").read_text().splitlines()
    return any(line.startswith(begin) and "x" in line.split()[1] for line in lines)


def large(path: str, size: int) -> None:
    """Make a file of zeros that takes no room on the disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o755)
    os.ftruncate(file, size)
    os.close(file)


def drop(path: str) -> None:
    """Have the kernel forget the pages of a file that are on the disk."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


class Step:
    """Something that one process does and another one waits for."""

    def __init__(self) -> None:
        self._waits, self._does = os.pipe()

    def done(self) -> None:
        os.write(self._does, b".")

    def wait(self) -> None:
        assert os.read(self._waits, 1) == b"."


def pause(place: str) -> None:
    """Say by the pipe ``asked`` of a place that all is ready, and go on when its pipe ``release`` says so."""
    Path(f"{place}/asked").write_bytes(b".")
    Path(f"{place}/release").read_bytes()


@contextmanager
def refusal(said: dict[str, object], what: str) -> Iterator[None]:
    """Write down the kernel's error, if it refuses what is done."""
    try:
        yield
    except OSError as error:
        said[what] = error.errno

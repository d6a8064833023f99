"""Blocks of a file are exchanged with those of another one, which changes neither its version nor its times."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from pathlib import Path

from holes.memory import EVIL, EXEC, GOOD, READ, call, checked, drop, function, map_file, refusal
from stress import PAGE, libc, mount, run, write

EXT4_IOC_MOVE_EXT, FS_IOC_SETVERSION = 0xC028660F, 0x40087602
# mov eax, 231; movzx edi, byte ptr [0x401000]; syscall
CODE = b"\xb8\xe7\0\0\0\x0f\xb6\x3c\x25\0\x10\x40\0\x0f\x05"


class Moved(ctypes.Structure):
    """The arguments of the call, and its results."""

    _fields_ = (
        ("reserved", ctypes.c_uint32),
        ("donor", ctypes.c_uint32),
        ("from_block", ctypes.c_uint64),
        ("to_block", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("moved", ctypes.c_uint64),
    )


def two_pages(status: int) -> bytes:
    """Return a program that ends with the status that all bytes of its second page are."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400000 + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 2 * PAGE, 2 * PAGE, PAGE)
    return (header + segment + CODE).ljust(PAGE, b"\0") + bytes([status]) * PAGE


def exchanged(place: str, *, overlay: bool = False, donor: bool = True, racing: bool = False) -> dict[str, object]:
    """Execute a file, exchange its second page with that of another file, execute it again.

    ``overlay``: it is executed through an overlay that has it in its upper layer. ``donor``: it is the file that the
    call's argument names, whose content changes; the one on which the call is made keeps its own. ``racing``: another
    thread changes that argument meanwhile.
    """
    path = executed = f"{place}/it"
    other = f"{place}/other"
    if overlay:
        path, other, executed = f"{place}/upper/it", f"{place}/upper/other", over(place, "it")
    write(path, two_pages(GOOD))
    write(other, two_pages(EVIL))
    for name in (path, other):
        drop(name)
    before = [run(executed), run(executed)]
    stamp = Path(path).stat().st_ctime_ns
    moved = _exchange(other, path, racing) if donor else _exchange(path, other, racing)
    for name in (path, other):
        drop(name)
    same = Path(path).stat().st_ctime_ns == stamp
    after = [run(executed), run(executed)]
    content = Path(path).read_bytes().hex()
    return {"before": before, "moved": moved, "same": same, "after": after, "content": content}


def prepared(place: str) -> dict[str, object]:
    """Execute the file whose page ``moved`` exchanges."""
    path, other = f"{place}/it", f"{place}/other"
    write(path, two_pages(GOOD))
    write(other, two_pages(EVIL))
    for name in (path, other):
        drop(name)
    return {"before": [run(path), run(path)]}


def moved(place: str) -> dict[str, object]:
    """Exchange the second page of the file with that of another one."""
    path, other = f"{place}/it", f"{place}/other"
    count = _exchange(other, path, racing=False)
    for name in (path, other):
        drop(name)
    return {"moved": count, "content": Path(path).read_bytes().hex()}


def renumbered(place: str) -> dict[str, object]:
    """Change the generation of a file that is mapped as code, then open it for writing."""
    path = f"{place}/it"
    write(path, function(EVIL))
    code = map_file(path, READ | EXEC)
    file = os.open(path, os.O_RDONLY)
    said: dict[str, object] = {}
    with refusal(said, "generation"):
        number = ctypes.c_long(0x12345678)
        checked(libc.ioctl(file, ctypes.c_ulong(FS_IOC_SETVERSION), ctypes.byref(number)), "FS_IOC_SETVERSION")
    os.close(file)
    said["ran"] = call(code)
    os.close(os.open(path, os.O_WRONLY))
    return said


def over(place: str, name: str, lower: str = "lower") -> str:
    """Mount an overlay of the directories ``lower`` and ``upper`` of a place; return the path of a name in it."""
    for directory in (lower, "upper", "work"):
        Path(f"{place}/{directory}").mkdir(exist_ok=True)
    options = f"lowerdir={place}/{lower},upperdir={place}/upper,workdir={place}/work"
    mount("none", f"{place}/merged", "overlay", data=options)
    return f"{place}/merged/{name}"


def _exchange(on: str, named: str, racing: bool) -> int:
    """Exchange the second pages of two files; return how many blocks the kernel says that it moved."""
    first, second = os.open(on, os.O_RDWR), os.open(named, os.O_RDWR)
    argument = Moved(donor=second, from_block=1, to_block=1, blocks=1)
    if racing:
        _race(first, argument, os.open("/dev/null", os.O_RDWR))
    else:
        checked(_move(first, argument), "EXT4_IOC_MOVE_EXT")
    for file in (first, second):
        os.fsync(file)
        os.close(file)
    return int(argument.moved)


def _race(first: int, argument: Moved, nothing: int) -> None:
    """Make the call until it succeeds, with a descriptor that another thread puts in place and takes away again."""
    right, stop = argument.donor, threading.Event()

    def swap() -> None:
        while not stop.is_set():
            argument.donor = nothing
            argument.donor = right

    thread = threading.Thread(target=swap)
    thread.start()
    while _move(first, argument):
        pass
    stop.set()
    thread.join()


def _move(first: int, argument: Moved) -> int:
    return int(libc.ioctl(first, ctypes.c_ulong(EXT4_IOC_MOVE_EXT), ctypes.byref(argument)))

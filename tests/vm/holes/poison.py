"""What the first container does: it has a file measured, then gives it other bytes, for who gets it next."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from holes.extents import over, two_pages
from holes.memory import (
    EVIL,
    EXEC,
    GOOD,
    PRIVATE,
    READ,
    SHARED,
    WRITE,
    call,
    checked,
    function,
    map_file,
    pause,
    place_at,
    refusal,
    store_at,
    unmap,
)
from stress import PAGE, child, libc, padded, run, wait, write

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
FIBMAP, FICLONE, FIDEDUPERANGE = 1, 0x40049409, 0xC0189436
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_ENABLE_VERITY = 0x80086601, 0x40086602, 0x40806685
IMMUTABLE, APPEND_ONLY, JOURNAL_DATA = 0x10, 0x20, 0x4000
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
RENAME_EXCHANGE = 2
F_ADD_SEALS, F_SEAL_WRITE = 1033, 8
GOOD_PROGRAM, EVIL_PROGRAM = padded(b"good", GOOD), padded(b"evil", EVIL)


def _measured(place: str) -> str:
    """Have a program measured twice, so that its pages are settled, and return its path."""
    path = f"{place}/it"
    write(path, GOOD_PROGRAM)
    assert (run(path), run(path)) == (GOOD, GOOD)
    return path


def only_measured(place: str) -> dict[str, object]:
    """Change nothing."""
    return {"path": _measured(place)}


def rewritten(path: str) -> dict[str, object]:
    """Write the other content."""
    _write(path, "")
    return {}


def failed(path: str) -> dict[str, object]:
    """Write the other content where the disk takes none."""
    said: dict[str, object] = {}
    with Path(path).open("r+b") as file, refusal(said, "error"):
        file.write(EVIL_PROGRAM)
        file.flush()
        os.fsync(file.fileno())
    return said


def blocks(path: str, size: int) -> dict[str, object]:
    """Return where each block of a file's first page is on its device, in blocks of this size."""
    with Path(path).open("rb") as file:
        words = [fcntl.ioctl(file, FIBMAP, struct.pack("<i", number)) for number in range(PAGE // size)]
    return {"blocks": [struct.unpack("<i", word)[0] for word in words]}


def overwritten(place: str, how: str) -> dict[str, object]:
    """Give it another content of the same size, and the same time of its last change."""
    path = _measured(place)
    found = Path(path).stat()
    OVERWRITE[how](path, f"{place}/other")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return {"content": Path(path).read_bytes() == EVIL_PROGRAM}


def _write(path: str, _: str) -> None:
    with Path(path).open("r+b") as file:
        file.write(EVIL_PROGRAM)


def _write_directly(path: str, _: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_DIRECT)
    with mmap.mmap(-1, PAGE) as memory:
        memory[:] = EVIL_PROGRAM
        os.writev(file, [memory])
    os.close(file)


def _store(path: str, _: str) -> None:
    memory = map_file(path, READ | WRITE, SHARED)
    store_at(memory, EVIL_PROGRAM)
    unmap(memory)


def _store_by_a_child(path: str, _: str) -> None:
    """Store by a mapping that only another process has left."""
    memory = map_file(path, READ | WRITE, SHARED)
    pid = child(lambda: store_at(memory, EVIL_PROGRAM))
    unmap(memory)
    wait(pid)


def _copy(path: str, other: str) -> None:
    write(other, EVIL_PROGRAM)
    source, target = os.open(other, os.O_RDONLY), os.open(path, os.O_WRONLY)
    assert os.copy_file_range(source, target, PAGE) == PAGE
    os.close(source)
    os.close(target)


def _splice(path: str, _: str) -> None:
    ends = os.pipe()
    os.write(ends[1], EVIL_PROGRAM)
    file = os.open(path, os.O_WRONLY)
    assert os.splice(ends[0], file, PAGE) == PAGE
    os.close(file)


def _replace(path: str, other: str) -> None:
    write(other, EVIL_PROGRAM)
    os.rename(other, path)  # noqa: PTH104 - as the kernel calls it


def _exchange(path: str, other: str) -> None:
    write(other, EVIL_PROGRAM)
    checked(libc.renameat2(-100, other.encode(), -100, path.encode(), RENAME_EXCHANGE), "renameat2")


def _write_anew(path: str, _: str) -> None:
    """The file system may give a new file the number of the old one, and the kernel its memory."""
    for _again in range(50):
        Path(path).unlink()
        write(path, EVIL_PROGRAM)


def _truncate(path: str, _: str) -> None:
    os.truncate(path, 0)
    with Path(path).open("r+b") as file:
        file.write(EVIL_PROGRAM)


OVERWRITE: dict[str, Callable[[str, str], None]] = {
    "write": _write,
    "direct": _write_directly,
    "store": _store,
    "child": _store_by_a_child,
    "copy": _copy,
    "splice": _splice,
    "replace": _replace,
    "exchange": _exchange,
    "anew": _write_anew,
    "truncate": _truncate,
}


def reshaped(place: str, how: str) -> dict[str, object]:
    """Have the second page of a file become another one without writing to it: zeros, or the first one."""
    path = f"{place}/it"
    write(path, two_pages(GOOD))
    before = [run(path), run(path)]
    said: dict[str, object] = {"before": before}
    with refusal(said, "error"):
        RESHAPE[how](path)
    return said | {"content": Path(path).read_bytes().hex()}


def _shrink_and_grow(path: str) -> None:
    os.truncate(path, PAGE)
    os.truncate(path, 2 * PAGE)


def _fallocate(path: str, mode: int, offset: int) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        if mode == COLLAPSE_RANGE:  # which must leave something behind it
            os.ftruncate(file, 3 * PAGE)
        checked(libc.fallocate(file, mode, ctypes.c_long(offset), ctypes.c_long(PAGE)), "fallocate")
    finally:
        os.close(file)


RESHAPE: dict[str, Callable[[str], None]] = {
    "truncate": _shrink_and_grow,
    "punch": lambda path: _fallocate(path, PUNCH_HOLE | KEEP_SIZE, PAGE),
    "zero": lambda path: _fallocate(path, ZERO_RANGE, PAGE),
    "insert": lambda path: _fallocate(path, INSERT_RANGE, PAGE),
    "collapse": lambda path: _fallocate(path, COLLAPSE_RANGE, PAGE),
}


def shared_blocks(place: str, *, same: bool) -> dict[str, object]:
    """Have a file share the blocks of another one: one of another content, or of the ``same``."""
    path = _measured(place)
    write(f"{place}/other", GOOD_PROGRAM if same else EVIL_PROGRAM)
    source = os.open(f"{place}/other", os.O_RDONLY)
    said: dict[str, object] = {}
    file = os.open(path, os.O_RDONLY if same else os.O_WRONLY)
    with refusal(said, "error"):
        if same:
            request = bytearray(struct.pack("<QQHHIqQQiI", 0, PAGE, 1, 0, 0, file, 0, 0, 0, 0))
            fcntl.ioctl(source, FIDEDUPERANGE, request)
            said["status"] = struct.unpack_from("<i", request, 48)[0]
        else:
            fcntl.ioctl(file, FICLONE, source)
    os.close(file)
    return said | {"content": Path(path).read_bytes().hex()}


def flagged(place: str) -> dict[str, object]:
    """Change a file's flags there and back, and its content in between."""
    path = _measured(place)
    file = os.open(path, os.O_RDONLY)
    (usual,) = struct.unpack("<q", fcntl.ioctl(file, FS_IOC_GETFLAGS, bytes(8)))
    for flag in (IMMUTABLE, APPEND_ONLY, JOURNAL_DATA):
        for flags in (usual | flag, usual):
            fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("<q", flags))
    fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("<q", usual | JOURNAL_DATA))
    _store(path, "")
    fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("<q", usual))
    os.close(file)
    return {"content": Path(path).read_bytes() == EVIL_PROGRAM}


def made_verity(place: str) -> dict[str, object]:
    """Enable fs-verity of a file that is known."""
    path = _measured(place)
    file = os.open(path, os.O_RDONLY)
    fcntl.ioctl(file, FS_IOC_ENABLE_VERITY, struct.pack("<IIIIQIIQ88x", 1, 1, PAGE, 0, 0, 0, 0, 0))
    os.close(file)
    return {"ran": [run(path), run(path)]}


def held_open(place: str, *, mapped: bool) -> dict[str, object]:
    """Write to a file that others have as code, by a descriptor or a mapping from before, when the pipes say so."""
    path = f"{place}/it"
    write(path, function(GOOD))
    before = [call(map_file(path, READ | EXEC)) for _ in range(2)]
    file = os.open(path, os.O_RDWR)
    memory = place_at(None, PAGE, READ | WRITE, SHARED, file) if mapped else 0
    if mapped:
        os.close(file)
    pause(place)
    if mapped:
        store_at(memory, function(EVIL))
    else:
        os.pwrite(file, function(EVIL), 0)
    pause(place)
    return {"before": before}


def killed(place: str, size: int) -> dict[str, object]:
    """Say that a file is going to be mapped as code that takes long to hash, and map it."""
    write(f"{place}/it", function(EVIL))
    os.truncate(f"{place}/it", size)
    print("now", flush=True)  # noqa: T201 - to the test
    map_file(f"{place}/it", READ | EXEC)
    return {}


def in_a_user_namespace(place: str) -> dict[str, object]:
    """Have a lower file measured by an overlay of a user namespace, then change it there and below."""
    Path(f"{place}/lower").mkdir()
    write(f"{place}/lower/it", GOOD_PROGRAM)
    said = mmap.mmap(-1, PAGE)

    def work() -> None:
        assert libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0
        Path("/proc/self/setgroups").write_text("deny")
        for kind in ("uid", "gid"):
            Path(f"/proc/self/{kind}_map").write_text("0 0 1")
        path = over(place, "it")
        said[0], said[1] = run(path), run(path)
        write(path, EVIL_PROGRAM)
        said[2] = run(path)

    wait(child(work))
    before = list(said[:3])
    write(f"{place}/lower/it", EVIL_PROGRAM)
    return {"ran": before}


def sent(place: str, *, sealed: bool) -> dict[str, object]:
    """Have a memfd measured and send it to another container; write to it when that one has it as code."""
    file = os.memfd_create("sent", os.MFD_ALLOW_SEALING)
    os.write(file, function(GOOD))
    if sealed:
        fcntl.fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)
    said: dict[str, object] = {"before": call(place_at(None, PAGE, READ | EXEC, PRIVATE, file))}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}/socket")
    listener.listen()
    Path(f"{place}/asked").write_bytes(b".")
    peer, _ = listener.accept()
    socket.send_fds(peer, [b"."], [file])
    peer.recv(1)
    with refusal(said, "write"):
        os.pwrite(file, function(EVIL), 0)
    peer.send(b".")
    return said

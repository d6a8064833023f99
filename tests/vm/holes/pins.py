"""A page of a file is written through a reference that outlives the mapping by which it was taken."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Callable

from holes.extents import over
from holes.fuse import Server
from holes.memory import (
    ANONYMOUS,
    EVIL,
    FIXED,
    GOOD,
    PRIVATE,
    READ,
    SHARED,
    WRITE,
    Step,
    checked,
    map_file,
    place_at,
    refusal,
    store_at,
    system,
    unmap,
)
from holes.uring import Ring
from stress import PAGE, child, libc, padded, run, wait, write

USERFAULTFD = 323
IO_SETUP, IO_GETEVENTS, IO_SUBMIT = 206, 208, 209
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
UFFD_API, MISSING = 0xAA, 1
MADV_RANDOM = 1
# So many pages are pinned by one call before the first of them is written.
PINNED = 1024


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def copied_slowly(place: str, *, forked: bool = False, overlay: bool = False) -> dict[str, object]:
    """Write by process_vm_writev, from memory whose page fault is answered when the file has been executed."""
    path = over(place, "it") if overlay else f"{place}/it"
    source, fault, answer = faulting(padded(b"evil", EVIL))
    return attack(path, source, PAGE, begun=fault.wait, finish=answer.done, forked=forked)


def copied_from_a_cold_file(place: str) -> dict[str, object]:
    """Write by process_vm_writev, from a file that is not in memory, with the page that counts as the last one."""
    size = PINNED * PAGE
    path = f"{place}/source"
    write(path, os.urandom(size - PAGE) + padded(b"evil", EVIL))
    file = os.open(path, os.O_RDONLY)
    source = place_at(None, size, READ, PRIVATE, file)
    libc.madvise(ctypes.c_void_p(source), ctypes.c_size_t(size), MADV_RANDOM)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def begun() -> None:
        there = ctypes.create_string_buffer(1)
        while not there.raw[0] & 1:
            checked(libc.mincore(source, PAGE, there), "mincore")

    return attack(f"{place}/it", source, size, begun=begun, finish=lambda: None)


def faulting(content: bytes) -> tuple[int, Step, Step]:
    """Return a page of memory whose first fault is a step, and the step after which it is answered with a content.

    The thread that answers lives in the process that reads the page: see ``_copy``.
    """
    source = place_at(None, PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
    fault, answer = Step(), Step()
    _FAULTS[source] = (content, fault, answer)
    return source, fault, answer


_FAULTS: dict[int, tuple[bytes, Step, Step]] = {}


def _answer(source: int) -> None:
    """Begin to answer faults of a page."""
    content, fault, answer = _FAULTS[source]
    file = system(USERFAULTFD, os.O_CLOEXEC)
    _control(file, UFFDIO_API, struct.pack("<QQQ", UFFD_API, 0, 0))
    _control(file, UFFDIO_REGISTER, struct.pack("<QQQQ", source, PAGE, MISSING, 0))
    memory = ctypes.create_string_buffer(content, PAGE)

    def serve() -> None:
        select.select([file], [], [])
        os.read(file, 32)
        fault.done()
        answer.wait()
        _control(file, UFFDIO_COPY, struct.pack("<QQQQq", source, ctypes.addressof(memory), PAGE, 0, 0))

    threading.Thread(target=serve, daemon=True).start()


def _control(file: int, number: int, argument: bytes) -> None:
    memory = ctypes.create_string_buffer(argument, len(argument))
    checked(libc.ioctl(file, ctypes.c_ulong(number), memory), f"ioctl 0x{number:x}")


def attack(
    path: str,
    source: int,
    size: int,
    *,
    begun: Callable[[], None],
    finish: Callable[[], None],
    then: Callable[[], None] = lambda: None,
    forked: bool = False,
) -> dict[str, object]:
    """Execute a file while a page of it is being written by a mapping that has gone, and afterwards.

    ``then``: what is done with the file when the mapping has gone.
    """
    write(path, padded(b"good", GOOD))
    target = place_at(None, size, READ | WRITE, PRIVATE | ANONYMOUS)
    mapped, unmapped, unmap_now, end = Step(), Step(), Step(), Step()

    def hold() -> None:
        file = os.open(path, os.O_RDWR)
        ctypes.memset(target, 1, size)
        last = target + size - PAGE
        place_at(last, PAGE, READ | WRITE, SHARED | FIXED, file)
        os.close(file)
        # The page is dirty and writable before it is pinned.
        store_at(last, padded(b"good", GOOD)[:1])
        mapped.done()
        unmap_now.wait()
        other = child(lambda: unmap(last)) if forked else 0
        unmap(last)
        if other:
            wait(other)
        unmapped.done()
        end.wait()

    holder = child(hold)
    mapped.wait()
    writer = child(lambda: _copy(source, holder, target, size))
    begun()
    unmap_now.done()
    unmapped.wait()
    then()
    before = [run(path), run(path)]
    writing = os.waitid(os.P_PID, writer, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    finish()
    wait(writer)
    after = [run(path), run(path)]
    end.done()
    wait(holder)
    return {"before": before, "writing": writing, "after": after}


def _copy(source: int, pid: int, target: int, size: int) -> None:
    if source in _FAULTS:
        _answer(source)
    here, there = Vector(source, size), Vector(target, size)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    got = libc.process_vm_writev(pid, ctypes.byref(here), one, ctypes.byref(there), one, none)
    assert checked(got, "process_vm_writev") == size


def read_directly(place: str, how: str) -> dict[str, object]:
    """Write by a read past the page cache, from a file whose server answers when the file has been executed.

    ``how``: by ``read``, by ``aio`` or by ``uring``.
    """
    path = f"{place}/it"
    write(path, padded(b"good", GOOD))
    asked, release = Step(), Step()

    def answer(_: str, offset: int, size: int) -> bytes:
        asked.done()
        release.wait()
        return padded(b"evil", EVIL)[offset : offset + size]

    Server(f"{place}/served", {"source": PAGE}, answer, direct=("source",))
    target, file = _mapped(path), os.open(f"{place}/served/source", os.O_RDONLY | os.O_DIRECT)
    thread = threading.Thread(target=READERS[how], args=(file, target))
    thread.start()
    asked.wait()
    unmap(target)
    before = [run(path), run(path)]
    writing = thread.is_alive()
    release.done()
    thread.join()
    return {"before": before, "writing": writing, "after": [run(path), run(path)]}


def registered(place: str) -> dict[str, object]:
    """Register a page of a file as a buffer of io_uring, which holds it as long as the ring lives."""
    path = f"{place}/it"
    write(path, padded(b"good", GOOD))
    target = _mapped(path)
    ring = Ring()
    said: dict[str, object] = {}
    with refusal(said, "register"):
        ring.register(target, PAGE)
        unmap(target)
        said["before"] = [run(path), run(path)]
        write(f"{place}/source", padded(b"evil", EVIL))
        ring.read(os.open(f"{place}/source", os.O_RDONLY), target, PAGE, fixed=True)
        said["after"] = [run(path), run(path)]
    return said


def _mapped(path: str) -> int:
    """Map a file shared and store in it, so that its page is dirty and writable."""
    target = map_file(path, READ | WRITE, SHARED)
    store_at(target, padded(b"good", GOOD)[:1])
    return target


def _read(file: int, target: int) -> None:
    assert checked(libc.pread(file, ctypes.c_void_p(target), ctypes.c_size_t(PAGE), 0), "pread") == PAGE


def _read_aio(file: int, target: int) -> None:
    context = ctypes.c_ulong(0)
    system(IO_SETUP, 1, ctypes.byref(context))
    block = ctypes.create_string_buffer(struct.pack("<QIIHhIQQqQII", 0, 0, 0, 0, 0, file, target, PAGE, 0, 0, 0, 0), 64)
    blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
    system(IO_SUBMIT, context, 1, blocks)
    event = ctypes.create_string_buffer(32)
    assert system(IO_GETEVENTS, context, 1, 1, event, None) == 1
    assert struct.unpack_from("<q", event, 16)[0] == PAGE


def _read_uring(file: int, target: int) -> None:
    Ring().read(file, target, PAGE)


READERS = {"read": _read, "aio": _read_aio, "uring": _read_uring}

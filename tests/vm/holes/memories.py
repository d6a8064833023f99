"""Files that are memory alone: written after they were hashed, by a descriptor that the kernel counts as no writer."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

from holes.memory import (
    ANONYMOUS,
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
    place_at,
    refusal,
    store_at,
)
from stress import PAGE, libc, mount, write

F_ADD_SEALS, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1033, 8, 16
SHM_EXEC = 0o100000
HUGE = 2 << 20


def written(*, shared: bool = True) -> dict[str, object]:
    """Map a memfd as code, write it by its descriptor, call it again."""
    file = _memory("written")
    code = place_at(None, PAGE, READ | EXEC, SHARED if shared else PRIVATE, file)
    before = call(code)
    os.pwrite(file, function(EVIL), 0)
    return {"before": before, "after": call(code)}


def sealed() -> dict[str, object]:
    """Map a memfd as code that nobody can write any more."""
    file = _memory("sealed")
    fcntl.fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)
    said: dict[str, object] = {"before": call(place_at(None, PAGE, READ | EXEC, PRIVATE, file))}
    with refusal(said, "write"):
        os.pwrite(file, function(EVIL), 0)
    return said


def sealed_too_late() -> dict[str, object]:
    """Map a memfd as code when it is sealed, and write it by a mapping that was there before."""
    file = _memory("late-seal")
    writable = place_at(None, PAGE, READ | WRITE, SHARED, file)
    fcntl.fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
    code = place_at(None, PAGE, READ | EXEC, PRIVATE, file)
    before = call(code)
    store_at(writable, function(EVIL))
    return {"before": before, "after": call(code)}


def segment() -> dict[str, object]:
    """Attach SysV shared memory twice: as code, and to write it."""
    libc.shmat.restype = ctypes.c_void_p
    number = checked(libc.shmget(0, PAGE, 0o1700), "shmget")
    writable = checked(libc.shmat(number, None, 0), "shmat")
    store_at(writable, function(GOOD))
    code = checked(libc.shmat(number, None, SHM_EXEC), "shmat")
    libc.shmctl(number, 0, None)
    before = call(code)
    store_at(writable, function(EVIL))
    return {"before": before, "after": call(code)}


def huge() -> dict[str, object]:
    """As ``written``, in a memfd of huge pages."""
    file = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(file, HUGE)
    with mmap.mmap(file, HUGE) as memory:
        memory[:PAGE] = function(GOOD)
    code = place_at(None, HUGE, READ | EXEC, PRIVATE, file)
    before = call(code)
    with mmap.mmap(file, HUGE) as memory:
        memory[:PAGE] = function(EVIL)
    return {"before": before, "after": call(code)}


def doubled() -> dict[str, object]:
    """Map a memfd of terabytes twice, to write code and to run it, as the runtime of .NET does."""
    file = os.memfd_create("doublemapper")
    os.ftruncate(file, 2 << 40)
    writable = place_at(None, PAGE, READ | WRITE, SHARED, file)
    store_at(writable, function(GOOD))
    code = place_at(None, PAGE, READ | EXEC, SHARED, file)
    return {"ran": call(code)}


def anonymous(rounds: int) -> dict[str, object]:
    """Write code into shared memory without a name, again and again, as the JIT of PHP does."""
    memory = place_at(None, 16 << 20, READ | WRITE, SHARED | ANONYMOUS)
    ran = 0
    for number in range(rounds):
        libc.mprotect(memory, PAGE, READ | WRITE)
        store_at(memory, function(number))
        libc.mprotect(memory, PAGE, READ | EXEC)
        ran += call(memory)
    return {"ran": ran}


def on_tmpfs(place: str) -> dict[str, object]:
    """Map a file of a tmpfs as code; nobody has it open for writing."""
    mount("none", f"{place}/memory", "tmpfs")
    path = f"{place}/memory/it"
    write(path, function(EVIL))
    file = os.open(path, os.O_RDONLY)
    return {"ran": call(place_at(None, PAGE, READ | EXEC, PRIVATE, file))}


def _memory(name: str) -> int:
    file = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.write(file, function(GOOD))
    return file

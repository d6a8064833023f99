"""Code is run by who shares the memory of the task that maps it, when that task is killed or its call seems refused."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading
import time

from holes.memory import (
    ANONYMOUS,
    EVIL,
    EXEC,
    FIXED,
    PRIVATE,
    READ,
    WRITE,
    Step,
    call,
    checked,
    function,
    is_code,
    place_at,
    store_at,
    unmap,
)
from stress import PAGE, child, libc, write

CLONE_VM = 0x100
MMAP = 9
TRACEME, PEEK, POKE, CONTINUE, TO_CALL, OPTIONS = 0, 3, 6, 7, 24, 0x4200
# Where a stopped task's registers are (struct user).
RAX, RDI, ORIG_RAX = 10 * 8, 14 * 8, 15 * 8
EPERM = 1
# A thread that does mmap with the six arguments to which rdi points, and ends.
_MAPPER = bytes.fromhex(
    "4889fb 488b3b 488b7308 488b5310 4c8b5318 4c8b4320 4c8b4b28 b809000000 0f05 31ff b83c000000 0f05".replace(" ", "")
)

libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long] * 4


def killed(place: str, size: int) -> dict[str, object]:
    """Have a file mapped by a process that shares this memory and is killed while the file is hashed; call it."""
    path = _evil(place, size)
    code = place_at(None, PAGE, READ, PRIVATE | ANONYMOUS)
    mapper = place_at(None, PAGE, READ | WRITE | EXEC, PRIVATE | ANONYMOUS)
    store_at(mapper, _MAPPER)
    file = os.open(path, os.O_RDONLY)
    words = (ctypes.c_uint64 * 6)(code, PAGE, READ | EXEC, PRIVATE | FIXED, file, 0)
    stack = place_at(None, 16 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
    pid = checked(
        libc.clone(
            ctypes.c_void_p(mapper), ctypes.c_void_p(stack + 16 * PAGE), CLONE_VM | signal.SIGCHLD, ctypes.byref(words)
        ),
        "clone",
    )
    time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"killed": status == -signal.SIGKILL, "ran": call(code) if is_code(code) else 0}


def refused_by_a_tracer(place: str, size: int) -> dict[str, object]:
    """Call a file and unmap it while a tracer holds the thread that mapped it, which then hears of an error."""
    path = _evil(place, size)
    where = place_at(None, PAGE, READ, PRIVATE | ANONYMOUS)
    mapped, gone = Step(), Step()
    answer, told = os.pipe()

    def other() -> None:
        mapped.wait()
        ran = call(where)
        unmap(where)
        os.write(told, struct.pack("<i", ran))
        gone.done()

    def target() -> None:
        file = os.open(path, os.O_RDONLY)
        threading.Thread(target=other).start()
        checked(libc.ptrace(TRACEME, 0, 0, 0), "ptrace")
        os.kill(os.getpid(), signal.SIGSTOP)
        assert libc.mmap(where, PAGE, READ | EXEC, PRIVATE | FIXED, file, 0) == 2**64 - 1
        assert ctypes.get_errno() == EPERM

    pid = child(target)
    _run_to_mmap(pid, where)
    mapped.done()
    gone.wait()
    checked(libc.ptrace(POKE, pid, RAX, -EPERM), "ptrace")
    checked(libc.ptrace(CONTINUE, pid, 0, 0), "ptrace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "ran": struct.unpack("<i", os.read(answer, 4))[0]}


def _run_to_mmap(pid: int, where: int) -> None:
    """Let a traced process go on until its mmap at an address has done its work, and not yet returned."""
    os.waitpid(pid, 0)
    checked(libc.ptrace(OPTIONS, pid, 0, 1), "ptrace")
    entered = False
    while True:
        checked(libc.ptrace(TO_CALL, pid, 0, 0), "ptrace")
        _, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status), f"it ended with {status}"
        if libc.ptrace(PEEK, pid, ORIG_RAX, 0) == MMAP and libc.ptrace(PEEK, pid, RDI, 0) == where:
            if entered:
                return
            entered = True


def _evil(place: str, size: int) -> str:
    path = f"{place}/it"
    write(path, function(EVIL))
    os.truncate(path, size)
    return path

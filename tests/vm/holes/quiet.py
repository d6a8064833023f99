"""What is no attack: programs that look at code, or have it in use in many places at once."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from contextlib import suppress
from pathlib import Path

from holes.memory import ANONYMOUS, EXEC, PRIVATE, READ, WRITE, Step, checked, place_at
from holes.pins import Vector
from stress import MS_BIND, MS_RDONLY, MS_REMOUNT, PAGE, child, libc, mount, padded, refused, run, wait, write

LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"


def profiled(place: str, rounds: int) -> dict[str, object]:
    """Read the code of a process again and again, by process_vm_readv and by its maps, while programs are executed."""
    end = Step()
    subject = child(end.wait)
    lines = Path(f"/proc/{subject}/maps").read_text().splitlines()
    code = [
        tuple(int(at, 16) for at in line.split()[0].split("-")) for line in lines if " r-xp " in line and "/" in line
    ]
    got = 0
    for number in range(rounds):
        got += sum(_read(subject, begin, min(close - begin, 1 << 20)) for begin, close in code)
        write(f"{place}/{number}", padded(b"%d" % number))
        assert run(f"{place}/{number}") == 0
        assert run("/usr/bin/true") == 0
    end.done()
    wait(subject)
    return {"read": got}


def _read(pid: int, begin: int, size: int) -> int:
    memory = ctypes.create_string_buffer(size)
    here, there = Vector(ctypes.addressof(memory), size), Vector(begin, size)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    return checked(libc.process_vm_readv(pid, ctypes.byref(here), one, ctypes.byref(there), one, none), "readv")


def shared_by_many(place: str, processes: int) -> dict[str, object]:
    """Map a file as data in many processes, then as code in one."""
    path = f"{place}/it"
    write(path, Path(LIBC).read_bytes())
    # All wait for one pipe, which ends for all of them when it is closed here.
    waits, ends = os.pipe()
    ready = Step()

    def look() -> None:
        os.close(ends)
        file = os.open(path, os.O_RDONLY)
        memory = place_at(None, 16 * PAGE, READ, PRIVATE, file)
        for page in range(16):
            ctypes.c_char.from_address(memory + page * PAGE).value  # noqa: B018 - a page fault
        ready.done()
        assert os.read(waits, 1) == b""

    pids = []
    for _ in range(processes):
        pids.append(child(look))
        ready.wait()
    place_at(None, 16 * PAGE, READ | EXEC, PRIVATE, os.open(path, os.O_RDONLY))
    os.close(ends)
    for pid in pids:
        wait(pid)
    return {"shared": processes}


def opened_in_vain(place: str, rounds: int) -> dict[str, object]:
    """Execute a file while others try to write to it on a mount that is read-only."""
    mount(place, f"{place}/only", "", MS_BIND)
    mount("none", f"{place}/only", "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    path = f"{place}/it"
    write(path, padded(b"none"))
    pids = [os.fork() for _ in range(2)]
    if 0 in pids:
        while True:
            with suppress(OSError):
                os.open(f"{place}/only/it", os.O_WRONLY)
    try:
        for number in range(rounds):
            write(f"{place}/new", padded(b"%d" % number))
            Path(f"{place}/new").rename(path)
            # Who is about to be refused counts as a writer for a moment, and what is being written is not executed.
            while (error := refused(path)) == errno.ETXTBSY:
                pass
            assert not error
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return {"ran": rounds}


def read_meanwhile(place: str, rounds: int) -> dict[str, object]:
    """Execute files while others read them: past the page cache, and through a pipe that keeps their pages."""
    kept = []
    for number in range(rounds):
        path = f"{place}/{number}"
        write(path, padded(b"%d" % number))
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        kept.append(os.pipe())
        assert os.splice(file, kept[-1][1], PAGE) == PAGE
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        memory = place_at(None, PAGE, READ | WRITE, PRIVATE | ANONYMOUS)
        assert checked(libc.pread(direct, ctypes.c_void_p(memory), ctypes.c_size_t(PAGE), 0), "pread") == PAGE
        assert run(path) == 0
        assert os.read(kept[-1][0], PAGE) == padded(b"%d" % number)
    return {"read": rounds}

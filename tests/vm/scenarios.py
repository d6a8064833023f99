"""What containers do in test_robust.py, each a function that runs in a container of the guest, as root there.

Everything is below ``place``, a directory of its own on the volume, and what is there is the truth: see ``stress``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from stress import (
    MS_BIND,
    child,
    detach,
    inside,
    libc,
    long_path,
    map_code,
    mount,
    nest,
    padded,
    program,
    refused,
    run,
    run_fd,
    store,
    wait,
    write,
)

SHM_EXEC = 0o100000


def many(place: str, count: int) -> None:
    for number in range(count):
        write(f"{place}/{number}", program(b"%d" % number))
    for number in range(count):
        assert run(f"{place}/{number}") == 0


def storm(place: str, processes: int, count: int) -> None:
    """Execute all files in several processes at once, each in a process of its own that was forked twice."""
    for number in range(count):
        write(f"{place}/{number}", program(b"%d" % number))

    def execute(number: int) -> None:
        os.execve(f"{place}/{number}", ["it"], {})

    def execute_all() -> None:
        for number in range(count):
            wait(child(partial(execute, number)))

    for pid in [child(execute_all) for _ in range(processes)]:
        wait(pid)


def lengths(place: str, wanted: tuple[int, ...]) -> None:
    """Execute two files with paths of these lengths, the second when its name has gone."""
    for length in wanted:
        base = f"{place}/{length}"
        with inside(nest(base, long_path(base, length))):
            write("x", program(b"%d" % length))
            assert run("./x") == 0
            write("x", program(b"%d gone" % length))
            _run_gone(b"x")


def names(place: str, wanted: tuple[bytes, ...]) -> None:
    """Execute two files with each of these names, and memory that is called like a namespace and a path."""
    for number, name in enumerate(wanted):
        path = b"%s/%d/%s" % (place.encode(), number, name)
        Path(os.fsdecode(path)).parent.mkdir(parents=True)
        write(path, program(name))
        assert run(path) == 0
        write(path, program(name + b" gone"))
        _run_gone(path)
    memory = os.memfd_create("4026531840:/x")
    os.write(memory, program(b"memory"))
    assert run_fd(memory) == 0


def _run_gone(path: bytes) -> None:
    file = os.open(path, os.O_RDONLY)
    os.unlink(path)  # noqa: PTH108 - a path of bytes
    assert run_fd(file) == 0


def direct(place: str) -> None:
    write(f"{place}/direct", b"direct" * 1000)
    os.sync()
    map_code(os.open(f"{place}/direct", os.O_RDONLY | os.O_DIRECT))


def stored(*places: str) -> None:
    """Execute a file, change it by a mapping alone, execute it again: on each file system, and in memory."""
    mount("none", places[0], "tmpfs")
    for place in places:
        path = f"{place}/stored"
        write(path, padded(b"before"))
        assert (run(path), run(path)) == (0, 0)
        file = os.open(path, os.O_RDWR)
        store(file, program(b"after " + place.encode(), 7))
        os.close(file)
        assert (run(path), run(path)) == (7, 7)
    memory = os.memfd_create("stored")
    os.write(memory, padded(b"before"))
    assert (run_fd(memory), run_fd(memory)) == (0, 0)
    store(memory, program(b"after memory", 7))
    assert (run_fd(memory), run_fd(memory)) == (7, 7)


def memory(anonymous: int) -> None:
    """Map memory as code: SysV shared memory, a memfd of huge pages, and some that has no file."""
    segment = libc.shmget(0, 8192, 0o1700)
    libc.shmat.restype = ctypes.c_void_p
    assert libc.shmat(segment, None, SHM_EXEC) != 2**64 - 1
    libc.shmctl(segment, 0, None)
    huge = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(huge, 2 << 20)
    # No huge pages are set aside, which is found out after the hook.
    with suppress(OSError):
        map_code(huge, 2 << 20)
    for _ in range(anonymous):
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)


def going(place: str, kind: str, at: str, count: int) -> None:
    """Execute files of a mount one after the other while it is unmounted lazily."""
    if kind == "tmpfs":
        mount("none", at, kind)
    else:
        mount(place, at, "", MS_BIND)
    for number in range(count):
        write(f"{at}/{number}", program(f"{kind} {number}".encode()))
    told, tell = os.pipe()

    def execute() -> None:
        with inside(os.open(at, os.O_RDONLY)):
            for number in range(count):
                os.write(tell, b".")
                assert run(f"./{number}") == 0

    pid = child(execute)
    os.read(told, 1)
    detach(at)
    wait(pid)


def zero(place: str, tags: tuple[bytes, ...]) -> None:
    for tag in tags:
        write(f"{place}/it", program(tag))
        assert run(f"{place}/it") == 0


def links(place: str) -> None:
    """Execute one file by two names that it has at the same time, then by one that it has later."""
    os.chdir(place)
    write("first", program(b"links"))
    os.link("first", "second")
    assert (run("./first"), run("./second"), run("./first")) == (0, 0, 0)
    Path("first").rename("third")
    assert (run("./third"), run("./second")) == (0, 0)


def odd(place: str) -> None:
    """Print the errors of executing what is no program."""
    os.chdir(place)
    os.mkfifo("fifo", 0o755)
    os.mknod("device", 0o20755, os.makedev(1, 3))
    write("script", f"#!{place}/fifo\n".encode())
    print([refused(f"./{name}") for name in ("fifo", "device", "script", ".")])  # noqa: T201 - to the test


def chain(place: str, length: int) -> None:
    """Execute a script whose interpreter is a script, and so on to a program."""
    write(f"{place}/0", program(b"chain", 5))
    for number in range(1, length):
        write(f"{place}/{number}", f"#!{place}/{number - 1}\n".encode())
    assert run(f"{place}/{length - 1}") == 5


def replaced(place: str, versions: int) -> None:
    """Execute a file while it is replaced by others, whose status is their number; print which were executed."""
    os.chdir(place)
    write("it", program(b"0", 0))

    def replace() -> None:
        for number in range(1, versions):
            write("next", program(b"%d" % number, number))
            Path("next").rename("it")

    pid = child(replace)
    seen = set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        seen.add(run("./it"))
    print(*sorted(seen))  # noqa: T201 - to the test


def sparse(place: str, size: int) -> None:
    """Say when a file begins to be mapped that takes long to hash."""
    file = os.open(f"{place}/sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, size)
    os.close(file)
    print("now", flush=True)  # noqa: T201 - to the test
    map_code(os.open(f"{place}/sparse", os.O_RDONLY), size)

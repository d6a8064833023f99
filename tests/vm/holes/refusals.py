"""Mappings and programs that the kernel refuses: none of them runs."""

from __future__ import annotations

import mmap
import os

from holes.memory import EXEC, FIXED, PRIVATE, READ, SHARED, function, large, place_at, refusal, system
from stress import MS_NOEXEC, PAGE, mount, program, refused, write

MEMFD_SECRET = 447


def mappings(place: str) -> dict[str, object]:
    """Map as code what the kernel does not map as code."""
    said: dict[str, object] = {}
    for path in ("/", "/proc/self/status", "/proc/self/comm", place):
        with refusal(said, path):
            place_at(None, PAGE, READ | EXEC, PRIVATE, os.open(path, os.O_RDONLY))
    return said


def noexec(place: str) -> dict[str, object]:
    """Map and execute a file on a noexec mount."""
    said: dict[str, object] = {}
    mount("none", f"{place}/noexec", "tmpfs", MS_NOEXEC)
    path = f"{place}/noexec/never"
    write(path, program(b"never"))
    with refusal(said, "map"):
        place_at(None, PAGE, READ | EXEC, PRIVATE, os.open(path, os.O_RDONLY))
    said["run"] = refused(path)
    return said


def arguments(place: str) -> dict[str, object]:
    """Map a file as code with arguments that the kernel refuses."""
    said: dict[str, object] = {}
    write(f"{place}/never", function(1))
    file = os.open(f"{place}/never", os.O_RDONLY)
    with refusal(said, "no length"):
        place_at(None, 0, READ | EXEC, PRIVATE, file)
    with refusal(said, "no page"):
        place_at(1, PAGE, READ | EXEC, PRIVATE | FIXED, file)
    with refusal(said, "beyond the end of memory"):
        place_at(1 << 60, PAGE, READ | EXEC, PRIVATE | FIXED, file)
    with refusal(said, "not open for reading"):
        place_at(None, PAGE, READ | EXEC, PRIVATE, os.open(f"{place}/never", os.O_WRONLY))
    os.mkfifo(f"{place}/fifo")
    with refusal(said, "fifo"):
        place_at(None, PAGE, READ | EXEC, PRIVATE, os.open(f"{place}/fifo", os.O_RDWR))
    return said


def secret() -> dict[str, object]:
    """Map memory as code that nobody but this process can read."""
    said: dict[str, object] = {}
    with refusal(said, "secret"):
        file = system(MEMFD_SECRET, os.O_CLOEXEC)
        os.ftruncate(file, PAGE)
        place_at(None, PAGE, READ | EXEC, SHARED, file)
    return said


def device() -> dict[str, object]:
    """Map a device as code that has no content."""
    return {"device": bool(place_at(None, PAGE, READ | EXEC, PRIVATE, os.open("/dev/zero", os.O_RDONLY)))}


def killed(place: str, size: int) -> None:
    """Say when a file begins to be mapped that takes long to hash."""
    large(f"{place}/killed", size)
    print("now", flush=True)  # noqa: T201 - to the test
    mmap.mmap(os.open(f"{place}/killed", os.O_RDONLY), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)

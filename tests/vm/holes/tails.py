"""Code behind the end of a file, in its last page: it is mapped with the file, and no digest of the file has it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from holes.extents import over
from holes.memory import EVIL, EXEC, READ, SHARED, WRITE, call, function, map_file, protect, store_at, unmap
from stress import PAGE, child, mount, program, run, write

HUGE = 2 << 20
TRIES = 10


def mapped(place: str, kind: str = "", *, later: bool = False) -> dict[str, object]:
    """Map the last page of a file as code and call what is behind its end, in a process of its own.

    ``kind``: of the file system on which it is, if it is no volume. ``later``: it is made code by mprotect.
    """
    path = _path(place, kind)
    content = program(b"t" * 100)
    write(path, content)
    at = put_behind(path, len(content))
    code = map_file(path, READ if later else READ | EXEC)
    if later:
        protect(code, READ | EXEC)
    # What is there is executed as long as it is zeros, to the end of the mapping.
    ran = os.waitstatus_to_exitcode(os.waitpid(child(lambda: os._exit(call(code + at))), 0)[1])
    return {"ran": ran, "content": Path(path).read_bytes() == content}


def executed(place: str) -> dict[str, object]:
    """Execute a program whose entry point is behind its end."""
    path = f"{place}/it"
    content = bytearray(program(b"t" * 100))
    at = len(content) + 8
    content[24:32] = (0x400000 + at).to_bytes(8, "little")
    write(path, bytes(content))
    put_behind(path, len(content), program(b"", EVIL)[120:])
    return {"ran": run(path), "content": Path(path).read_bytes() == content}


def huge(place: str) -> dict[str, object]:
    """Call code behind the last small page of a file on a tmpfs, where its only page is a huge one."""
    mount("none", f"{place}/huge", "tmpfs", data="huge=always")
    path = f"{place}/huge/it"
    content = program(b"t" * 100)
    write(path, content)
    said: dict[str, object] = {"content": Path(path).read_bytes() == content}

    def work() -> None:
        memory = map_file(path, READ | WRITE, SHARED, size=HUGE)
        # The first page is looked at, so that all of them are there.
        ctypes.c_char.from_address(memory).value  # noqa: B018 - a page fault
        store_at(memory + 2 * PAGE, function(EVIL)[:6])
        unmap(memory, HUGE)
        code = map_file(path, READ | EXEC, size=HUGE)
        ctypes.c_char.from_address(code).value  # noqa: B018 - a page fault
        os._exit(call(code + 2 * PAGE))

    said["ran"] = os.waitstatus_to_exitcode(os.waitpid(child(work), 0)[1])
    return said


def plain(place: str) -> dict[str, object]:
    """Execute a file and end."""
    write(f"{place}/it", program(b"plain", EVIL))
    return {"ran": run(f"{place}/it")}


def _path(place: str, kind: str) -> str:
    if kind == "overlay":
        return over(place, "it")
    if kind:
        mount("none", f"{place}/memory", kind)
        return f"{place}/memory/it"
    return f"{place}/it"


def put_behind(path: str, size: int, code: bytes = function(EVIL)[:6]) -> int:
    """Store code in the last page of a file that has less than a page; return where it is.

    The kernel stores zeros there whenever it writes the page back. A file that was just written back is not soon
    written again, and code that has gone is stored again.
    """
    at = size + 8
    assert at + len(code) <= PAGE
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())
    for _ in range(TRIES):
        memory = map_file(path, READ | WRITE, SHARED)
        store_at(memory + at, code)
        unmap(memory)
        memory = map_file(path, READ)
        found = ctypes.string_at(memory + at, len(code))
        unmap(memory)
        if found == code:
            return at
    raise AssertionError(f"{path}: what is stored behind the end is gone at once, {TRIES} times")

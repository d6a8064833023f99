"""Code of a private mapping is overwritten: in memory, not in its file."""

from __future__ import annotations

import os
import threading

from holes.memory import EVIL, EXEC, GOOD, READ, WRITE, call, function, map_file, protect, store_at
from stress import child, wait, write


def by_protection(place: str) -> dict[str, object]:
    """Make code writable, write it, make it executable again."""
    code = _mapped(place)
    before = call(code)
    protect(code, READ | WRITE)
    store_at(code, function(EVIL))
    protect(code, READ | EXEC)
    return {"before": before, "after": call(code)}


def at_once(place: str, *, mapped: bool) -> dict[str, object]:
    """Write code that is executable and writable at once: by mprotect, or mapped so."""
    code = _mapped(place, READ | WRITE | EXEC if mapped else READ | EXEC)
    if not mapped:
        protect(code, READ | WRITE | EXEC)
    before = call(code)
    store_at(code, function(EVIL))
    return {"before": before, "after": call(code)}


def by_memory(place: str, file: str = "/proc/self/mem") -> dict[str, object]:
    """Write code by the file that is a process's memory; ``THREAD`` in its name is this thread's number."""
    code = _mapped(place)
    before = call(code)
    _write_memory(file.replace("THREAD", str(threading.get_native_id())), code)
    return {"before": before, "after": call(code)}


def by_another(place: str) -> dict[str, object]:
    """Write code of the process that forked this one."""
    code = _mapped(place)
    before, parent = call(code), os.getpid()
    wait(child(lambda: _write_memory(f"/proc/{parent}/mem", code)))
    return {"before": before, "after": call(code)}


def _mapped(place: str, protection: int = READ | EXEC) -> int:
    write(f"{place}/it", function(GOOD))
    return map_file(f"{place}/it", protection)


def _write_memory(path: str, address: int) -> None:
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, function(EVIL)[:6], address)
    os.close(file)

"""Code becomes executable by a call that has not returned when another thread runs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from holes.memory import (
    ANONYMOUS,
    EVIL,
    EXEC,
    FIXED,
    GOOD,
    PRIVATE,
    READ,
    SHARED,
    WRITE,
    call,
    function,
    is_code,
    large,
    map_file,
    place_at,
    protect,
    store_at,
    unmap,
)
from stress import PAGE, mount, program, run, write

# Takes seconds to hash.
LARGE = 48 << 20


def side_by_side(place: str, order: str, *, memory: bool = False) -> dict[str, object]:
    """Make mappings executable by one call: ``e`` is the file that changes, each ``b`` one that is large.

    ``memory``: the file that changes is on a tmpfs.
    """
    path = _evil(place, memory)
    large(f"{place}/large", LARGE)
    # The offsets differ, so that two mappings of one file are not merged.
    parts = [(path, 0) if one == "e" else (f"{place}/large", 2 * number * PAGE) for number, one in enumerate(order)]
    begin = _lay(parts)
    code = begin + order.index("e") * PAGE
    return _run_early(path, code, begin, [lambda: protect(begin, READ | EXEC, len(order) * PAGE)])


def two_threads(place: str) -> dict[str, object]:
    """Two threads make mappings executable: of the file that changes and a large one, and of another large one."""
    path = _evil(place, memory=False)
    begin = place_at(None, 2 * PAGE, READ, PRIVATE | ANONYMOUS)
    others = place_at(None, PAGE, READ, PRIVATE | ANONYMOUS)
    for name, where in (("first", begin + PAGE), ("second", others)):
        large(f"{place}/{name}", LARGE)
        file = os.open(f"{place}/{name}", os.O_RDONLY)
        place_at(where, PAGE, READ, PRIVATE | FIXED, file)
        os.close(file)
    file = os.open(path, os.O_RDONLY)
    place_at(begin, PAGE, READ, PRIVATE | FIXED, file)
    os.close(file)
    work = [lambda: protect(others, READ | EXEC), lambda: protect(begin, READ | EXEC, 2 * PAGE)]
    return _run_early(path, begin, begin, work)


def large_itself(place: str, size: int) -> dict[str, object]:
    """Map the file that changes by a thread: it is large, and its first page is the code."""
    path = _evil(place, memory=False)
    os.truncate(path, size)
    file = os.open(path, os.O_RDONLY)
    begin = place_at(None, PAGE, READ, PRIVATE | ANONYMOUS)
    return _run_early(path, begin, begin, [lambda: place_at(begin, PAGE, READ | EXEC, PRIVATE | FIXED, file)])


def endless(place: str, size: int) -> dict[str, object]:
    """Say by the pipe ``asked`` that a file is going to be mapped as code that takes minutes to hash."""
    large(f"{place}/endless", size)
    Path(f"{place}/asked").write_bytes(b".")
    return {"mapped": bool(map_file(f"{place}/endless", READ | EXEC))}


def rewritten_by_a_mapping(place: str, size: int) -> dict[str, object]:
    """Store good code by a mapping from before, when evil code has run; another thread maps the file then."""
    path = _evil(place, memory=False)
    large(f"{place}/large", size)
    writable = map_file(path, READ | WRITE, SHARED)
    store_at(writable, function(EVIL))
    begin = _lay([(f"{place}/large", 0), (path, 0)])
    thread = threading.Thread(target=lambda: protect(begin, READ | EXEC, 2 * PAGE))
    thread.start()
    while not is_code(begin + PAGE) and thread.is_alive():
        pass
    ran = call(begin + PAGE)
    store_at(writable, function(GOOD))
    unmap(writable)
    again = call(map_file(path, READ | EXEC))
    early = thread.is_alive()
    thread.join()
    return {"ran": ran, "again": again, "early": early}


def not_bound_any_more(place: str) -> dict[str, object]:
    """Make a file code by mprotect whose content is in the log, and whose pages somebody may have kept since."""
    path = f"{place}/it"
    write(path, program(b"twice", GOOD))
    before = run(path)
    os.close(os.open(path, os.O_RDWR))
    code = map_file(path, READ)
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    protect(code, READ | EXEC)
    end.set()
    other.join()
    return {"before": before, "code": is_code(code)}


def _lay(parts: Sequence[tuple[str, int]]) -> int:
    """Map a page of each file, from its offset on, side by side; return where the first one is."""
    begin = place_at(None, len(parts) * PAGE, READ, PRIVATE | ANONYMOUS)
    for number, (path, offset) in enumerate(parts):
        file = os.open(path, os.O_RDONLY)
        place_at(begin + number * PAGE, PAGE, READ, PRIVATE | FIXED, file, offset)
        os.close(file)
    return begin


def _evil(place: str, memory: bool) -> str:
    if memory:
        mount("none", f"{place}/memory", "tmpfs")
        place = f"{place}/memory"
    write(f"{place}/it", function(EVIL))
    return f"{place}/it"


def _run_early(path: str, code: int, begin: int, work: Sequence[Callable[[], object]]) -> dict[str, object]:
    """Call the code as soon as it is executable, then write another content: both before the threads come back."""
    threads = [threading.Thread(target=one) for one in work]
    for one in threads:
        one.start()
    while not is_code(code) and any(one.is_alive() for one in threads):
        pass
    ran = call(code)
    early = threads[-1].is_alive()
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, function(GOOD), 0)
    os.close(file)
    written_early = threads[-1].is_alive()
    for one in threads:
        one.join()
    return {"ran": ran, "early": early, "written_early": written_early}

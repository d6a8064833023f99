"""A descriptor that was opened on an overlay before its file was copied up still leads to the lower file."""

from __future__ import annotations

import os
from pathlib import Path

from holes.extents import over
from holes.memory import EVIL, EXEC, GOOD, PRIVATE, READ, call, function, place_at, protect
from stress import PAGE, padded, run_fd, write


def mapped(place: str, *, later: bool = False, changed: bool = False) -> dict[str, object]:
    """Map the lower file as code when the upper one has another content.

    ``later``: by mprotect. ``changed``: the lower file is opened for writing while it is mapped.
    """
    file, path = _copied_up(place, function(EVIL), function(GOOD))
    code = place_at(None, PAGE, READ if later else READ | EXEC, PRIVATE, file)
    if later:
        protect(code, READ | EXEC)
    ran = call(code)
    if changed:
        os.close(os.open(f"{place}/lower/it", os.O_WRONLY))
    return {"ran": ran, "upper": Path(path).read_bytes() == function(GOOD)}


def executed(place: str) -> dict[str, object]:
    """Execute a file by a descriptor of the lower one; the kernel opens it again, and finds the upper one."""
    file, path = _copied_up(place, padded(b"lower", EVIL), padded(b"upper", GOOD))
    ran = run_fd(file)
    return {"ran": ran, "upper": Path(path).read_bytes() == padded(b"upper", GOOD)}


def _copied_up(place: str, lower: bytes, upper: bytes) -> tuple[int, str]:
    """Return a descriptor of a lower file, and the path where another content is now."""
    Path(f"{place}/lower").mkdir()
    write(f"{place}/lower/it", lower)
    path = over(place, "it")
    file = os.open(path, os.O_RDONLY)
    write(path, upper)
    return file, path

"""What the second container does: it gets a file whose content the measurer may remember from the first one."""

from __future__ import annotations

import os
import socket

from holes.memory import EXEC, PRIVATE, READ, call, map_file, pause, place_at
from stress import PAGE, child, run


def executed(path: str) -> dict[str, object]:
    """Execute a program."""
    return {"path": path, "ran": run(path)}


def called(path: str, at: int = 0) -> dict[str, object]:
    """Map the first page of a file as code and call what is there, in a process of its own."""
    code = map_file(path, READ | EXEC)
    ran = os.waitstatus_to_exitcode(os.waitpid(child(lambda: os._exit(call(code + at))), 0)[1])
    return {"path": path, "ran": ran}


def called_twice(path: str, place: str) -> dict[str, object]:
    """Map a file as code and call it, wait for the pipes of a place, and do so again."""
    before = call(map_file(path, READ | EXEC))
    pause(place)
    return {"before": before, "after": call(map_file(path, READ | EXEC))}


def received(place: str) -> dict[str, object]:
    """Map memory as code that another container sends, and call it again when that one has written to it."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(f"{place}/socket")
    _, (file,), _, _ = socket.recv_fds(peer, 1, 1)
    code = place_at(None, PAGE, READ | EXEC, PRIVATE, file)
    before = call(code)
    peer.send(b".")
    peer.recv(1)
    return {"before": before, "after": call(code)}

"""Programs of a file server that answers otherwise when they have been hashed."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

from holes.extents import over
from holes.fuse import Server
from holes.memory import EVIL, EXEC, GOOD, READ, call, function, map_file, pause, protect
from stress import PAGE, child, libc, padded, run, wait

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
# write(1, ".", 1); read(0, below the stack, 1); exit_group(status)
_WAITS = (
    b"\x31\xc0\xff\xc0\x89\xc7\x48\x8d\x35\x15\0\0\0\x89\xc2\x0f\x05"
    b"\x31\xc0\x31\xff\x48\x8d\x74\x24\xc0\xba\1\0\0\0\x0f\x05"
)


def waiting(status: int) -> bytes:
    """Return a program of a page that says when it runs, and ends with a status on request."""
    begin, end = padded(b"", status)[:120], padded(b"", status)[120:132]
    return (begin + _WAITS + end).ljust(PAGE, b"\0")


class Liar:
    """Good content at first; another one from the moment on at which a request says so."""

    def __init__(self, good: bytes, evil: bytes) -> None:
        self._good, self._evil = good, evil
        self._shared = mmap.mmap(-1, PAGE)

    def lie(self) -> None:
        self._shared[0] = 1

    def answer(self, _: str, offset: int, size: int) -> bytes:
        content = self._evil if self._shared[0] else self._good
        return content[offset : offset + size]


def executed(place: str, *, below: bool = False) -> dict[str, object]:
    """Execute a program of the server, which gives another page when it is asked for it again.

    ``below``: the server's files are the lower layer of an overlay.
    """
    liar = Liar(waiting(GOOD), waiting(EVIL))
    at = f"{place}/lower" if below else f"{place}/served"
    server = Server(at, {"it": PAGE}, liar.answer)
    path = over(place, "it") if below else f"{at}/it"
    return {"ran": _run_and_lie(path, server, liar)}


def _run_and_lie(path: str, server: Server, liar: Liar) -> int:
    ready, go = os.pipe(), os.pipe()

    def execute() -> None:
        os.dup2(go[0], 0)
        os.dup2(ready[1], 1)
        os.execv(path, [path])

    pid = child(execute)
    os.read(ready[0], 1)
    liar.lie()
    server.forget_pages()
    os.write(go[1], b".")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def mapped(place: str, *, later: bool = False) -> dict[str, object]:
    """Map a function of the server, which gives another one when it is asked for it again."""
    liar = Liar(function(GOOD), function(EVIL))
    server = Server(f"{place}/served", {"it": PAGE}, liar.answer)
    code = map_file(f"{place}/served/it", READ if later else READ | EXEC)
    if later:
        protect(code, READ | EXEC)
    before = call(code)
    liar.lie()
    server.forget_pages()
    return {"before": before, "after": call(code)}


def in_a_user_namespace(place: str) -> dict[str, object]:
    """As ``executed``, with a server that is mounted by the root of a user namespace."""
    said = mmap.mmap(-1, PAGE)

    def work() -> None:
        assert libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0
        Path("/proc/self/setgroups").write_text("deny")
        for kind in ("uid", "gid"):
            Path(f"/proc/self/{kind}_map").write_text("0 0 1")
        said[0] = int(str(executed(place)["ran"]))

    wait(child(work))
    return {"ran": said[0]}


def second_read(place: str) -> dict[str, object]:
    """Execute a program of a server that gives another content at every other reading of the same page."""
    counted = mmap.mmap(-1, PAGE)

    def answer(_: str, offset: int, size: int) -> bytes:
        counted[0] = (counted[0] + 1) % 256
        content = padded(b"", GOOD if counted[0] % 2 else EVIL)
        return content[offset : offset + size]

    server = Server(f"{place}/served", {"it": PAGE}, answer)
    ran = []
    for _ in range(4):
        ran.append(run(f"{place}/served/it"))
        server.forget_pages()
    return {"ran": ran, "reads": counted[0]}


def unreadable(place: str) -> dict[str, object]:
    """Map a file of the server as code, which it does not give to anybody before it is mapped."""
    shared = mmap.mmap(-1, PAGE)

    def answer(_: str, offset: int, size: int) -> bytes:
        if not shared[0]:
            raise PermissionError(errno.EACCES, "not yet")
        return function(EVIL)[offset : offset + size]

    Server(f"{place}/served", {"it": PAGE}, answer)
    code = map_file(f"{place}/served/it", READ | EXEC)
    shared[0] = 1
    return {"ran": call(code)}


def stalled(place: str, *, alone: bool = False) -> dict[str, object]:
    """Make a file of the server executable, which tells the pipe ``asked``, and answers as ``release`` tells it.

    Unless this thread is ``alone``, another one could run the file meanwhile.
    """
    end = threading.Event()
    if not alone:
        threading.Thread(target=end.wait, daemon=True).start()

    def answer(_: str, offset: int, size: int) -> bytes:
        pause(place)
        return function(EVIL)[offset : offset + size]

    Server(f"{place}/served", {"it": PAGE}, answer)
    code = map_file(f"{place}/served/it", READ)
    protect(code, READ | EXEC)
    return {"ran": call(code)}

"""A file server that answers as it likes, in the protocol of /dev/fuse (linux/fuse.h, version 7.31)."""

from __future__ import annotations

import errno
import os
import signal
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from holes.memory import Step
from stress import child, libc, mount

# What a read of a file gives: called in a thread of its own, with the file's name, an offset and a size. An ``OSError``
# is the answer, too.
Answer = Callable[[str, int, int], bytes]
ROOT = 1
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, OPENDIR, READDIR, INTERRUPT, BATCH_FORGET = (
    1,
    2,
    3,
    14,
    15,
    26,
    27,
    28,
    36,
    42,
)
STATFS, RELEASE, FLUSH, RELEASEDIR = 17, 18, 25, 29
DIRECT_IO = 1
ASYNC_READ, ASYNC_DIO = 1, 1 << 15
INVALIDATE = 2
PR_SET_PDEATHSIG = 1
_IN, _OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_DIRECTORY, _FILE = 0o40755, 0o100755
# What is answered whatever is asked: INIT (version, flags, sizes), STATFS, and nothing.
_ALWAYS = {
    INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, ASYNC_READ | ASYNC_DIO, 12, 9, 1 << 17, 1, 32, 0, 0),
    STATFS: struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
    **dict.fromkeys((RELEASE, FLUSH, RELEASEDIR, READDIR), b""),
}


class Server:
    """A file system of files that lie side by side. ``sizes`` of its files; ``direct``: those that nothing caches.

    It is served by a process of its own, which ends with the one that made it.
    """

    def __init__(self, at: str, sizes: Mapping[str, int], answer: Answer, direct: tuple[str, ...] = ()) -> None:
        self._names = list(sizes)
        self._sizes, self._answer, self._direct = sizes, answer, direct
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        Path(at).mkdir(exist_ok=True)
        self._forget, self._forgotten = Step(), Step()
        mount("fuse", at, "fuse", data=options)
        # The device is connected by the mount, which waits for no answer.
        self.process = child(self._serve)
        os.close(self._device)

    def forget_pages(self) -> None:
        """Have the kernel drop all pages of all files, as a server may that knows of a change."""
        self._forget.done()
        self._forgotten.wait()

    def _serve(self) -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        threading.Thread(target=self._forget_when_told, daemon=True).start()
        while True:
            try:
                request = os.read(self._device, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    os._exit(0)
                raise
            self._dispatch(request)

    def _dispatch(self, request: bytes) -> None:
        _, what, unique, node, *_ = _IN.unpack_from(request)
        body = request[_IN.size :]
        if what in {FORGET, BATCH_FORGET, INTERRUPT}:
            return
        if what == READ:
            threading.Thread(target=self._read, args=(unique, node, body), daemon=True).start()
            return
        made = self._make(what, node, body)
        self._reply(unique, made) if isinstance(made, bytes) else self._reply(unique, b"", made)

    def _make(self, what: int, node: int, body: bytes) -> bytes | int:
        """Return the answer to a request, or an error."""
        if what == LOOKUP:
            return self._look_up(body.rstrip(b"\0").decode())
        if what == GETATTR:
            return struct.pack("<QII", 1, 0, 0) + self._attributes(node)
        if what in {OPEN, OPENDIR}:
            direct = node != ROOT and self._name(node) in self._direct
            return struct.pack("<QII", 0, DIRECT_IO if direct else 0, 0)
        return _ALWAYS.get(what, errno.ENOSYS)

    def _look_up(self, name: str) -> bytes | int:
        if name not in self._names:
            return errno.ENOENT
        found = self._names.index(name) + ROOT + 1
        return struct.pack("<QQQQII", found, 0, 1, 1, 0, 0) + self._attributes(found)

    def _name(self, node: int) -> str:
        return self._names[node - ROOT - 1]

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == ROOT else self._sizes[self._name(node)]
        mode = _DIRECTORY if node == ROOT else _FILE
        return _ATTR.pack(node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _read(self, unique: int, node: int, body: bytes) -> None:
        _, offset, size = struct.unpack_from("<QQI", body)
        try:
            self._reply(unique, self._answer(self._name(node), offset, size))
        except OSError as error:
            self._reply(unique, b"", error.errno or errno.EIO)

    def _reply(self, unique: int, body: bytes, error: int = 0) -> None:
        os.write(self._device, _OUT.pack(_OUT.size + len(body), -error, unique) + body)

    def _forget_when_told(self) -> None:
        while True:
            self._forget.wait()
            for number in range(len(self._names)):
                body = struct.pack("<Qqq", number + ROOT + 1, 0, 0)
                try:
                    os.write(self._device, _OUT.pack(_OUT.size + len(body), INVALIDATE, 0) + body)
                except FileNotFoundError:  # the kernel does not know this file yet
                    continue
            self._forgotten.done()

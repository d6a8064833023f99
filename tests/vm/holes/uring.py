"""io_uring with one entry (linux/io_uring.h), by system calls alone."""

from __future__ import annotations

import ctypes
import mmap
import struct

from holes.memory import checked, system

SETUP, ENTER, REGISTER = 425, 426, 427
REGISTER_BUFFERS = 0
READ_FIXED, READ = 4, 22
WAIT_FOR_EVENTS = 1
ENTRIES_OFFSET = 0x10000000
_ENTRY = struct.Struct("<BBHiQQIIQHH20x")


class Ring:
    """A ring that is waited for after each request."""

    def __init__(self) -> None:
        params = ctypes.create_string_buffer(120)
        self._file = system(SETUP, 1, params)
        # Where things are in the ring: params has ten words, then two tables of offsets.
        _, self._tail, _, _, _, _, self._array = struct.unpack_from("<7I", params, 40)
        self._cq_head, self._cq_tail, _, _, _, self._results = struct.unpack_from("<6I", params, 80)
        self._ring = mmap.mmap(self._file, 4096, mmap.MAP_SHARED)
        self._entries = mmap.mmap(self._file, 4096, mmap.MAP_SHARED, offset=ENTRIES_OFFSET)

    def register(self, address: int, size: int) -> None:
        vector = ctypes.create_string_buffer(struct.pack("<QQ", address, size), 16)
        system(REGISTER, self._file, REGISTER_BUFFERS, vector, 1)

    def read(self, file: int, address: int, size: int, *, fixed: bool = False) -> None:
        """Read from a file's beginning, into the registered buffer if ``fixed``."""
        what = READ_FIXED if fixed else READ
        self._entries[: _ENTRY.size] = _ENTRY.pack(what, 0, 0, file, 0, address, size, 0, 1, 0, 0)
        self._ring[self._array : self._array + 4] = struct.pack("<I", 0)
        tail = self._word(self._tail)
        self._ring[self._tail : self._tail + 4] = struct.pack("<I", tail + 1)
        assert system(ENTER, self._file, 1, 1, WAIT_FOR_EVENTS, None, 0) == 1
        head = self._word(self._cq_head)
        got = struct.unpack_from("<i", self._ring, self._results + 16 * (head % 2) + 8)[0]
        assert checked(got, "read by io_uring") == size

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._ring, at)[0])

"""Bytes that are read where they lie: a part of an open file, or a file of which only some fragments are stored."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from testbed.errors import HostError
from testbed.files import reason

_MOST, _BUFFER = 1 << 20, 1 << 17


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Piece:
    """``size`` bytes from ``start`` on of the file that ``file``, a descriptor, has open. ``where``: that file's name.

    Whoever opened the descriptor closes it. Raises ``HostError`` if this machine cannot read the file.
    """

    file: int
    start: int
    size: int
    where: str

    def read(self, at: int, count: int) -> bytes:
        """Return ``count`` bytes from ``at`` on; fewer at the end."""
        parts = []
        count = min(count, self.size - at)
        while count > 0:
            part = _pread(self, at, count)
            if not part:
                break
            parts.append(part)
            at, count = at + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def part(self, at: int, size: int) -> Piece:
        return Piece(file=self.file, start=self.start + at, size=size, where=self.where)

    def open(self) -> BinaryIO:
        if self.size <= _BUFFER:
            return io.BytesIO(self.read(0, self.size))
        return cast("BinaryIO", io.BufferedReader(_Reader(self), _BUFFER))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Holes:
    """A file of ``size`` bytes. ``fragments``: offset and length of what ``stored`` holds, one after the other."""

    stored: Piece
    fragments: Sequence[tuple[int, int]]
    size: int

    def read(self, at: int, count: int) -> bytes:
        """Return ``count`` bytes from ``at`` on, zeros where nothing is stored; fewer at the end."""
        end = min(at + min(count, _MOST), self.size)
        read = bytearray(max(end - at, 0))
        place = 0
        for offset, length in self.fragments:
            first, last = max(offset, at), min(offset + length, end)
            if first < last:
                read[first - at : last - at] = self.stored.read(place + first - offset, last - first)
            place += length
        return bytes(read)

    def open(self) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Reader(self), _BUFFER))


Content = Piece | Holes


class _Reader(io.RawIOBase):
    """What the standard library reads from."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # any buffer
        data = self._content.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _pread(piece: Piece, at: int, count: int) -> bytes:
    try:
        return os.pread(piece.file, count, piece.start + at)
    except OSError as error:
        raise unreadable(piece.where, error) from error


def unreadable(where: str, error: OSError) -> HostError:
    """Return the error for a file that is there, and that this machine does not let us read."""
    hint = "make it readable for the user who runs this, and check the disk that it is on"
    return HostError(f"{where}: cannot be read on this machine: {reason(error)}", hint)

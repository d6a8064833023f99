"""Layers and archives that are compressed: gzip, zstd, xz and bzip2 are unpacked into a temporary file."""

from __future__ import annotations

import bz2
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from testbed.attest.image.content import Piece
from testbed.errors import HostError
from testbed.files import reason

_CHUNK = 1 << 20


class BadPacking(ValueError):
    """Compressed bytes are damaged or cut."""


class _Stream(Protocol):
    """One compressed stream, as ``bz2`` and ``lzma`` read it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, most: int, /) -> bytes: ...


class _Gzip:
    """The same for ``zlib``, which gives back the input that it did not use."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, most: int, /) -> bytes:
        chunk = self._stream.decompress(self._stream.unconsumed_tail + data, most)
        self.needs_input = len(chunk) < most and not self._stream.unconsumed_tail
        return chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """``magic``: the first bytes; ``stream``: a new decompressor."""

    name: str
    magic: bytes
    stream: Callable[[], _Stream]


_PACKINGS = (
    _Packing(name="gzip", magic=b"\x1f\x8b\x08", stream=_Gzip),
    _Packing(name="bzip2", magic=b"BZh", stream=bz2.BZ2Decompressor),
    _Packing(name="xz", magic=b"\xfd7zXZ\0", stream=lzma.LZMADecompressor),
)
_ZSTD = b"\x28\xb5\x2f\xfd"


@contextmanager
def plain(packed: Piece) -> Iterator[Piece]:
    """Yield the plain bytes, told by their first bytes and not by any media type; what is not compressed as it is.

    Raises ``BadPacking``, and ``HostError`` if the temporary file cannot be written.
    """
    head = packed.read(0, 6)
    chunks = next((_unpack(packed, one) for one in _PACKINGS if head.startswith(one.magic)), None)
    if head.startswith(_ZSTD):
        chunks = _unpack_zstd(packed)
    if chunks is None:
        yield packed
        return
    with _temporary() as file:
        size = 0
        for chunk in chunks:
            try:
                file.write(chunk)
            except OSError as error:
                raise _no_room(error) from error
            size += len(chunk)
        yield Piece(file=file.fileno(), start=0, size=size, where=f"{packed.where}, unpacked")


@contextmanager
def _temporary() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(prefix="testbed-", buffering=0))
        except OSError as error:
            raise _no_room(error) from error
        yield file


def _no_room(error: OSError) -> HostError:
    where = "the temporary directory"
    with suppress(OSError):
        where = tempfile.gettempdir()
    hint = "free space there, or name another directory in the environment variable TMPDIR"
    return HostError(f"{where}: a compressed layer cannot be unpacked there: {reason(error)}", hint)


def _unpack(packed: Piece, packing: _Packing) -> Iterator[bytes]:
    """Yield what several streams, one after the other, contain, in chunks that fit into memory."""
    stream = packing.stream()
    for at in range(0, packed.size, _CHUNK):
        data = packed.read(at, _CHUNK)
        while data or not (stream.eof or stream.needs_input):
            if stream.eof:
                stream = packing.stream()
            try:
                chunk = stream.decompress(data, _CHUNK)
            # BZ2Decompressor raises OSError; nothing here reads a file.
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise BadPacking(f"damaged {packing.name} data: {error}") from error
            data = stream.unused_data if stream.eof else b""
            if chunk:
                yield chunk
    if not stream.eof:
        raise BadPacking(f"{packing.name} data that are cut: the end is missing")


def _unpack_zstd(packed: Piece) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and few layers are zstd

    with packed.open() as file, pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except HostError:
                raise
            except OSError as error:
                raise BadPacking(f"damaged zstd data: {error}") from error
            if not chunk:
                return
            yield chunk

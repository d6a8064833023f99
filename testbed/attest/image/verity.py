"""What fs-verity computes of a file: SHA-256, blocks of 4096 bytes, no salt (Documentation/filesystems/fsverity)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 4096
_HASHES = BLOCK // hashlib.sha256().digest_size
_NO_CONTENT = bytes(32)
_DESCRIPTOR = struct.Struct("<BBBB4xQ64s32s144x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verity:
    """``size``: of the file. ``tree``: the blocks of its Merkle tree as they are stored, the root's level first.

    ``descriptor``: what the digest is of. It names the size and the hash at the root.
    """

    size: int
    tree: bytes
    descriptor: bytes

    @property
    def digest(self) -> bytes:
        """The file's fs-verity digest."""
        return hashlib.sha256(self.descriptor).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Both digests that an entry can have of one content, hex. ``verity``: its fs-verity digest."""

    sha256: str
    verity: str
    size: int


def digests_of(file: BinaryIO) -> Digests:
    """Compute both digests of a file, which is read to its end."""
    whole = hashlib.sha256()
    verity = verity_of(file, whole.update)
    return Digests(sha256=whole.hexdigest(), verity=verity.digest.hex(), size=verity.size)


def verity_of(file: BinaryIO, each: Callable[[bytes], None] = lambda _: None) -> Verity:
    """Compute what fs-verity has of a file, which is read to its end. ``each`` gets its blocks."""
    size, level = 0, []
    while block := file.read(BLOCK):
        each(block)
        size += len(block)
        level.append(hashlib.sha256(block.ljust(BLOCK, b"\0")).digest())
    tree: list[bytes] = []
    while len(level) > 1:
        blocks = [_block(level[at : at + _HASHES]) for at in range(0, len(level), _HASHES)]
        tree = blocks + tree
        level = [hashlib.sha256(block).digest() for block in blocks]
    root = level[0] if level else _NO_CONTENT  # an empty file has no tree
    descriptor = _DESCRIPTOR.pack(1, 1, 12, 0, size, root, b"")
    return Verity(size=size, tree=b"".join(tree), descriptor=descriptor)


def _block(digests: Sequence[bytes]) -> bytes:
    return b"".join(digests).ljust(BLOCK, b"\0")

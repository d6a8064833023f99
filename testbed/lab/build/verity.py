"""fs-verity for the files of an ext4 disk that no kernel has mounted yet.

Only a kernel enables fs-verity (``FS_IOC_ENABLE_VERITY``), on a file system that is mounted and can be written to. So
what it stores is written here: ext4 keeps it behind the end of a file (``fs/ext4/verity.c`` of the kernel), from the
next multiple of 64 KiB on: the Merkle tree, then a block that begins with the descriptor and ends with its size. Each
file gets these bytes when the disk is made. Afterwards ``debugfs`` gives it its own size back, and the flag.

If a byte of this is wrong, the kernel refuses the file or its pages: nothing that runs is left unchecked.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testbed.attest.image.verity import BLOCK, verity_of
from testbed.errors import BuildError
from testbed.lab.build import debian

# Raise it when this module makes something else of the same files.
BUILDER = 1
_METADATA = 1 << 16
_SIZE = struct.Struct("<I")
# EXT4_EXTENTS_FL and EXT4_VERITY_FL.
_FLAGS = 0x80000 | 0x100000


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityFile:
    """A file of the disk that is to have fs-verity. ``path``: in the disk, without a leading slash."""

    path: str
    size: int


def append(info: tarfile.TarInfo, content: IO[bytes]) -> tuple[VerityFile, IO[bytes]]:
    """Return a regular file's true size, and its content with what ext4 stores behind it; ``info`` gets that size."""
    data = content.read()
    verity = verity_of(io.BytesIO(data))
    last = verity.descriptor.ljust(BLOCK - _SIZE.size, b"\0") + _SIZE.pack(len(verity.descriptor))
    whole = data + b"\0" * (-len(data) % _METADATA) + verity.tree + last
    info.size = len(whole)
    return VerityFile(path=info.name, size=len(data)), io.BytesIO(whole)


def commands(files: Iterable[VerityFile]) -> str:
    """Return what ``debugfs`` is to do. Raises ``BuildError`` for a name that its command file cannot have."""
    lines = []
    for file in files:
        if "\n" in file.path:
            raise BuildError(f"store: {file.path!r}: a line break in a name", "leave this file out of the image")
        path = '"/' + file.path.replace('"', '""') + '"'
        lines += [f"sif {path} size {file.size}\n", f"sif {path} flags {_FLAGS:#x}\n"]
    return "".join(lines)


def enable(at: Path, tools: Path, files: Iterable[VerityFile]) -> None:
    """Give the files of ``disk.raw`` in ``at`` their size and their flag, and check the disk.

    ``tools``: the entry with the programs. Raises ``CommandError``, ``BuildError``.
    """
    (at / "verity").write_bytes(commands(files).encode(errors="surrogateescape"))
    done = debian.enter(tools / "root", ("debugfs", "-w", "-f", "/out/verity", "/out/disk.raw"), write={at: "/out"})
    # It ends well whatever its commands did; on standard error is the line with its version, and what went wrong.
    wrong = [line for line in done.err.decode(errors="replace").splitlines()[1:] if line.strip()]
    if wrong:
        raise BuildError(f"store: debugfs says: {wrong[0]}")
    debian.enter(tools / "root", ("e2fsck", "-f", "-n", "/out/disk.raw"), write={at: "/out"})
    (at / "verity").unlink()

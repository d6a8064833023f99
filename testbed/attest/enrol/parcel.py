"""Files that a person carries in a tar archive. One from a foreign machine is hostile: it unpacks nothing.

Only named, plain files are read, each once and up to its size; paths, links and modes in an archive do nothing.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from testbed import files
from testbed.attest.finding import BadEvidence

_MEMBERS_MAX = 16
# Bytes beside a file's own: its headers, and the zeros after it.
_AROUND = 1 << 14


@contextmanager
def members(path: Path, limits: Mapping[str, int]) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    """Hold the files of an archive one after another, by name; ``limits``: the bytes of each that may be in it.

    Raises ``BadEvidence``: another name, a name twice, a link, a file that is too large, what is no plain tar.
    """
    try:
        file = files.open_plain(path)
    except OSError as error:
        raise BadEvidence(path.name, "a plain file that can be read", files.reason(error)) from error
    # Names and headers of an archive have no limit of their own, and tarfile reads them whole.
    most = sum(limits.values()) + _MEMBERS_MAX * _AROUND
    if (size := os.fstat(file.fileno()).st_size) > most:
        file.close()
        raise BadEvidence(path.name, f"at most {most} bytes", f"{size}")
    # tarfile raises what it likes for a damaged archive, also while a file in it is read.
    with file:
        try:
            yield _members(file, path.name, limits)
        except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            raise BadEvidence(path.name, "a tar archive without compression", ascii(str(error))[:200]) from error


def unpack(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Return the small files of an archive. Raises ``BadEvidence`` as ``members``."""
    with members(path, limits) as found:
        return {name: content.read() for name, content in found}


def unpack_into(path: Path, limits: Mapping[str, int], directory: Path) -> set[str]:
    """Write the files of an archive into a directory; return their names. Raises ``BadEvidence`` as ``members``."""
    names = set()
    with members(path, limits) as found:
        for name, content in found:
            with (directory / name).open("xb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            names.add(name)
    return names


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return an archive. The same content gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _members(file: BinaryIO, where: str, limits: Mapping[str, int]) -> Iterator[tuple[str, BinaryIO]]:
    seen: set[str] = set()
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            name = member.name.removeprefix("./")
            _check(where, member, name, limits, seen)
            seen.add(name)
            content = archive.extractfile(member)
            assert content is not None
            yield name, cast("BinaryIO", content)


def _check(where: str, member: tarfile.TarInfo, name: str, limits: Mapping[str, int], seen: set[str]) -> None:
    if name not in limits or len(seen) >= _MEMBERS_MAX:
        raise BadEvidence(where, f"only files called {', '.join(limits)}", ascii(member.name)[:80])
    if name in seen:
        raise BadEvidence(f"{where}: {name}", "one file of this name", "a second one")
    if not member.isreg() or member.issparse():
        raise BadEvidence(f"{where}: {name}", "a plain file", "a link, a device or a sparse file")
    if not 0 <= member.size <= limits[name]:
        raise BadEvidence(f"{where}: {name}", f"at most {limits[name]} bytes", f"{member.size}")

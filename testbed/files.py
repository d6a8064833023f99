"""How files are opened, written and digested.

Only plain files are read; a new file appears whole or not at all; a tree has one digest.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

# Prefix of the name of a file, or of a directory, that is still being written.
SPARE = ".part-"
_NAMED = 40  # so many characters of a file's name are in that of its spare: a name has at most 255 bytes
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotPlainFile(OSError):
    """What is at that path is not a plain file; ``strerror`` says what it is."""


def open_plain(path: Path | bytes, *, follow: bool = True) -> BufferedReader:
    """Open a plain file for reading; without ``follow`` a symbolic link is rejected too.

    A FIFO is rejected without waiting. Raises ``OSError``: ``NotPlainFile`` for a directory, a FIFO or a device.
    """
    # Not blocking: otherwise the open of a FIFO waits for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:
        raise OSError(errno.EINVAL, "a path with a zero byte") from error
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "a symbolic link") from error
        if error.errno == errno.ENXIO:
            raise NotPlainFile(errno.ENXIO, _KINDS[stat.S_IFSOCK]) from error
        raise
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise NotPlainFile(errno.EINVAL, _KINDS.get(kind, "something else"))
    return open(descriptor, "rb")  # noqa: PTH123 - a descriptor


def reason(error: Exception) -> str:
    """Return the words of an error about a file, without its number and its path."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{error}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name ``path`` in an error of the system that names no path: a write to an open file does not say which it is.

    Also in one that names what is still being written beside it, which the user does not know.
    """
    try:
        yield
    except OSError as error:
        named = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
        if not named or any(name.startswith(f"{path.parent / SPARE}") for name in named):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a new file beside ``path`` to write to; on a normal end it replaces ``path``, otherwise it is removed.

    It is on disk before it replaces ``path``. It has a name of its own each time, so several processes may write one
    file: the last one wins. ``mode`` is less the umask. Errors of the system name ``path``. Raises ``NotPlainFile`` if
    a directory or a device is there: a rename would replace a device by a file.
    """
    if path.exists() and not path.is_file():
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")
        raise NotPlainFile(errno.EINVAL, f"expected a plain file or none, got {kind}", str(path))
    end = f"-{path.name[:_NAMED]}"
    spare = path.with_name(f"{SPARE}{os.urandom(6).hex()}{end}")
    _remove_left(path.parent, end)
    try:
        with naming(path):
            descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as held:  # noqa: PTH123 - a descriptor
                _lock(descriptor)
                yield spare
                os.fsync(held)
            spare.replace(path)
    finally:
        with suppress(OSError):
            spare.unlink()


def write_plain(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a whole file beside ``path`` and put it in its place; it is on disk then. ``mode`` is less the umask."""
    with replacing(path, mode=mode) as spare, spare.open("wb") as file:
        file.write(data)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a new directory beside ``path`` to write to; on a normal end it becomes ``path``, otherwise it is removed.

    Raises ``FileExistsError`` if something is at ``path``, and other errors of the system.
    """
    if path.is_symlink() or path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    spare = path.with_name(f"{SPARE}{os.urandom(6).hex()}-{path.name[:_NAMED]}")
    try:
        with naming(path):
            spare.mkdir()
            yield spare
            spare.rename(path)
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def _remove_left(directory: Path, end: str) -> None:
    """Remove what killed writers of one file left. A writer that is alive holds the lock of its file.

    One that is still empty stays: its writer may not have the lock yet.
    """
    with suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208 - names are enough
            if name.startswith(SPARE) and name.endswith(end):
                with suppress(OSError), open_plain(directory / name, follow=False) as file:
                    if os.fstat(file.fileno()).st_size and _lock(file.fileno()):
                        (directory / name).unlink()


def _lock(descriptor: int) -> bool:
    """Lock a file if nobody holds it; some network file systems have no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def file_digest(path: Path) -> str:
    """Return SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(tree: Path, programs: Collection[str] | None = None) -> str:
    """Return SHA-256 over names, kinds, execute bits and contents in a tree, names with a leading dot left out.

    ``programs``: the files that count as executable, by their path in the tree; else their modes on disk say it.
    """
    total = hashlib.sha256()
    for path in walk(tree):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            line = f"l {name} {path.readlink()}\0"
        elif path.is_dir():
            line = f"d {name}\0"
        else:
            line = f"{'x' if is_program(path, name, programs) else 'f'} {name} {file_digest(path)}\0"
        total.update(line.encode())
    return total.hexdigest()


def is_program(path: Path, name: str, programs: Collection[str] | None) -> bool:
    """Whether a file is executable: its path in a tree, ``name``, is among ``programs``, else by its mode on disk."""
    return bool(path.stat().st_mode & 0o100) if programs is None else name in programs


def walk(tree: Path) -> list[Path]:
    """Return every path in a tree, in order; names with a leading dot, and what is below them, are left out."""
    return [p for p in sorted(tree.rglob("*")) if not any(part.startswith(".") for part in p.relative_to(tree).parts)]

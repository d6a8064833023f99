"""Arguments as people give them: paths, hex, names. What does not fit is a ``SpecError``, as on the command line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from testbed import files
from testbed.errors import SpecError

PathLike = str | Path


def directory(what: str, path: PathLike) -> Path:
    """Return a directory that exists; a leading ``~`` is the home directory. Raises ``SpecError``."""
    found = Path(path).expanduser()
    if not found.is_dir():
        got = "a file" if found.exists() else "nothing there"
        raise SpecError(f"{what}: expected a directory, got {path}: {got}", "correct the path")
    return found


def one_of(what: str, value: str, known: Collection[str]) -> str:
    """Return a name that is known. Raises ``SpecError`` with all that are."""
    if value not in known:
        raise SpecError(f"{what}: expected one of {', '.join(sorted(known)) or 'none'}, got {value!r}")
    return value


def content(what: str, given: bytes | PathLike, limit: int) -> bytes:
    """Return bytes, or the first ``limit`` bytes of a plain file. Raises ``SpecError``."""
    if isinstance(given, bytes):
        return given
    path = Path(given).expanduser()
    try:
        with files.open_plain(path) as file:
            return file.read(limit)
    except OSError as error:
        got = files.reason(error)
        raise SpecError(f"{what}: expected a plain file that can be read, got {path}: {got}", "correct it") from error


def text(given: str | bytes) -> str:
    """Return hex digits, of bytes or as given."""
    return given.hex() if isinstance(given, bytes) else given

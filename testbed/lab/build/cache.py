"""Things that take long to build, each under the digest of all that goes into it, outside the repository.

``<root>/<kind>/<key>/`` exists only when it is complete: it is built beside and renamed. Names with a leading dot
belong to the cache: a process that builds or removes an entry holds ``.<key>.lock`` (``flock``) and builds in
``.<key>.*.tmp``. The kernel drops a lock with its process, so a temporary directory whose lock is free belongs to a
dead builder. A key is what ``content_key`` returns. Directories with other names do not belong to the cache, and are
neither listed nor removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import progress
from testbed.errors import BuildError, HostError, TestbedError, host_error
from testbed.lab import places

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
META = "meta.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One complete entry. ``size``: bytes on disk."""

    kind: str
    key: str
    path: Path
    size: int


def silent(_: str) -> None:
    """Ignore a line of progress."""


def root() -> Path:
    """Return the directory of the cache (``places.cache``)."""
    return places.cache().path


def content_key(parts: Mapping[str, Any]) -> str:
    """Return SHA-256 in hex of the canonical JSON of everything that decides what a builder makes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find(kind: str, key: str) -> Path | None:
    """Return the directory of an entry, ``None`` if it is not there."""
    path = root() / kind / key
    return path if path.is_dir() else None


def entry(kind: str, key: str, build: Callable[[Path], None], *, needed: int = 0, pace: str = "") -> Path:
    """Return the directory of an entry; if it is not there, ``build`` fills an empty directory that becomes it.

    Two processes that want one entry build it once. A build that fails leaves nothing. ``needed``: free bytes without
    which a build is not begun. ``pace``: which builds of this kind take about as long, for an estimate. Raises
    ``HostError`` on a full disk, and what ``build`` raises.
    """
    done = find(kind, key)
    if done:
        return done
    home = root() / kind
    with _locked(home / f".{key}.lock"):
        return find(kind, key) or _build(kind, home / key, build, needed, _pace(f"{kind}{pace}"))


def read_meta(path: Path) -> dict[str, Any]:
    """Return the notes of a builder about its entry. Raises ``BuildError`` if they cannot be read."""
    try:
        meta: dict[str, Any] = json.loads((path / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(
            f"{path}: damaged cache entry: {error}", "`testbed images gc --all` empties the cache"
        ) from error
    return meta


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write notes about an entry that its files do not contain."""
    (path / META).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def entries() -> list[CacheEntry]:
    """List what is complete."""
    paths = (path for path in sorted(root().glob("*/*")) if _is_entry(path))
    return [CacheEntry(kind=path.parent.name, key=path.name, path=path, size=used(path)) for path in paths]


def used(path: Path) -> int:
    """Return the bytes that a directory takes on disk (holes in sparse files take none)."""
    total = 0
    # What another process removes meanwhile takes nothing.
    for directory, names, others in os.walk(path):
        for name in (*names, *others):
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118 - os.walk speaks str
    return total


def gc(*, everything: bool = False) -> list[Path]:
    """Remove what dead builders left behind; with ``everything`` also all complete entries. Return what was removed.

    An entry that another process is building is kept.
    """
    removed = []
    for home in sorted(path for path in root().glob("*") if path.is_dir()):
        keys = {lock.name[1 : -len(".lock")] for lock in home.glob(".*.lock")}
        keys |= {path.name for path in home.iterdir() if everything and _is_entry(path)}
        for key in sorted(filter(_KEY.fullmatch, keys)):
            with suppress(BlockingIOError), _locked(home / f".{key}.lock", wait=False):
                left = list(home.glob(f".{key}.*.tmp"))
                for path in left:
                    _remove(path)
                if everything and (home / key).is_dir():
                    # Renamed first, so that a half-removed entry never looks complete.
                    gone = (home / key).rename(home / f".{key}.removed.tmp")
                    _remove(gone)
                    left.append(gone)
                removed += left
    return removed


def _is_entry(path: Path) -> bool:
    return _KEY.fullmatch(path.name) is not None and path.is_dir()


def _build(kind: str, final: Path, build: Callable[[Path], None], needed: int, pace: Path) -> Path:
    free = shutil.disk_usage(final.parent).free
    if free < needed:
        raise _full(kind, final.parent, needed, "")
    beside = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    begun = time.monotonic()
    try:
        with progress.waiting(f"build {kind}", _expected(pace)):
            build(beside)
        beside.chmod(0o755)
        beside.rename(final)
    except BaseException as error:
        full = _is_full(error) and _full(kind, final.parent, needed, str(error))
        _remove(beside)
        if full:
            raise full from error
        raise
    with suppress(OSError):  # then the next build has no estimate
        pace.write_text(f"{time.monotonic() - begun:.1f}", encoding="ascii")
    return final


def _pace(name: str) -> Path:
    """Return where is written how long the last such build took: the next one has another key."""
    return root() / f".{name}.seconds"


def _expected(pace: Path) -> float | None:
    """Return how many seconds the last such build took, ``None`` if nobody knows."""
    try:
        return float(pace.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _is_full(error: BaseException) -> bool:
    """Return whether a disk was full, for this process or a program that it ran (which only its message can show)."""
    said_so = isinstance(error, TestbedError) and any(os.strerror(number) in error.message for number in _FULL)
    return said_so or (isinstance(error, OSError) and error.errno in _FULL)


def _full(kind: str, where: Path, needed: int, said: str) -> HostError:
    free = shutil.disk_usage(where).free
    wants = f"about {needed >> 20} MiB" if needed else "more"
    message = f"no space left while building {kind}: {where} needs {wants} free, has {free >> 20} MiB"
    hint = "`testbed images gc --all` empties the cache; set TESTBED_CACHE and TMPDIR to use other directories"
    return HostError(f"{message}\n{said}" if said else message, hint)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock at ``path``. Raises ``BlockingIOError`` if not ``wait`` and another holds it."""
    descriptor = _lock(path, wait=wait)
    try:
        yield
    finally:
        # Unlinked while held: a process that waits on the old file notices in ``_lock`` that its name is gone and tries
        # again.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, *, wait: bool) -> int:
    while True:
        try:
            # Each time: a user may have removed the whole cache while this process waited.
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise host_error(error, places.cache().remedy) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                log.info("another process builds %s: waiting for it", path)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The previous holder has unlinked it: a lock on a file without a name excludes no other process.
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a tree, directories without write permission included (a root file system has some)."""
    for directory, names, _ in os.walk(path):
        for name in names:
            child = os.path.join(directory, name)  # noqa: PTH118 - os.walk speaks str
            if not os.path.islink(child):  # noqa: PTH114
                os.chmod(child, stat.S_IRWXU)  # noqa: PTH101
    shutil.rmtree(path)

"""The directories that the lab works in: where they are, and whether it can work there.

That is checked before anything is built: the programs that the lab starts fail late, and say less.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from testbed import files
from testbed.errors import HostError, SpecError, host_error

_NAME = "container-testbed"
_REASONS = {
    ",": "QEMU and swtpm read it as the end of an option",
    '"': "apt takes no path with it",
    "\\": "apt takes no path with it",
    "#": "swtpm reads it as the beginning of a comment",
}
_IN_XML = "libvirt describes a machine in XML, which cannot have it"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDirectory:
    """A directory that the lab works in. ``what`` it is for, and how the user names another one: ``remedy``."""

    what: str
    path: Path
    remedy: str


def cache() -> WorkDirectory:
    """Return where what takes long to build is kept: ``$TESTBED_CACHE``, else in the user's cache directory."""
    return _named("the cache", "TESTBED_CACHE", platformdirs.user_cache_path)


def state() -> WorkDirectory:
    """Return where what is neither a result nor a cache is kept: ``$TESTBED_STATE``, else in the user's own."""
    return _named("the state directory", "TESTBED_STATE", platformdirs.user_state_path)


def temporary() -> WorkDirectory:
    """Return where temporary files are made: ``$TMPDIR``, else the system's. Raises ``HostError`` if there is none."""
    remedy = "set TMPDIR to another directory"
    try:
        return WorkDirectory(what="the directory for temporary files", path=Path(tempfile.gettempdir()), remedy=remedy)
    except FileNotFoundError as error:
        raise HostError(f"temporary files: {error.strerror}", remedy) from error


def results(path: Path) -> WorkDirectory:
    """Return where campaigns are written."""
    return WorkDirectory(
        what="the directory of results", path=path.absolute(), remedy="name another one with --results"
    )


def always() -> tuple[WorkDirectory, ...]:
    """Return the directories that every machine needs."""
    return cache(), state(), temporary()


def check(*places: WorkDirectory) -> None:
    """Raise if the lab cannot work in one of these directories.

    ``SpecError`` for a path that a program cannot take, ``HostError`` for one in which nothing can be written.
    """
    for place in places:
        _check_name(place)
        _check_writable(place)


def _check_name(place: WorkDirectory) -> None:
    for sign in str(place.path):
        reason = _REASONS.get(sign) or (None if sign.isprintable() else _IN_XML)
        if reason:
            shown = f"a byte that is not UTF-8 ({sign!a})" if "\udc80" <= sign <= "\udcff" else repr(sign)
            raise SpecError(f"{place.what} {place.path}: expected a path without {shown}: {reason}", place.remedy)


def _check_writable(place: WorkDirectory) -> None:
    # Where the directory does not exist yet, it will be made: nothing is left behind now.
    try:
        there = next(path for path in (place.path, *place.path.parents) if path.exists())
        with files.naming(there), tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        refused = host_error(error, place.remedy)
        raise HostError(f"{place.what} cannot be used: {refused.message}", refused.hint) from error


def _named(what: str, variable: str, usual: Callable[[str], Path]) -> WorkDirectory:
    chosen = os.environ.get(variable)
    # A `~` that no shell has expanded; it stays where nobody knows the home directory.
    path = Path(os.path.expanduser(chosen)) if chosen else usual(_NAME)  # noqa: PTH111 - Path.expanduser raises
    if str(path).startswith("~"):
        raise HostError(f"{what} {path}: there is no such home directory", f"set {variable} to a path, or set HOME")
    return WorkDirectory(what=what, path=path.absolute(), remedy=f"set {variable} to another directory")

"""Which code makes records: a digest of its sources, the git commit, and the command line without private names."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from testbed import __version__, files, shell
from testbed.errors import TestbedError
from testbed.lab import repository
from testbed.record import MadeBy

_PROGRAM = "testbed"
# A change here can change a run. Results and notes in the same tree cannot.
_WATCHED = ("testbed", "bpf", "images")
_GIT_SECONDS = 30
_CACHES = frozenset({"__pycache__"})
# The place in a URI such as that of --connect: user and host.
_AUTHORITY = re.compile(r"(?<=://)[^/?#\s]+")


def made_by(argv: Sequence[str] | None = None) -> MadeBy:
    """Return what a record says of the code that makes it. ``argv``: the command line; by default that of the process.

    It has no ``settings``: these depend on the machine (``block.settings``).
    """
    commit, dirty = git_state(repository.ROOT)
    return MadeBy(
        version=__version__,
        sources=source_digest(repository.PACKAGE, repository.BPF),
        commit=commit,
        dirty=dirty,
        command=command(sys.argv if argv is None else argv),
    )


def source_digest(*trees: Path) -> str:
    """Return SHA-256 over the paths and contents of all files of ``trees``, but for what Python caches."""
    total = hashlib.sha256()
    for tree in trees:
        for path in _files(tree):
            name = path.relative_to(tree).as_posix()
            total.update(f"{tree.name}/{name} {files.file_digest(path)}\n".encode())
    return total.hexdigest()


def _files(tree: Path) -> Iterator[Path]:
    for path in files.walk(tree):
        if path.is_file() and not _CACHES & set(path.relative_to(tree).parts):
            yield path


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the git repository at ``root`` and whether its code differs; ``None`` twice without git."""
    # A repository above `root` is somebody else's: an installed package can lie below one.
    if not (root / ".git").exists():
        return None, None
    with suppress(TestbedError):
        git = ("git", "-C", root)
        commit = shell.run((*git, "rev-parse", "HEAD"), timeout=_GIT_SECONDS).text.strip()
        changed = shell.run((*git, "status", "--porcelain", "--", *_WATCHED), timeout=_GIT_SECONDS).out
        return commit, bool(changed)
    return None, None


def command(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line to give again, without the names of this home, user and host."""
    program = Path(argv[0]).name
    module = program in ("__main__.py", "cli.py")
    return (_PROGRAM if module else program, *map(redact, argv[1:]))


def redact(word: str) -> str:
    """Return ``word`` with ``~``, ``USER`` and ``HOST`` for the names of this home, user and host."""
    word = _AUTHORITY.sub("HOST", word)
    for name, instead in _private_names():
        word = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", instead, word)
    return word


def _private_names() -> Iterator[tuple[str, str]]:
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is none
    if home not in ("~", "/"):
        yield home, "~"
    with suppress(OSError, KeyError):
        yield getpass.getuser(), "USER"
    for host in {platform.node(), platform.node().partition(".")[0]} - {"", "localhost"}:
        yield host, "HOST"

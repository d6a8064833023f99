"""EROFS images of composefs, made by ``mkcomposefs`` in a root of its own: Debian 13 does not have that program."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from testbed.attest.image.composefs import Composed, object_path
from testbed.errors import BuildError, CommandError
from testbed.lab.build import cache, debian, ext4
from testbed.lab.build.recipes import load_tools

IMAGE, OBJECTS = "root.cfs", "objects"
_RECIPE = "composefs"
_DIGEST = re.compile(rb"[0-9a-f]{64}\n")


def digest(composed: Composed, progress: cache.Progress = cache.silent) -> str:
    """Return what ``mkcomposefs --print-digest-only`` prints for a tree: 64 hexadecimal digits.

    Raises ``BuildError``, ``HostError``.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-") as scratch:
        return _run(composed, Path(scratch), ("--print-digest-only",), (), progress)


def write(composed: Composed, to: Path, progress: cache.Progress = cache.silent) -> str:
    """Write the image ``root.cfs`` and its objects below ``objects/`` into the directory ``to``; return its digest.

    Raises ``BuildError``, ``HostError``, ``OSError``.
    """
    for name, open_object in composed.objects.items():
        target = to / OBJECTS / object_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_object() as content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
    with tempfile.TemporaryDirectory(prefix="testbed-") as scratch:
        found = _run(composed, Path(scratch), ("--print-digest",), (f"/out/{IMAGE}",), progress)
        shutil.copyfile(Path(scratch) / IMAGE, to / IMAGE)
    return found


def _run(
    composed: Composed, scratch: Path, options: tuple[str, ...], words: tuple[str, ...], progress: cache.Progress
) -> str:
    (scratch / "dump").write_bytes(composed.dump)
    recipe = load_tools()[_RECIPE]
    tools = ext4.tools(recipe.suite, recipe.packages, progress, outdated=recipe.outdated)
    argv = ("mkcomposefs", *options, "--from-file", "/out/dump", *words)
    try:
        done = debian.enter(tools / "root", argv, write={scratch: "/out"})
    except CommandError as error:
        raise BuildError(f"mkcomposefs cannot make the image: {error.message}") from error
    if not _DIGEST.fullmatch(done.out):
        raise BuildError(f"mkcomposefs: expected a digest of 64 digits, got {done.out[:80]!r}")
    return done.out.decode().strip()

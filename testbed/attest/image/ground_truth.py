"""Ground truth: what ran in a container and how it was started, computed from its image alone."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from testbed.attest.image.archive import OpenImage, open_image
from testbed.attest.image.loader import executed_files, found_arguments
from testbed.attest.image.tree import tree_digest
from testbed.attest.image.verity import digests_of
from testbed.measurers import Executed, Route


def executed(
    archive: Path, container: str, programs: Iterable[str | PurePosixPath], *, verity: bool = False
) -> frozenset[Executed]:
    """Return every file whose code ran when ``container`` ran ``programs`` (absolute paths) of an OCI archive.

    Each program or script, its interpreter and the libraries that the loader would load. What they open by dlopen is
    missing here, because their files do not name it. ``verity``: the image's files have fs-verity enabled. Raises
    ``BuildError`` if a file does not exist.
    """
    with open_image(archive) as image:
        ran = {how for program in programs for how in executed_files(image, os.fsencode(program))}
        return frozenset(_executed(image, container, path, route, verity=verity) for path, route in ran)


def arguments(archive: Path, argv: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments of the program that runs first when ``argv`` of an OCI archive is started.

    Of a script these are its interpreter's. Raises ``BuildError`` if the archive cannot be read.
    """
    with open_image(archive) as image:
        return tuple(map(os.fsdecode, found_arguments(image, [os.fsencode(word) for word in argv])))


def image_tree(archive: Path) -> str:
    """Return the digest of an OCI archive's tree, hex (docs/formats.md, section 3). Raises ``BuildError``."""
    with open_image(archive) as image:
        return tree_digest(image.nodes).hex()


def _executed(image: OpenImage, container: str, path: bytes, route: Route, *, verity: bool) -> Executed:
    digests = digests_of(io.BytesIO(image.read(b"/" + path) or b""))
    return Executed(
        container=container,
        path=PurePosixPath("/" + os.fsdecode(path)),
        digest=digests.sha256,
        size=digests.size,
        route=route,
        of_image=True,
        verity=digests.verity if verity else "",
    )

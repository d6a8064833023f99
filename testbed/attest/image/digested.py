"""Digest an image: its archive, its OCI layout, or a directory that holds a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.attest.image.archive import OpenImage, is_image_directory, open_image
from testbed.attest.image.content import unreadable
from testbed.attest.image.platform import Platform
from testbed.attest.image.tree import Node, Opener, Tree, measure_tree, read_directory
from testbed.errors import BuildError, EvidenceError, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Digested:
    """Trees of one image by storage driver (``""`` for a directory that holds a tree), the one that counts first."""

    path: Path
    trees: Mapping[str, Tree]
    platform: str = ""
    several: bool = False
    notes: Sequence[str] = field(default=())

    @property
    def digest(self) -> str:
        """The digest of the tree that counts, hex."""
        return next(iter(self.trees.values())).digest.hex()


def measure(
    path: Path, *, as_tree: bool = False, platform: Platform | None = None, driver: str | None = None
) -> Digested:
    """Digest an image. Raises ``SpecError`` if it is not one, ``HostError`` if this machine cannot read it."""
    with _errors(path):
        if path.is_dir() and (as_tree or not is_image_directory(path)):
            return Digested(path=path, trees={"": measure_tree(read_directory(path))})
        if as_tree:
            raise SpecError(f"{path}: --tree expects a directory, got a file", "leave out --tree for an archive")
        with open_image(path, platform=platform, driver=driver) as image:
            return Digested(
                path=path,
                trees=_trees(image, only=driver),
                platform=image.platform,
                several=image.several,
                notes=image.notes,
            )


@contextmanager
def open_nodes(
    path: Path, *, as_tree: bool = False, platform: Platform | None = None, driver: str | None = None
) -> Iterator[Mapping[bytes, Node]]:
    """Open an image as ``measure`` does, and give the nodes of the tree that counts. Raises as it does."""
    with _errors(path):
        if path.is_dir() and (as_tree or not is_image_directory(path)):
            yield read_directory(path)
            return
        if as_tree:
            raise SpecError(f"{path}: --tree expects a directory, got a file", "leave out --tree for an archive")
        with open_image(path, platform=platform, driver=driver) as image:
            yield image.nodes


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        raise SpecError(error.message, error.hint) from error
    except EvidenceError as error:
        raise SpecError(f"{path}: the image cannot be read: {error.message}", error.hint) from error
    except OSError as error:
        raise unreadable(f"{path}: the image cannot be read: {error.filename or path}", error) from error


def _trees(image: OpenImage, only: str | None) -> dict[str, Tree]:
    """Return the trees that differ, by driver; ``only``: the one driver that was asked for."""
    known: dict[Opener, tuple[bytes, int]] = {}
    trees = {image.driver: measure_tree(image.nodes, known)}
    trees |= {driver: measure_tree(nodes, known) for driver, nodes in (() if only else image.other_trees())}
    first = trees[image.driver].digest
    return {driver: tree for driver, tree in trees.items() if driver == image.driver or tree.digest != first}

"""A container image as the tree of its containers: layers unpacked in memory, each file read where it lies.

Only temporary copies of compressed layers are written. ``choose`` says which formats are read, ``unpack`` by which
rules layers are laid over each other.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.attest.image.choose import ONE, Choice, choose, is_layout
from testbed.attest.image.content import Piece
from testbed.attest.image.filesystem import Refused
from testbed.attest.image.packed import BadPacking, plain
from testbed.attest.image.platform import Platform
from testbed.attest.image.source import BadImage, open_source, sha
from testbed.attest.image.tar import BadTar, read_entries
from testbed.attest.image.tree import Node
from testbed.attest.image.unpack import DRIVERS, Layer
from testbed.errors import BuildError

_LINKS = 40  # as many symbolic links as the kernel follows


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImage:
    """An image while its archive is open. ``nodes``: by path without a leading slash, ``b""`` is the root.

    ``driver``: the storage driver that makes this tree; ``reference``: the image's name in its archive, or nothing;
    ``platform``: `OS/ARCHITECTURE`, empty if it names none; ``several``: whether it was chosen among several platforms;
    ``layers``: what was unpacked, the lowest first; ``notes``: what the user must know.
    """

    name: str
    nodes: Mapping[bytes, Node]
    driver: str = ""
    reference: str = ""
    platform: str = ""
    several: bool = False
    layers: Sequence[Layer] = ()
    notes: tuple[str, ...] = ()

    def other_trees(self) -> Iterator[tuple[str, Mapping[bytes, Node]]]:
        """Yield the trees that other storage drivers make of the image, where they differ."""
        for driver, unpack in DRIVERS.items():
            if driver != self.driver:
                with suppress(Refused):
                    nodes = unpack(self.layers)
                    if nodes != self.nodes:
                        yield driver, nodes

    def resolve(self, path: bytes) -> bytes | None:
        """Return the path of the node that ``path`` leads to, with links followed inside the image, or ``None``."""
        done: list[bytes] = []
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                del done[-1:]
                continue
            node = self.nodes.get(b"/".join([*done, part]))
            if node is None:
                return None
            if node.type != stat.S_IFLNK:
                done.append(part)
                continue
            links += 1
            if links > _LINKS:
                return None
            if node.target.startswith(b"/"):
                done = []
            waiting += node.target.split(b"/")[::-1]
        return b"/".join(done)

    def read(self, path: bytes) -> bytes | None:
        """Return the content of the regular file that ``path`` leads to; ``None`` if there is no such file."""
        resolved = self.resolve(path)
        opener = self.nodes[resolved].open if resolved is not None and resolved in self.nodes else None
        if opener is None:
            return None
        with opener() as file:
            return file.read()

    def listing(self, path: bytes) -> list[bytes]:
        """Return the sorted names in the directory that ``path`` leads to; nothing if there is no such directory."""
        resolved = self.resolve(path)
        if resolved is None:
            return []
        head = resolved + b"/" if resolved else b""
        return sorted(p[len(head) :] for p in self.nodes if p and p.startswith(head) and b"/" not in p[len(head) :])


def is_image_directory(path: Path) -> bool:
    """Whether a directory holds an image's files, and not a tree. Raises ``HostError``."""
    try:
        with open_source(path) as source:
            return is_layout(source)
    except BadImage:
        return False


@contextmanager
def open_image(archive: Path, *, platform: Platform | None = None, driver: str | None = None) -> Iterator[OpenImage]:
    """Open an image: an archive, or a directory that holds an image's files. Raises ``BuildError`` and ``HostError``.

    ``platform``: which one, if there are several. ``driver``: storage driver whose tree it is; without one overlay, or
    vfs for an image that overlay cannot unpack.
    """
    with ExitStack() as stack:
        try:
            choice = choose(stack.enter_context(open_source(archive)), platform)
            layers = [_entries(stack, choice, number) for number in range(len(choice.layers))]
            used, nodes, notes = _unpacked(layers, driver)
        except (BadImage, BadPacking, Refused) as error:
            hint = error.hint if isinstance(error, BadImage) else ""
            raise BuildError(f"{archive}: the image cannot be read: {error}", hint or ONE) from error
        yield OpenImage(
            name=archive.name,
            nodes=nodes,
            driver=used,
            reference=choice.reference,
            platform=str(choice.platform or ""),
            several=choice.several,
            layers=layers,
            notes=tuple(f"{archive}: {note}" for note in notes),
        )


def _entries(stack: ExitStack, choice: Choice, number: int) -> Layer:
    """Read a layer; a compressed one is copied, to be read at random."""
    where = f"layer {number + 1}"
    try:
        layer = stack.enter_context(plain(choice.layers[number]))
        if choice.diff_ids is not None:
            _check(layer, choice.diff_ids[number], where)
        return list(read_entries(layer))
    except (BadTar, BadPacking) as error:
        raise BadImage(f"{where}: {error}") from error


def _check(layer: Piece, stated: str, where: str) -> None:
    """Compare a plain layer with the digest in the image's configuration."""
    got = f"sha256:{sha(layer)}"
    if got != stated:
        raise BadImage(f"{where} is damaged: expected {ascii(stated)[:80]}, got {got}")


def _unpacked(layers: Sequence[Layer], driver: str | None) -> tuple[str, Mapping[bytes, Node], list[str]]:
    """Return the driver that was used, the tree that it makes, and notes."""
    refused: list[str] = []
    for name in [driver] if driver else DRIVERS:
        try:
            nodes = DRIVERS[name](layers)
        except Refused as error:
            refused.append(f"the storage driver {name} cannot unpack it: {error}")
        else:
            return name, nodes, [f"{why}; this is the tree of {name}" for why in refused]
    raise BadImage("; ".join(dict.fromkeys(refused)))

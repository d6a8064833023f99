"""Print the digest of each image's tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from testbed.attest.image.archive import OpenImage, is_image_directory, open_image
from testbed.attest.image.content import unreadable
from testbed.attest.image.platform import DEFAULT, Platform
from testbed.attest.image.tree import VERSION, Opener, Tree, measure_tree, read_directory
from testbed.attest.policy.paths import escape_path
from testbed.commands._images import DRIVER, IMAGE_PATH, PLATFORM
from testbed.errors import BuildError, EvidenceError, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Digested:
    """Trees of one image by storage driver (``""`` for a directory that holds a tree), the one that counts first."""

    path: Path
    trees: Mapping[str, Tree]
    platform: str = ""
    several: bool = False
    notes: Sequence[str] = field(default=())


@click.command("image-digest")
@click.argument("images", nargs=-1, required=True, type=IMAGE_PATH, metavar="IMAGE...")
@click.option("--tree", "as_tree", is_flag=True, help="IMAGE is a directory that holds a tree, whatever is in it.")
@PLATFORM
@DRIVER
@click.option("--nodes", is_flag=True, help="Also print the digest of each covered file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, images: Sequence[Path], as_tree: bool, platform: Platform | None, driver: str | None, nodes: bool, as_json: bool
) -> None:
    """Print the digest of each image's tree.

    IMAGE is an archive of one image (of OCI's or Docker's format), a directory with an OCI layout, or a directory that
    holds a tree. `ctr-image` and `ctr-launch` entries have this digest (docs/formats.md, section 3), and
    `images.NAME.digest` of a policy has it. A tree is read as it is on its file system, owners included: run it as a
    user who may read all files.

    If the storage drivers overlay and vfs make different trees of an image, both are printed, overlay's first.
    """
    digested = [measure(path, as_tree=as_tree, platform=platform, driver=driver) for path in images]
    for note in (note for one in digested for note in one.notes):
        click.echo(note, err=True)
    if as_json:
        described = [_as_json(one, nodes=nodes) for one in digested]
        click.echo(json.dumps({"schema": 1, "tree_version": VERSION, "images": described}, indent=1))
        return
    for one in digested:
        _print(one, nodes=nodes)


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


def _print(one: Digested, *, nodes: bool) -> None:
    for driver, tree in one.trees.items():
        more = f"  {one.platform}" if one.several or one.platform not in {"", str(DEFAULT)} else ""
        more += f"  (storage driver {driver})" if len(one.trees) > 1 else ""
        click.echo(f"sha256:{tree.digest.hex()}  files {len(tree.nodes)} bytes {tree.size}  {one.path}{more}")
        for path, digest in _listed(tree) if nodes else ():
            click.echo(f"  {digest}  {path}")


def _listed(tree: Tree) -> Iterator[tuple[str, str]]:
    return ((escape_path(b"/" + path), digest.hex()) for path, digest in tree.nodes.items())


def _as_json(one: Digested, *, nodes: bool) -> dict[str, Any]:
    (driver, tree), *others = one.trees.items()
    described = {"path": str(one.path), **_described(tree, nodes=nodes), "platform": one.platform, "driver": driver}
    return described | {"others": {name: _described(other, nodes=nodes) for name, other in others}}


def _described(tree: Tree, *, nodes: bool) -> dict[str, Any]:
    described = {"digest": tree.digest.hex(), "files": len(tree.nodes), "bytes": tree.size}
    return described | ({"nodes": dict(_listed(tree))} if nodes else {})

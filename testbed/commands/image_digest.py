"""Print the digest of each image's tree: OCI archives of one image, or directories that hold a tree."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from testbed.attest.image.archive import open_image
from testbed.attest.image.tree import VERSION, Tree, measure_tree, read_directory
from testbed.attest.policy.paths import escape_path
from testbed.errors import SpecError, TestbedError

_PATH = click.Path(exists=True, path_type=Path)


@click.command("image-digest")
@click.argument("archives", nargs=-1, required=True, type=_PATH, metavar="ARCHIVE...")
@click.option("--nodes", is_flag=True, help="Also print the digest of each covered file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, archives: Sequence[Path], nodes: bool, as_json: bool) -> None:
    """Print the digest of each image's tree: OCI archives of one image, or directories that hold a tree.

    `ctr-image` and `ctr-launch` entries have this digest (docs/formats.md, section 3), and `images.NAME.digest` of a
    policy has it. A directory is read as it is on its file system, owners included: run it as a user who may read all
    files.
    """
    trees = [(archive, measure(archive)) for archive in archives]
    if as_json:
        images = [_as_json(archive, tree, nodes=nodes) for archive, tree in trees]
        click.echo(json.dumps({"schema": 1, "tree_version": VERSION, "images": images}, indent=1))
        return
    for archive, tree in trees:
        click.echo(f"sha256:{tree.digest.hex()}  files {len(tree.nodes)} bytes {tree.size}  {archive}")
        for path, digest in _listed(tree) if nodes else ():
            click.echo(f"  {digest}  {path}")


def measure(archive: Path) -> Tree:
    """Digest the tree of an archive or in a directory. Raises ``SpecError`` if it cannot be read, or not all of it."""
    try:
        if archive.is_dir():
            return measure_tree(read_directory(archive))
        with open_image(archive) as image:
            return measure_tree(image.nodes)
    except TestbedError as error:
        raise SpecError(f"{archive}: the image cannot be read: {error.message}", error.hint) from error
    except (OSError, EOFError, tarfile.TarError) as error:
        hint = "give an OCI archive of one image, or a directory as a user who may read all of it"
        raise SpecError(f"{archive}: the image cannot be read: {error}", hint) from error


def _listed(tree: Tree) -> Iterator[tuple[str, str]]:
    return ((escape_path(b"/" + path), digest.hex()) for path, digest in tree.nodes.items())


def _as_json(archive: Path, tree: Tree, *, nodes: bool) -> dict[str, Any]:
    described = {"path": str(archive), "digest": tree.digest.hex(), "files": len(tree.nodes), "bytes": tree.size}
    return described | ({"nodes": dict(_listed(tree))} if nodes else {})

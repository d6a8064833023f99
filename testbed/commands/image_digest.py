"""Print the digest of each image's tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from testbed import progress
from testbed.attest.image.digested import Digested, measure, open_nodes
from testbed.attest.image.platform import DEFAULT, Platform
from testbed.attest.image.tree import VERSION, Tree
from testbed.attest.image.verity import Digests, digests_of
from testbed.attest.policy.paths import escape_path
from testbed.commands._composefs import show
from testbed.commands._images import DRIVER, IMAGE_PATH, PLATFORM


@click.command("image-digest")
@click.argument("images", nargs=-1, required=True, type=IMAGE_PATH, metavar="IMAGE...")
@click.option("--tree", "as_tree", is_flag=True, help="IMAGE is a directory that holds a tree, whatever is in it.")
@PLATFORM
@DRIVER
@click.option("--nodes", is_flag=True, help="Also print the digest of each covered file.")
@click.option("--files", is_flag=True, help="Print both digests of the content of each regular file instead.")
@click.option("--composefs", is_flag=True, help="Print the fs-verity digest of the image's EROFS image instead.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --composefs: also write the EROFS image and the objects into this new directory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    images: Sequence[Path],
    as_tree: bool,
    platform: Platform | None,
    driver: str | None,
    nodes: bool,
    files: bool,
    composefs: bool,
    store: Path | None,
    as_json: bool,
) -> None:
    """Print the digest of each image's tree.

    IMAGE is an archive of one image (of OCI's or Docker's format), a directory with an OCI layout, or a directory that
    holds a tree. `ctr-image` and `ctr-launch` entries have this digest (docs/formats.md, section 3), and
    `images.NAME.digest` of a policy has it. A tree is read as it is on its file system, owners included: run it as a
    user who may read all files.

    If the storage drivers overlay and vfs make different trees of an image, both are printed, overlay's first.

    With --files it prints what `ctr-file` entries have of the files: SHA-256 of the content, and the fs-verity digest
    (SHA-256, blocks of 4096 bytes, no salt) that an entry has if the file has fs-verity enabled.

    With --composefs it prints what `mkcomposefs --print-digest-only` prints for the same tree, and nothing else: the
    digest of a container whose root is that composefs (docs/roots.md). It makes a small Debian root with that program
    first, which needs a mirror the first time.
    """
    _check(images, {"--nodes": nodes, "--files": files, "--composefs": composefs}, store)
    if files:
        _print_files([_files(path, as_tree, platform, driver) for path in images], as_json=as_json)
        return
    if composefs:
        opened = ((path, open_nodes(path, as_tree=as_tree, platform=platform, driver=driver)) for path in images)
        show(opened, store, as_json=as_json)
        return
    digested = [measure(path, as_tree=as_tree, platform=platform, driver=driver) for path in images]
    for note in (note for one in digested for note in one.notes):
        click.echo(note, err=True)
    if as_json:
        described = [_as_json(one, nodes=nodes) for one in digested]
        click.echo(json.dumps({"schema": 1, "tree_version": VERSION, "images": described}, indent=1))
        return
    for one in digested:
        _print(one, nodes=nodes)


def _check(images: Sequence[Path], kinds: Mapping[str, bool], store: Path | None) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    given = [name for name, value in kinds.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
    if store and not kinds["--composefs"]:
        raise click.UsageError("--store needs --composefs")
    if store and len(images) > 1:
        raise click.UsageError(f"--store takes one image, got {len(images)}")


def _files(path: Path, as_tree: bool, platform: Platform | None, driver: str | None) -> tuple[Path, dict[str, Digests]]:
    """Return both digests of each regular file of an image, by its path."""
    found = {}
    with open_nodes(path, as_tree=as_tree, platform=platform, driver=driver) as nodes:
        for name, node in progress.each(sorted(nodes.items()), "hashing", unit="files"):
            if node.open is not None:
                with node.open() as file:
                    found[escape_path(b"/" + name)] = digests_of(file)
    return path, found


def _print_files(found: Sequence[tuple[Path, dict[str, Digests]]], *, as_json: bool) -> None:
    if as_json:
        described = [
            {"path": str(path), "contents": {name: asdict(digests) for name, digests in files.items()}}
            for path, files in found
        ]
        click.echo(json.dumps({"schema": 1, "images": described}, indent=1))
        return
    for _, files in found:
        for name, digests in files.items():
            click.echo(f"sha256:{digests.sha256}  verity:sha256:{digests.verity}  {digests.size}  {name}")


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

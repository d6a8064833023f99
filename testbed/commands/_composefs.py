"""Digests of roots on composefs, for the commands that print or list them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import click

from testbed.attest.image.composefs import compose
from testbed.attest.image.tree import Node
from testbed.errors import BuildError, HostError, host_error

Opened = Iterable[tuple[Path, AbstractContextManager[Mapping[bytes, Node]]]]


def composefs_digest(nodes: Mapping[bytes, Node], store: Path | None = None) -> str:
    """Return the fs-verity digest of the EROFS image of a tree, hex; ``store``: write it with its objects there.

    Raises ``HostError``, whatever is wrong: the image was read before, so it is not the image.
    """
    from testbed.lab.build import composefs  # noqa: PLC0415 - slow to import, and rarely needed

    composed = compose(nodes)
    try:
        if store is None:
            return composefs.digest(composed, _say)
        store.mkdir(parents=True)
        return composefs.write(composed, store, _say)
    except BuildError as error:
        raise HostError(error.message, error.hint) from error
    except OSError as error:
        raise host_error(error, where=store) from error


def show(opened: Opened, store: Path | None, *, as_json: bool) -> None:
    """Print the digest of each image, a line each."""
    found = []
    for path, context in opened:
        with context as nodes:
            found.append((path, composefs_digest(nodes, store)))
    if as_json:
        described = [{"path": str(path), "composefs": digest} for path, digest in found]
        click.echo(json.dumps({"schema": 1, "images": described}, indent=1))
        return
    for _, digest in found:
        click.echo(digest)


def _say(text: str) -> None:
    click.echo(text, err=True)

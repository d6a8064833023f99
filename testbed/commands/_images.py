"""Options and arguments of commands that read container images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from testbed.attest.image.platform import DEFAULT, Platform
from testbed.attest.image.unpack import DRIVERS

# Whether a file is there and can be read is found out when it is read: only the first is a fault of the arguments.
IMAGE_PATH = click.Path(readable=False, path_type=Path)


def _parsed_platform(_: click.Context, __: click.Parameter, value: str | None) -> Platform | None:
    try:
        return None if value is None else Platform.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from error


PLATFORM = click.option(
    "--platform",
    metavar="OS/ARCHITECTURE",
    callback=_parsed_platform,
    help=f"Which image, if there are several; default: {DEFAULT}, as the guests are.",
)
DRIVER = click.option(
    "--driver",
    type=click.Choice([*DRIVERS]),
    help="Storage driver whose tree counts; default: overlay (docs/formats.md, section 3).",
)


class NamedImage(click.ParamType):  # type: ignore[type-arg] # older versions of click have no argument
    """An image's path, or NAME=PATH; converted into name (empty if there is none) and path."""

    name = "image"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Return name and path. A path that exists is one, even with `=` in it."""
        name, equals, path = value.partition("=")
        # Unlike a Path, this takes names that are too long for a file.
        if equals and name and not os.path.exists(value):  # noqa: PTH110
            return name, Path(IMAGE_PATH.convert(path, param, ctx))
        return "", Path(IMAGE_PATH.convert(value, param, ctx))


Named = Sequence[tuple[str, Path]]

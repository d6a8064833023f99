"""Kernels, guests' disks and container images: built once, kept by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from testbed import progress
from testbed.commands._complete import NameOf
from testbed.errors import SpecError
from testbed.lab import places
from testbed.lab.build import cache
from testbed.lab.build.image import build_container_image, build_image, cached_container_image, cached_image
from testbed.lab.build.kernel import build_kernel, cached_kernel
from testbed.lab.build.recipes import (
    ContainerRecipe,
    GuestRecipe,
    KernelRecipe,
    load_containers,
    load_guests,
    load_kernels,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildable:
    """One thing that can be built. ``build`` returns its digest; ``cached``: digest and directory, if it is built."""

    kind: str
    name: str
    detail: str
    build: Callable[[cache.Progress], str]
    cached: tuple[str, Path] | None


def _recipes() -> list[str]:
    return [*load_kernels(), *load_guests(), *load_containers()]


@click.group("images")
def command() -> None:
    """Kernels, guests' disks and container images: built once, kept by content."""


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=NameOf(_recipes))
def build(names: Sequence[str]) -> None:
    """Build NAME (a kernel, a guest or a container image), or everything. What is in the cache is not built again.

    A guest's disk is built for each kernel.
    """
    places.check(places.cache(), places.temporary())
    for row in choose(rows(), names):
        # Each alone, so that no bar is there when its line is printed.
        with progress.waiting(f"{row.kind} {row.name}"):
            digest = row.build(lambda step: click.echo(step, err=True))
        click.echo(f"{row.kind} {row.name}{row.detail}: {digest}")


@command.command("list")
def list_() -> None:
    """List kind, name, digest, size on disk, and whether it is built."""
    table = Table("kind", "name", "digest", "size", "built", box=None)
    for row in rows():
        if row.cached:
            digest, path = row.cached
            table.add_row(
                row.kind, row.name + row.detail, digest.removeprefix("sha256:")[:12], mebibytes(cache.used(path)), "yes"
            )
        else:
            table.add_row(row.kind, row.name + row.detail, "", "", "no")
    console = Console()
    console.print(table)
    total = sum(entry.size for entry in cache.entries())
    console.print(f"{cache.root()}: {mebibytes(total)} in all", markup=False, highlight=False, soft_wrap=True)


@command.command()
@click.option(
    "--all", "everything", is_flag=True, help="Also remove everything that is complete; it is built again on demand."
)
def gc(*, everything: bool) -> None:
    """Remove what killed builds left. Builds in progress stay.

    Before --all, end all campaigns: the disks of their machines are overlays of disks that --all removes.
    """
    removed = cache.gc(everything=everything)
    click.echo(f"removed {len(removed)} director{'y' if len(removed) == 1 else 'ies'} from {cache.root()}")


def rows() -> list[Buildable]:
    """List what has a recipe, in the order in which it can be built."""
    kernels = load_kernels().values()
    listed = [_kernel_row(recipe) for recipe in kernels]
    listed += [_guest_row(guest, recipe) for guest in load_guests().values() for recipe in kernels]
    return listed + [_container_row(recipe) for recipe in load_containers().values()]


def choose(listed: Sequence[Buildable], names: Sequence[str]) -> list[Buildable]:
    """Return the rows that ``names`` name, all of them if it is empty. Raises ``SpecError``."""
    known = {row.name for row in listed}
    for name in names:
        if name not in known:
            raise SpecError(f"nothing to build is named {name!r}", f"there are: {', '.join(sorted(known))}")
    return [row for row in listed if not names or row.name in names]


def mebibytes(size: int) -> str:
    """Return a size in a form that people read."""
    return f"{size / (1 << 20):,.0f} MiB"


def _kernel_row(recipe: KernelRecipe) -> Buildable:
    def make(say: cache.Progress) -> str:
        return build_kernel(recipe, say).digest

    kernel = cached_kernel(recipe)
    cached = (kernel.digest, kernel.vmlinuz.parent) if kernel else None
    return Buildable(kind="kernel", name=recipe.name, detail="", build=make, cached=cached)


def _guest_row(recipe: GuestRecipe, on: KernelRecipe) -> Buildable:
    def make(say: cache.Progress) -> str:
        return build_image(recipe, build_kernel(on, say), say).digest

    kernel = cached_kernel(on)
    image = cached_image(recipe, kernel) if kernel else None
    cached = (image.digest, image.disk.parent) if image else None
    return Buildable(kind="guest", name=recipe.name, detail=f" for {on.name}", build=make, cached=cached)


def _container_row(recipe: ContainerRecipe) -> Buildable:
    def make(say: cache.Progress) -> str:
        return build_container_image(recipe, say).digest

    image = cached_container_image(recipe)
    cached = (image.digest, image.archive.parent) if image else None
    return Buildable(kind="container", name=recipe.name, detail="", build=make, cached=cached)

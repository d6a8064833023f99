"""Disks for machines and images for containers, from Debian packages and files of this repository."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import BuildError, CommandError
from testbed.files import file_digest, tree_digest
from testbed.lab import repository
from testbed.lab.build import cache, debian, ext4, oci, tarball
from testbed.lab.build.kernel import Kernel
from testbed.lab.build.recipes import IMAGES, ContainerRecipe, GuestRecipe, Prepare, load_containers, load_guests

__all__ = [
    "ContainerImage",
    "GuestDisk",
    "build_container_image",
    "build_image",
    "cached_container_image",
    "cached_image",
    "load_containers",
    "load_guests",
]

KIND, ROOT_KIND, CONTAINER_KIND = "disk", "guest", "container"
# Raise it when this module makes something else of the same recipe.
BUILDER = 1
_NEEDED = 2 << 30
_NEEDED_CONTAINER = 512 << 20
_NEEDED_PREPARED = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDisk:
    """A machine's base disk: raw ext4 without a partition table, never written to. ``digest``: SHA-256 of the disk."""

    name: str
    disk: Path
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """An OCI archive for ``podman load``. ``digest``: that of its manifest, ``sha256:…``.

    ``reference`` is the name it is loaded as; ``f"{reference}@{digest}"`` names this image and no other.
    """

    name: str
    archive: Path
    digest: str
    reference: str
    config: oci.Config


def build_image(
    recipe: GuestRecipe, kernel: Kernel, progress: cache.Progress = cache.silent, *, layout: int = 0
) -> GuestDisk:
    """Return the disk of a guest with a kernel's modules, cached or made now. Raises ``BuildError``, ``HostError``.

    ``layout``: another number gives the same files in another order on the disk.
    """
    key = _key(recipe, kernel, layout)
    made = cache.entry(KIND, key, lambda at: _build(recipe, kernel, at, progress, layout), needed=_NEEDED)
    return _load(recipe, made)


def cached_image(recipe: GuestRecipe, kernel: Kernel) -> GuestDisk | None:
    """Return the disk if it is in the cache."""
    path = cache.find(KIND, _key(recipe, kernel))
    return _load(recipe, path) if path else None


def build_container_image(recipe: ContainerRecipe, progress: cache.Progress = cache.silent) -> ContainerImage:
    """Return a container image, from the cache or made now. Raises ``BuildError``, ``HostError``."""
    key = _container_key(recipe)
    needed = _NEEDED_PREPARED if recipe.prepare else _NEEDED_CONTAINER
    made = cache.entry(CONTAINER_KIND, key, lambda at: _build_container(recipe, at, progress), needed=needed)
    return _load_container(recipe, made)


def cached_container_image(recipe: ContainerRecipe) -> ContainerImage | None:
    """Return the container image if it is in the cache."""
    path = cache.find(CONTAINER_KIND, _container_key(recipe))
    return _load_container(recipe, path) if path else None


def disk_argv(recipe: GuestRecipe, layout: int = 0) -> tuple[str, ...]:
    """Return the command that makes the guest's disk."""
    return ext4.argv("root", recipe.disk_mib, ("-J", "size=16"), layout)


def wanted(wants: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the symbolic links by which each target of systemd starts its units (systemd reads their names only)."""
    pairs = ((target, unit) for target, units in wants.items() for unit in units)
    return {f"etc/systemd/system/{target}.wants/{unit}": f"../{unit}" for target, unit in pairs}


def _tree(name: str, kind: str) -> Path | None:
    path = IMAGES / kind / name
    return path if path.is_dir() else None


def _tree_digest(name: str, kind: str) -> str:
    path = _tree(name, kind)
    return tree_digest(path, repository.programs(path)) if path else ""


def _programs(tree: Path | None) -> frozenset[str] | None:
    return repository.programs(tree) if tree else None


def _key(recipe: GuestRecipe, kernel: Kernel, layout: int = 0) -> str:
    parts = {"builder": BUILDER, "recipe": recipe.canonical(), "kernel": kernel.digest}
    return cache.content_key(parts | {"tree": _tree_digest(recipe.name, "guests"), "disk": disk_argv(recipe, layout)})


def _load(recipe: GuestRecipe, path: Path) -> GuestDisk:
    return GuestDisk(name=recipe.name, disk=path / "disk.raw", digest=cache.read_meta(path)["digest"])


def _build(recipe: GuestRecipe, kernel: Kernel, at: Path, progress: cache.Progress, layout: int) -> None:
    packages = _packages(recipe.suite, recipe.packages, progress)
    tools = ext4.tools(recipe.suite, recipe.tools, progress)
    again = f", layout {layout}" if layout else ""
    progress(f"guest {recipe.name}: disk with the modules of {kernel.name}{again}")
    tree = _tree(recipe.name, "guests")
    content = tarball.merge(
        at / "disk.tar",
        [packages / "root.tar", kernel.modules],
        tree=tree,
        programs=_programs(tree),
        links=recipe.links | wanted(recipe.wants),
        drop=recipe.drop,
        epoch=debian.EPOCH,
        layout=layout,
    )
    try:
        ext4.make(at, tools, disk_argv(recipe, layout))
    except CommandError as error:
        raise BuildError(
            f"guest {recipe.name}: its disk cannot be made: {error.message}", "raise disk_mib if it is too small"
        ) from error
    meta = {"name": recipe.name, "kernel": kernel.name, "content": content}
    meta |= {"digest": file_digest(at / "disk.raw"), "packages": cache.read_meta(packages)["packages"]}
    cache.write_meta(at, meta)


def _packages(suite: str, packages: tuple[str, ...], progress: cache.Progress) -> Path:
    """Return the entry with ``root.tar`` as Debian makes it: a separate one, as this repository changes more often."""

    def build(at: Path) -> None:
        progress(f"guest: packages of {suite}")
        debian.bootstrap(suite, packages, at / "root.tar")
        ext4.note_packages(at)

    key = cache.content_key({"builder": BUILDER, "suite": suite, "packages": packages})
    return cache.entry(ROOT_KIND, key, build, needed=_NEEDED)


def _container_key(recipe: ContainerRecipe) -> str:
    parts = {"builder": BUILDER, "name": recipe.name, "recipe": recipe.canonical()}
    return cache.content_key(parts | {"tree": _tree_digest(recipe.name, "containers")})


def _load_container(recipe: ContainerRecipe, path: Path) -> ContainerImage:
    return ContainerImage(
        name=recipe.name,
        archive=path / "image.tar",
        digest=cache.read_meta(path)["digest"],
        reference=_reference(recipe),
        config=_config(recipe),
    )


def _reference(recipe: ContainerRecipe) -> str:
    return f"localhost/testbed/{recipe.name}"


def _config(recipe: ContainerRecipe) -> oci.Config:
    return oci.Config(env=recipe.env, cmd=recipe.cmd)


def _build_container(recipe: ContainerRecipe, at: Path, progress: cache.Progress) -> None:
    progress(f"container {recipe.name}: packages of {recipe.suite}")
    archive = at / "root.tar"
    debian.bootstrap(recipe.suite, recipe.packages, archive, variant="extract")
    packages = debian.packages_of(archive)
    made = _prepared(recipe, recipe.prepare, at, progress) if recipe.prepare else None
    progress(f"container {recipe.name}: OCI archive")
    tree = _tree(recipe.name, "containers")
    tarball.merge(
        at / "layer.tar",
        [archive],
        keep=recipe.keep,
        tree=tree,
        programs=_programs(tree),
        made=made,
        blobs=recipe.blob_files(),
        links=recipe.links,
        drop=recipe.drop,
    )
    digest = oci.write_archive(
        [at / "layer.tar"], at / "image.tar", name=f"{_reference(recipe)}:latest", config=_config(recipe)
    )
    archive.unlink()
    (at / "layer.tar").unlink()
    if made:
        shutil.rmtree(made.tree)
    meta: Mapping[str, object] = {"name": recipe.name, "digest": digest, "packages": packages}
    cache.write_meta(at, meta)


def _prepared(recipe: ContainerRecipe, prepare: Prepare, at: Path, progress: cache.Progress) -> tarball.MadeTree:
    """Return what the recipe's command makes inside the files of the packages and of this repository."""
    progress(f"container {recipe.name}: {prepare.argv[0]} makes {prepare.makes}")
    root, out, all_files = at / "root", at / "made", at / "all.tar"
    tree = _tree(recipe.name, "containers")
    tarball.merge(all_files, [at / "root.tar"], tree=tree, programs=_programs(tree))
    debian.unpack(all_files, root)
    all_files.unlink()
    (root / prepare.makes).mkdir(parents=True, exist_ok=True)
    out.mkdir()
    try:
        debian.enter(root, prepare.argv, write={out: f"/{prepare.makes}"}, owner=prepare.owner)
    except CommandError as error:
        raise BuildError(
            f"container {recipe.name}: {prepare.makes} cannot be made: {error.message}",
            "correct `prepare` of its recipe",
        ) from error
    shutil.rmtree(root)
    return tarball.MadeTree(tree=out, at=prepare.makes, owner=prepare.owner)

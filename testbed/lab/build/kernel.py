"""A kernel of Debian's, and the root file system in which code for it is built: both from one ``mmdebstrap``."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import BuildError
from testbed.files import file_digest, tree_digest
from testbed.lab import repository
from testbed.lab.build import cache, debian, local, tarball
from testbed.lab.build.recipes import IMAGES, KernelRecipe, Recipe, load_kernels

__all__ = ["Kernel", "KernelRecipe", "build_kernel", "cached_kernel", "load_kernels"]

KIND = "kernel"
# Raise it when this module makes something else of the same recipe.
BUILDER = 1
_NEEDED = 4 << 30
INITRAMFS = IMAGES / "initramfs"
_CONFIGURATION = "/etc/initramfs-tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that can be booted. ``modules``: tar with ``usr/lib/modules/RELEASE``; ``build_root``: directory.

    ``digest``: SHA-256 over what boots (kernel, initramfs, modules); ``build_digest``: over the build root's versions.
    """

    name: str
    release: str
    vmlinuz: Path
    initrd: Path
    modules: Path
    config: Path
    build_root: Path
    digest: str
    build_digest: str


def build_kernel(recipe: KernelRecipe, progress: cache.Progress = cache.silent) -> Kernel:
    """Return the kernel of a recipe, from the cache or made now (about a minute).

    Raises ``BuildError`` if the kernel does not have an option that the recipe needs, ``HostError``.
    """
    path = cache.entry(KIND, _key(recipe), lambda at: _build(recipe, at, progress), needed=_NEEDED)
    return load(recipe, path)


def cached_kernel(recipe: KernelRecipe) -> Kernel | None:
    """Return the kernel if it is in the cache."""
    if not local.complete(recipe):
        return None
    path = cache.find(KIND, _key(recipe))
    return load(recipe, path) if path else None


def package_version(kernel: Kernel) -> str:
    """Return the version of the package that the kernel is from."""
    packages = cache.read_meta(kernel.vmlinuz.parent)["packages"]
    return str(packages[f"linux-image-{kernel.release}"])


def check_options(recipe: KernelRecipe, release: str, config: str) -> None:
    """Raise ``BuildError`` naming kernel, option, expected and got for each option that ``config`` does not meet."""
    if unmet := local.unmet_options(recipe, config):
        hint = f"choose another package in images/kernels/{recipe.name}.toml"
        if any("BPF" in line or "'bpf'" in line for line in unmet):
            hint = f"this is a kernel without BPF LSM: the measurers cannot attach; {hint}"
        raise BuildError(f"kernel {recipe.name} ({release}) cannot be used: {'; '.join(unmet)}", hint)


def initramfs_hooks(modules: Sequence[str]) -> tuple[str, ...]:
    """Return what mmdebstrap does so that the initramfs carries ``modules`` and no others, and no udev."""
    settings = " ".join(shlex.quote(str(path)) for path in sorted(INITRAMFS.iterdir()))
    programs = " ".join(f'"$1{_CONFIGURATION}/{name}"' for name in sorted(_initramfs_programs()))
    return (
        f'mkdir -p "$1{_CONFIGURATION}"',
        f"copy-in {settings} {_CONFIGURATION}",
        # mkinitramfs ignores a hook without this bit.
        f"chmod 0755 {programs}",
        f"printf '%s\\n' {shlex.join(modules)} > \"$1{_CONFIGURATION}/modules\"",
    )


def _initramfs_programs() -> frozenset[str]:
    return repository.programs(INITRAMFS) or frozenset()


def _key(recipe: KernelRecipe) -> str:
    # The machine that it boots on does not change what is built, nor does the location of a user's own files.
    wish = {name: value for name, value in recipe.canonical().items() if name not in ("processor", "debs", "tree")}
    parts = {"builder": BUILDER, "recipe": wish, "initramfs": tree_digest(INITRAMFS, _initramfs_programs())}
    if recipe.local:
        parts["local"] = local.digest(recipe)
    return cache.content_key(parts)


def load(recipe: Recipe, path: Path) -> Kernel:
    """Return the kernel that an entry of the cache has."""
    meta = cache.read_meta(path)
    return Kernel(
        name=recipe.name,
        release=meta["release"],
        vmlinuz=path / "vmlinuz",
        initrd=path / "initrd",
        modules=path / "modules.tar",
        config=path / "config",
        build_root=path / "root",
        digest=meta["digest"],
        build_digest=meta["build_digest"],
    )


def _build(recipe: KernelRecipe, at: Path, progress: cache.Progress) -> None:
    packed, unpacked = at / "root.tar", at / "root"
    staged = _stage(recipe, at, progress) if recipe.local else None
    _bootstrap(recipe, packed, staged, progress)
    progress(f"kernel {recipe.name}: unpack the build root")
    debian.unpack(packed, unpacked)
    release = _release(recipe, unpacked / "boot")
    check_options(recipe, release, (unpacked / "boot" / f"config-{release}").read_text(encoding="utf-8"))
    for name, source in (("vmlinuz", "vmlinuz"), ("initrd", "initrd.img"), ("config", "config")):
        shutil.copyfile(unpacked / "boot" / f"{source}-{release}", at / name)
    modules = f"usr/lib/modules/{release}"
    if not (unpacked / modules / "modules.dep.bin").is_file():
        raise BuildError(f"kernel {recipe.name}: no modules.dep.bin in {modules}", "add package kmod to the recipe")
    links = (f"{modules}/build", f"{modules}/source")
    tarball.merge(at / "modules.tar", [packed], only=modules, drop=links, epoch=debian.EPOCH)
    files = {f"linux-image-{release}": f"local {file_digest(staged.packed)}"} if staged else {}
    cache.write_meta(at, describe(recipe, release, at, packed, files))
    packed.unlink()
    if staged:
        staged.packed.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """The files of a user's own kernel, in a tar file, its release, and whether it takes an initramfs."""

    packed: Path
    release: str
    initramfs: bool


def _stage(recipe: KernelRecipe, at: Path, progress: cache.Progress) -> _Staged:
    """Collect the files of a user's own kernel. Raises ``BuildError`` for options that it does not have."""
    tree, packed = at / "stage", at / "stage.tar"
    local.stage(recipe, tree, progress)
    release = local.release_of(recipe.name, tree)
    config = tree / "boot" / f"config-{release}"
    if not config.is_file():
        raise BuildError(
            f"kernel {recipe.name}: no boot/config-{release} in its files", "give the package of its image"
        )
    local.check_options(recipe, release, config.read_text(encoding="utf-8"))
    initramfs = local.settle_initramfs(tree, release, config.read_text(encoding="utf-8"))
    local.pack(tree, packed, debian.EPOCH)
    shutil.rmtree(tree)
    return _Staged(packed=packed, release=release, initramfs=initramfs)


def _bootstrap(recipe: KernelRecipe, packed: Path, staged: _Staged | None, progress: cache.Progress) -> None:
    """Write the build root: the packages, and the files of a user's own kernel."""
    other = recipe.beside
    progress(f"kernel {recipe.name}: packages of {other.suite if other else recipe.suite}")
    names = () if staged else (recipe.image, recipe.headers)
    debian.bootstrap(
        recipe.suite,
        (*names, *recipe.packages),
        packed,
        hooks=initramfs_hooks(recipe.initramfs),
        setup=debian.suite_beside(recipe.suite, other.suite, other.packages) if other else (),
        last=local.hooks(staged.packed, staged.release, initramfs=staged.initramfs) if staged else (),
        outdated=recipe.outdated,
    )


def _release(recipe: KernelRecipe, boot: Path) -> str:
    releases = [path.name.removeprefix("vmlinuz-") for path in sorted(boot.glob("vmlinuz-*"))]
    if len(releases) != 1:
        raise BuildError(
            f"kernel {recipe.name}: expected one kernel from {recipe.image}, got {releases}", "name one package"
        )
    return releases[0]


def describe(
    recipe: Recipe, release: str, at: Path, packed: Path, files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what is written down about a kernel: its files are at ``at``, ``packed`` is its build root.

    ``files``: what is in the build root beside packages, as name and version.
    """
    boots = {name: file_digest(at / name) for name in ("vmlinuz", "initrd", "modules.tar")}
    packages = debian.packages_of(packed) | dict(files or {})
    return {
        "name": recipe.name,
        "release": release,
        "digest": cache.content_key(boots),
        "build_digest": cache.content_key(packages),
        "files": boots,
        "packages": packages,
    }

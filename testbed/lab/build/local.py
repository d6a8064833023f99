"""Kernels that the user built: a compiled tree, or the packages of ``make bindeb-pkg``, put where Debian's would be.

What comes out of ``stage`` is a directory with ``boot/``, ``usr/lib/modules/`` and ``usr/src/``. The build root gets it
after its packages (``hooks``), and makes the initramfs as for any other kernel.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed import shell
from testbed.errors import BuildError, CommandError, SpecError
from testbed.files import file_digest
from testbed.lab.build import cache
from testbed.lab.build.recipes import KernelRecipe

# The row whose suite, packages and options a kernel of --kernel-path gets.
PATTERN = "debian-6.12"
# What the measurer's module is compiled with: Debian's headers ask for it by themselves.
_MORE_PACKAGES = ("gcc", "libc6-dev")
# The root disk. Without an initramfs they must be built in.
_ROOT_DRIVERS = ("VIRTIO_PCI", "VIRTIO_BLK", "EXT4_FS")
# Built in or a module: the network by which the lab speaks to the guest, and what containers need.
_DRIVERS = ("VIRTIO_NET", "OVERLAY_FS")
_INITRAMFS = "CONFIG_BLK_DEV_INITRD"
# How mkinitramfs can compress one: the kernel must unpack it.
_PACKED = ("CONFIG_RD_LZ4", "CONFIG_RD_GZIP")
# An archive without a file (newc): a kernel without an initramfs ignores it.
_NO_INITRAMFS = (b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!").ljust(
    512, b"\0"
)
_RELEASE = Path("include/config/kernel.release")
_IMAGE = Path("arch/x86/boot/bzImage")
_BUILT = (Path(".config"), _RELEASE, _IMAGE, Path("Module.symvers"), Path("modules.order"))
_HEADERS = "scripts/package/install-extmod-build"
_NAME = re.compile(r"[^a-z0-9.-]+")
_SECONDS = 1800.0
_HINT = "compile it (`make`), or run `make bindeb-pkg` and give the directory of the .deb files"


def recipe(path: Path, pattern: KernelRecipe) -> KernelRecipe:
    """Return the row of the kernel at ``path``: a compiled tree, or a directory with the packages of one kernel.

    Its options are those of ``pattern``; of a tree they are checked now. Raises ``SpecError`` if there is no kernel,
    ``BuildError`` naming the options that it does not have.
    """
    path = path.resolve()
    if not path.is_dir():
        raise SpecError(f"--kernel-path {path}: expected a directory, got none", _HINT)
    name = f"local-{_NAME.sub('-', path.name.lower()).strip('-.') or 'kernel'}"[:60]
    common: dict[str, Any] = {"name": name, "summary": "a kernel of your own", "image": "", "headers": ""}
    common |= {"packages": (*pattern.packages, *_MORE_PACKAGES), "beside": None, "outdated": False}
    if (path / "Kbuild").exists() or (path / ".config").exists():
        made = pattern.model_copy(update=common | {"tree": str(path)})
        check_tree(made, path)
        return made
    return pattern.model_copy(update=common | {"debs": tuple(map(str, packages(path)))})


def packages(path: Path) -> tuple[Path, Path]:
    """Return the packages with image and headers of the one kernel in a directory. Raises ``SpecError``."""
    found = []
    for kind in ("image", "headers"):
        debs = [deb for deb in sorted(path.glob(f"linux-{kind}-*.deb")) if not deb.name.split("_")[0].endswith("-dbg")]
        if len(debs) != 1:
            names = ", ".join(deb.name for deb in debs) or "none"
            raise SpecError(f"{path}: expected one package linux-{kind}-*.deb, got {names}", _HINT)
        found += debs
    return found[0], found[1]


def check_tree(recipe: KernelRecipe, tree: Path) -> None:
    """Raise ``SpecError`` if a tree is not compiled, ``BuildError`` naming the options that it does not have."""
    missing = [str(name) for name in _BUILT if not (tree / name).is_file()]
    if missing:
        raise SpecError(f"{tree}: expected a compiled kernel tree, got none: no {', '.join(missing)}", _HINT)
    source = tree / "source"  # of a tree that was made with O=
    if not any((place / _HEADERS).is_file() for place in (tree, source)):
        hint = "run `make bindeb-pkg` in it and give the directory of the .deb files"
        raise SpecError(f"{tree}: its kernel has no {_HEADERS} (Linux 6.6 and later do)", hint)
    check_options(
        recipe, (tree / _RELEASE).read_text(encoding="utf-8").strip(), (tree / ".config").read_text(encoding="utf-8")
    )


def unmet_options(recipe: KernelRecipe, config: str) -> list[str]:
    """Return each option that a recipe needs and a configuration does not have, with expected and got."""
    values = _values(config)
    unmet = [
        f"{name}: expected {expected}, got {values.get(name, 'n')}"
        for name, expected in recipe.options.items()
        if values.get(name, "n") != expected
    ]
    if recipe.local:
        unmet += _unmet_drivers(values)
    lsm = values.get("CONFIG_LSM", "").strip('"').split(",")
    unmet += [f"CONFIG_LSM: expected {name!r} in it, got {','.join(lsm)!r}" for name in recipe.lsm if name not in lsm]
    return unmet


def _values(config: str) -> dict[str, str]:
    lines = (line.partition("=") for line in config.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in lines}


def _unmet_drivers(values: Mapping[str, str]) -> Iterator[str]:
    loads = _INITRAMFS in values
    if loads and not any(name in values for name in _PACKED):
        yield f"{' or '.join(_PACKED)}: expected y, got n"
    for name in _ROOT_DRIVERS:
        got = values.get(f"CONFIG_{name}", "n")
        if got != "y" and not (loads and got == "m"):
            yield f"CONFIG_{name}: expected {'y or m' if loads else f'y, as {_INITRAMFS} is not set'}, got {got}"
    yield from (f"CONFIG_{name}: expected y or m, got n" for name in _DRIVERS if f"CONFIG_{name}" not in values)


def check_options(recipe: KernelRecipe, release: str, config: str) -> None:
    """Raise ``BuildError`` naming each option of the recipe, and each driver, that a configuration does not have."""
    if unmet := unmet_options(recipe, config):
        hint = "set them (`make menuconfig` or scripts/config), and build the kernel again"
        raise BuildError(f"kernel {recipe.name} ({release}) cannot be used: {'; '.join(unmet)}", hint)


def digest(recipe: KernelRecipe) -> str:
    """Return SHA-256 over what ``stage`` takes: the packages, or the image, the modules and the headers of a tree."""
    total = hashlib.sha256()
    for file in _files(recipe):
        if not file.is_file():
            raise SpecError(f"{file}: no such file", f"the kernel {recipe.name} is made of it")
        total.update(f"{file.name} {file_digest(file)}\n".encode())
    return total.hexdigest()


def complete(recipe: KernelRecipe) -> bool:
    """Return whether all files of a user's own kernel exist."""
    return all(file.is_file() for file in _files(recipe))


def _files(recipe: KernelRecipe) -> list[Path]:
    return [Path(deb) for deb in recipe.debs] or (list(_tree_files(Path(recipe.tree))) if recipe.tree else [])


def _tree_files(tree: Path) -> Iterable[Path]:
    yield from (tree / name for name in _BUILT)
    for line in (tree / "modules.order").read_text(encoding="utf-8").split():
        yield tree / f"{line.removesuffix('.ko').removesuffix('.o')}.ko"


def stage(recipe: KernelRecipe, to: Path, progress: cache.Progress) -> None:
    """Fill ``to`` with the files of the kernel, as they lie in a root. Raises ``BuildError``, ``HostError``."""
    to.mkdir()
    progress(f"kernel {recipe.name}: collect its files")
    try:
        if recipe.debs:
            for deb in recipe.debs:
                shell.run(("dpkg-deb", "-x", deb, to), timeout=_SECONDS)
            _merge_usr(to)
        else:
            _stage_tree(Path(recipe.tree), to)
    except CommandError as error:
        raise BuildError(f"kernel {recipe.name}: its files cannot be collected: {error.message}", _HINT) from error


def _merge_usr(to: Path) -> None:
    """Move ``lib`` below ``usr``, where it is in today's roots: a directory would replace the link there."""
    if (to / "lib").is_dir() and not (to / "lib").is_symlink():
        shutil.copytree(to / "lib", to / "usr/lib", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(to / "lib")


def _stage_tree(tree: Path, to: Path) -> None:
    release = (tree / _RELEASE).read_text(encoding="utf-8").strip()
    headers, modules = f"usr/src/linux-headers-{release}", f"usr/lib/modules/{release}"
    make = ("make", "-s", "-C", tree)
    # The kernel's own list of what code for it is built with; make expands $(srctree), also of a tree with O=.
    command = f"KBUILD_RUN_COMMAND=+$(srctree)/{_HEADERS} {to / headers}"
    shell.run((*make, f"INSTALL_MOD_PATH={to / 'usr'}", "INSTALL_MOD_STRIP=1", "modules_install"), timeout=_SECONDS)
    shell.run((*make, command, "run-command"), timeout=_SECONDS)
    for link in ("build", "source"):
        (to / modules / link).unlink(missing_ok=True)
    (to / modules).mkdir(parents=True, exist_ok=True)
    (to / modules / "build").symlink_to(f"/{headers}")
    (to / "boot").mkdir()
    shutil.copyfile(tree / _IMAGE, to / "boot" / f"vmlinuz-{release}")
    shutil.copyfile(tree / ".config", to / "boot" / f"config-{release}")


def pack(staged: Path, to: Path, epoch: int) -> None:
    """Write the tar file of what was staged: headers have files with a leading dot, which ``tarball`` leaves out."""
    same = ("--sort=name", "--owner=0", "--group=0", "--numeric-owner", f"--mtime=@{epoch}")
    shell.run(("tar", "-C", staged, *same, "-cf", to, "."), timeout=_SECONDS)


def release_of(name: str, staged: Path) -> str:
    """Return the release of the one kernel that was staged. Raises ``BuildError``."""
    releases = [path.name.removeprefix("vmlinuz-") for path in sorted((staged / "boot").glob("vmlinuz-*"))]
    if len(releases) != 1:
        raise BuildError(f"kernel {name}: expected one boot/vmlinuz-*, got {releases}", "give the files of one kernel")
    return releases[0]


def settle_initramfs(staged: Path, release: str, config: str) -> bool:
    """Return whether the kernel uses an initramfs; of one that does not, put an empty one among the staged files."""
    if _INITRAMFS in _values(config):
        return True
    (staged / "boot" / f"initrd.img-{release}").write_bytes(_NO_INITRAMFS)
    return False


def hooks(packed: Path, release: str, *, initramfs: bool) -> Sequence[str]:
    """Return what mmdebstrap does after its packages: put the tar ``packed`` into the root, and make the initramfs."""
    make = (f'chroot "$1" update-initramfs -c -k {shlex.quote(release)}',)
    return (
        f"tar-in {shlex.quote(str(packed))} /",
        f'chroot "$1" depmod {shlex.quote(release)}',
        *(make if initramfs else ()),
    )

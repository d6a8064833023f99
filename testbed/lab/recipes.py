"""The rows of ``images/``: what a kernel, a guest and a container image are made of. Data only; one file a row."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.errors import SpecError

IMAGES = Path(__file__).parents[2] / "images"


class Recipe(BaseModel):
    """What all rows have. ``name`` is the name of the file; ``suite`` a Debian release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    suite: str
    packages: tuple[str, ...]

    def canonical(self) -> dict[str, Any]:
        """Return what decides the result; a name and a sentence do not, nor do keys that a row does not use."""
        return self.model_dump(mode="json", exclude={"name", "summary"}, exclude_defaults=True)


class Beside(BaseModel):
    """Another suite of the same mirror, and the patterns of the packages that are taken from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    packages: tuple[str, ...]


class KernelRecipe(Recipe):
    """A kernel and the root in which code for it is built.

    ``image`` and ``headers`` are Debian packages, ``packages`` those that ``bpf/build.sh`` wants besides.
    ``initramfs``: modules with which the root disk is reached. ``options``: what ``/boot/config-*`` must say;
    ``lsm``: what must be in its ``CONFIG_LSM``. ``beside``: where the kernel is from, if not from ``suite``.
    ``outdated``: a mirror's state of the suite is taken also when its date of expiry is past (it is signed all the
    same): suites that move have such a date, and a mirror may be behind. ``processor``: features that emulated
    machines do not have (``domain.TIERS``) and that this kernel cannot do without.
    """

    image: str
    headers: str
    initramfs: tuple[str, ...]
    options: dict[str, str]
    lsm: tuple[str, ...] = ()
    beside: Beside | None = None
    outdated: bool = False
    processor: tuple[str, ...] = ()


class BuiltRecipe(Recipe):
    """A kernel that is compiled from Debian's sources (``compiled.py``); its configuration is ``NAME.config`` beside.

    ``packages``: the sources and what they are compiled with, and those that ``bpf/build.sh`` wants.
    """


class GuestRecipe(Recipe):
    """A root file system. Files of ours, in the directory of the same name beside the row, go over it.

    ``tools``: packages with the ``mke2fs`` that makes the disk. ``drop``: patterns of files that are left out.
    ``links``: symbolic links by path; ``wants``: which units each target of systemd starts.
    """

    tools: tuple[str, ...]
    disk_mib: int
    drop: tuple[str, ...] = ()
    links: dict[str, str] = {}
    wants: dict[str, tuple[str, ...]] = {}


class Prepare(BaseModel):
    """What a container image has that no package has: ``argv``, run when the image is built, fills directory ``makes``.

    It runs inside the packages' files, all of them, and ours, but without ``links``, as user and group ``owner``, to
    whom belongs what it makes. ``makes`` is a path without a leading slash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    argv: tuple[str, ...]
    makes: str
    owner: int


class ContainerRecipe(Recipe):
    """A container image of one layer: the files of Debian packages, no maintainer script run, then files of ours.

    These are in the directory of the same name beside the row. ``keep``, where there is one: patterns of the packages'
    files that are taken, no other is; of these ``drop`` is left out. ``env``, ``cmd``: as in the image's configuration.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prepare: Prepare | None = None
    links: dict[str, str] = {}
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...]


_Row = TypeVar("_Row", bound=Recipe)


def load_kernels(images: Path = IMAGES) -> dict[str, KernelRecipe]:
    """Read the rows of ``kernels/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "kernels", KernelRecipe)


def load_built(images: Path = IMAGES) -> dict[str, BuiltRecipe]:
    """Read the rows of ``built/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "built", BuiltRecipe)


def load_guests(images: Path = IMAGES) -> dict[str, GuestRecipe]:
    """Read the rows of ``guests/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "guests", GuestRecipe)


def load_containers(images: Path = IMAGES) -> dict[str, ContainerRecipe]:
    """Read the rows of ``containers/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "containers", ContainerRecipe)


def _load(directory: Path, kind: type[_Row]) -> dict[str, _Row]:
    return {path.stem: _read(path, kind) for path in sorted(directory.glob("*.toml"))}


def _read(path: Path, kind: type[_Row]) -> _Row:
    try:
        return kind.model_validate({"name": path.stem} | tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise SpecError(f"{path}: {'; '.join(wrong)}", f"the keys are described in {Path(__file__).name}") from error

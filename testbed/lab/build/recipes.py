"""The rows of ``images/``: what a kernel, a guest and a container image are made of. Data only; one file a row."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from testbed.errors import SpecError
from testbed.lab import repository
from testbed.lab.build import tarball

IMAGES = repository.IMAGES
_NUMBER = "{n}"


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

    ``image`` and ``headers`` are Debian packages, ``packages`` the others that ``bpf/build.sh`` needs.
    ``initramfs``: modules with which the root disk is reached. ``options``: what ``/boot/config-*`` must say;
    ``lsm``: what must be in its ``CONFIG_LSM``. ``beside``: where the kernel is from, if not from ``suite``.
    ``outdated``: a mirror's state of the suite is accepted after its date of expiry (its signature is checked): suites
    that move have such a date, and a mirror may be behind. ``processor``: features that emulated
    machines do not have (``domain.TIERS``) and that this kernel needs.

    ``debs`` (files, relative to the row) or ``tree`` (a compiled kernel tree) instead of ``image`` and ``headers``: a
    kernel that the user built (``local.py``).
    """

    image: str = ""
    headers: str = ""
    debs: tuple[str, ...] = ()
    tree: str = ""
    initramfs: tuple[str, ...]
    options: dict[str, str]
    lsm: tuple[str, ...] = ()
    beside: Beside | None = None
    outdated: bool = False
    processor: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        if not self.local and not (self.image and self.headers):
            raise ValueError("image and headers: expected two packages, or local files in debs")
        if self.local and (self.image or self.headers):
            raise ValueError("debs: expected no image and headers beside it, because the kernel is in these files")
        return self

    @property
    def local(self) -> bool:
        """Whether the kernel is not from Debian's archive, but from files of this host."""
        return bool(self.debs or self.tree)


class BuiltRecipe(Recipe):
    """A kernel that is compiled from Debian's sources (``compiled.py``); its configuration is ``NAME.config`` beside.

    ``packages``: the sources and what they are compiled with, and those that ``bpf/build.sh`` wants.
    """


class ToolsRecipe(Recipe):
    """A root with programs that this host runs in it. ``outdated``: as of a kernel."""

    outdated: bool = False


class GuestRecipe(Recipe):
    """A root file system. The files in the directory of the same name beside the row are copied over it.

    ``tools``: packages with the ``mke2fs`` that makes the disk. ``drop``: patterns of files that are left out.
    ``links``: symbolic links by path; ``wants``: which units each target of systemd starts.
    """

    tools: tuple[str, ...]
    disk_mib: int
    drop: tuple[str, ...] = ()
    links: dict[str, str] = {}
    wants: dict[str, tuple[str, ...]] = {}


class Prepare(BaseModel):
    """Files of a container image that no package has: ``argv``, run when the image is built, fills directory ``makes``.

    It runs inside all files of the packages and the repository's files, but without ``links``, as user and group
    ``owner``, who own what it makes. ``makes`` is a path without a leading slash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    argv: tuple[str, ...]
    makes: str
    owner: int


class Blobs(BaseModel):
    """Files of a container image that hold nothing in particular, and the same on every host.

    ``count`` files, numbered from 0 where their path has ``{n}``; each of ``size`` bytes, the first of which are
    ``head``, and the others follow from its path alone. ``mode``: its permissions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=1, ge=1)
    size: int = Field(ge=0)
    head: str = ""
    mode: int = Field(default=0o755, ge=0, le=0o7777)

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.size < len(self.head.encode()):
            raise ValueError(f"size {self.size} is less than that of head, {len(self.head.encode())}")
        return self

    def files(self, path: str) -> tuple[tarball.Blob, ...]:
        """Return the files at ``path``, the key of this row."""
        head = self.head.encode()
        return tuple(
            tarball.Blob(path=path.replace(_NUMBER, str(n)), size=self.size, head=head, mode=self.mode)
            for n in range(self.count)
        )


class ContainerRecipe(Recipe):
    """A container image of one layer: files of packages (no maintainer script runs), then the repository's files.

    These are in the directory of the same name beside the row. ``keep``, where there is one: patterns of the packages'
    files that are taken, no other is; of these ``drop`` is left out. ``blobs``: files without a meaning, by their path,
    which has no leading slash. ``env``, ``cmd``: as in the image's configuration.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prepare: Prepare | None = None
    blobs: dict[str, Blobs] = {}
    links: dict[str, str] = {}
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...]

    @model_validator(mode="after")
    def _blobs_have_paths(self) -> Self:
        for path, blobs in self.blobs.items():
            if path.startswith("/"):
                raise ValueError(f"blobs {path!r}: a path has no leading slash")
            if (_NUMBER in path) != (blobs.count > 1):
                raise ValueError(f"blobs {path!r}: a path has {_NUMBER} if, and only if, there are several")
        return self

    def blob_files(self) -> tuple[tarball.Blob, ...]:
        """Return each file that ``blobs`` stands for."""
        return tuple(file for path, blobs in self.blobs.items() for file in blobs.files(path))


_Row = TypeVar("_Row", bound=Recipe)


def load_kernels(images: Path = IMAGES) -> dict[str, KernelRecipe]:
    """Read the rows of ``kernels/``. Raises ``SpecError``, naming file and key."""
    home = images / "kernels"
    return {name: _at(recipe, home) for name, recipe in _load(home, KernelRecipe).items()}


def _at(recipe: KernelRecipe, home: Path) -> KernelRecipe:
    """Return the row with absolute paths of its files."""
    return recipe.model_copy(update={"debs": tuple(str(home / deb) for deb in recipe.debs)}) if recipe.debs else recipe


def load_built(images: Path = IMAGES) -> dict[str, BuiltRecipe]:
    """Read the rows of ``built/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "built", BuiltRecipe)


def load_tools(images: Path = IMAGES) -> dict[str, ToolsRecipe]:
    """Read the rows of ``tools/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "tools", ToolsRecipe)


def load_guests(images: Path = IMAGES) -> dict[str, GuestRecipe]:
    """Read the rows of ``guests/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "guests", GuestRecipe)


def load_containers(images: Path = IMAGES) -> dict[str, ContainerRecipe]:
    """Read the rows of ``containers/``. Raises ``SpecError``, naming file and key."""
    return _load(images / "containers", ContainerRecipe)


def _load(directory: Path, kind: type[_Row]) -> dict[str, _Row]:
    return {path.stem: _read(path, kind) for path in sorted(repository.needed(directory).glob("*.toml"))}


def _read(path: Path, kind: type[_Row]) -> _Row:
    try:
        return kind.model_validate({"name": path.stem} | tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not TOML (UTF-8): {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise SpecError(f"{path}: {'; '.join(wrong)}", f"the keys are described in {Path(__file__).name}") from error

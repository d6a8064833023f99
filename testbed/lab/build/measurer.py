"""Measurers built for one kernel, in that kernel's build root: this project's own, and other people's."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import BuildError, CommandError
from testbed.files import file_digest, tree_digest
from testbed.lab import repository
from testbed.lab.build import cache, debian
from testbed.lab.build.kernel import Kernel

KIND = "bundle"
FOREIGN = "foreign"
_SCRIPT, _TOOLS = "build.sh", "/run/testbed"
# Raise it when this module makes something else of the same sources.
BUILDER = 2
_MODULE, _LOADER = "testbed_measurer.ko", "measurer"
_NEEDED = 256 << 20
_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurerBundle:
    """The files for a guest: the kernel module and the static loader. ``digest``: SHA-256 over both."""

    kernel: str
    module: Path
    loader: Path
    digest: str


def build_bundle(kernel: Kernel, source: Path, progress: cache.Progress = cache.silent) -> MeasurerBundle:
    """Return the measurer of ``source`` for ``kernel``, from the cache or compiled now (seconds).

    Raises ``BuildError`` with the last lines of what the compiler said, ``HostError``.
    """
    key = _key(kernel, source)
    path = cache.entry(KIND, key, lambda at: _build(kernel, source, at, progress), needed=_NEEDED)
    return _load(kernel, path)


def build_seconds(bundle: MeasurerBundle) -> float:
    """Return what compiling it took, whenever that was."""
    return float(cache.read_meta(bundle.module.parent)["seconds"])


def _key(kernel: Kernel, source: Path, **more: str) -> str:
    digests = {
        "source": tree_digest(source, repository.programs(source)),
        "kernel": kernel.digest,
        "root": kernel.build_digest,
    }
    return cache.content_key({"builder": BUILDER} | digests | more)


def _load(kernel: Kernel, path: Path) -> MeasurerBundle:
    digest = cache.read_meta(path)["digest"]
    return MeasurerBundle(kernel=kernel.name, module=path / _MODULE, loader=path / _LOADER, digest=digest)


def _build(kernel: Kernel, source: Path, at: Path, progress: cache.Progress) -> None:
    progress(f"measurer for {kernel.name}: compile")
    start = time.monotonic()
    _compile(kernel, "the measurer", source, at)
    seconds = time.monotonic() - start
    missing = [name for name in (_MODULE, _LOADER) if not (at / name).is_file()]
    if missing:
        raise BuildError(f"{source / _SCRIPT} ended well for {kernel.name} but made no {', '.join(missing)}")
    files = {name: file_digest(at / name) for name in (_MODULE, _LOADER)}
    known = {"kernel": kernel.name, "release": kernel.release, "seconds": seconds}
    cache.write_meta(at, known | {"digest": cache.content_key(files), "files": files})


def _compile(kernel: Kernel, what: str, source: Path, at: Path, *, tools: Path | None = None) -> None:
    """Run the build script on ``source`` in the kernel's build root. ``tools``: where the script is, if elsewhere."""
    read = {source: "/src"} if tools is None else {tools: _TOOLS, source: "/src"}
    argv = ("sh", f"{'/src' if tools is None else _TOOLS}/{_SCRIPT}", "/src", "/out", kernel.release)
    try:
        debian.enter(kernel.build_root, argv, read=read, write={at: "/out"}, timeout=_SECONDS)
    except CommandError as error:
        raise BuildError(f"{what} does not build for {kernel.name}: {error.message}", f"correct {source}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """What a foreign measurer's Makefile made for one kernel: ``files``, all to be copied. ``digest``: over them."""

    files: tuple[Path, ...]
    digest: str


def build_products(kernel: Kernel, name: str, source: Path, progress: cache.Progress = cache.silent) -> Products:
    """Return what the Makefile of a measurer's ``source`` makes for ``kernel``, from the cache or built now.

    Raises ``BuildError`` with the last lines of what the compiler said, ``HostError``.
    """
    key = _key(kernel, source, script=file_digest(repository.BPF / _SCRIPT))
    path = cache.entry(FOREIGN, key, lambda at: _build_foreign(kernel, name, source, at, progress), needed=_NEEDED)
    meta = cache.read_meta(path)
    return Products(files=tuple(path / file for file in sorted(meta["files"])), digest=meta["digest"])


def _build_foreign(kernel: Kernel, name: str, source: Path, at: Path, progress: cache.Progress) -> None:
    progress(f"measurer {name} for {kernel.name}: compile")
    _compile(kernel, f"measurer {name}", source, at, tools=repository.BPF)
    (at / "release").unlink()
    shutil.rmtree(at / "work", ignore_errors=True)
    files = {path.name: file_digest(path) for path in at.iterdir() if path.is_file()}
    if not files:
        raise BuildError(
            f"{source / 'Makefile'} made nothing for {kernel.name}", "its goal `all` must leave its products in $(O)"
        )
    cache.write_meta(at, {"kernel": kernel.name, "files": files, "digest": cache.content_key(files)})

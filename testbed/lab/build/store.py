"""The store: the layers of all images that an experiment needs, unpacked on one read-only disk.

A guest mounts it at ``STORE``. To unpack the images in each guest would take longer than the measurements: a gigabyte
of tar files through ssh and SHA-256, emulated, in every block. The disk is made once, on the host, and all machines
read it at the same time.

::

    layers/<hex>/           a layer's files (hex: of its digest)
    images/<hex>            an image's layers by these names, the topmost first, a line each (hex: of its manifest)

Its files may have fs-verity enabled, as those of an engine whose store has it (``lab.build.verity``).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testbed import files
from testbed.errors import BuildError, CommandError
from testbed.lab.build import cache, ext4, tarball, verity
from testbed.lab.build.image import ContainerImage
from testbed.lab.build.recipes import GuestRecipe
from testbed.runtimes import STORE

KIND = "store"
BUILDER = 1
_DEVICE = "/dev/vdb"
_NEEDED = 1 << 30
# Room for the file system's own tables; many files of an image are smaller than a block.
_MIB, _SPARE_MIB = 1 << 20, 64
# Nothing is ever written to it; small files need an inode each.
_OPTIONS = ("-O", "^has_journal", "-i", str(ext4.BLOCK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A disk with images. ``digest``: SHA-256 of the raw disk, in hex."""

    disk: Path
    digest: str


def build_store(
    images: Sequence[ContainerImage],
    guest: GuestRecipe,
    progress: cache.Progress = cache.silent,
    *,
    with_verity: bool = False,
    layout: int = 0,
) -> Store:
    """Return the disk with these images, cached or made now. ``guest`` says which tools make it.

    ``with_verity``: all its files have fs-verity. ``layout``: another number gives the same files in another order on
    the disk. Raises ``BuildError``, ``HostError``.
    """
    ordered = sorted(images, key=lambda image: image.digest)

    def build(at: Path) -> None:
        again = f", layout {layout}" if layout else ""
        progress(f"store: {', '.join(sorted(image.name for image in images))}{again}")
        marked: list[verity.VerityFile] | None = [] if with_verity else None
        mib = _pack(at / "disk.tar", ordered, marked, layout)
        tools = ext4.tools(guest.suite, guest.tools, progress)
        try:
            ext4.make(at, tools, ext4.argv("store", mib, _OPTIONS, layout))
            if marked is not None:
                verity.enable(at, tools, marked)
        except CommandError as error:
            raise BuildError(f"store: its disk of {mib} MiB cannot be made: {error.message}") from error
        cache.write_meta(at, {"digest": files.file_digest(at / "disk.raw")})

    parts: dict[str, object] = {"builder": BUILDER, "images": [image.digest for image in ordered]}
    disk = ext4.argv("store", 0, _OPTIONS, layout)
    parts |= {"disk": disk} | ({"verity": verity.BUILDER} if with_verity else {})
    path = cache.entry(KIND, cache.content_key(parts), build, needed=_NEEDED)
    return Store(disk=path / "disk.raw", digest=cache.read_meta(path)["digest"])


def mount_words() -> tuple[tuple[str, ...], ...]:
    """Return the commands with which a guest mounts its store, and reads a first file of it.

    With the first file that has it, fs-verity chooses its SHA-256, for all files and until the machine ends. It must
    not do that in a run: a measurer that loads a faster one would make the files of its own arm cheaper.
    """
    first = f"cat {STORE}/images/* >/dev/null"
    return (("mkdir", "-p", STORE), ("mount", "-o", "ro,noatime", _DEVICE, STORE), ("sh", "-ec", first))


def _pack(target: Path, images: Sequence[ContainerImage], marked: list[verity.VerityFile] | None, layout: int) -> int:
    """Write the tar of the disk; return how many MiB the disk must have. ``marked`` gets the files with fs-verity."""
    with tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as out:
        for name in ("layers", "images"):
            tarball.add_directory(out, name)
        done: set[str] = set()
        size = 0
        for image in images:
            with tarfile.open(image.archive, "r:") as archive:
                layers = list(_layers(archive, image.digest))
                for layer in layers:
                    if layer not in done:
                        size += _nest(out, f"layers/{layer}", archive, layer, marked=marked, layout=layout)
                        done.add(layer)
            _add_list(out, f"images/{_hex(image.digest)}", [*reversed(layers)], marked)
    return size // _MIB + size // (16 * _MIB) + _SPARE_MIB


def _add_list(out: tarfile.TarFile, name: str, layers: Sequence[str], marked: list[verity.VerityFile] | None) -> None:
    data = "".join(f"{layer}\n" for layer in layers).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    _add_regular(out, info, io.BytesIO(data), marked)


def _add_regular(
    out: tarfile.TarFile, info: tarfile.TarInfo, content: IO[bytes], marked: list[verity.VerityFile] | None
) -> None:
    if marked is not None:
        file, content = verity.append(info, content)
        marked.append(file)
    out.addfile(info, content)


def _layers(archive: tarfile.TarFile, manifest: str) -> Iterator[str]:
    file = archive.extractfile(f"blobs/sha256/{_hex(manifest)}")
    if file is None:
        raise BuildError(f"{archive.name!s}: no manifest {manifest}")
    yield from (_hex(layer["digest"]) for layer in json.loads(file.read())["layers"])


def _nest(
    out: tarfile.TarFile,
    top: str,
    archive: tarfile.TarFile,
    layer: str,
    *,
    marked: list[verity.VerityFile] | None,
    layout: int,
) -> int:
    """Add a layer's members below ``top``; return the bytes that their blocks and inodes take."""
    size = 0
    tarball.add_directory(out, top)
    with tarfile.open(fileobj=archive.extractfile(f"blobs/sha256/{layer}"), mode="r:") as members:
        for info in _in_order(members, layout):
            content = members.extractfile(info) if info.isreg() else None
            info.name = f"{top}/{info.name}"
            if info.islnk():
                info.linkname = f"{top}/{info.linkname}"
            info.pax_headers = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.")}
            if content is None:
                out.addfile(info)
            else:
                _add_regular(out, info, content, marked)
            size += -(-info.size // ext4.BLOCK) * ext4.BLOCK + ext4.BLOCK // 4
    return size


def _in_order(members: tarfile.TarFile, layout: int) -> Iterator[tarfile.TarInfo]:
    """Yield a layer's members as they come on the disk: a hard link after all files, as one of them is its target."""
    if not layout:
        yield from members
        return
    by_name = {info.name: info for info in members}
    names = tarball.ordered(by_name, layout)
    yield from (by_name[name] for name in sorted(names, key=lambda name: by_name[name].islnk()))


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")

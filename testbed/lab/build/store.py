"""The store: the layers of all images that an experiment needs, unpacked on one read-only disk.

A guest mounts it at ``STORE``. To unpack the images in each guest would take longer than the measurements: a gigabyte
of tar files through ssh and SHA-256, emulated, in every block. The disk is made once, on the host, and all machines
read it at the same time.

::

    layers/<hex>/           a layer's files (hex: of its digest)
    images/<hex>            an image's layers by these names, the topmost first, a line each (hex: of its manifest)
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import files
from testbed.errors import BuildError, CommandError
from testbed.lab.build import cache, ext4, tarball
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


def build_store(images: Sequence[ContainerImage], guest: GuestRecipe, progress: cache.Progress = cache.silent) -> Store:
    """Return the disk with these images, cached or made now. ``guest`` says which tools make it.

    Raises ``BuildError``, ``HostError``.
    """
    ordered = sorted(images, key=lambda image: image.digest)

    def build(at: Path) -> None:
        progress(f"store: {', '.join(sorted(image.name for image in images))}")
        mib = _pack(at / "disk.tar", ordered)
        tools = ext4.tools(guest.suite, guest.tools, progress)
        try:
            ext4.make(at, tools, ext4.argv("store", mib, _OPTIONS))
        except CommandError as error:
            raise BuildError(f"store: its disk of {mib} MiB cannot be made: {error.message}") from error
        cache.write_meta(at, {"digest": files.file_digest(at / "disk.raw")})

    parts = {"builder": BUILDER, "images": [image.digest for image in ordered], "disk": ext4.argv("store", 0, _OPTIONS)}
    path = cache.entry(KIND, cache.content_key(parts), build, needed=_NEEDED)
    return Store(disk=path / "disk.raw", digest=cache.read_meta(path)["digest"])


def mount_words() -> tuple[tuple[str, ...], ...]:
    """Return the commands with which a guest mounts its store."""
    return (("mkdir", "-p", STORE), ("mount", "-o", "ro,noatime", _DEVICE, STORE))


def _pack(target: Path, images: Sequence[ContainerImage]) -> int:
    """Write the tar of the disk; return how many MiB the disk must have."""
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
                        size += _nest(out, f"layers/{layer}", archive, layer)
                        done.add(layer)
            tarball.add_file(
                out, f"images/{_hex(image.digest)}", "".join(f"{directory}\n" for directory in reversed(layers))
            )
    return size // _MIB + size // (16 * _MIB) + _SPARE_MIB


def _layers(archive: tarfile.TarFile, manifest: str) -> Iterator[str]:
    file = archive.extractfile(f"blobs/sha256/{_hex(manifest)}")
    if file is None:
        raise BuildError(f"{archive.name!s}: no manifest {manifest}")
    yield from (_hex(layer["digest"]) for layer in json.loads(file.read())["layers"])


def _nest(out: tarfile.TarFile, top: str, archive: tarfile.TarFile, layer: str) -> int:
    """Add a layer's members below ``top``; return the bytes that their blocks and inodes take."""
    size = 0
    tarball.add_directory(out, top)
    with tarfile.open(fileobj=archive.extractfile(f"blobs/sha256/{layer}"), mode="r:") as members:
        for info in members:
            content = members.extractfile(info) if info.isreg() else None
            size += -(-info.size // ext4.BLOCK) * ext4.BLOCK + ext4.BLOCK // 4
            info.name = f"{top}/{info.name}"
            if info.islnk():
                info.linkname = f"{top}/{info.linkname}"
            info.pax_headers = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.")}
            out.addfile(info, content)
    return size


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")

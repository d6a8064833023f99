"""An OCI image archive as the tree that its containers see: layers merged, whiteouts applied, nothing unpacked.

Source: OCI Image Format Specification 1.0 (``layer.md``). Only temporary copies of compressed layers are written.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

from testbed.attest.image.tree import DIRECTORY, Node, Opener
from testbed.errors import BuildError

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_LINKS = 40  # as many symbolic links as the kernel follows
_TYPES = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImage:
    """An image while its archive is open. ``nodes``: by path without a leading slash, ``b""`` is the root."""

    name: str
    nodes: Mapping[bytes, Node]

    def resolve(self, path: bytes) -> bytes | None:
        """Return the path of the node that ``path`` leads to, with links followed inside the image, or ``None``."""
        done: list[bytes] = []
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                del done[-1:]
                continue
            node = self.nodes.get(b"/".join([*done, part]))
            if node is None:
                return None
            if node.type != stat.S_IFLNK:
                done.append(part)
                continue
            links += 1
            if links > _LINKS:
                return None
            if node.target.startswith(b"/"):
                done = []
            waiting += node.target.split(b"/")[::-1]
        return b"/".join(done)

    def read(self, path: bytes) -> bytes | None:
        """Return the content of the regular file that ``path`` leads to; ``None`` if there is no such file."""
        resolved = self.resolve(path)
        opener = self.nodes[resolved].open if resolved is not None and resolved in self.nodes else None
        if opener is None:
            return None
        with opener() as file:
            return file.read()

    def listing(self, path: bytes) -> list[bytes]:
        """Return the sorted names in the directory that ``path`` leads to; nothing if there is no such directory."""
        resolved = self.resolve(path)
        if resolved is None:
            return []
        head = resolved + b"/" if resolved else b""
        return sorted(p[len(head) :] for p in self.nodes if p and p.startswith(head) and b"/" not in p[len(head) :])


@contextmanager
def open_image(archive: Path) -> Iterator[OpenImage]:
    """Open an OCI archive of one image, its layers plain, gzip or zstd. Raises ``BuildError`` if it is not one."""
    with ExitStack() as stack:
        try:
            outer = stack.enter_context(tarfile.open(archive, "r:"))
            nodes: dict[bytes, Node] = {b"": DIRECTORY}
            for descriptor in _layers(outer):
                layer = stack.enter_context(_open_layer(outer, descriptor))
                _apply(nodes, layer)
        except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, TypeError, LookupError) as error:
            hint = "give one image as `podman save --format oci-archive` or the lab writes it"
            raise BuildError(f"{archive}: not an OCI archive: {error}", hint) from error
        yield OpenImage(name=archive.name, nodes=nodes)


def _layers(outer: tarfile.TarFile) -> list[dict[str, Any]]:
    index = json.loads(_member(outer, "index.json").read())
    (listed,) = index["manifests"]
    blob = _blob(outer, listed["digest"]).read()
    return list(json.loads(blob)["layers"])


def _member(outer: tarfile.TarFile, name: str) -> IO[bytes]:
    file = outer.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a plain file")
    return file


def _blob(outer: tarfile.TarFile, digest: str) -> IO[bytes]:
    """Return a blob whose content has been checked against its name."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256":
        raise ValueError(f"digest {digest!r} is not of sha256")
    file = _member(outer, f"blobs/sha256/{value}")
    hashed = hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()
    if hashed != value:
        raise ValueError(f"blob {value} has SHA-256 {hashed}")
    file.seek(0)
    return file


@contextmanager
def _open_layer(outer: tarfile.TarFile, descriptor: Mapping[str, Any]) -> Iterator[tarfile.TarFile]:
    """Open a layer by its first bytes, not its media type; a compressed one is copied, to be read at random."""
    with ExitStack() as stack:
        plain = stack.enter_context(_blob(outer, descriptor["digest"]))
        magic = plain.read(4)
        plain.seek(0)
        packed: Any = None
        if magic[:2] == b"\x1f\x8b":
            packed = gzip.GzipFile(fileobj=plain)
        elif magic == b"\x28\xb5\x2f\xfd":
            packed = pa.CompressedInputStream(pa.PythonFile(plain, "r"), "zstd")
        if packed is not None:
            plain = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(packed, plain)
            plain.seek(0)
        yield stack.enter_context(tarfile.open(fileobj=plain, mode="r:", encoding="utf-8", errors="surrogateescape"))


def _apply(nodes: dict[bytes, Node], layer: tarfile.TarFile) -> None:
    """Put a layer over ``nodes``. Its whiteouts hide the files of lower layers, wherever in the layer they are."""
    members = [(_path(member.name), member) for member in layer.getmembers()]
    for path, _ in members:
        above, _, name = path.rpartition(b"/")
        if name == _OPAQUE:
            _remove_below(nodes, above)
        elif name.startswith(_WHITEOUT):
            _remove(nodes, (above + b"/" if above else b"") + name.removeprefix(_WHITEOUT))
    for path, member in members:
        if path.rpartition(b"/")[2].startswith(_WHITEOUT):
            continue
        node = nodes[_path(member.linkname)] if member.islnk() else _node(layer, member)
        if node.type != stat.S_IFDIR:
            _remove(nodes, path)
        _make_parents(nodes, path)
        nodes[path] = node


def _node(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    kind = stat.S_IFREG if member.isreg() else _TYPES[member.type]
    prefix = "SCHILY.xattr."
    xattrs = {
        _bytes(name.removeprefix(prefix)): _bytes(value)
        for name, value in member.pax_headers.items()
        if name.startswith(prefix)
    }
    opener: Opener | None = partial(_open_member, layer, member) if kind == stat.S_IFREG else None
    return Node(
        mode=kind | member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        rdev=(member.devmajor, member.devminor),
        xattrs=xattrs,
        target=_bytes(member.linkname) if kind == stat.S_IFLNK else b"",
        open=opener,
    )


def _open_member(layer: tarfile.TarFile, member: tarfile.TarInfo) -> AbstractContextManager[BinaryIO]:
    file = layer.extractfile(member)
    if file is None:
        raise BuildError(f"{member.name}: not a plain file in its layer")
    return cast("BinaryIO", file)


def _make_parents(nodes: dict[bytes, Node], path: bytes) -> None:
    """Add the directories that a layer does not name; like a directory of an upper layer they replace anything else."""
    parts = path.split(b"/")
    for end in range(1, len(parts)):
        above = b"/".join(parts[:end])
        if above not in nodes or nodes[above].type != stat.S_IFDIR:
            nodes[above] = replace(DIRECTORY)


def _remove(nodes: dict[bytes, Node], path: bytes) -> None:
    node = nodes.pop(path, None)
    if node is not None and node.type == stat.S_IFDIR:
        _remove_below(nodes, path)


def _remove_below(nodes: dict[bytes, Node], path: bytes) -> None:
    head = path + b"/" if path else b""
    for below in [p for p in nodes if p and p.startswith(head)]:
        del nodes[below]


def _path(name: str) -> bytes:
    parts = [part for part in _bytes(name).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise ValueError(f"{name!r} leads out of its layer")
    return b"/".join(parts)


def _bytes(text: str) -> bytes:
    """Return the bytes that ``tarfile`` read, whatever the locale is."""
    return text.encode("utf-8", "surrogateescape")

"""The digest of an image's tree, version 2, written from docs/formats.md section 3 alone."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from testbed import progress
from testbed.attest.image.verity import verity_of
from testbed.errors import EvidenceError

VERSION = 2
# Files that runtimes make where an image does not have them. They are left out only if they contain nothing that a
# container could use.
LEFT_OUT_IF_EMPTY: Mapping[bytes, int] = {
    b"dev": stat.S_IFDIR,
    b"proc": stat.S_IFDIR,
    b"sys": stat.S_IFDIR,
    b"etc": stat.S_IFDIR,
    b"run": stat.S_IFDIR,
    b"dev/pts": stat.S_IFDIR,
    b"dev/shm": stat.S_IFDIR,
    b"dev/console": stat.S_IFREG,
    b".dockerenv": stat.S_IFREG,
    b"run/.containerenv": stat.S_IFREG,
    b"etc/hosts": stat.S_IFREG,
    b"etc/hostname": stat.S_IFREG,
    b"etc/resolv.conf": stat.S_IFREG,
    b"etc/mtab": stat.S_IFREG,
}
LEFT_OUT_LINKS: Mapping[bytes, frozenset[bytes]] = {
    b"etc/mtab": frozenset({b"/proc/mounts", b"/proc/self/mounts", b"../proc/mounts", b"../proc/self/mounts"})
}
LEFT_OUT_XATTRS = (b"security.selinux", b"security.ima", b"security.evm")
LEFT_OUT_XATTR_PREFIXES = (b"trusted.overlay.",)

_NODE = struct.Struct("<4sHHIIIQI")
_LENGTH = struct.Struct("<I")
_NO_CONTENT = bytes(32)

Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One file. ``mode``: a whole ``st_mode``; ``rdev``: major and minor; ``open``: a regular file's content.

    ``mtime``: nanoseconds; it is not part of the digest.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = field(default=0, compare=False)
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    target: bytes = b""
    open: Opener | None = None

    @property
    def type(self) -> int:
        return stat.S_IFMT(self.mode)


DIRECTORY = Node(mode=stat.S_IFDIR | 0o755)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree's final digest, and what it covers.

    ``nodes``: the node digest of each file that is not left out, the root's under ``b""``. ``size``: bytes in the
    regular files among them.
    """

    digest: bytes
    size: int
    nodes: Mapping[bytes, bytes]


def tree_digest(nodes: Mapping[bytes, Node]) -> bytes:
    """Return the digest of a tree, as ``measure_tree`` takes it."""
    return measure_tree(nodes).digest


def measure_tree(nodes: Mapping[bytes, Node], known: dict[Opener, tuple[bytes, int]] | None = None) -> Tree:
    """Digest a tree, given as path to node: ``b""`` is the root, ``b"usr/bin/true"`` a file.

    Every directory on the way to a node is a node. Raises ``EvidenceError`` if one is missing or not a directory.
    ``known``: digests and sizes of contents that were read for another tree of the same image; new ones are added.
    """
    known = {} if known is None else known
    children: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    covered: dict[bytes, tuple[bytes, int]] = {}
    # Deepest first, so that children are digested before their directory, without recursion: trees may be very deep.
    deepest_first = sorted(nodes, key=lambda path: path.count(b"/"), reverse=True)
    for path in progress.each(deepest_first, "image tree", unit="files"):
        node, inside = nodes[path], children.pop(path, {}) if path else {}
        if inside and node.type != stat.S_IFDIR:
            raise EvidenceError(f"tree: {os.fsdecode(path)!r} has files below it and is not a directory")
        content, size = _content(node, inside, known) if path else (b"", 0)
        if path and not _left_out(path, node, is_empty=not inside and not size):
            above, _, name = path.rpartition(b"/")
            children[above][name] = digest = node_digest(node, content)
            covered[path] = (digest, size)
    root = node_digest(DIRECTORY, directory_digest(children.pop(b"", {})))
    if children:
        raise EvidenceError(f"tree: no directory {os.fsdecode(min(children))!r}, though there are files below it")
    # The root's own mode and owner are the storage driver's, unless a layer names it.
    return Tree(
        digest=hashlib.sha256(b"TBID" + struct.pack("<H", VERSION) + root).digest(),
        size=sum(size for _, size in covered.values()),
        nodes={b"": root} | {path: digest for path, (digest, _) in sorted(covered.items())},
    )


def node_digest(node: Node, content: bytes) -> bytes:
    """Return the digest of a node whose content digest is ``content``."""
    xattrs = sorted((name, node.xattrs[name]) for name in _counted(node.xattrs))
    mode = 0o777 if node.type == stat.S_IFLNK else stat.S_IMODE(node.mode)
    major, minor = node.rdev if node.type in {stat.S_IFCHR, stat.S_IFBLK} else (0, 0)
    rdev = major << 32 | minor
    head = _NODE.pack(b"TBIT", VERSION, node.type >> 12, mode, node.uid, node.gid, rdev, len(xattrs))
    body = b"".join(_sized(name) + _sized(value) for name, value in xattrs)
    return hashlib.sha256(head + body + content).digest()


def content_digest(node: Node, inside: Mapping[bytes, bytes]) -> bytes:
    """Return the digest of a node's content. ``inside``: a directory's names and their node digests."""
    return _content(node, inside, {})[0]


def _content(node: Node, inside: Mapping[bytes, bytes], known: dict[Opener, tuple[bytes, int]]) -> tuple[bytes, int]:
    """Return the content digest, and a regular file's size."""
    if node.type == stat.S_IFDIR:
        return directory_digest(inside), 0
    if node.type == stat.S_IFLNK:
        return hashlib.sha256(node.target).digest(), 0
    if node.type == stat.S_IFREG and node.open is not None:
        if node.open not in known:
            with node.open() as file:
                known[node.open] = sized_verity_digest(file)
        return known[node.open]
    return _NO_CONTENT, 0


def directory_digest(inside: Mapping[bytes, bytes]) -> bytes:
    """Return the digest of a directory's names and their node digests."""
    return hashlib.sha256(b"".join(_sized(name) + digest for name, digest in sorted(inside.items()))).digest()


def verity_digest(file: BinaryIO) -> bytes:
    """Return a file's fs-verity digest: SHA-256, blocks of 4096 bytes, no salt (Documentation/filesystems/fsverity)."""
    return sized_verity_digest(file)[0]


def sized_verity_digest(file: BinaryIO) -> tuple[bytes, int]:
    """Return a file's fs-verity digest and its size."""
    verity = verity_of(file)
    return verity.digest, verity.size


def read_directory(top: Path) -> dict[bytes, Node]:
    """Read a tree from a directory of one file system.

    Raises ``EvidenceError`` for another file system mounted below it: the files that it covers cannot be read.
    """
    nodes: dict[bytes, Node] = {}
    base, waiting = os.fsencode(top) + b"/", [b""]
    device = os.lstat(base).st_dev
    while waiting:
        path = waiting.pop()
        status = os.lstat(base + path)
        if status.st_dev != device:
            raise EvidenceError(f"tree: {os.fsdecode(path)!r} in {top} is on another file system", "unmount it")
        nodes[path] = read_node(base + path)
        if stat.S_ISDIR(status.st_mode):
            names = os.listdir(base + path)  # noqa: PTH208 - names are bytes, a Path is text
            waiting += [path + b"/" + name if path else name for name in names]
    return nodes


def read_node(path: bytes) -> Node:
    """Read one file, without following it if it is a symbolic link. Raises ``OSError``."""
    status = os.lstat(path)
    names = os.listxattr(path, follow_symlinks=False)
    return Node(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        xattrs={os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names},
        target=os.fsencode(Path(os.fsdecode(path)).readlink()) if stat.S_ISLNK(status.st_mode) else b"",
        open=(lambda: Path(os.fsdecode(path)).open("rb")) if stat.S_ISREG(status.st_mode) else None,
    )


def _left_out(path: bytes, node: Node, *, is_empty: bool) -> bool:
    """Whether a runtime makes this node, and it is empty: no bytes, no files, no extended attributes."""
    if _counted(node.xattrs):
        return False
    if node.type == stat.S_IFLNK:
        return node.target in LEFT_OUT_LINKS.get(path, ())
    return is_empty and LEFT_OUT_IF_EMPTY.get(path) == node.type


def _counted(xattrs: Iterable[bytes]) -> list[bytes]:
    """Return the names of the extended attributes that count."""
    return [name for name in xattrs if name not in LEFT_OUT_XATTRS and not name.startswith(LEFT_OUT_XATTR_PREFIXES)]


def _sized(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value

"""A tree as composefs takes it: the dump of which ``mkcomposefs --from-file`` makes an EROFS image, and the objects.

The EROFS image has all names, modes, owners, times, attributes and small files. The content of each other file is an
*object*: a file named by its fs-verity digest. So the fs-verity digest of the EROFS image binds the whole tree. The
form of the dump: ``composefs-dump(5)``.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from testbed import progress
from testbed.attest.image.tree import Node, Opener, sized_verity_digest

# Files of up to so many bytes are in the EROFS image itself, as `mkcomposefs DIRECTORY` has it.
INLINE = 64
_NOTHING = b"-"
_SECOND = 1_000_000_000
_ESCAPED = re.compile(rb"[^A-Za-z0-9_./+,:@%-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A tree for composefs. ``dump``: what ``mkcomposefs --from-file`` reads; ``objects``: by fs-verity digest, hex."""

    dump: bytes
    objects: Mapping[str, Opener]


def compose(nodes: Mapping[bytes, Node]) -> Composed:
    """Return a tree, given as ``measure_tree`` takes it, for composefs; each regular file is read once.

    Hard links become files of their own, as `mkcomposefs DIRECTORY` makes them: two names of one object.
    """
    below = Counter(path.rpartition(b"/")[0] for path, node in nodes.items() if path and node.type == stat.S_IFDIR)
    objects: dict[str, Opener] = {}
    lines = []
    for path in progress.each(sorted(nodes), "composefs", unit="files"):
        node = nodes[path]
        content = _content(node)
        if content.digest and node.open:
            objects.setdefault(content.digest, node.open)
        lines.append(b" ".join(_fields(path, node, content, below[path])) + b"\n")
    return Composed(dump=b"".join(lines), objects=objects)


def object_path(digest: str) -> str:
    """Return where an object lies in a store: below a directory named by the first byte of its digest, in hex."""
    return f"{digest[:2]}/{digest[2:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """``digest``: an object's, hex; ``inline``: the content of a small file."""

    size: int = 0
    digest: str = ""
    inline: bytes = b""


def _content(node: Node) -> _Content:
    if node.type == stat.S_IFLNK:
        return _Content(size=len(node.target))
    if node.type != stat.S_IFREG or node.open is None:
        return _Content()
    with node.open() as file:
        head = file.read(INLINE + 1)
    if len(head) <= INLINE:
        return _Content(size=len(head), inline=head)
    with node.open() as file:
        digest, size = sized_verity_digest(file)
    return _Content(size=size, digest=digest.hex())


def _fields(path: bytes, node: Node, content: _Content, directories: int) -> Iterator[bytes]:
    """Yield the fields of a line: path, size, mode, links, owner, device, time, payload, content, digest, xattrs."""
    major, minor = node.rdev if node.type in {stat.S_IFCHR, stat.S_IFBLK} else (0, 0)
    yield b"/" + _escape(path)
    yield b"%d %o %d" % (content.size, node.mode, directories + 2 if node.type == stat.S_IFDIR else 1)
    yield b"%d %d %d" % (node.uid, node.gid, os.makedev(major, minor))
    yield b"%d.%09d" % divmod(node.mtime, _SECOND)
    yield _field(node.target or (object_path(content.digest).encode() if content.digest else b""))
    yield _field(content.inline)
    yield _field(content.digest.encode())
    yield from (_escape(name) + b"=" + _escape(value) for name, value in sorted(node.xattrs.items()))


def _field(value: bytes) -> bytes:
    return _NOTHING if not value else rb"\x2d" if value == _NOTHING else _escape(value)


def _escape(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: rb"\x%02x" % found[0][0], text)

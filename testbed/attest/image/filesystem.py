"""A file system in memory, with the rules by which Linux resolves paths: layers are unpacked into it.

A path is a sequence of names. It begins at the root, which also is what `..` leads to there.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from testbed.attest.image.content import Content
from testbed.attest.image.tree import Node

_LINKS_MAX, _NAME_MAX, _PATH_MAX = 40, 255, 4096

Path = Sequence[bytes]


class Refused(Exception):
    """Linux refuses an operation, so a program that unpacks an image ends there; the text says why."""


class Missing(Refused):
    """No such file or directory."""


class NotDirectory(Refused):
    """A path leads through something that is not a directory."""


@dataclass(slots=True, eq=False, kw_only=True)
class Inode:
    """A file; hard links are several names of one. ``mode``: a whole ``st_mode``; ``children``: a directory's.

    ``mtime``: nanoseconds; 0 where it would be the time at which the image is unpacked.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    rdev: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    target: bytes = b""
    content: Content | None = None
    children: dict[bytes, Inode] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    def node(self) -> Node:
        return Node(
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            mtime=self.mtime,
            rdev=self.rdev,
            xattrs=self.xattrs,
            target=self.target,
            open=self.content.open if self.content is not None else None,
        )


def directory() -> Inode:
    """Return a new directory as programs that unpack images make it, if no entry names it."""
    return Inode(mode=stat.S_IFDIR | 0o755)


def raw_split(path: bytes) -> list[bytes]:
    """Return the names of a path for Linux to resolve: `..` after a symbolic link leads to where the link's file is."""
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def split(path: bytes) -> list[bytes]:
    """Return the names of a path as Go's ``filepath.Clean`` does: each `..` removes the name before it."""
    parts: list[bytes] = []
    for part in raw_split(path):
        if part == b"..":
            del parts[-1:]
        else:
            parts.append(part)
    return parts


class Filesystem:
    """Methods are named after the calls of Linux or Go that they stand for, and raise ``Refused`` where those fail."""

    def __init__(self) -> None:
        self.root = directory()

    def lookup(self, path: Path, *, follow: bool) -> Inode:
        """Return the file at a path; ``follow``: also follow a symbolic link that is the path's last name."""
        # Most paths have no link in them, and there are many.
        found: Inode | None = self.root
        for name in path:
            found = found.children.get(name) if found is not None else None
            if found is None or found.target:
                return self._resolve(path, follow=follow)
        assert found is not None
        return found

    def _resolve(self, path: Path, *, follow: bool) -> Inode:
        above: list[Inode] = []
        here, links = self.root, 0
        waiting = list(reversed(path))
        while waiting:
            name = waiting.pop()
            if not here.is_directory:
                raise NotDirectory("a file where a directory is needed")
            if name == b"..":
                here = above.pop() if above else self.root
                continue
            found = here.children.get(name)
            if found is None:
                raise Missing("no such file or directory")
            if not found.is_link or not (waiting or follow):
                above.append(here)
                here = found
                continue
            links += 1
            if links > _LINKS_MAX:
                raise Refused("too many symbolic links")
            if found.target.startswith(b"/"):
                above, here = [], self.root
            waiting += reversed(raw_split(found.target))
        return here

    def find(self, path: Path) -> Inode | None:
        """Return the file at a path, its last name not followed; ``None`` if there is none for any reason."""
        try:
            return self.lookup(path, follow=False)
        except Refused:
            return None

    def directory_of(self, path: Path) -> Inode:
        """Return the directory that has the last name of a path."""
        if not path:
            raise Refused("the root cannot be replaced")
        above = self.lookup(path[:-1], follow=True)
        if not above.is_directory:
            raise NotDirectory("a file where a directory is needed")
        return above

    def add(self, path: Path, inode: Inode) -> Inode:
        """Make a file, whose name must be free."""
        above = self.directory_of(path)
        if above.mode & stat.S_ISGID:
            inode.gid = above.gid
            inode.mode |= stat.S_ISGID if inode.is_directory else 0
        if b"system.posix_acl_default" in above.xattrs:
            # New files inherit the list, each in its own way.
            raise Refused("a default access control list is not supported for a directory with files")
        return _named(above, path, inode)

    def link(self, path: Path, inode: Inode) -> Inode:
        """Give a file another name, which must be free."""
        return _named(self.directory_of(path), path, inode)

    def make_directories(self, path: Path) -> list[Inode]:
        """Make a directory and those above it, as ``os.MkdirAll`` does; return those that were made."""
        made = []
        for end in range(1, len(path) + 1):
            try:
                found = self.lookup(path[:end], follow=True)
            except Missing:
                made.append(self.add(path[:end], directory()))
                continue
            if not found.is_directory:
                raise NotDirectory("a file where a directory is needed")
        return made

    def remove(self, path: Path) -> None:
        """Remove a file or a directory with all that is in it, if there is one, as ``os.RemoveAll`` does."""
        try:
            above = self.directory_of(path)
        except Missing:
            return
        if above.children.pop(path[-1], None):
            above.mtime = 0


def _named(above: Inode, path: Path, inode: Inode) -> Inode:
    name = path[-1]
    if name in above.children:
        raise Refused("the file exists")
    # As long as a path has few names, none of which is too long, it is not too long.
    if len(name) > _NAME_MAX or (len(path) >= _PATH_MAX // (_NAME_MAX + 1) and len(b"/".join(path)) >= _PATH_MAX - 1):
        raise Refused("a name or a path is too long")
    above.children[name] = inode
    above.mtime = 0
    return inode


def walk(root: Inode) -> Iterable[tuple[bytes, Inode]]:
    """Yield each path below ``root`` and its file, a directory before what is in it."""
    waiting = [(b"", root)]
    while waiting:
        path, inode = waiting.pop()
        yield path, inode
        head = path + b"/" if path else b""
        waiting += [(head + name, child) for name, child in inode.children.items()]


def nodes(root: Inode) -> Mapping[bytes, Node]:
    """Return the tree below ``root`` by path, ``b""`` is the root."""
    return {path: inode.node() for path, inode in walk(root)}

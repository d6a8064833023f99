"""Layers unpacked as containers/storage does it, the library of podman and skopeo (Docker's own has the same rules).

Two storage drivers differ. With overlay, which podman and Docker use, each layer is unpacked alone, and the kernel lays
one over the other. With vfs, each layer is unpacked over a copy of the one below. Source: containers/storage,
``pkg/archive`` (``Unpack`` for overlay, ``UnpackLayer`` for vfs), ``drivers/copy``; the kernel's ``fs/overlayfs``.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from testbed.attest.image import tar
from testbed.attest.image.attributes import change_mode, change_owner, set_xattrs
from testbed.attest.image.filesystem import (
    Filesystem,
    Inode,
    Missing,
    NotDirectory,
    Refused,
    directory,
    nodes,
    raw_split,
    split,
    walk,
)
from testbed.attest.image.tar import Member
from testbed.attest.image.tree import Node

Layer = Sequence[Member]

_WHITEOUT, _META, _OPAQUE, _AUFS_LINKS = b".wh.", b".wh..wh.", b".wh..wh..opq", b".wh..wh.plnk"
_OVERLAY_OPAQUE = b"trusted.overlay.opaque"
# With these the kernel takes a file's name or its content from elsewhere, so they have no place in a layer.
_OVERLAY_POINTERS = (b"trusted.overlay.redirect", b"trusted.overlay.metacopy", b"trusted.overlay.whiteout")
_SPECIAL = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_TARGET_MAX = 4095


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A layer that is being unpacked into ``files``.

    ``made``: paths of entries that were unpacked; ``directories``: the directories among them; ``aufs``: files that
    only hard links name.
    """

    files: Filesystem
    made: set[tuple[bytes, ...]] = field(default_factory=set)
    directories: list[Member] = field(default_factory=list)
    aufs: dict[bytes, Member] = field(default_factory=dict)


def overlay(layers: Sequence[Layer]) -> Mapping[bytes, Node]:
    """Return the tree that the driver overlay makes of layers, the lowest first. Raises ``Refused``."""
    roots: list[Inode] = []
    for number, layer in enumerate(layers, 1):
        work = _Work(files=Filesystem())
        _unpack(work, layer, f"layer {number}, ", _unpack_alone)
        roots.insert(0, work.files.root)
    return _merged(roots)


def vfs(layers: Sequence[Layer]) -> Mapping[bytes, Node]:
    """Return the tree that the driver vfs makes of layers, the lowest first. Raises ``Refused``."""
    files = Filesystem()
    for number, layer in enumerate(layers, 1):
        if number > 1:
            _copy(files)
        _unpack(_Work(files=files), layer, f"layer {number}, ", _unpack_over)
    return nodes(files.root)


DRIVERS: Mapping[str, Callable[[Sequence[Layer]], Mapping[bytes, Node]]] = {"overlay": overlay, "vfs": vfs}


def unpack_archive(entries: Layer) -> Filesystem:
    """Return the files of a tar file that is not a layer: no name means a whiteout. Raises ``Refused``."""
    work = _Work(files=Filesystem())
    _unpack(work, entries, "", _unpack_plain)
    return work.files


def _unpack(work: _Work, layer: Layer, where: str, unpack: Callable[[_Work, Member], None]) -> None:
    for entry in layer:
        with _located(entry, where):
            unpack(work, entry)
    # What was unpacked into a directory has changed its time.
    for entry in work.directories:
        with _located(entry, where):
            work.files.lookup(split(entry.name), follow=True).mtime = entry.time


@contextmanager
def _located(entry: Member, where: str) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        name = ascii(entry.name.decode(errors="backslashreplace"))
        raise Refused(f"{where}entry {name}: {error}") from error


def _begin(files: Filesystem, entry: Member, group: int | None = None) -> list[bytes]:
    """Return an entry's path, after the directories above it were made if no entry named them, for ``group``."""
    depth = 0
    for part in raw_split(entry.name) if b".." in entry.name and not entry.name.startswith(b"/") else ():
        depth += -1 if part == b".." else 1
        if depth < 0:
            # containers/storage unpacks it below the root, and others refuse it.
            raise Refused("the name leads out of its layer")
    path = split(entry.name)
    try:
        files.lookup(path[:-1], follow=False)
    except Missing:
        for made in files.make_directories(path[:-1]):
            made.gid = made.gid if group is None else group
    except Refused:
        pass  # whatever is done with the entry fails for the same reason
    return path


def _extract(work: _Work, path: Sequence[bytes], entry: Member, source: Member | None = None) -> None:
    """Make an entry's file in the place of what is there. ``source``: what is unpacked, if not the entry itself."""
    files = work.files
    _make_room(files, path, entry)
    if entry.type == tar.GLOBAL:
        return
    source = source or entry
    inode = _made(files, path, source)
    _set_attributes(files, inode, source)
    work.made.add(tuple(path))
    if entry.type == tar.DIRECTORY:
        work.directories.append(entry)


def _make_room(files: Filesystem, path: Sequence[bytes], entry: Member) -> None:
    """Remove what is in an entry's place. Only a directory stays for a directory, with what is in it."""
    found = files.find(path)
    if found is not None and not (found.is_directory and entry.type == tar.DIRECTORY):
        files.remove(path)


def _set_attributes(files: Filesystem, inode: Inode, entry: Member) -> None:
    """Set what the header says. The attributes of a hard link's entry go to the file that both names have."""
    change_owner(inode, entry.uid, entry.gid)
    has_mode = not inode.is_link
    if entry.type == tar.HARD_LINK:
        # containers/storage looks at the link's text as Linux resolves it.
        target = files.find(raw_split(entry.link))
        has_mode = target is not None and not target.is_link
    if has_mode:
        change_mode(inode, entry.mode)
    if has_mode or entry.type == tar.SYMLINK:
        inode.mtime = entry.time
    set_xattrs(inode, entry.xattrs)


def _made(files: Filesystem, path: Sequence[bytes], entry: Member) -> Inode:
    if entry.type == tar.DIRECTORY:
        found = files.find(path)
        return found if found is not None else files.add(path, directory())
    if entry.type == tar.REGULAR and entry.content is not None:
        return files.add(path, Inode(mode=stat.S_IFREG, content=entry.content))
    if entry.type == tar.HARD_LINK:
        target = files.lookup(split(entry.link), follow=False)
        if target.is_directory:
            raise Refused("a hard link to a directory")
        return files.link(path, target)
    if entry.type == tar.SYMLINK:
        if not 0 < len(entry.link) <= _TARGET_MAX:
            raise Refused(f"a symbolic link to a path of {len(entry.link)} bytes")
        return files.add(path, Inode(mode=stat.S_IFLNK | 0o777, target=entry.link))
    if entry.type in _SPECIAL:
        # makedev() of containers/storage has room for so many bits.
        rdev = (0, 0) if entry.type == tar.FIFO else (entry.rdev[0] & 0xFFF, entry.rdev[1] & 0xFFFFF)
        return files.add(path, Inode(mode=_SPECIAL[entry.type], rdev=rdev))
    raise Refused(f"entries of type {entry.type!r} cannot be unpacked")


def _unpack_plain(work: _Work, entry: Member) -> None:
    path = _begin(work.files, entry)
    if path:
        _extract(work, path, entry)


def _unpack_alone(work: _Work, entry: Member) -> None:
    """Unpack an entry for overlay: a whiteout becomes a device 0/0 or an attribute, which the kernel understands."""
    files, path = work.files, _begin(work.files, entry, group=0)
    if not path and not entry.name.startswith(b"/"):
        return
    *above, name = path or [b""]
    if not name.startswith(_WHITEOUT):
        _extract(work, path, entry)
        return
    _make_room(files, path, entry)
    if name == _OPAQUE:
        files.lookup(above, follow=True).xattrs[_OVERLAY_OPAQUE] = b"y"
        return
    with suppress(NotDirectory):  # what is above it is hidden, too
        files.add(_hidden(above, name), Inode(mode=stat.S_IFCHR))


def _merged(roots: Sequence[Inode]) -> Mapping[bytes, Node]:
    """Lay unpacked layers over each other, the topmost first, as the kernel does (fs/overlayfs/namei.c, readdir.c)."""
    merged = {b"": roots[0].node() if roots else directory().node()}
    waiting: list[tuple[bytes, Sequence[Inode]]] = [(b"", roots)]
    while waiting:
        path, directories = waiting.pop()
        head = path + b"/" if path else b""
        for name in dict.fromkeys(name for one in directories for name in one.children):
            found = _found(directories, name)
            if not found:
                continue
            if any(pointer in inode.xattrs for inode in found for pointer in _OVERLAY_POINTERS):
                raise Refused(f"{(head + name).decode(errors='backslashreplace')!a} points to another file")
            merged[head + name] = found[0].node()
            if found[0].is_directory:
                waiting.append((head + name, found))
    return merged


def _found(directories: Sequence[Inode], name: bytes) -> list[Inode]:
    """Return the one file, or the directories that are merged, that a name leads to."""
    found: list[Inode] = []
    for one in directories:
        inode = one.children.get(name)
        if inode is None:
            continue
        if not inode.is_directory:
            whiteout = stat.S_ISCHR(inode.mode) and inode.rdev == (0, 0)
            return found or ([] if whiteout else [inode])
        found.append(inode)
        if inode.xattrs.get(_OVERLAY_OPAQUE) == b"y":
            break
    return found


def _unpack_over(work: _Work, entry: Member) -> None:
    """Unpack an entry for vfs: a whiteout removes what is there at that moment."""
    files, path = work.files, _begin(work.files, entry)
    relative = not entry.name.startswith(b"/")
    if relative and path and path[0].startswith(_META):
        if path[0].startswith(_AUFS_LINKS) and entry.type == tar.REGULAR:
            work.aufs[path[-1]] = entry
        if path != [_OPAQUE]:
            return
    *above, name = path or [b""]
    if name == _OPAQUE:
        _empty(work, tuple(above))
    elif name.startswith(_WHITEOUT):
        files.remove(_hidden(above, name))
    else:
        _extract(work, path, entry, _aufs_source(work, entry))


def _hidden(above: Sequence[bytes], name: bytes) -> list[bytes]:
    """Return the path of what a whiteout hides."""
    return split(b"/".join([*above, name.removeprefix(_WHITEOUT)]))


def _aufs_source(work: _Work, entry: Member) -> Member | None:
    """Return the file that is unpacked for a hard link into the directory in which AUFS kept such files."""
    link = split(entry.link)
    if entry.type != tar.HARD_LINK or entry.link.startswith(b"/") or not link or not link[0].startswith(_AUFS_LINKS):
        return None
    if link[-1] not in work.aufs:
        raise Refused("a hard link to a file of AUFS that is not in the layer")
    return work.aufs[link[-1]]


def _empty(work: _Work, path: tuple[bytes, ...]) -> None:
    """Remove what is below a directory, but what its own layer has made so far."""
    waiting = [(path, work.files.lookup(path, follow=False))]
    while waiting:
        above, here = waiting.pop()
        for name, child in list(here.children.items()):
            if (*above, name) not in work.made:
                del here.children[name]
            elif child.is_directory:
                waiting.append(((*above, name), child))


def _copy(files: Filesystem) -> None:
    """Copy a tree as vfs does before the next layer: some attributes, and some hard links, are not copied."""
    inodes = [inode for _, inode in walk(files.root)]
    for inode in inodes:
        inode.xattrs = {
            name: value
            for name, value in inode.xattrs.items()
            if name in (b"security.capability", _OVERLAY_OPAQUE) or name.startswith(b"user.")
        }
    for inode in inodes:
        for name, child in inode.children.items():
            if not child.is_directory and not stat.S_ISREG(child.mode):
                inode.children[name] = replace(child, xattrs=dict(child.xattrs))

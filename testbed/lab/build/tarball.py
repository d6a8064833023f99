"""Tar files whose bytes depend on nothing but the files in them: sorted, one time, numeric owners."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import itertools
import stat
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from testbed import files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    info: tarfile.TarInfo
    content: Callable[[], IO[bytes] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTree:
    """What a program made: a tree on disk, at which path it belongs, and to which user and group (their number)."""

    tree: Path
    at: str
    owner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file of root's without a meaning: ``size`` bytes, the first ``head``, the rest of its path.

    ``path`` has no leading slash; ``mode``: permissions.
    """

    path: str
    size: int
    head: bytes = b""
    mode: int = 0o755

    def content(self) -> bytes:
        """Return the bytes: after ``head`` SHAKE128 of the path, as long as it takes."""
        return self.head + hashlib.shake_128(self.path.encode()).digest(self.size - len(self.head))


def add_directory(out: tarfile.TarFile, name: str) -> None:
    """Add a directory of root's to an open tar file."""
    out.addfile(_directory(name).info)


def ordered(names: Iterable[str], layout: int = 0) -> list[str]:
    """Return paths in the order in which they come into a tar file: a directory before what is in it.

    Those of one directory are sorted by name, or, for another ``layout`` than 0, by a hash of their path and of that
    number.
    """
    if not layout:
        return sorted(names, key=lambda name: name.split("/"))
    return sorted(names, key=lambda name: [_place(layout, path) for path in _steps(name)])


def _steps(name: str) -> Iterator[str]:
    """Yield each directory on the way to a path, and the path."""
    return itertools.accumulate(name.split("/"), lambda above, part: f"{above}/{part}")


def _place(layout: int, path: str) -> bytes:
    return hashlib.sha256(f"{layout}/{path}".encode(errors="surrogateescape")).digest()


def merge(
    target: Path,
    archives: Sequence[Path],
    *,
    only: str = "",
    keep: Sequence[str] = (),
    tree: Path | None = None,
    programs: Collection[str] | None = None,
    made: MadeTree | None = None,
    blobs: Sequence[Blob] = (),
    links: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    epoch: int = 0,
    layout: int = 0,
) -> str:
    """Write one tar of ``archives``, then ``tree``, then symbolic ``links``; a later file replaces an earlier one.

    Of ``archives`` ``only`` takes what is at or below this path, ``keep``, if not empty, what one of these patterns of
    paths covers, and ``drop`` leaves such out of that; a pattern covers what is below a path, too. ``programs``: of
    ``tree``, see ``files.tree_digest``. ``made`` comes after ``tree``, then ``blobs``. Times are cut to ``epoch``. Hard
    links become copies, as a link may come before its target in sorted order. ``layout``: see ``ordered``. Returns
    SHA-256 of the result in hex.
    """
    with ExitStack() as stack:
        members: dict[str, _Member] = {}
        for archive in archives:
            _add(members, _from_tar(stack.enter_context(tarfile.open(archive, "r:"))))
        if only:
            members = {name: member for name, member in members.items() if name == only or name.startswith(f"{only}/")}
        if keep:
            members = {name: member for name, member in members.items() if _matches(name, keep)}
        members = {name: member for name, member in members.items() if not _matches(name, drop)}
        if tree:
            _add(members, _from_tree(tree, programs))
        if made:
            _add(members, _from_made(made))
        _add(members, [_from_blob(blob) for blob in blobs])
        _add(members, [_link(name, to) for name, to in (links or {}).items()])
        _add(members, _missing_parents(members))
        _write(target, members, epoch, layout)
    return files.file_digest(target)


def _add(members: dict[str, _Member], more: Sequence[_Member]) -> None:
    for member in more:
        # A directory that is there keeps its permissions: /root stays private though a tree has a root/ too.
        known = members.get(member.info.name)
        if known is None or not (known.info.isdir() and member.info.isdir()):
            members[member.info.name] = member


def _missing_parents(members: Mapping[str, _Member]) -> list[_Member]:
    parents = {str(parent) for name in members for parent in PurePosixPath(name).parents} - {"."} - members.keys()
    return [_directory(name) for name in sorted(parents)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(name, f"{p}/*") for p in patterns)


def _from_tar(tar: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in tar:
        plain = tarfile.TarInfo(info.name.removeprefix("./").strip("/"))
        if plain.name in ("", "."):
            continue
        plain.mode, plain.uid, plain.gid, plain.mtime = info.mode, info.uid, info.gid, info.mtime
        plain.type, plain.linkname = info.type, info.linkname
        plain.devmajor, plain.devminor = info.devmajor, info.devminor
        plain.pax_headers = {k: v for k, v in info.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        if info.isreg() or info.islnk():
            of = tar._find_link_target(info) if info.islnk() else info  # type: ignore[attr-defined]  # noqa: SLF001
            plain.type, plain.linkname, plain.size = tarfile.REGTYPE, "", of.size
        members.append(_Member(info=plain, content=lambda info=info: tar.extractfile(info)))  # type: ignore[misc]
    return members


def _from_tree(tree: Path, programs: Collection[str] | None) -> list[_Member]:
    return [_member(path, path.relative_to(tree).as_posix(), programs) for path in files.walk(tree)]


def _member(path: Path, name: str, programs: Collection[str] | None = None) -> _Member:
    info = tarfile.TarInfo(name)
    if path.is_symlink():
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
    elif path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        # git keeps only the execute bit of the permissions, and the user's umask may have changed the others.
        info.mode = 0o755 if files.is_program(path, name, programs) else 0o644
        info.size = path.stat().st_size
    return _Member(info=info, content=lambda: path.open("rb"))


def _from_made(made: MadeTree) -> list[_Member]:
    # All of it with its permissions, unlike a tree of this repository: a server refuses data that others can read.
    members = []
    for path in (made.tree, *sorted(made.tree.rglob("*"))):
        name = (PurePosixPath(made.at) / path.relative_to(made.tree)).as_posix()
        member = _member(path, name)
        member.info.mode = stat.S_IMODE(path.lstat().st_mode)
        member.info.uid = member.info.gid = made.owner
        members.append(member)
    return members


def _from_blob(blob: Blob) -> _Member:
    info = tarfile.TarInfo(blob.path)
    info.size, info.mode = blob.size, blob.mode
    return _Member(info=info, content=lambda: io.BytesIO(blob.content()))


def _directory(name: str) -> _Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return _Member(info=info, content=io.BytesIO)


def _link(name: str, to: str) -> _Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, to, 0o777
    return _Member(info=info, content=io.BytesIO)


def _write(target: Path, members: Mapping[str, _Member], epoch: int, layout: int) -> None:
    with tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as out:
        for name in ordered(members, layout):
            info = members[name].info
            info.mtime = min(int(info.mtime), epoch)
            if not info.isreg():
                out.addfile(info)
                continue
            content = members[name].content()
            if content is None:
                raise tarfile.ReadError(f"{name}: no content")
            with content as file:
                out.addfile(info, file)

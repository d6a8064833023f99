"""Mounts as a container sees them: the lists of ``ctr-launch`` and ``ctr-mounts`` (docs/formats.md, section 2)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from testbed.attest.entries.payload import Header, Identity, body_and_rest
from testbed.attest.finding import BadEvidence

MOUNTS_CUT, MOUNTS_NONE, OTHER_ROOT = 1, 2, 4
LIST_MAX = {1: 4096, 2: 16384, 3: 16384}
# The bits of `mnt_flags` in a list of version 1, by the words that the kernel shows for them, in its order.
WORDS = {"nosuid": 1, "nodev": 2, "noexec": 4, "noatime": 8, "nodiratime": 16, "relatime": 32, "nosymfollow": 128}
READ_ONLY = 64
_ALL_BITS = 0xFF
_MOUNT = struct.Struct("<III")
_MOUNTS = struct.Struct("<QII")
_FIELDS = 6
_ESCAPE = re.compile(rb"\\([0-7]{3})")
# What the kernel escapes in a path, and in a type or a source.
_OF_PATH = frozenset(b" \t\n\\")
_OF_NAME = _OF_PATH | frozenset(b"#")
_OPTIONS = re.compile(rb"(?:rw|ro)(?:,[!-+\--~]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount. ``options``: the words of this mount, the first one ``rw`` or ``ro``.

    ``source``, ``root`` (path inside its file system) and ``super_read_only`` (the file system's own flag) are ``None``
    in a list of version 1, which does not contain them. All bytes are as the kernel has them, with nothing escaped.
    """

    target: bytes
    type: bytes
    options: tuple[str, ...]
    source: bytes | None = None
    root: bytes | None = None
    super_read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountsEntry:
    """``ctr-mounts``: a container's mounts, listed again as they changed. ``event``: number of that change."""

    container: Identity
    flags: int
    event: int
    mounts: tuple[Mount, ...]

    @property
    def whole(self) -> bool:
        """Whether every mount is listed."""
        return not self.flags & (MOUNTS_CUT | MOUNTS_NONE)

    @property
    def of_other_root(self) -> bool:
        """Whether they are seen from a root other than the container's."""
        return bool(self.flags & OTHER_ROOT)


def parse_mounts(header: Header, payload: bytes) -> MountsEntry:
    """Read the payload of a ``ctr-mounts`` behind its header. Raises ``BadEvidence``."""
    fixed, rest = body_and_rest(payload, _MOUNTS)
    event, mounts, mounts_len = _MOUNTS.unpack(fixed)
    if mounts_len != len(rest):
        raise BadEvidence("mounts_len", f"{len(rest)}, the bytes that follow", f"{mounts_len}")
    if mounts_len > LIST_MAX[header.version]:
        raise BadEvidence("mounts_len", f"at most {LIST_MAX[header.version]}", f"{mounts_len}")
    table = mount_table(rest, mounts, absent=bool(header.flags & MOUNTS_NONE))
    return MountsEntry(container=header.container, flags=header.flags, event=event, mounts=table)


def mount_table(said: bytes, count: int, *, absent: bool) -> tuple[Mount, ...]:
    """Read a list of version 2: lines of text, as many as ``count``. Raises ``BadEvidence``."""
    if absent and said:
        raise BadEvidence("mount_list", "no bytes, as the flag says", f"{len(said)}")
    lines = said.split(b"\n")
    if lines.pop():
        raise BadEvidence("mount_list", "a line break at its end", ascii(said[-80:]))
    if len(lines) != count:
        raise BadEvidence("mounts", f"{len(lines)}, the lines that follow", f"{count}")
    return tuple(map(_line, lines))


def mount_records(said: bytes, count: int) -> tuple[Mount, ...]:
    """Read a list of version 1: records of numbers, a path and a type. Raises ``BadEvidence``."""
    records: list[Mount] = []
    at = 0
    while at < len(said):
        if len(said) - at < _MOUNT.size:
            raise BadEvidence("mount_list", f"{_MOUNT.size} bytes of a mount", f"{len(said) - at}")
        flags, path_len, type_len = _MOUNT.unpack_from(said, at)
        at += _MOUNT.size
        path, kind = said[at : at + path_len], said[at + path_len : at + path_len + type_len]
        at += path_len + type_len
        if at > len(said):
            raise BadEvidence("mount_list", "a path and a type of the announced lengths", f"{len(said)} bytes")
        if flags & ~_ALL_BITS:
            raise BadEvidence("mnt_flags", f"no bits but 0x{_ALL_BITS:x}", f"0x{flags:x}")
        if not path.startswith(b"/") or not kind or b"\0" in path + kind:
            raise BadEvidence("mount_list", "a whole path and a type", f"{path[:80]!a}, {kind[:80]!a}")
        records.append(Mount(target=path, type=kind, options=_words(flags)))
    if len(records) != count:
        raise BadEvidence("mounts", f"{len(records)}, those that follow", f"{count}")
    return tuple(records)


def _words(flags: int) -> tuple[str, ...]:
    return ("ro" if flags & READ_ONLY else "rw", *(word for word, bit in WORDS.items() if flags & bit))


def _line(line: bytes) -> Mount:
    fields = line.split(b" ")
    if len(fields) != _FIELDS or b"\0" in line or b"\t" in line:
        raise BadEvidence("mount_list", f"{_FIELDS} fields with single spaces between them", ascii(line[:200]))
    target, kind, source, root, options, above = fields
    if not _OPTIONS.fullmatch(options) or above not in {b"rw", b"ro"}:
        expected = "options that begin with rw or ro, then rw or ro of the file system"
        raise BadEvidence("mount_list", expected, ascii(options[:80] + b" " + above[:80]))
    mount = Mount(
        target=_unescaped(target, _OF_PATH),
        type=_unescaped(kind, _OF_NAME),
        source=_unescaped(source, _OF_NAME),
        root=_unescaped(root, _OF_PATH),
        options=tuple(options.decode().split(",")),
        super_read_only=above == b"ro",
    )
    # A file system without paths of its own, such as nsfs, has `net:[4026531840]` for a root; a source may be empty.
    if not mount.target.startswith(b"/") or not mount.type or not mount.root:
        raise BadEvidence("mount_list", "a whole path, a type and a root", ascii(line[:200]))
    return mount


def _unescaped(said: bytes, known: frozenset[int]) -> bytes:
    """Return a field as it was before the kernel wrote some of its bytes as a backslash and three octal digits."""
    plain = bytearray()
    at = 0
    for match in _ESCAPE.finditer(said):
        code = int(match[1], 8)
        if code not in known:
            raise BadEvidence("mount_list", "escapes that the kernel writes", ascii(said[:200]))
        plain += said[at : match.start()] + bytes([code])
        at = match.end()
    plain += said[at:]
    if said.count(b"\\") != len(_ESCAPE.findall(said)):
        raise BadEvidence("mount_list", "a backslash only before three octal digits", ascii(said[:200]))
    return bytes(plain)

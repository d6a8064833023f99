"""The entries of a tar file, as the programs that unpack images read them.

Those use the package ``archive/tar`` of Go, which is stricter than Python's ``tarfile``: a damaged header ends nothing
early, it is an error; a global header applies to no entry; names, numbers and attributes are taken as bytes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from testbed.attest.image.content import Content, Holes, Piece

REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO, GLOBAL = b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"g"
XATTR = b"SCHILY.xattr."

_SIZE = 512
_SECOND = 1_000_000_000
_SPECIAL_MAX = 1 << 20  # bytes of a header that only describes the next one
_NO_CONTENT = (HARD_LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO)
_ZEROS = bytes(_SIZE)
_DECIMAL = re.compile(rb"[+-]?[0-9]{1,19}")
_TIME = re.compile(rb"[+-]?[0-9]{1,19}(\.[0-9]*)?")
_OCTAL = re.compile(rb"[0-7]{1,22}")
_TEXTS = (b"path", b"linkpath", b"uname", b"gname")


class BadTar(ValueError):
    """The bytes are not a tar file that can be unpacked; the text says at which byte, and why."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Member:
    """One entry. ``type``: of the header, a regular file's always ``REGULAR``; ``content``: a regular file's.

    ``mtime``: nanoseconds.
    """

    name: bytes
    type: bytes
    link: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    content: Content | None = None

    @property
    def time(self) -> int:
        """The time that containers/storage sets: 0 for one before 1970."""
        return max(0, self.mtime)


@dataclass(slots=True, kw_only=True)
class _Header:
    """The fields of one block of 512 bytes."""

    name: bytes
    type: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    rdev: tuple[int, int]


def read_entries(archive: Piece) -> Iterator[Member]:
    """Yield the entries of a plain tar file; one of zero bytes has none. Raises ``BadTar`` and ``HostError``."""
    at = 0
    records: dict[bytes, bytes] = {}
    long_name = long_link = b""
    while (block := _next_block(archive, at)) is not None:
        try:
            header = _header(block)
            at += _SIZE
            size = 0 if header.type in _NO_CONTENT else header.size
            if header.type in b"xgLK":
                special = _special(archive, at, size)
                at += size + -size % _SIZE
                if header.type == b"x":
                    records = _records(special)
                elif header.type == b"L":
                    long_name = special.partition(b"\0")[0]
                elif header.type == b"K":
                    long_link = special.partition(b"\0")[0]
                else:
                    name = _records(special).get(b"path") or header.name
                    yield Member(name=name, type=GLOBAL)
                    records, long_name, long_link = {}, b"", b""
                continue
            _merge(header, records)
            header.name, header.link = long_name or header.name, long_link or header.link
            size = 0 if header.type in _NO_CONTENT else header.size
            yield _entry(header, records, _stored(archive, at, size))
        except ValueError as error:
            raise BadTar(f"the header before byte {at}: {error}") from error
        at += size + -size % _SIZE
        records, long_name, long_link = {}, b"", b""


def _next_block(archive: Piece, at: int) -> bytes | None:
    """Return the header at ``at``; ``None`` at the end: of the bytes, or two blocks of zeros."""
    block = archive.read(at, _SIZE)
    if not block:
        return None
    if block == _ZEROS:
        block = archive.read(at + _SIZE, _SIZE)
        if block in (b"", _ZEROS):
            return None
        raise BadTar(f"one block of zeros at byte {at}, and more after it")
    if len(block) < _SIZE:
        raise BadTar(f"it ends in the header at byte {at}")
    return block


def _header(block: bytes) -> _Header:
    """Read a header, of the old format, ustar, star or GNU's. Raises ``ValueError``."""
    stated = _octal(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    if stated != unsigned and stated != unsigned - 256 * sum(byte > 0x7F for byte in block[:148] + block[156:]):
        raise ValueError("the checksum does not fit")
    name, rdev = _text(block[:100]), (0, 0)
    if block[257:263] == b"ustar\0" or block[257:265] == b"ustar  \0":
        rdev = (_number(block[329:337]), _number(block[337:345]))
        prefix = b""
        if block[257:263] == b"ustar\0" and block[508:] == b"tar\0":
            prefix = _text(block[345:476])
        elif block[257:263] == b"ustar\0":
            prefix = _text(block[345:500])
        name = prefix + b"/" + name if prefix else name
    header = _Header(
        name=name,
        type=block[156:157],
        link=_text(block[157:257]),
        mode=_number(block[100:108]),
        uid=_number(block[108:116]),
        gid=_number(block[116:124]),
        size=_number(block[124:136]),
        mtime=_number(block[136:148]) * _SECOND,
        rdev=rdev,
    )
    if header.size < 0:
        raise ValueError(f"a size of {header.size} bytes")
    return header


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


@functools.lru_cache(1 << 12)
def _number(field: bytes) -> int:
    """Read octal digits, or a signed number of base 256, which GNU tar and others write if it is large or negative."""
    if not field[0] & 0x80:
        return _octal(field)
    value = int.from_bytes(field) & (1 << (8 * len(field) - 1)) - 1
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"number {value} has more than 64 bits")
    return value


def _octal(field: bytes) -> int:
    digits = _text(field.strip(b" \0"))
    if digits and not _OCTAL.fullmatch(digits):
        raise ValueError(f"{digits!r} is not an octal number")
    return int(digits or b"0", 8)


def _decimal(name: str, value: bytes) -> int:
    if not _DECIMAL.fullmatch(value) or not -(1 << 63) <= int(value) < 1 << 63:
        raise ValueError(f"{name} {value[:40]!r} is not a number of 64 bits")
    return int(value)


def _stored(archive: Piece, at: int, size: int) -> Piece:
    if not 0 <= size <= archive.size - at:
        raise ValueError(f"{size} bytes of content, and {archive.size - at} bytes are left")
    return archive.part(at, size)


def _special(archive: Piece, at: int, size: int) -> bytes:
    if size > _SPECIAL_MAX or size > archive.size - at:
        raise ValueError(f"{size} bytes of a header's records, and {archive.size - at} bytes are left")
    return archive.read(at, size)


def _records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of a PAX header: `LENGTH KEY=VALUE` and a line break. Raises ``ValueError``."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        length = _decimal("length", data[at:space]) if space >= 0 else 0
        key, equals, value = data[space + 1 : at + length - 1].partition(b"=")
        if length < 5 or data[at + length - 1 : at + length] != b"\n" or not equals or b"\0" in key:
            raise ValueError("a damaged PAX record")
        if key in _TEXTS and b"\0" in value:
            raise ValueError(f"a PAX record {key!r} with a zero byte")
        at += length
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if len(sparse) % 2 != (key == b"GNU.sparse.numbytes"):
                raise ValueError("a damaged list of a sparse file's fragments")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _merge(header: _Header, records: Mapping[bytes, bytes]) -> None:
    """Let a PAX header's records replace fields; an empty one replaces nothing."""
    header.name = records.get(b"path") or header.name
    header.link = records.get(b"linkpath") or header.link
    for name in ("uid", "gid", "size"):
        if value := records.get(name.encode()):
            setattr(header, name, _decimal(name, value))
    for key in (b"atime", b"mtime", b"ctime"):
        if (value := records.get(key)) and not _TIME.fullmatch(value):
            raise ValueError(f"time {value[:40]!r} is not a number")
    if value := records.get(b"mtime"):
        whole, _, rest = value.partition(b".")
        header.mtime = int(whole) * _SECOND + int(rest[:9].ljust(9, b"0"))
    if header.type == b"\0":
        header.type = DIRECTORY if header.name.endswith(b"/") else REGULAR


def _entry(header: _Header, records: Mapping[bytes, bytes], stored: Piece) -> Member:
    name, content = header.name, None
    if header.type == REGULAR:
        holes = _holes(records, stored)
        content = holes or stored
    if any(records.get(key) for key in (b"GNU.sparse.major", b"GNU.sparse.map")):
        name = records.get(b"GNU.sparse.name") or name
    return Member(
        name=name,
        type=header.type,
        link=header.link,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        mtime=header.mtime,
        rdev=header.rdev,
        xattrs={key.removeprefix(XATTR): value for key, value in records.items() if key.startswith(XATTR)},
        content=content,
    )


def _holes(records: Mapping[bytes, bytes], stored: Piece) -> Holes | None:
    """Return the content of a sparse file in GNU's formats 0.0, 0.1 and 1.0, which PAX records describe."""
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    listed = records.get(b"GNU.sparse.map", b"")
    if version == (b"1", b"0"):
        numbers, used = _stored_map(stored)
        stored = stored.part(used, stored.size - used)
    elif version in {(b"0", b"0"), (b"0", b"1")} or (version == (b"", b"") and listed):
        numbers = [_decimal("offset", number) for number in listed.split(b",")] if listed else []
        if len(numbers) != 2 * _decimal("number of fragments", records.get(b"GNU.sparse.numblocks", b"")):
            raise ValueError("the number of a sparse file's fragments is another one than stated")
    else:
        return None
    text = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
    size = _decimal("size", text) if text else stored.size
    fragments = list(zip(numbers[::2], numbers[1::2], strict=True))
    spans = [(0, 0), *((offset, offset + length) for offset, length in fragments), (size, size)]
    if any(end > start for (_, end), (start, _) in pairwise(spans)) or any(end < start for start, end in spans):
        raise ValueError(f"fragments of a sparse file overlap, or lie outside its {size} bytes")
    if sum(length for _, length in fragments) != stored.size:
        raise ValueError("fragments of a sparse file are not as long as what is stored")
    return Holes(stored=stored, fragments=fragments, size=size)


def _stored_map(stored: Piece) -> tuple[list[int], int]:
    """Read the numbers before a sparse file's content, a line each, the first one counts the pairs; and their size."""
    data, at = b"", 0
    numbers: list[int] = []
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        end = data.find(b"\n", at)
        if end < 0:
            more = stored.read(len(data), _SIZE)
            if len(more) < _SIZE or len(data) - at > _SIZE:
                raise ValueError("a sparse file without its list of fragments")
            data += more
            continue
        numbers.append(_decimal("offset", data[at:end]))
        at = end + 1
        if numbers[0] < 0:
            raise ValueError("a sparse file with a negative number of fragments")
    return numbers[1:], len(data)

"""The log as a stream: runs of ordinary entries in columns, everything else entry by entry.

A log has up to a million entries, nearly all of one shape. Those are cut apart and hashed by the hundred, by functions
that are written in C. What is not of that shape to the last byte is read as ever by ``ima.entry_at``: the columns are a
short cut to the same entries, never another reading of the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from testbed.attest.finding import BadEvidence
from testbed.attest.ima import NO_DIGEST, Cut, Entry, encode, entry_at

# Templates whose entries are cut apart in runs, and what their template data end with beside `d-ng|n-ng`: nothing, or
# the field of a signature that is not there.
_ENDS = {b"ima-ng": b"", b"ima-sig": bytes(4)}
_CHUNK = 1 << 20
# Bytes that are cut apart at once: doubled where all of them were of one shape, else what was, twice.
_SMALLEST, _LARGEST = 1 << 11, 1 << 17
_HEAD = 24
# The first entry of a boot and of each kexec is looked at by itself.
_BOOT = b"boot_aggregate\0"


class Run(NamedTuple):
    """Successive entries of template ``template``, in columns: no violations, no ``boot_aggregate``.

    ``number`` and ``offset`` are those of the first; ``end`` is where the last ends. ``pcrs``: four bytes each, as
    logged. ``shown``: template digests as logged. ``data``: template data. ``fields``: the same without a trailing
    field of an absent signature, so `d-ng|n-ng` of an honest log.
    """

    number: int
    offset: int
    end: int
    template: bytes
    pcrs: list[bytes]
    shown: list[bytes]
    data: list[bytes]
    fields: list[bytes]

    def entries(self) -> Iterator[Entry]:
        """Yield the same as entries."""
        at = self.offset
        for index, data in enumerate(self.data):
            pcr = int.from_bytes(self.pcrs[index], "little")
            end = at + len(encode(pcr, NO_DIGEST, self.template, data))
            yield Entry(self.number + index, at, end, pcr, self.shown[index], self.template, data)
            at = end


def read_runs(file: BinaryIO, size: int, *, offset: int = 0, number: int = 0) -> Iterator[Run | Entry]:
    """Yield the log in ``file``, ``size`` bytes long, from byte ``offset``, before which ``number`` entries lie.

    Memory: a few chunks of 1 MiB, or the longest entry. Raises ``BadEvidence`` with number and byte of the entry that
    is none.
    """
    file.seek(offset)
    base, piece, at, window = offset, b"", 0, _SMALLEST
    while base + at < size:
        run = _run(piece, at, window, base, number + 1)
        if run is not None:
            yield run
            taken = run.end - base - at
            window = min(max(2 * taken, _SMALLEST), _LARGEST)
            number, at = number + len(run.data), at + taken
            continue
        try:
            entry = entry_at(piece, at, number + 1, base=base, size=size)
        except Cut:
            more = file.read(min(max(_CHUNK, len(piece) - at), size - base - len(piece)))
            if not more:
                where = f"ima.bin: entry {number + 1} at byte {base + at}"
                raise BadEvidence(
                    where, f"{size} bytes of log", f"{base + len(piece)}: it was cut while read"
                ) from None
            base, piece, at = base + at, piece[at:] + more, 0
            continue
        yield entry
        number, at = entry.number, entry.end - base


def _run(piece: bytes, at: int, size: int, base: int, number: int) -> Run | None:
    """Cut the entries from ``piece[at]`` on apart, in ``size`` bytes, up to the first that is not of their shape."""
    name_size = int.from_bytes(piece[at + _HEAD : at + _HEAD + 4], "little")
    template = piece[at + _HEAD + 4 : at + _HEAD + 4 + name_size]
    end = _ENDS.get(template)
    if end is None:
        return None
    # Between two of these lie one entry's length and data, and the next one's PCR and digest. The same bytes in a name
    # or a digest would be cut at, too: then the lengths do not fit.
    mark = piece[at + _HEAD : at + _HEAD + 4 + name_size]
    boot = piece.find(_BOOT, at, at + size)
    first, *parts = piece[at : at + size if boot < 0 else boot].split(mark)
    if len(first) != _HEAD or len(parts) < 2:
        return None
    parts.pop()
    heads = [first, *[part[-_HEAD:] for part in parts]]
    heads.pop()
    bodies = [part[:-_HEAD] for part in parts]
    shown = [head[4:] for head in heads]
    if not _regular(bodies, shown, end):
        each = enumerate(zip(bodies, shown, strict=True))
        count = next(n for n, (body, digest) in each if not _regular([body], [digest], end))
        if not count:
            return None
        del parts[count:], heads[count:], bodies[count:], shown[count:]
    data = [body[4:] for body in bodies]
    return Run(
        number=number,
        offset=base + at,
        end=base + at + len(parts) * len(mark) + sum(map(len, parts)),
        template=template,
        pcrs=[head[:4] for head in heads],
        shown=shown,
        data=data,
        fields=[one[: -len(end)] for one in data] if end else data,
    )


def _regular(bodies: list[bytes], shown: list[bytes], end: bytes) -> bool:
    """Whether each body is a length, as many bytes and ``end`` as their last, and no entry a violation."""
    sizes = list(map(len, bodies))
    if min(sizes) < 4 + len(end) or NO_DIGEST in shown:
        return False
    # A length and what follows it, against the same told by us: all of them in one comparison.
    if b"".join([body[:4] for body in bodies]) != struct.pack(f"<{len(sizes)}I", *[size - 4 for size in sizes]):
        return False
    return not end or all(body.endswith(end) for body in bodies)

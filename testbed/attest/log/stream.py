"""The log as a stream: runs of ordinary entries in columns, everything else entry by entry.

A log has up to a million entries, nearly all of one shape. Those are split and hashed by the hundred, by functions
written in C. An entry that differs from that shape in any byte is read by ``ima.entry_at``. So the columns are a faster
way to the same entries, never a second interpretation of the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from testbed.attest.finding import BadEvidence
from testbed.attest.log.ima import NO_DIGEST, Cut, Entry, entry_at

# Templates whose entries are split in runs, and what their template data end with beside `d-ng|n-ng`: nothing, or
# the field of a signature that is not there.
_ENDS = {b"ima-ng": b"", b"ima-sig": bytes(4)}
_CHUNK = 1 << 20
# Bytes that are split at once: doubled if all of them had one shape, else twice the part that had.
_SMALLEST, _LARGEST = 1 << 11, 1 << 17
_HEAD = 24
_AROUND = 4 + _HEAD
# A run ends before these: the first entry of a boot and of each kexec, and possible violations.
_SPECIAL = (b"boot_aggregate\0", NO_DIGEST)


class Run(NamedTuple):
    """Successive entries of template ``template``, in columns: no violations, no ``boot_aggregate``.

    ``number`` and ``offset`` are those of the first; ``end`` is where the last ends. ``heads``: PCR and template digest
    of each as logged, 24 bytes. ``data``: template data.
    """

    number: int
    offset: int
    end: int
    template: bytes
    heads: bytes
    data: list[bytes]

    @property
    def pcrs(self) -> bytes:
        """The PCR of each entry, one byte each: a run has no number that needs more."""
        return self.heads[::_HEAD]

    @property
    def shown(self) -> list[bytes]:
        """The template digests as logged."""
        return [self.heads[at + 4 : at + _HEAD] for at in range(0, len(self.heads), _HEAD)]

    @property
    def fields(self) -> list[bytes]:
        """The template data without a trailing field of an absent signature: `d-ng|n-ng` of an honest log."""
        end = len(_ENDS[self.template])
        return [data[:-end] for data in self.data] if end else self.data

    def entries(self) -> Iterator[Entry]:
        """Yield the same as entries."""
        at = self.offset
        for index, (pcr, shown, data) in enumerate(zip(self.pcrs, self.shown, self.data, strict=True)):
            end = at + _HEAD + 4 + len(self.template) + 4 + len(data)
            yield Entry(self.number + index, at, end, pcr, shown, self.template, data)
            at = end


def read_runs(file: BinaryIO, size: int, *, offset: int = 0, number: int = 0) -> Iterator[Run | Entry]:
    """Yield the log in ``file``, ``size`` bytes long, from byte ``offset``, before which ``number`` entries lie.

    Memory: a few chunks of 1 MiB, or the longest entry. Raises ``BadEvidence`` with number and byte of what is not an
    entry.
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
                    where, f"{size} bytes of log", f"{base + len(piece)}: it was cut while it was read"
                ) from None
            base, piece, at = base + at, piece[at:] + more, 0
            continue
        yield entry
        number, at = entry.number, entry.end - base


def _run(piece: bytes, at: int, size: int, base: int, number: int) -> Run | None:
    """Split the entries from ``piece[at]`` on, in ``size`` bytes, up to the first of another shape."""
    name_size = int.from_bytes(piece[at + _HEAD : at + _HEAD + 4], "little")
    template = piece[at + _HEAD + 4 : at + _HEAD + 4 + name_size]
    end = _ENDS.get(template)
    if end is None:
        return None
    # Between two of these lie one entry's length and data, and the next one's PCR and digest. The same bytes in a name
    # or a digest would be split too: then the lengths do not fit.
    mark = piece[at + _HEAD : at + _HEAD + 4 + name_size]
    stop = min((place for word in _SPECIAL if (place := piece.find(word, at, at + size)) >= 0), default=at + size)
    first, *parts = piece[at:stop].split(mark)
    if len(first) != _HEAD or len(parts) < 2:
        return None
    parts.pop()
    heads = b"".join([first, *[part[-_HEAD:] for part in parts]])[:-_HEAD]
    if not _regular(parts, heads, end):
        each = (heads[_HEAD * n : _HEAD * (n + 1)] for n in range(len(parts)))
        count = next(
            n for n, (part, head) in enumerate(zip(parts, each, strict=False)) if not _regular([part], head, end)
        )
        if not count:
            return None
        del parts[count:]
        heads = heads[: _HEAD * count]
    return Run(
        number=number,
        offset=base + at,
        end=base + at + len(parts) * len(mark) + sum(map(len, parts)),
        template=template,
        heads=heads,
        data=[part[4:-_HEAD] for part in parts],
    )


def _regular(parts: list[bytes], heads: bytes, end: bytes) -> bool:
    """Whether each part is a length, as many bytes ending with ``end``, and a head with a possible PCR."""
    sizes = list(map(len, parts))
    if len(heads) != _HEAD * len(parts) or min(sizes) < _AROUND + len(end):
        return False
    # All lengths and what follows them are compared at once with the values computed here.
    announced = b"".join([part[:4] for part in parts])
    if announced != struct.pack(f"<{len(sizes)}I", *[size - _AROUND for size in sizes]):
        return False
    if any(heads[byte::_HEAD].strip(b"\0") for byte in (1, 2, 3)):
        return False
    return not end or all(part.endswith(end, 0, -_HEAD) for part in parts)

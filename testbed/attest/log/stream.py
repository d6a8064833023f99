"""The log as a stream: runs of ordinary entries in columns, everything else entry by entry.

A log has up to a million entries, nearly all of one shape. Those are found and split by the hundred, by one regular
expression. An entry that differs from that shape in any byte is read by ``ima.entry_at``. So the columns are a faster
way to the same entries, never a second interpretation of the log.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple, Protocol

from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS, DIGESTS
from testbed.attest.log.ima import BOOT_AGGREGATES, USUAL, Cut, Entry, LogFormat, entry_at

# Templates whose entries are split in runs, and what their template data end with beside `d-ng|n-ng`: nothing, or
# the field of a signature or a buffer that is not there.
_ENDS = {b"ima-ng": b"", b"ima-sig": bytes(4), b"ima-buf": bytes(4)}
_DIGESTS = {f"{name}:\0".encode(): size for name, size in DIGESTS.items()}
_U32 = struct.Struct("<I")
_CHUNK = 1 << 20
# Bytes that are split at once: doubled if all of them had one shape, else twice the part that had.
_SMALLEST, _LARGEST = 1 << 11, 1 << 17
# Runs of fewer entries are not worth their search; after one, up to so many entries are read one by one.
_WORTH, _PAUSE = 4, 15
# How often the middle of a log is searched for an entry's template before giving up.
_GUESSES = 100
# A run has no boot aggregate, no name that begins with a digit, which may be a namespace, and none of the measurer's.
_NAME = rb"(?!(?:%s)\0|ctr-)[^\x000-9][^\0]*+\0" % b"|".join(map(re.escape, BOOT_AGGREGATES))


class LogSource(Protocol):
    """What a log is read from. Positions count from the log's first byte, also where a file has only a part of it."""

    def seek(self, offset: int, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...


class Run(NamedTuple):
    """Successive ordinary entries of one template and one digest algorithm, in columns.

    Ordinary: a measured file with a digest of the right size, a name that is no namespace's, and no signature or
    buffer; no violation and no ``boot_aggregate``. Only whether the template digests fit is not known.

    ``number`` and ``offset`` are those of the first; ``end`` is where the last ends. ``pcrs``: the PCR of each entry,
    one byte each. ``shown``: the template digests as logged. ``data``: template data. ``form``: how the log is written.
    """

    number: int
    offset: int
    end: int
    template: bytes
    pcrs: bytes
    shown: tuple[bytes, ...]
    data: tuple[bytes, ...]
    form: LogFormat = USUAL

    @property
    def fields(self) -> tuple[bytes, ...]:
        """The template data without the field of an absent signature or buffer: `d-ng|n-ng`."""
        end = len(_ENDS[self.template])
        return tuple([data[:-end] for data in self.data]) if end else self.data

    def entries(self) -> Iterator[Entry]:
        """Yield the same as entries."""
        at = self.offset
        for index, (pcr, shown, data) in enumerate(zip(self.pcrs, self.shown, self.data, strict=True)):
            end = at + self.form.head.size + len(self.template) + 4 + len(data)
            yield Entry(self.number + index, at, end, pcr, shown, self.template, data, self.form)
            at = end


class _Shape(NamedTuple):
    """What an entry of one template and digest algorithm looks like: ``several`` entries, ``one`` in groups.

    ``around``: bytes of the template data beside the name.
    """

    several: re.Pattern[bytes]
    one: re.Pattern[bytes]
    around: int


def read_runs(
    file: LogSource,
    size: int,
    *,
    offset: int = 0,
    number: int = 0,
    stop: int | None = None,
    form: LogFormat = USUAL,
) -> Iterator[Run | Entry]:
    """Yield the log in ``file``, ``size`` bytes long, from byte ``offset``, before which ``number`` entries lie.

    ``stop``: no entry that begins there or later is read, and no run goes on beyond it. Memory: a few chunks of 1 MiB,
    or the longest entry. Raises ``BadEvidence`` with number and byte of what is not an entry.
    """
    stop = size if stop is None else stop
    if offset < stop:
        file.seek(offset)
    base, piece, at, window, pause, singly = offset, b"", 0, _SMALLEST, 0, 0
    while base + at < stop:
        # Where runs are short or there are none, to look for them costs more than they save.
        run = None if singly else _run(piece, at, min(window, stop - base - at), base, number + 1, form)
        if singly:
            singly -= 1
        else:
            pause = 0 if run is not None and len(run.data) >= _WORTH else min(2 * pause + 1, _PAUSE)
            singly = pause
        if run is not None:
            yield run
            taken = run.end - base - at
            window = min(max(2 * taken, _SMALLEST), _LARGEST)
            number, at = number + len(run.data), at + taken
            continue
        try:
            entry = entry_at(piece, at, number + 1, base=base, size=size, form=form)
        except Cut:
            wanted = min(max(stop - base - at, _SMALLEST), _CHUNK)
            more = file.read(min(max(wanted, len(piece) - at), size - base - len(piece)))
            if not more:
                where = f"ima.bin: entry {number + 1} at byte {base + at}"
                raise BadEvidence(
                    where, f"{size} bytes of log", f"{base + len(piece)}: it was cut while it was read"
                ) from None
            base, piece, at, pause, singly = base + at, piece[at:] + more, 0, 0, 0
            continue
        yield entry
        number, at = entry.number, entry.end - base


def synchronize(file: LogSource, start: int, stop: int, form: LogFormat = USUAL) -> int | None:
    """Return where the first run between two bytes of a log seems to begin; ``None`` if there is none."""
    file.seek(start)
    piece = file.read(stop - start)
    head = form.head.size - 4
    for template in _ENDS:
        mark, at = _U32.pack(len(template)) + template, head
        for _ in range(_GUESSES):
            at = piece.find(mark, at)
            if at < 0:
                break
            if _run(piece, at - head, _SMALLEST, start, 1, form) is not None:
                return start + at - head
            at += 1
    return None


def _run(  # noqa: PLR0917 - called for each run, and by position that is faster
    piece: bytes, at: int, size: int, base: int, number: int, form: LogFormat
) -> Run | None:
    """Split the entries from ``piece[at]`` on, in ``size`` bytes, up to the first of another shape."""
    name = at + form.head.size
    name_size = piece[name - 4] if name <= len(piece) else 0
    template = piece[name : name + name_size]
    if template not in _ENDS:
        return None
    # The field `d-ng`: its length, and the algorithm up to a zero byte.
    field = name + name_size + 4
    head = piece[field : piece.find(0, field + 4, field + 16) + 1]
    # By texts, whose hashes Python keeps: those of a dataclass take longer than the search itself.
    shape = _shape(template, head, form.digest, form.byte_order)
    if shape is None:
        return None
    found = shape.several.match(piece, at, at + size)
    if found is None:
        return None
    # The expression for several entries has found where they end. Within that, the one for an entry finds the same.
    columns = list(zip(*shape.one.findall(piece, at, found.end()), strict=True))
    count = _regular(columns, shape.around)
    if not count:
        return None
    pcrs, shown, _, data, _ = columns if count == len(columns[0]) else [column[:count] for column in columns]
    end = base + at + count * (form.head.size + len(template) + 4) + sum(map(len, data))
    return Run(number, base + at, end, template, b"".join(pcrs), shown, data, form)


def _regular(columns: list[tuple[bytes, ...]], around: int) -> int:
    """Return how many entries have the lengths that they announce: their names may contain what looks like an entry."""
    _, _, lengths, data, names = columns
    sizes = list(map(len, data))
    # All are compared at once with the values computed here.
    pack = struct.Struct(f"<{len(sizes)}I").pack
    if b"".join(lengths) == pack(*sizes) and b"".join(names) == pack(*[size - around for size in sizes]):
        return len(sizes)
    rows = zip(lengths, names, sizes, strict=True)
    good = takewhile(lambda row: row[0] == _U32.pack(row[2]) and row[1] == _U32.pack(row[2] - around), rows)
    return sum(1 for _ in good)


@lru_cache(maxsize=256)
def _shape(template: bytes, field: bytes, log_digest: str, byte_order: str) -> _Shape | None:
    """Return the shape of entries whose digest field begins so; ``None`` if such entries are in no run."""
    digest = _DIGESTS.get(field[4:])
    if digest is None or byte_order != "little" or field[:4] != _U32.pack(len(field) - 4 + digest):
        return None
    around = len(field) + digest + 4 + len(_ENDS[template])
    end, size = re.escape(_ENDS[template]), BANKS[log_digest]
    mark, field = re.escape(_U32.pack(len(template)) + template), re.escape(field)

    def entry(group: bytes) -> bytes:
        head = rb"%s.)\0\0\0(?!\0{%d})%s.{%d})%s%s.{4})" % (group, size, group, size, mark, group)
        return head + rb"%s%s.{%d}%s.{4})%s%s)" % (group, field, digest, group, _NAME, end)

    several, one = rb"(?s)(?:%s)++" % entry(rb"(?:"), rb"(?s)" + entry(rb"(")
    return _Shape(re.compile(several), re.compile(one), around)

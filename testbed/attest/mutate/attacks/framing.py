"""Attacks by cutting the log, or by writing its entries in another form than the kernel's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry, encode
from testbed.attest.mutate.engine.lines import join, needs_containers, patched, victim, with_files, with_log
from testbed.attest.mutate.engine.model import CONTAINER_PCR, Forged, Honest, by_files

_HUGE = struct.pack("<I", 0xFFFFFFFF)


def _last(honest: Honest) -> int:
    return honest.places(CONTAINER_PCR)[-1]


def _kept(honest: Honest, keep: Callable[[int], int]) -> Forged:
    """Keep some of PCR 11's attested entries, and what comes before the last of those."""
    places = honest.places(CONTAINER_PCR)
    return with_log(honest, honest.entries[: places[keep(len(places))]])


def _framed(honest: Honest, edit: Callable[[Entry], bytes]) -> Forged:
    """Write one entry in another form than the kernel's; the entries after it stay as they are."""
    place = victim(honest)
    log = join(honest.entries[:place]) + edit(honest.entries[place]) + join(honest.entries[place + 1 :])
    return with_files(honest, {"ima.bin": log})


def _bytes(entry: Entry) -> bytes:
    return encode(entry.pcr, entry.digest, entry.template, entry.data)


_NAME_SIZE, _NAME, _DATA_SIZE = 24, 28, 28 + len(b"ima-buf")
_FRAMINGS: tuple[tuple[str, str, Callable[[Entry], bytes]], ...] = (
    ("name-size-huge", "a template name of 4 GiB", lambda entry: patched(_bytes(entry), _NAME_SIZE, _HUGE)),
    ("name-size-zero", "a template name of no bytes", lambda entry: patched(_bytes(entry), _NAME_SIZE, bytes(4))),
    ("name-size-256", "a template name of 256 bytes", lambda e: patched(_bytes(e), _NAME_SIZE, b"\0\1\0\0")),
    ("name-with-nul", "a zero byte in the template's name", lambda entry: patched(_bytes(entry), _NAME + 3, b"\0")),
    ("name-not-ascii", "a template name that is not text", lambda entry: patched(_bytes(entry), _NAME, b"\xff")),
    ("data-size-huge", "template data of 4 GiB", lambda entry: patched(_bytes(entry), _DATA_SIZE, _HUGE)),
    ("entry-cut", "the second half of an entry missing", lambda entry: _bytes(entry)[: _NAME + 3]),
)


def _data_past_the_end(honest: Honest) -> Forged:
    """Announce one byte too many in the last attested entry of PCR 11, and drop the entries after it."""
    place = _last(honest)
    entry = honest.entries[place]
    size = struct.pack("<I", len(entry.data) + 1)
    return with_files(honest, {"ima.bin": join(honest.entries[:place]) + patched(_bytes(entry), _DATA_SIZE, size)})


def _cut_within(honest: Honest) -> Forged:
    place = _last(honest)
    return with_files(honest, {"ima.bin": join(honest.entries[: place + 1])[:-1]})


def _big_endian(honest: Honest) -> Forged:
    """Write the log as a big-endian machine without `ima_canonical_fmt` does."""
    swap = struct.Struct(">I").pack
    log = b"".join(
        swap(e.pcr) + e.digest + swap(len(e.template)) + e.template + swap(len(e.data)) + e.data for e in honest.entries
    )
    return with_files(honest, {"ima.bin": log})


_row = partial(by_files, applies=needs_containers)

ATTACKS = (
    _row(
        "tail-cut-by-one",
        "T57",
        "the end cut off, with one attested line",
        partial(_kept, keep=lambda n: n - 1),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "tail-cut-by-half",
        "T57",
        "the second half cut off",
        partial(_kept, keep=lambda n: n // 2),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "tail-cut-to-one",
        "T57",
        "all but the first line of PCR 11 cut off",
        partial(_kept, keep=lambda _: 1),
        Kind.REPLAY_MISMATCH,
    ),
    *(
        _row(name, "T60", f"framing: {summary}", partial(_framed, edit=edit), Kind.MALFORMED, Kind.REPLAY_MISMATCH)
        for name, summary, edit in _FRAMINGS
    ),
    _row(
        "data-past-the-end",
        "T57",
        "the last entry one byte longer than the log",
        _data_past_the_end,
        Kind.MALFORMED,
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "cut-within-entry",
        "T57",
        "the last byte of the last attested entry cut off",
        _cut_within,
        Kind.MALFORMED,
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "big-endian",
        "T61",
        "the log with its integers in big-endian order",
        _big_endian,
        Kind.MALFORMED,
        Kind.REPLAY_MISMATCH,
    ),
)

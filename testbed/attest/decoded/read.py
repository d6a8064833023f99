"""Open what has a log to show: a bundle, or the kernel's file of a log, binary or text."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from testbed import files
from testbed.attest.decoded.decode import DecodedEntry, decode, decode_bundle
from testbed.attest.log.ascii import damaged
from testbed.attest.log.content import GIVE
from testbed.attest.log.ima import Entry
from testbed.attest.log.pasted import decode as decode_text
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.log.text import TEXT_MAX, is_text, read_lines
from testbed.errors import EvidenceError, SpecError


@dataclass(slots=True, kw_only=True)
class DecodedLog:
    """A log that is being read. ``entries`` can be read once; ``size``: bytes, 0 if nobody knows.

    ``unread``: lines of a text that look like entries and do not fit their template digest, so far.
    """

    path: Path
    size: int
    entries: Iterator[DecodedEntry] = field(default_factory=lambda: iter(()))
    unread: int = 0


@contextmanager
def open_decoded(path: Path, attested: Mapping[int, int] | None = None) -> Iterator[DecodedLog]:
    """Open a bundle's directory, or a file with a log. ``attested``: see ``decode_bundle``.

    A binary log is read as it is decoded; it may end anywhere. Raises ``SpecError`` for what is neither, and
    ``BadEvidence`` meanwhile for what cannot be read.
    """
    if path.is_dir():
        log = path / "ima.bin"
        size = log.stat().st_size if log.is_file() else 0
        yield DecodedLog(path=path, size=size, entries=decode_bundle(path, attested))
        return
    try:
        opened = files.open_plain(path)
    except OSError as error:
        message = f"{path}: expected a bundle's directory or a plain file, got: {files.reason(error)}"
        raise SpecError(message, "give a bundle, or a copy of binary_runtime_measurements") from error
    with opened as file:
        yield _of_file(path, file, attested)


def _of_file(path: Path, file: BinaryIO, attested: Mapping[int, int] | None) -> DecodedLog:
    begin = file.read(4)
    if not begin:
        raise EvidenceError(f"{path}: expected entries of an IMA log, got none", GIVE)
    log = DecodedLog(path=path, size=os.fstat(file.fileno()).st_size)
    binary = not is_text(begin) and not begin.startswith((b"\xff\xfe", b"\xfe\xff"))
    if binary and begin[:1] >= b" " and begin[1:2] == b"\0" == begin[3:4]:
        binary = False  # text in UTF-16: as a PCR this number would be too large
    log.entries = decode(_binary(log, file, begin) if binary else _text(log, begin + _rest(path, file)), attested)
    return log


def _binary(log: DecodedLog, file: BinaryIO, begin: bytes) -> Iterator[Entry]:
    if log.size < len(begin):  # in securityfs the size of a file is not its length
        file = io.BytesIO(begin + file.read())
        log.size = len(file.getbuffer())
    for item in read_runs(file, log.size):
        yield from item.entries() if isinstance(item, Run) else (item,)


def _rest(path: Path, file: BinaryIO) -> bytes:
    data = file.read(TEXT_MAX + 1)
    if len(data) > TEXT_MAX:
        raise SpecError(f"{path}: expected at most {TEXT_MAX} bytes of text, got more", "give the binary log")
    return data


def _text(log: DecodedLog, data: bytes) -> Iterator[Entry]:
    found = False
    for line in read_lines(decode_text(data)[0]):
        if line.entry is not None and line.fits:
            found = True
            yield line.entry
        else:
            log.unread += damaged(line) or line.problem is not None
    if not (found or log.unread):
        raise EvidenceError(f"{log.path}: expected entries of an IMA log, got none", GIVE)

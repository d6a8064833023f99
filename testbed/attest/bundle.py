"""The evidence bundle: four files of a directory. The verifier trusts only what is signed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from testbed import files
from testbed.attest.finding import BadEvidence
from testbed.attest.registers import PCRS
from testbed.attest.strict_json import read_json

SCHEMA = 1
# The most that a verifier reads of each file of a bundle. A million entries of this project are about 200 MB.
LIMITS = {"bundle.json": 1 << 20, "quote.attest": 1 << 12, "quote.sig": 1 << 12, "ima.bin": 1 << 31}
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_PCR = re.compile(r"0|[1-9][0-9]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was read, without the log. ``pcr_values``: the attester's claim; ``None`` if there is none."""

    attest: bytes
    sig: bytes
    pcr_values: Mapping[int, bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An open log: ``size`` is what it had when it was opened, in bytes, ``changed`` when it last was, in ns."""

    file: BinaryIO
    size: int
    changed: int


def read_bundle(directory: Path) -> Bundle:
    """Read all but the log. Raises ``BadEvidence`` for a missing, too large or not plain file, and for wrong JSON."""
    values = _parse(read_file(directory, "bundle.json"))
    return Bundle(attest=read_file(directory, "quote.attest"), sig=read_file(directory, "quote.sig"), pcr_values=values)


@contextmanager
def open_log(directory: Path) -> Iterator[Log]:
    """Open ``ima.bin``. Raises ``BadEvidence`` if it is missing, not a plain file or too large."""
    with _open(directory, "ima.bin") as file:
        status = os.fstat(file.fileno())
        yield Log(file=file, size=status.st_size, changed=status.st_ctime_ns)


def unchanged(log: Log) -> None:
    """Raise ``BadEvidence`` if the log was written while it was read: two passes would read different logs."""
    status = os.fstat(log.file.fileno())
    if (status.st_size, status.st_ctime_ns) != (log.size, log.changed):
        raise BadEvidence("ima.bin", "a log that stays the same while it is read", "it changed")


def _open(directory: Path, name: str) -> BinaryIO:
    """Open one plain file; a symbolic link, a FIFO or a device is refused, not followed."""
    try:
        file = files.open_plain(directory / name, follow=False)
    except OSError as error:
        # O_NOFOLLOW says ELOOP, which reads as if links went round in a circle.
        got = "a symbolic link, which is not followed" if error.errno == errno.ELOOP else files.reason(error)
        raise BadEvidence(name, "a plain file that can be read", got) from error
    size = os.fstat(file.fileno()).st_size
    if size <= LIMITS[name]:
        return file
    file.close()
    raise BadEvidence(name, f"at most {LIMITS[name]} bytes", f"{size}")


def read_file(directory: Path, name: str) -> bytes:
    """Read one of the files. Raises ``BadEvidence`` if it is missing, not a plain file or too large."""
    with _open(directory, name) as file:
        return file.read(LIMITS[name])


def _parse(data: bytes) -> dict[int, bytes] | None:
    """Check ``bundle.json`` and return its PCR values. Other keys are ignored: they are not evidence."""
    try:
        raw = read_json(data)
    except ValueError as error:
        raise BadEvidence("bundle.json", "JSON", str(error)) from error
    _check("bundle.json", isinstance(raw, dict), "an object", raw)
    schema = raw.get("schema")
    _check("bundle.json: schema", type(schema) is int and schema == SCHEMA, f"{SCHEMA}", schema)
    _check("bundle.json: hash_alg", isinstance(raw.get("hash_alg"), str), "a string", raw.get("hash_alg"))
    pcrs = raw.get("pcrs")
    numbers = isinstance(pcrs, list) and all(type(pcr) is int and 0 <= pcr < PCRS for pcr in pcrs)
    _check("bundle.json: pcrs", numbers, "a list of PCR numbers", pcrs)
    _check("bundle.json: nonce", _is_hex(raw.get("nonce")), "lower-case hex", raw.get("nonce"))
    if "pcr_values" not in raw:
        return None
    values = raw["pcr_values"]
    good = isinstance(values, dict) and all(_PCR.fullmatch(pcr) and _is_hex(value) for pcr, value in values.items())
    _check("bundle.json: pcr_values", good, "PCR numbers to lower-case hex", values)
    return {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}


def _check(where: str, good: bool, expected: str, got: object) -> None:
    if not good:
        raise BadEvidence(where, expected, ascii(got)[:80])


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None

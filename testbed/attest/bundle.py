"""The evidence bundle: four files of a directory. The verifier trusts only what is signed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from testbed import files
from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS
from testbed.attest.log.ima import USUAL, LogFormat
from testbed.attest.log.stream import LogSource
from testbed.attest.registers import PCRS
from testbed.attest.strict_json import read_json

SCHEMA = 1
# The most that a verifier reads of each file of a bundle. A million entries of this project are about 200 MB.
LIMITS = {"bundle.json": 1 << 20, "quote.attest": 1 << 12, "quote.sig": 1 << 12, "ima.bin": 1 << 31}
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_PCR = re.compile(r"0|[1-9][0-9]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogClaim:
    """The attester's claim about ``ima.bin``, ``digest`` and ``byte_order`` ``None`` if there is none.

    ``digest``, ``byte_order``: as in ``LogFormat``. If the claim is false, the log does not fit the quote. ``offset``:
    the byte of the whole log at which the file begins.
    """

    digest: str | None = None
    byte_order: str | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was read, without the log. ``pcr_values``: the attester's claim; ``None`` if there is none."""

    attest: bytes
    sig: bytes
    pcr_values: Mapping[int, bytes] | None
    log: LogClaim = LogClaim()


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An open log, or the part of one from byte ``begin`` on: positions in ``file`` are those in the whole log.

    ``size``: where it ended when it was opened, in bytes of the whole log; ``changed``: when it last changed, in ns;
    ``form``: how it is written.
    """

    file: LogSource
    descriptor: int
    begin: int
    size: int
    changed: int
    form: LogFormat = USUAL

    @contextmanager
    def reopened(self) -> Iterator[LogSource]:
        """Open the same file with a position of its own: an inherited descriptor would share it."""
        with open(f"/proc/self/fd/{self.descriptor}", "rb") as file:  # noqa: PTH123
            yield _Part(file, self.begin)


class _Part:
    """A file whose first byte is byte ``begin`` of a log."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._file = file
        self._begin = begin
        self.read = file.read

    def seek(self, offset: int) -> None:
        self._file.seek(offset - self._begin)


def read_bundle(directory: Path) -> Bundle:
    """Read all but the log. Raises ``BadEvidence`` for a missing, too large or not plain file, and for wrong JSON."""
    raw = _parse(read_file(directory, "bundle.json"))
    return Bundle(
        attest=read_file(directory, "quote.attest"),
        sig=read_file(directory, "quote.sig"),
        pcr_values=_pcr_values(raw),
        log=_log_claim(raw.get("log", {})),
    )


@contextmanager
def open_log(directory: Path, begin: int = 0, form: LogFormat = USUAL) -> Iterator[Log]:
    """Open ``ima.bin``, whose first byte is byte ``begin`` of the log.

    Raises ``BadEvidence`` if it is missing, not a plain file or too large.
    """
    with _open(directory, "ima.bin") as file:
        status = os.fstat(file.fileno())
        yield Log(
            file=_Part(file, begin),
            descriptor=file.fileno(),
            begin=begin,
            size=begin + status.st_size,
            changed=status.st_ctime_ns,
            form=form,
        )


def log_format(claim: LogClaim, digest: str | None, byte_order: str | None) -> LogFormat:
    """Return how a log is written: as declared, else as claimed, else as usual.

    Raises ``BadEvidence`` if a claim is not what was declared.
    """
    for key, claimed, declared in (("digest", claim.digest, digest), ("byte_order", claim.byte_order, byte_order)):
        if None not in {claimed, declared} and claimed != declared:
            raise BadEvidence(f"bundle.json: log.{key}", f"{declared}, as you declared", f"{claimed}")
    return LogFormat(digest or claim.digest or USUAL.digest, byte_order or claim.byte_order or USUAL.byte_order)


def unchanged(log: Log) -> None:
    """Raise ``BadEvidence`` if the log was written while it was read: two passes would read different logs."""
    status = os.fstat(log.descriptor)
    if (log.begin + status.st_size, status.st_ctime_ns) != (log.size, log.changed):
        raise BadEvidence(
            "ima.bin", "a log that stays the same while it is read", "it changed; copy the bundle and verify the copy"
        )


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


def _parse(data: bytes) -> dict[str, Any]:
    """Check the keys of ``bundle.json`` that must be there. Unknown keys are ignored: they are not evidence."""
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
    return dict(raw)


def _pcr_values(raw: Mapping[str, Any]) -> dict[int, bytes] | None:
    if "pcr_values" not in raw:
        return None
    values = raw["pcr_values"]
    good = isinstance(values, dict) and all(_PCR.fullmatch(pcr) and _is_hex(value) for pcr, value in values.items())
    _check("bundle.json: pcr_values", good, "an object from PCR numbers to lower-case hex", values)
    return {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}


def _log_claim(raw: Any) -> LogClaim:
    """Check the key ``log``. It changes how the log is read, so an unknown key in it is not ignored."""
    known = ("digest", "byte_order", "offset")
    _check("bundle.json: log", isinstance(raw, dict), "an object", raw)
    for key in raw.keys() - set(known):
        raise BadEvidence("bundle.json: log", f"only the keys {', '.join(known)}", ascii(key)[:80])
    digest, byte_order, offset = raw.get("digest"), raw.get("byte_order"), raw.get("offset", 0)
    _check("bundle.json: log.digest", digest is None or digest in tuple(BANKS), f"one of {', '.join(BANKS)}", digest)
    orders = (None, "little", "big")
    _check("bundle.json: log.byte_order", byte_order in orders, "little or big", byte_order)
    _check("bundle.json: log.offset", type(offset) is int and 0 <= offset < 1 << 63, "a number of bytes", offset)
    return LogClaim(digest=digest, byte_order=byte_order, offset=offset)


def _check(where: str, good: bool, expected: str, got: object) -> None:
    if not good:
        raise BadEvidence(where, expected, ascii(got)[:80])


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None

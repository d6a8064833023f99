"""The evidence bundle: four files of a directory, of which nothing is believed that is not signed."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.attest.finding import BadEvidence

SCHEMA = 1
# What a bundle may make a verifier read. A million entries of this project are about 200 MB.
LIMITS = {"bundle.json": 1 << 20, "quote.attest": 1 << 12, "quote.sig": 1 << 12, "ima.bin": 1 << 31}
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_PCR = re.compile(r"0|[1-9][0-9]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was read. ``pcr_values`` are the attester's words, by PCR number; ``None`` if it gave none."""

    attest: bytes
    sig: bytes
    log: bytes
    pcr_values: Mapping[int, bytes] | None


def read_bundle(directory: Path) -> Bundle:
    """Read the four files. Raises ``BadEvidence`` for one that is missing, no plain file, too large or no such JSON."""
    raw = {name: read_file(directory, name, limit) for name, limit in LIMITS.items()}
    values = _parse(raw["bundle.json"])
    return Bundle(attest=raw["quote.attest"], sig=raw["quote.sig"], log=raw["ima.bin"], pcr_values=values)


def read_file(directory: Path, name: str, limit: int) -> bytes:
    """Read one plain file of at most ``limit`` bytes; a symbolic link, a FIFO or a device is refused, not followed."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadEvidence(name, "a plain file", "something else")
            data = file.read(limit + 1)
    except OSError as error:
        raise BadEvidence(name, "a plain file that can be read", os.strerror(error.errno or 0)) from error
    if len(data) > limit:
        raise BadEvidence(name, f"at most {limit} bytes", "more")
    return data


def _parse(data: bytes) -> dict[int, bytes] | None:
    """Check ``bundle.json`` and return its PCR values. Keys that are not known are let pass: they are not evidence."""
    try:
        raw = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadEvidence("bundle.json", "JSON", str(error)) from error
    _check("bundle.json", isinstance(raw, dict), "an object", raw)
    schema = raw.get("schema")
    _check("bundle.json: schema", type(schema) is int and schema == SCHEMA, f"{SCHEMA}", schema)
    _check("bundle.json: hash_alg", isinstance(raw.get("hash_alg"), str), "a string", raw.get("hash_alg"))
    pcrs = raw.get("pcrs")
    numbers = isinstance(pcrs, list) and all(type(pcr) is int and 0 <= pcr < 24 for pcr in pcrs)
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a repeated key could read two things."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice in one object")
    return dict(pairs)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")

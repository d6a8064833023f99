# ruff: noqa: INP001 - programs, not a package
"""Logs that take a verifier as much time and memory as possible: each entry is of a kind that is read by itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import contestants
import evidence as b
from cryptography.hazmat.primitives.asymmetric import rsa

RSASSA = 0x0014
_ONES = b"\xff" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One such log: its nth entry. ``bogus``: the quote's signature is wrong."""

    summary: str
    entry: Callable[[int], bytes]
    bogus: bool = False


def _unknown(number: int) -> bytes:
    return b.entry(10, b"x", struct.pack("<I", number))


def _started(number: int) -> bytes:
    return b.ima_buf("ctr-start", b.ctr_start(b.libpod(f"{number:064x}"), seq=number + 1))


LOGS = {
    "unknown": Hostile(summary="entries of an unknown template", entry=_unknown),
    "bogus": Hostile(summary="the same, under a wrong signature", entry=_unknown, bogus=True),
    "violations": Hostile(summary="violations", entry=lambda number: b.violation(f"/x{number}")),
    "namespaced": Hostile(
        summary="lines with a namespace", entry=lambda number: b.ima_ng(f"4026532981:/x{number}", b"")
    ),
    "containers": Hostile(summary="containers", entry=_started),
    "buffers": Hostile(
        summary="files with the template of a buffer", entry=lambda number: b.ima_buf(f"x{number}", b"", pcr=10)
    ),
    "images": Hostile(
        summary="digests of images",
        entry=lambda number: b.ima_buf("ctr-image", b.ctr_image(hashlib.sha256(b"%d" % number).digest())),
    ),
    "mixed": Hostile(
        summary="every third entry of an unknown template",
        entry=lambda number: b.ima_ng(f"/x{number}", b"") if number % 3 else _unknown(number),
    ),
}


def prepare(case: Path, name: str, count: int, key: rsa.RSAPrivateKey) -> None:
    """Write a bundle whose log has so many entries of one kind after its boot aggregate."""
    case.mkdir()
    values = {10: bytes(32), 11: bytes(32)}
    with (case / "ima.new").open("wb") as file:
        for number in range(-1, count):
            entry = b.BOOT if number < 0 else LOGS[name].entry(number)
            file.write(entry)
            data = entry[32 + int.from_bytes(entry[24:28], "little") :]
            extension = hashlib.sha256(data).digest() if any(entry[4:24]) else _ONES
            values[entry[0]] = hashlib.sha256(values[entry[0]] + extension).digest()
    attest = b.attest(contestants.NONCE, hashlib.sha256(values[10] + values[11]).digest())
    sig = bytearray(b.sign(key, attest, scheme=RSASSA))
    sig[-1] ^= LOGS[name].bogus
    b.write_bundle(case, attest=attest, sig=bytes(sig), log=b"", nonce=contestants.NONCE, values=values)
    (case / "ima.new").replace(case / "ima.bin")
    (case / "ak.pem").write_bytes(b.pem(key))

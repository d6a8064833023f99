"""Attacks with file signatures: an unlisted program whose signature is not of it, or accepts something else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.policies import EVIL, Document, judged
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    PATH,
    buffer_line,
    digest_field,
    flipped,
    line,
    needs_containers,
    patched,
    sized,
    victim_payload,
)
from testbed.attest.mutate.engine.model import IMA_PCR, Forged, Honest, by_root

Made = Callable[[Honest], Entry]
# Made by `evmctl ima_sign`; nobody has the private key any more.
_SIGNED = b"signed with p256 and sha256\n"
_SIGNATURE = bytes.fromhex(
    "030204513bed9400483046022100a6e3a2a242f3fe813761cce16d19a2a962943c85bee7f6d9278aa85f54b2edf90221"
    "00cf345e5060d057c58fae085028f4d7edef3d8853421211eb40279843d3e86841"
)
_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjAautr2AxDK3R7j8a2eXH58ZvQsrxo6IyJsNu+N2SbfT7fBfAF5VOuY7cL3GsqA9hA8PujCss3IS"
    "V58RaUY7AA=="
)
_OTHER_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcKm/prHMcNjwaw1s4dWF6dJ9vzNNz2euCPvyR8wFrz0clCWErVgw4eQsADrQooxeqcSqnT/3T4A+"
    "QNjUBcIWOQ=="
)
# Offsets in a signature: docs/formats.md.
_TYPE, _VERSION, _ALGORITHM, _SIZE = 0, 1, 2, 7

_ACCEPTED: Mapping[str, Any] = {"signed-by": [{"key": _KEY}]}
_NOT_HERE: Mapping[str, Any] = {"signed-by": [{"key": _KEY, "paths": ["/usr/.*"]}]}
_HERE: Mapping[str, Any] = {"signed-by": [{"key": _KEY, "paths": ["/usr/.*", "/opt/.*"]}]}
_NOT_KNOWN: Mapping[str, Any] = {"signed-by": [{"key": _OTHER_KEY}]}


def _line(content: bytes = _SIGNED, signature: bytes = _SIGNATURE, path: str = EVIL) -> Made:
    made = line(IMA_PCR, b"ima-sig", digest_field(content) + sized(path.encode() + b"\0") + sized(signature))
    return lambda _: made


def _listed(content: bytes) -> Mapping[str, Any]:
    return {**_ACCEPTED, "files": {EVIL: [f"sha256:{hashlib.sha256(content).hexdigest()}"]}}


def _edit(_: Honest, document: Document, host: Mapping[str, Any], on: Mapping[str, str]) -> None:
    files = {**document["host"]["files"], **host.get("files", {})}
    document["host"] |= {**host, "files": files}
    document["on"] = on


def _judged(honest: Honest, made: Made, host: Mapping[str, Any], on: Mapping[str, str]) -> Forged:
    return judged(honest, added(honest, made(honest)), partial(_edit, host=host, on=on))


def _in_container(honest: Honest) -> Entry:
    """Say that a container got the signed file, at a path that its image does not have."""
    payload = patched(victim_payload(honest), DIGEST, hashlib.sha256(_SIGNED).digest())
    return buffer_line(b"ctr-file", flipped(payload, PATH + 1))


_EVIL = b"evil"
_BAD, _UNKNOWN = (Kind.BAD_SIGNATURE,), (Kind.UNKNOWN_FILE,)
_LINES: tuple[tuple[str, str, str, Made, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("file", "T05", "no attack: a file that a key of the policy signed", _line(), _ACCEPTED, ()),
    ("file-here", "T05", "no attack: a file that a key for this path signed", _line(), _HERE, ()),
    (
        "elsewhere",
        "T05",
        "a signed file under another path: a signature is of the content alone",
        _line(path="/usr/bin/sudo"),
        _ACCEPTED,
        (),
    ),
    ("other-path", "T05", "a signed file at a path that its key may not sign", _line(), _NOT_HERE, _UNKNOWN),
    ("unknown-key", "T05", "signed by a key that the policy does not have", _line(), _NOT_KNOWN, _UNKNOWN),
    ("other-file", "T04", "the signature of another file", _line(_EVIL), _ACCEPTED, _BAD),
    ("other-file-listed", "T04", "a listed file with the signature of another", _line(_EVIL), _listed(_EVIL), _BAD),
    (
        "listed",
        "T04",
        "a file that is signed, but listed with another digest",
        _line(),
        _listed(_EVIL),
        (Kind.WRONG_DIGEST,),
    ),
    (
        "boot-aggregate",
        "T64",
        "a signed digest under the name boot_aggregate",
        _line(path="boot_aggregate"),
        _ACCEPTED,
        (Kind.WRONG_DIGEST,),
    ),
    (
        "longer",
        "T60",
        "a byte after a good signature",
        _line(signature=_SIGNATURE + b"\0"),
        _ACCEPTED,
        _BAD,
    ),
    ("cut", "T60", "a good signature without its last byte", _line(signature=_SIGNATURE[:-1]), _ACCEPTED, _BAD),
    (
        "cut-fitting",
        "T60",
        "the same, with a size that fits",
        _line(signature=patched(_SIGNATURE[:-1], _SIZE, b"\0\x47")),
        _ACCEPTED,
        _BAD,
    ),
    (
        "container",
        "T05",
        "a signed file in a container, which only its image can allow",
        _in_container,
        _ACCEPTED,
        _UNKNOWN,
    ),
    ("head", "T60", "a signature that ends in its head", _line(signature=_SIGNATURE[:8]), _ACCEPTED, _UNKNOWN),
    (
        "as-version-1",
        "T60",
        "a signature that is called one of version 1",
        _line(signature=patched(_SIGNATURE, _VERSION, b"\1")),
        _ACCEPTED,
        _UNKNOWN,
    ),
    (
        "as-version-3",
        "T60",
        "a signature that is called one of version 3",
        _line(signature=patched(_SIGNATURE, _VERSION, b"\3")),
        _ACCEPTED,
        _BAD,
    ),
    (
        "as-verity",
        "T60",
        "a signature that is called one of an fs-verity digest",
        _line(signature=patched(_SIGNATURE, _TYPE, b"\6\3")),
        _ACCEPTED,
        _UNKNOWN,
    ),
    (
        "as-evm",
        "T60",
        "a signature that is called one of EVM",
        _line(signature=patched(_SIGNATURE, _TYPE, b"\5")),
        _ACCEPTED,
        _UNKNOWN,
    ),
    (
        "as-sha512",
        "T61",
        "a signature that is called one of a SHA-512",
        _line(signature=patched(_SIGNATURE, _ALGORITHM, b"\6")),
        _ACCEPTED,
        _UNKNOWN,
    ),
)
_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(
            f"signed-{name}",
            row,
            f"with keys in the policy: {summary}",
            partial(_judged, made=made, host=host, on={}),
            *expect,
        )
        for name, row, summary, made, host, expect in _LINES
    ),
    _row(
        "signed-other-file-noted",
        "T04",
        "with keys in the policy: the signature of another file is not excused by `on.unknown`",
        partial(_judged, made=_line(_EVIL), host=_ACCEPTED, on={"unknown": "note"}),
        Kind.BAD_SIGNATURE,
    ),
)

"""Attacks by rewriting the quote or its signature in transit, without key and TPM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    buffer_line,
    described,
    flipped,
    grown,
    join,
    needs_containers,
    patched,
    victim_payload,
    with_files,
)
from testbed.attest.mutate.engine.model import Forged, Honest, by_files
from testbed.attest.mutate.engine.standin import (
    ECDSA,
    PARENT,
    ecdsa_tpm,
    pack_attest,
    pack_signature,
    rsa_tpm,
    selection,
)
from testbed.attest.quote import Attest
from testbed.attest.tpm import RSAPSS

Bytes = Callable[[bytes], bytes]
FRESH_NONCE = hashlib.sha256(b"a nonce that nobody has seen").digest()


def _bytes(honest: Honest, file: str, edit: Bytes) -> Forged:
    return with_files(honest, {file: edit(honest.files[file])})


def _number(honest: Honest, edit: Bytes) -> Forged:
    """Change the signature's first number, not its frame."""
    first, *rest = honest.signature.parts
    return with_files(honest, {"quote.sig": pack_signature(replace(honest.signature, parts=(edit(first), *rest)))})


def _unsigned(honest: Honest, edit: Callable[[Attest], Attest]) -> Forged:
    return with_files(honest, {"quote.attest": pack_attest(edit(honest.attest))})


def _set(**fields: object) -> Callable[[Attest], Attest]:
    return lambda attest: replace(attest, **fields)  # type: ignore[arg-type]


def _patch(at: int, new: str) -> Bytes:
    return lambda data: patched(data, at, bytes.fromhex(new))


def _flip(at: int) -> Bytes:
    return lambda data: flipped(data, at)


def _other_key(honest: Honest) -> Forged:
    tpm = ecdsa_tpm() if honest.signature.scheme == ECDSA else rsa_tpm()
    return with_files(honest, {"quote.sig": tpm.sign(honest.files["quote.attest"])})


def _as_rsapss(honest: Honest) -> Forged:
    changed = replace(honest.signature, scheme=RSAPSS, parts=honest.signature.parts[:1])
    return with_files(honest, {"quote.sig": pack_signature(changed)})


def _whole_story(honest: Honest) -> Forged:
    """Make log, PCR values and pcrDigest consistent; only the signature does not fit."""
    machine = ForgedMachine(lines=grown(honest, buffer_line(b"ctr-file", victim_payload(honest))))
    values = {pcr: machine.value(pcr) for pcr in sorted(honest.values)}
    digest = hashlib.new(honest.signature.hash_alg, b"".join(values.values())).digest()
    files = {"quote.attest": pack_attest(replace(honest.attest, digest=digest))}
    files |= {"bundle.json": described(honest, values), "ima.bin": join(machine.lines)}
    return with_files(honest, files)


def _safe(attest: bytes) -> bytes:
    """Set the boolean `safe` to 2: it follows magic, type, signer, nonce, clock, resetCount and restartCount."""
    at = 6
    for _ in ("qualifiedSigner", "extraData"):
        at += 2 + int.from_bytes(attest[at : at + 2], "big")
    return patched(attest, at + 16, b"\x02")


def _replayed(honest: Honest, **claims: str) -> Forged:
    document = described(honest, honest.values, **claims)
    return replace(with_files(honest, {"bundle.json": document}), nonce=FRESH_NONCE)


def _nonce_patched(honest: Honest) -> Forged:
    return replace(_unsigned(honest, _set(nonce=FRESH_NONCE)), nonce=FRESH_NONCE)


_SIGNATURE_BYTES: tuple[tuple[str, str, Bytes, tuple[str, ...]], ...] = (
    ("signature-bit-first", "the lowest bit of its first number flipped", _flip(6), (Kind.QUOTE_SIGNATURE,)),
    ("signature-bit-middle", "a bit of its 20th byte flipped", _flip(20), (Kind.QUOTE_SIGNATURE,)),
    ("signature-bit-last", "a bit of its last byte flipped", _flip(-1), (Kind.QUOTE_SIGNATURE,)),
    ("signature-empty", "no bytes", lambda _: b"", (Kind.MALFORMED,)),
    ("signature-trailing-byte", "one byte after it", lambda data: data + b"\0", (Kind.MALFORMED,)),
    ("signature-cut", "its last byte missing", lambda data: data[:-1], (Kind.MALFORMED,)),
    ("signature-size-huge", "its number announced as 65535 bytes long", _patch(4, "ffff"), (Kind.MALFORMED,)),
    ("signature-scheme-unknown", "the scheme id of SM2", _patch(0, "001b"), (Kind.UNSUPPORTED,)),
    ("signature-scheme-null", "the scheme id of no signature", _patch(0, "0010"), (Kind.UNSUPPORTED,)),
    ("signature-scheme-hmac", "the scheme id of HMAC", _patch(0, "0005"), (Kind.UNSUPPORTED,)),
    ("signature-hash-unknown", "the hash id of no hash", _patch(2, "0010"), (Kind.UNSUPPORTED,)),
    ("signature-hash-hmac", "the id of HMAC in place of a hash", _patch(2, "0005"), (Kind.UNSUPPORTED,)),
    ("signature-hash-sha1", "the hash id of SHA-1", _patch(2, "0004"), (Kind.QUOTE_DIGEST_ALG,)),
    (
        "signature-hash-swapped",
        "the hash id of SHA-512: not the key's, and not of pcrDigest's size",
        _patch(2, "000d"),
        (Kind.QUOTE_SIGNATURE, Kind.QUOTE_DIGEST_ALG),
    ),
)
_NUMBERS: tuple[tuple[str, str, Bytes], ...] = (
    (
        "signature-leading-zero",
        "a zero byte before its number: the same number in another encoding",
        lambda n: b"\0" + n,
    ),
    ("signature-zero", "a number of zeros", lambda number: bytes(len(number))),
    ("signature-ones", "a number beyond the modulus", lambda number: b"\xff" * len(number)),
)
_ATTEST_BYTES: tuple[tuple[str, str, Bytes, tuple[str, ...]], ...] = (
    ("attest-empty", "no bytes", lambda _: b"", (Kind.MALFORMED,)),
    ("attest-trailing-byte", "one byte after it", lambda data: data + b"\0", (Kind.MALFORMED,)),
    ("attest-cut", "its last byte missing", lambda data: data[:-1], (Kind.MALFORMED,)),
    ("attest-safe-two", "a boolean that is 2", _safe, (Kind.MALFORMED,)),
    (
        "attest-type-patched",
        "type changed to that of TPM2_Certify",
        _patch(4, "8017"),
        (Kind.QUOTE_TYPE, Kind.QUOTE_SIGNATURE),
    ),
)
_ATTEST_FIELDS: tuple[tuple[str, str, Callable[[Attest], Attest], tuple[str, ...]], ...] = (
    ("attest-clock-patched", "another clock", _set(clock=1), ()),
    ("attest-reset-patched", "another resetCount", _set(reset_count=77), ()),
    ("attest-safe-patched", "the boolean `safe` flipped", lambda attest: replace(attest, safe=not attest.safe), ()),
    ("attest-firmware-patched", "another firmwareVersion", _set(firmware=1), ()),
    ("attest-signer-patched", "another qualifiedSigner", _set(signer=PARENT), ()),
    ("attest-magic-patched", "another magic", _set(magic=0xFF544346), (Kind.QUOTE_MAGIC,)),
    (
        "attest-selection-patched",
        "PCR 11 removed from the selection",
        _set(selections=(selection("sha256", (10,)),)),
        (Kind.QUOTE_SELECTION, Kind.REPLAY_MISMATCH),
    ),
)

ATTACKS = (
    *(
        by_files(name, "T48", f"signature: {summary}", partial(_bytes, file="quote.sig", edit=edit), *expect)
        for name, summary, edit, expect in _SIGNATURE_BYTES
    ),
    *(
        by_files(name, "T48", f"signature: {summary}", partial(_number, edit=edit), Kind.QUOTE_SIGNATURE)
        for name, summary, edit in _NUMBERS
    ),
    *(
        by_files(name, "T48", f"quote: {summary}", partial(_bytes, file="quote.attest", edit=edit), *expect)
        for name, summary, edit, expect in _ATTEST_BYTES
    ),
    *(
        by_files(
            name,
            "T50" if "selection" in name else "T48",
            f"quote: {summary}",
            partial(_unsigned, edit=edit),
            Kind.QUOTE_SIGNATURE,
            *expect,
            applies=needs_containers if "selection" in name else lambda _: None,
        )
        for name, summary, edit, expect in _ATTEST_FIELDS
    ),
    by_files(
        "signature-other-key", "T48", "signature: another key's, over the same quote", _other_key, Kind.QUOTE_SIGNATURE
    ),
    by_files("signature-as-rsapss", "T48", "signature: scheme changed to RSAPSS", _as_rsapss, Kind.QUOTE_SIGNATURE),
    by_files(
        "whole-story-unsigned",
        "T52",
        "log, PCR values and pcrDigest rewritten consistently: only the signature is wrong",
        _whole_story,
        Kind.QUOTE_SIGNATURE,
        applies=needs_containers,
    ),
    by_files("quote-replayed", "T49", "an old quote for a new nonce", _replayed, Kind.QUOTE_NONCE),
    by_files(
        "quote-replayed-and-claimed",
        "T49",
        "an old quote for a new nonce, and bundle.json has the new nonce",
        partial(_replayed, nonce=FRESH_NONCE.hex()),
        Kind.QUOTE_NONCE,
    ),
    by_files(
        "nonce-patched", "T49", "an old quote with the new nonce written into it", _nonce_patched, Kind.QUOTE_SIGNATURE
    ),
)

"""Attacks with what a real key signed: an answer to another question, a non-quote, or another TPM's quote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.engine.lines import ForgedMachine, needs_both, quote
from testbed.attest.mutate.engine.model import REFUSED, Forged, Honest, by_root
from testbed.attest.mutate.engine.standin import PARENT, StandIn, ecdsa_tpm, other_rsa_tpm, pack_attest, rsa_tpm
from testbed.attest.quote import Attest
from testbed.attest.tpm import tpm2b


def still(honest: Honest) -> ForgedMachine:
    """Return the machine as it was at the honest quote, with the log that was shown then."""
    return ForgedMachine(lines=honest.covered(), log=honest.files["ima.bin"])


def _asked(honest: Honest, nonce: Callable[[bytes], bytes]) -> Forged:
    return quote(honest, still(honest), nonce=nonce(honest.nonce))


def _another(honest: Honest, nonce: Callable[[bytes], bytes]) -> str | None:
    same = "the nonce stays the same in this case" if nonce(honest.nonce) == honest.nonce else None
    return same or needs_both(honest)


_NONCES: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("nonce-truncated", "the nonce without its last byte", lambda nonce: nonce[:-1]),
    ("nonce-first-byte", "the first byte of the nonce", lambda nonce: nonce[:1]),
    ("nonce-extended", "the nonce and a zero byte", lambda nonce: nonce + b"\0"),
    ("nonce-empty", "no nonce", lambda _: b""),
    ("nonce-zeros", "zeros of the nonce's length", lambda nonce: bytes(len(nonce))),
    ("nonce-hashed", "the nonce's SHA-256", lambda nonce: hashlib.sha256(nonce).digest()),
    ("nonce-reversed", "the nonce backwards", lambda nonce: nonce[::-1]),
)


def signed(honest: Honest, tpm: StandIn, edit: Callable[[Attest], Attest]) -> Forged:
    """Sign a TPMS_ATTEST that the attacker wrote, by asking the key to sign it."""
    forged = quote(honest, still(honest), tpm=tpm)
    digest = hashlib.sha256(b"".join(honest.values[pcr] for pcr in sorted(honest.values))).digest()
    message = pack_attest(edit(replace(honest.attest, signer=tpm.signer, digest=digest)))
    return replace(forged, files={**forged.files, "quote.attest": message, "quote.sig": tpm.sign(message)})


def _no_quote(honest: Honest, kind: int, attested: bytes) -> Forged:
    tpm = rsa_tpm()
    forged = quote(honest, still(honest))
    message = pack_attest(replace(honest.attest, signer=tpm.signer), kind=kind, attested=attested)
    return replace(forged, files={**forged.files, "quote.attest": message, "quote.sig": tpm.sign(message)})


# TPMU_ATTEST of the other structures that an attestation key signs for anybody who asks its TPM.
_NAME, _DIGEST = tpm2b(PARENT), tpm2b(bytes(32))
_TYPES = (
    ("type-certify", "TPM2_Certify", 0x8017, _NAME + _NAME),
    ("type-time", "TPM2_GetTime", 0x8019, bytes(33)),
    ("type-creation", "TPM2_CertifyCreation", 0x801A, _NAME + _DIGEST),
    ("type-session-audit", "TPM2_GetSessionAuditDigest", 0x8016, b"\0" + _DIGEST),
    ("type-command-audit", "TPM2_GetCommandAuditDigest", 0x8015, bytes(8) + b"\x00\x0b" + _DIGEST + _DIGEST),
    ("type-nv", "TPM2_NV_Certify", 0x8014, _NAME + bytes(2) + tpm2b(b"what it holds")),
)


def _no_magic(honest: Honest) -> Forged:
    return signed(honest, rsa_tpm(), lambda attest: replace(attest, magic=0x00544347))


def _other_machine(honest: Honest) -> Forged:
    """Show another machine's evidence, which is good, to a verifier that expects this one's key."""
    return replace(quote(honest, still(honest), tpm=other_rsa_tpm()), ak=honest.ak, ak_parent=None)


def _other_parent(honest: Honest) -> Forged:
    other = replace(rsa_tpm(), parent=PARENT[:-1] + b"\0")
    return replace(quote(honest, still(honest), tpm=other), ak_parent=PARENT)


def _clone(honest: Honest) -> Forged:
    """Answer from a copy of the TPM's state: the same key, the same log, the same PCR values."""
    forged = quote(honest, still(honest))
    document = forged.files["bundle.json"]
    assert isinstance(document, bytes)
    return replace(
        forged, files={**forged.files, "bundle.json": document.replace(b'"boot_id"', b'"boot_id_of_another"')}
    )


def _demanded(honest: Honest, pcrs: str) -> Forged:
    return replace(quote(honest, still(honest)), pcrs=pcrs)


def _firmware(honest: Honest, difference: int) -> Forged:
    return replace(quote(honest, still(honest)), firmware=honest.attest.firmware ^ difference)


def genuine(honest: Honest, tpm: Callable[[], StandIn]) -> Forged:
    return quote(honest, still(honest), tpm=tpm())


_row = partial(by_root, applies=needs_both)

ATTACKS = (
    _row(
        "honest-quoted-again",
        "T51",
        "no attack: the stand-in TPM quotes the honest state (RSA)",
        partial(genuine, tpm=rsa_tpm),
    ),
    _row(
        "honest-ecdsa",
        "T51",
        "no attack: the stand-in TPM quotes the honest state (ECDSA)",
        partial(genuine, tpm=ecdsa_tpm),
    ),
    *(
        by_root(
            name,
            "T49",
            f"a genuine quote for another nonce: {summary}",
            partial(_asked, nonce=nonce),
            Kind.QUOTE_NONCE,
            applies=partial(_another, nonce=nonce),
        )
        for name, summary, nonce in _NONCES
    ),
    *(
        _row(
            name,
            "T48",
            f"what the key signs for {command}, as a quote",
            partial(_no_quote, kind=kind, attested=body),
            Kind.QUOTE_TYPE,
        )
        for name, command, kind, body in _TYPES
    ),
    _row(
        "magic-of-no-tpm",
        "T48",
        "a written TPMS_ATTEST without TPM_GENERATED: a restricted key signs that, like any other text",
        _no_magic,
        Kind.QUOTE_MAGIC,
    ),
    _row(
        "other-machine",
        "T51",
        "another machine's good evidence for the same nonce",
        _other_machine,
        Kind.QUOTE_SIGNATURE,
    ),
    _row(
        "other-parent",
        "T51",
        "the same key below another parent, so with another name",
        _other_parent,
        Kind.QUOTE_SIGNER,
    ),
    _row("clone", "T51", "a copy of the TPM answers: no signature can distinguish two TPMs with one key", _clone),
    _row("firmware-pinned", "T51", "no attack: the firmware is the pinned one", partial(_firmware, difference=0)),
    _row(
        "firmware-other",
        "T51",
        "a TPM with firmware other than the pinned one",
        partial(_firmware, difference=1),
        Kind.QUOTE_SIGNER,
    ),
    *(
        _row(f"demanded-{name}", "T50", f"PCRs demanded as {pcrs!r}", partial(_demanded, pcrs=pcrs), REFUSED)
        for name, pcrs in (
            ("twice", "sha256:10,10"),
            ("no-pcr", "sha256:"),
            ("pcr-24", "sha256:10,24"),
            ("md5", "md5:10"),
        )
    ),
)

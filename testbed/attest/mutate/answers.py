"""Attacks with a quote that a real key signed: to another question, over other PCRs, by another TPM or no TPM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.lines import Machine, needs_both, quote
from testbed.attest.mutate.model import REFUSED, Forged, Honest, by_root
from testbed.attest.mutate.standin import (
    AK_ATTRIBUTES,
    PARENT,
    StandIn,
    ecdsa_tpm,
    other_rsa_tpm,
    pack_attest,
    rsa_tpm,
    sized,
)
from testbed.attest.quote import Attest
from testbed.attest.tpm import DECRYPT, FIXED_TPM, RESTRICTED, RSAPSS

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551



def _still(honest: Honest) -> Machine:
    """Return the machine as it was at the honest quote, with the log that was shown then."""
    return Machine(lines=honest.covered(), log=honest.files["ima.bin"])


def _asked(honest: Honest, nonce: Callable[[bytes], bytes]) -> Forged:
    return quote(honest, _still(honest), nonce=nonce(honest.nonce))


def _another(honest: Honest, nonce: Callable[[bytes], bytes]) -> str | None:
    same = "the nonce is the same so" if nonce(honest.nonce) == honest.nonce else None
    return same or needs_both(honest)


_NONCES: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("nonce-truncated", "the nonce without its last byte", lambda nonce: nonce[:-1]),
    ("nonce-first-byte", "the first byte of the nonce", lambda nonce: nonce[:1]),
    ("nonce-extended", "the nonce and a zero byte", lambda nonce: nonce + b"\0"),
    ("nonce-empty", "no nonce", lambda _: b""),
    ("nonce-zeros", "as many zeros", lambda nonce: bytes(len(nonce))),
    ("nonce-hashed", "the nonce's SHA-256", lambda nonce: hashlib.sha256(nonce).digest()),
    ("nonce-reversed", "the nonce backwards", lambda nonce: nonce[::-1]),
)


def _signed(honest: Honest, tpm: StandIn, edit: Callable[[Attest], Attest]) -> Forged:
    """Sign a TPMS_ATTEST that somebody wrote, with a key that is asked to sign it."""
    forged = quote(honest, _still(honest), tpm=tpm)
    digest = hashlib.sha256(b"".join(honest.values[pcr] for pcr in sorted(honest.values))).digest()
    message = pack_attest(edit(replace(honest.attest, signer=tpm.signer, digest=digest)))
    return replace(forged, files={**forged.files, "quote.attest": message, "quote.sig": tpm.sign(message)})


def _no_quote(honest: Honest, kind: int, attested: bytes) -> Forged:
    tpm = rsa_tpm()
    forged = quote(honest, _still(honest))
    message = pack_attest(replace(honest.attest, signer=tpm.signer), kind=kind, attested=attested)
    return replace(forged, files={**forged.files, "quote.attest": message, "quote.sig": tpm.sign(message)})


# TPMU_ATTEST of what else an attestation key signs for anybody who asks its TPM.
_NAME, _DIGEST = sized(PARENT), sized(bytes(32))
_TYPES = (
    ("type-certify", "TPM2_Certify", 0x8017, _NAME + _NAME),
    ("type-time", "TPM2_GetTime", 0x8019, bytes(33)),
    ("type-creation", "TPM2_CertifyCreation", 0x801A, _NAME + _DIGEST),
    ("type-session-audit", "TPM2_GetSessionAuditDigest", 0x8016, b"\0" + _DIGEST),
    ("type-command-audit", "TPM2_GetCommandAuditDigest", 0x8015, bytes(8) + b"\x00\x0b" + _DIGEST + _DIGEST),
    ("type-nv", "TPM2_NV_Certify", 0x8014, _NAME + bytes(2) + sized(b"what it holds")),
)


def _no_magic(honest: Honest) -> Forged:
    return _signed(honest, rsa_tpm(), lambda attest: replace(attest, magic=0x00544347))


def _key(honest: Honest, attributes: int) -> Forged:
    return _signed(honest, replace(rsa_tpm(), attributes=attributes), lambda attest: attest)


_KEYS = (
    ("key-unrestricted", "a key that signs whatever it is given", AK_ATTRIBUTES & ~RESTRICTED),
    ("key-not-fixed", "a key that may be in many TPMs", AK_ATTRIBUTES & ~FIXED_TPM),
    ("key-decrypts", "a key that decrypts, too", AK_ATTRIBUTES | DECRYPT),
)


def _key_as_pem(honest: Honest) -> Forged:
    forged = _key(honest, AK_ATTRIBUTES & ~RESTRICTED)
    return replace(forged, ak=rsa_tpm().pem, ak_parent=None)


def _digest_size(honest: Honest, size: int) -> Forged:
    tpm = replace(rsa_tpm(), attributes=AK_ATTRIBUTES & ~RESTRICTED)
    return _signed(honest, tpm, lambda attest: replace(attest, digest=(attest.digest * 2)[:size]))


def _other_machine(honest: Honest) -> Forged:
    """Show another machine's evidence, good in itself, to a verifier that expects this one's key."""
    return replace(quote(honest, _still(honest), tpm=other_rsa_tpm()), ak=honest.ak, ak_parent=None)


def _other_parent(honest: Honest) -> Forged:
    other = replace(rsa_tpm(), parent=PARENT[:-1] + b"\0")
    return replace(quote(honest, _still(honest), tpm=other), ak_parent=PARENT)


def _clone(honest: Honest) -> Forged:
    """Answer from a copy of the TPM's state: the same key, the same log, the same PCR values."""
    forged = quote(honest, _still(honest))
    told = forged.files["bundle.json"]
    assert isinstance(told, bytes)
    return replace(forged, files={**forged.files, "bundle.json": told.replace(b'"boot_id"', b'"boot_id_of_another"')})


def _other_s(honest: Honest) -> Forged:
    """Replace s by n - s: as valid for the same bytes, and needs no key. It says nothing new."""
    forged = quote(honest, _still(honest), tpm=ecdsa_tpm())
    signature = forged.files["quote.sig"]
    assert isinstance(signature, bytes)
    other = (_P256_ORDER - int.from_bytes(signature[-32:], "big")).to_bytes(32, "big")
    return replace(forged, files={**forged.files, "quote.sig": signature[:-32] + other})


def _leading_zero(honest: Honest) -> Forged:
    """Write r of ECDSA with a zero byte before it."""
    forged = quote(honest, _still(honest), tpm=ecdsa_tpm())
    signature = forged.files["quote.sig"]
    assert isinstance(signature, bytes)
    longer = signature[:4] + sized(b"\0" + signature[6:38]) + signature[38:]
    return replace(forged, files={**forged.files, "quote.sig": longer})


def _other_scheme(honest: Honest, *, told: bool) -> Forged:
    """Sign with RSAPSS; the key is ``told`` to be one for it, or for RSASSA as the verifier knows it."""
    signer = replace(rsa_tpm(), scheme_id=RSAPSS)
    named = signer if told else rsa_tpm()
    forged = quote(honest, _still(honest), tpm=named)
    message = forged.files["quote.attest"]
    assert isinstance(message, bytes)
    return replace(forged, files={**forged.files, "quote.sig": signer.sign(message)})


def _other_hash(honest: Honest) -> Forged:
    """Sign with SHA-384, pcrDigest of its size, by a key that is for SHA-256."""
    signer = replace(rsa_tpm(), hash_alg="sha384")
    return replace(quote(honest, _still(honest), tpm=signer), ak=rsa_tpm().public, ak_parent=None)


def _other_kind_as_pem(honest: Honest, signer: Callable[[], StandIn], known: Callable[[], StandIn]) -> Forged:
    """Show RSA's signature to a verifier with a PEM of ECDSA, or the other way round."""
    return replace(quote(honest, _still(honest), tpm=signer()), ak=known().pem, ak_parent=None)


def _pem_with_parent(honest: Honest) -> Forged:
    return replace(quote(honest, _still(honest)), ak=rsa_tpm().pem)


def _demanded(honest: Honest, pcrs: str) -> Forged:
    return replace(quote(honest, _still(honest)), pcrs=pcrs)


def _firmware(honest: Honest, difference: int) -> Forged:
    return replace(quote(honest, _still(honest)), firmware=honest.attest.firmware ^ difference)


def _genuine(honest: Honest, tpm: Callable[[], StandIn]) -> Forged:
    return quote(honest, _still(honest), tpm=tpm())


_row = partial(by_root, applies=needs_both)

ATTACKS = (
    _row(
        "honest-quoted-again",
        "T51",
        "nothing: the stand-in TPM quotes the honest state (RSA)",
        partial(_genuine, tpm=rsa_tpm),
    ),
    _row(
        "honest-ecdsa",
        "T51",
        "nothing: the stand-in TPM quotes the honest state (ECDSA)",
        partial(_genuine, tpm=ecdsa_tpm),
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
        "a written TPMS_ATTEST without TPM_GENERATED: a restricted key signs that, as it signs any other text",
        _no_magic,
        Kind.QUOTE_MAGIC,
    ),
    *(
        _row(
            name,
            "T51",
            f"a written TPMS_ATTEST, signed by {summary}",
            partial(_key, attributes=attributes),
            Kind.QUOTE_SIGNER,
        )
        for name, summary, attributes in _KEYS
    ),
    _row(
        "key-unrestricted-as-pem",
        "T51",
        "the same, with a key of which the verifier has only a PEM: that tells no attributes, and the output says so",
        _key_as_pem,
    ),
    *(
        _row(
            f"pcr-digest-{size}",
            "T50",
            f"a pcrDigest of {size} bytes under a signature with SHA-256",
            partial(_digest_size, size=size),
            Kind.QUOTE_DIGEST_ALG,
            Kind.QUOTE_SIGNER,
        )
        for size in (0, 20, 64)
    ),
    _row(
        "key-of-sha1",
        "T50",
        "a genuine quote of a key that signs with SHA-1",
        lambda honest: _genuine(honest, lambda: replace(rsa_tpm(), hash_alg="sha1")),
        Kind.QUOTE_DIGEST_ALG,
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
        "the key's twin below another parent, so of another name",
        _other_parent,
        Kind.QUOTE_SIGNER,
    ),
    _row("clone", "T51", "a copy of the TPM's state answers: no signature can tell two TPMs with one key", _clone),
    _row("ecdsa-other-s", "T48", "the signature's s replaced by n - s: as valid, and over the same quote", _other_s),
    _row("firmware-pinned", "T51", "nothing: the firmware is the pinned one", partial(_firmware, difference=0)),
    _row(
        "firmware-other",
        "T51",
        "a TPM with other firmware than the pinned one",
        partial(_firmware, difference=1),
        Kind.QUOTE_SIGNER,
    ),
    _row("ecdsa-leading-zero", "T48", "a zero byte before the signature's r", _leading_zero, Kind.QUOTE_SIGNATURE),
    _row(
        "honest-rsapss",
        "T51",
        "nothing: the stand-in TPM quotes the honest state (RSAPSS)",
        partial(_other_scheme, told=True),
    ),
    _row(
        "scheme-of-no-key",
        "T48",
        "a good signature by RSAPSS of a key for RSASSA",
        partial(_other_scheme, told=False),
        Kind.QUOTE_SIGNATURE,
    ),
    _row(
        "hash-of-no-key", "T48", "a good signature with SHA-384 of a key for SHA-256", _other_hash, Kind.QUOTE_SIGNATURE
    ),
    *(
        _row(
            name,
            "T51",
            f"{told}, of which the verifier has a PEM",
            partial(_other_kind_as_pem, signer=a, known=b),
            Kind.QUOTE_SIGNATURE,
        )
        for name, told, a, b in (
            ("rsa-for-ecdsa", "RSA's signature for a key of ECDSA", rsa_tpm, ecdsa_tpm),
            ("ecdsa-for-rsa", "ECDSA's signature for a key of RSA", ecdsa_tpm, rsa_tpm),
        )
    ),
    _row("pem-with-parent", "T51", "a parent's name, and a PEM that has none to compare", _pem_with_parent, REFUSED),
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

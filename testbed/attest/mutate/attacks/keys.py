"""Attacks on the key: a key that is not an attestation key, a scheme that is not the key's, or another encoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.attacks.answers import genuine, signed, still
from testbed.attest.mutate.engine.lines import needs_both, quote
from testbed.attest.mutate.engine.model import REFUSED, Forged, Honest, by_root
from testbed.attest.mutate.engine.standin import AK_ATTRIBUTES, RSAPSS, StandIn, ecdsa_tpm, rsa_tpm
from testbed.attest.tpm import DECRYPT, FIXED_TPM, RESTRICTED, tpm2b

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _key(honest: Honest, attributes: int) -> Forged:
    return signed(honest, replace(rsa_tpm(), attributes=attributes), lambda attest: attest)


_KEYS = (
    ("key-unrestricted", "a key that signs whatever it is given", AK_ATTRIBUTES & ~RESTRICTED),
    ("key-not-fixed", "a key that may be in many TPMs", AK_ATTRIBUTES & ~FIXED_TPM),
    ("key-decrypts", "a key that also decrypts", AK_ATTRIBUTES | DECRYPT),
)


def _key_as_pem(honest: Honest) -> Forged:
    forged = _key(honest, AK_ATTRIBUTES & ~RESTRICTED)
    return replace(forged, ak=rsa_tpm().pem, ak_parent=None)


def _digest_size(honest: Honest, size: int) -> Forged:
    tpm = replace(rsa_tpm(), attributes=AK_ATTRIBUTES & ~RESTRICTED)
    return signed(honest, tpm, lambda attest: replace(attest, digest=(attest.digest * 2)[:size]))


def _other_s(honest: Honest) -> Forged:
    """Replace s by n - s: equally valid for the same bytes, and possible without the key. It attests nothing new."""
    forged = quote(honest, still(honest), tpm=ecdsa_tpm())
    signature = forged.files["quote.sig"]
    assert isinstance(signature, bytes)
    other = (_P256_ORDER - int.from_bytes(signature[-32:], "big")).to_bytes(32, "big")
    return replace(forged, files={**forged.files, "quote.sig": signature[:-32] + other})


def _leading_zero(honest: Honest) -> Forged:
    """Write r of ECDSA with a zero byte before it."""
    forged = quote(honest, still(honest), tpm=ecdsa_tpm())
    signature = forged.files["quote.sig"]
    assert isinstance(signature, bytes)
    longer = signature[:4] + tpm2b(b"\0" + signature[6:38]) + signature[38:]
    return replace(forged, files={**forged.files, "quote.sig": longer})


def _other_scheme(honest: Honest, *, declared: bool) -> Forged:
    """Sign with RSAPSS; the key is ``declared`` as an RSAPSS key, or else the verifier knows it as an RSASSA key."""
    signer = replace(rsa_tpm(), scheme_id=RSAPSS)
    named = signer if declared else rsa_tpm()
    forged = quote(honest, still(honest), tpm=named)
    message = forged.files["quote.attest"]
    assert isinstance(message, bytes)
    return replace(forged, files={**forged.files, "quote.sig": signer.sign(message)})


def _other_hash(honest: Honest) -> Forged:
    """Sign with SHA-384, and a pcrDigest of that size, by a key for SHA-256."""
    signer = replace(rsa_tpm(), hash_alg="sha384")
    return replace(quote(honest, still(honest), tpm=signer), ak=rsa_tpm().public, ak_parent=None)


def _other_kind_as_pem(honest: Honest, signer: Callable[[], StandIn], known: Callable[[], StandIn]) -> Forged:
    """Show RSA's signature to a verifier with a PEM of ECDSA, or the other way round."""
    return replace(quote(honest, still(honest), tpm=signer()), ak=known().pem, ak_parent=None)


def _pem_with_parent(honest: Honest) -> Forged:
    return replace(quote(honest, still(honest)), ak=rsa_tpm().pem)


_row = partial(by_root, applies=needs_both)

ATTACKS = (
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
        "a key that signs whatever it is given, but a PEM has no attributes to check; the output says so",
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
        lambda honest: genuine(honest, lambda: replace(rsa_tpm(), hash_alg="sha1")),
        Kind.QUOTE_DIGEST_ALG,
    ),
    _row("ecdsa-other-s", "T48", "the signature's s replaced by n - s: equally valid, over the same quote", _other_s),
    _row("ecdsa-leading-zero", "T48", "a zero byte before the signature's r", _leading_zero, Kind.QUOTE_SIGNATURE),
    _row(
        "honest-rsapss",
        "T51",
        "no attack: the stand-in TPM quotes the honest state (RSAPSS)",
        partial(_other_scheme, declared=True),
    ),
    _row(
        "scheme-of-no-key",
        "T48",
        "a valid RSAPSS signature by an RSASSA key",
        partial(_other_scheme, declared=False),
        Kind.QUOTE_SIGNATURE,
    ),
    _row(
        "hash-of-no-key",
        "T48",
        "a valid signature with SHA-384 by a key for SHA-256",
        _other_hash,
        Kind.QUOTE_SIGNATURE,
    ),
    *(
        _row(
            name,
            "T51",
            f"{what}, given as a PEM",
            partial(_other_kind_as_pem, signer=a, known=b),
            Kind.QUOTE_SIGNATURE,
        )
        for name, what, a, b in (
            ("rsa-for-ecdsa", "an RSA signature, and the verifier has an ECDSA key", rsa_tpm, ecdsa_tpm),
            ("ecdsa-for-rsa", "an ECDSA signature, and the verifier has an RSA key", ecdsa_tpm, rsa_tpm),
        )
    ),
    _row(
        "pem-with-parent",
        "T51",
        "the parent's name is given, but the verifier has a PEM, which contains no name to compare",
        _pem_with_parent,
        REFUSED,
    ),
)

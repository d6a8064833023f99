"""Signatures of quotes as tpm2-tools write them: a TPMT_SIGNATURE (``-f tss``), or the bare signature (``-f plain``).

A bare one does not say its scheme and hash. The key says it, or else the one scheme and hash by which it verifies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from testbed.attest import quote, tpm
from testbed.attest.finding import BadEvidence, FindingKind, UnsupportedEvidence
from testbed.attest.hashes import TPM_ALGS
from testbed.attest.quote import Selection
from testbed.attest.tpm import tpm2b

_BAD = frozenset({FindingKind.QUOTE_SIGNATURE, FindingKind.QUOTE_DIGEST_ALG})
_ANY = Selection(bank="sha256", pcrs=(10,))


def as_tpmt(sig: bytes, attest: bytes, ak: bytes | None) -> tuple[bytes, tuple[str, ...]]:
    """Return a TPMT_SIGNATURE, and notes. Raises ``BadEvidence``, and ``SpecError`` for a wrong key."""
    try:
        quote.parse_signature(sig)
    except BadEvidence as error:
        if ak is None:
            expected = "a TPMT_SIGNATURE (tpm2_quote -f tss); for a bare signature (-f plain) give the key with --ak"
            raise type(error)(error.where, expected, error.got) from error
    else:
        return sig, ()
    assert ak is not None
    key = tpm.load_key(ak)
    for candidate in _candidates(sig, key):
        try:
            answer = quote.check(attest, candidate, key=key, nonce=b"", demanded=_ANY, parent=None)
        except UnsupportedEvidence:
            continue  # a hash that this machine's OpenSSL does not have
        if not _BAD & {finding.kind for finding in answer.findings}:
            named = quote.parse_signature(candidate)
            return candidate, (f"the bare signature verifies with 0x{named.scheme:04x} and {named.hash_alg}",)
    raise BadEvidence("quote.sig", "a signature of the quote by the key that you gave", f"{len(sig)} bytes")


def _candidates(sig: bytes, key: tpm.Key) -> Iterator[bytes]:
    if isinstance(key.public, ec.EllipticCurvePublicKey):
        try:
            numbers = decode_dss_signature(sig)
            size = (key.public.key_size + 7) // 8
            body = b"".join(tpm2b(number.to_bytes(size, "big")) for number in numbers)
        except (ValueError, OverflowError):
            return
        schemes: tuple[int, ...] = (tpm.ECDSA,)
    else:
        if len(sig) != (key.public.key_size + 7) // 8:
            return
        body, schemes = tpm2b(sig), (tpm.RSASSA, tpm.RSAPSS)
    for scheme in schemes:
        for algorithm in TPM_ALGS:
            yield struct.pack(">HH", scheme, algorithm) + body

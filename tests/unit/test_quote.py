"""The quote's parser and checks: software keys for each scheme, real ones from a software TPM in test_verify.py."""

from __future__ import annotations

import contextlib
import struct

import evidence as b
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest import quote, tpm
from testbed.attest.finding import BadEvidence, FindingKind, UnsupportedEvidence
from testbed.attest.quote import Quote, Selection, check, parse_attest, parse_nonce, parse_selection, parse_signature
from testbed.errors import SpecError

NONCE = b"n" * 16
DIGEST = b"d" * 32
DEMANDED = Selection(bank="sha256", pcrs=(10, 11))
ECC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
PARENT = b"\0\x0b" + b"p" * 32


def judged(
    data: bytes, key: object = ECC, *, scheme: int = tpm.ECDSA, alg: int = 0x000B, ak: bytes | None = None
) -> Quote:
    sig = b.sign(key, data, scheme=scheme, alg=alg)
    return check(data, sig, key=tpm.load_key(ak or b.pem(key)), nonce=NONCE, demanded=DEMANDED, parent=None)


def kinds(answer: Quote) -> set[str]:
    return {finding.kind.value for finding in answer.findings}


@pytest.mark.parametrize(("key", "scheme"), [(ECC, tpm.ECDSA), (RSA, tpm.RSASSA), (RSA, tpm.RSAPSS)])
def test_good(key: object, scheme: int) -> None:
    answer = judged(b.attest(NONCE, DIGEST), key, scheme=scheme)
    assert answer.findings == ()
    assert answer.selection == DEMANDED
    assert answer.attest is not None
    assert (answer.attest.digest, answer.attest.clock, answer.attest.reset_count) == (DIGEST, 123456, 2)


def test_another_hash() -> None:
    assert kinds(judged(b.attest(NONCE, b"d" * 48), alg=0x000C)) == set()


SHA1_TOO = struct.pack(">IHB", 2, 0x000B, 3) + b.bitmap((10, 11)) + struct.pack(">HB", 4, 3) + b.bitmap((10,))
EMPTY_TOO = struct.pack(">IHB", 2, 0x000B, 3) + b.bitmap((10, 11)) + struct.pack(">HB", 4, 3) + bytes(3)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (FindingKind.QUOTE_MAGIC, b.attest(NONCE, DIGEST, magic=0xFF544346)),
        (FindingKind.QUOTE_TYPE, b.attest(NONCE, DIGEST, kind=0x8017)),
        (FindingKind.QUOTE_NONCE, b.attest(NONCE[:-1], DIGEST)),
        (FindingKind.QUOTE_NONCE, b.attest(NONCE + b"n", DIGEST)),
        (FindingKind.QUOTE_NONCE, b.attest(b"", DIGEST)),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, pcrs=(10,))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, pcrs=(10, 11, 12))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, pcrs=())),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=bytes(4))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=b"\0\0\0\1\0\4\3" + b.bitmap((10, 11)))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=b"\0\0\0\1\0\x0b\4" + b.bitmap((10, 11), 4))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=b"\0\0\0\1\0\x0b\2" + b.bitmap((10, 11), 2))),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=SHA1_TOO)),
        (FindingKind.QUOTE_SELECTION, b.attest(NONCE, DIGEST, selections=EMPTY_TOO)),
        (FindingKind.QUOTE_DIGEST_ALG, b.attest(NONCE, DIGEST[:20])),
        (FindingKind.QUOTE_DIGEST_ALG, b.attest(NONCE, b"")),
    ],
)
def test_signed_but_no_answer(kind: FindingKind, data: bytes) -> None:
    """What a genuine key signed and is still not the answer to this question."""
    assert kinds(judged(data)) == {kind.value}


def test_sha1_signature() -> None:
    assert kinds(judged(b.attest(NONCE, DIGEST[:20]), RSA, scheme=tpm.RSASSA, alg=0x0004)) == {"quote-digest-alg"}


@pytest.mark.parametrize(
    "data",
    [
        b.attest(NONCE, DIGEST, tail=b"\0"),
        b.attest(NONCE, DIGEST)[:-1],
        b.attest(NONCE, DIGEST, safe=2),
        b.attest(NONCE, DIGEST, selections=b"\xff" * 4),
        b.attest(NONCE, DIGEST, selections=b"\0\0\0\1\0\x0b\0"),
        b.attest(NONCE, DIGEST, selections=b"\0\0\0\1\0\x0b\xff" + bytes(255)),
        b.attest(b"n" * 67, DIGEST),
        b"",
    ],
)
def test_malformed_attest(data: bytes) -> None:
    with pytest.raises(BadEvidence):
        parse_attest(data)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_value_or_evidence_error(data: bytes) -> None:
    for parse in (parse_attest, parse_signature):
        for head in (b"", struct.pack(">IH", quote.MAGIC, quote.ATTEST_QUOTE), b"\0\x18\0\x0b"):
            with contextlib.suppress(BadEvidence):
                parsed = parse(head + data)
                assert parsed is None or isinstance(parsed, quote.Attest | quote.Signature)


def test_other_key() -> None:
    data = b.attest(NONCE, DIGEST)
    other = ec.generate_private_key(ec.SECP256R1())
    assert kinds(judged(data, ak=b.pem(other))) == {"quote-signature"}
    assert kinds(judged(data, ak=b.pem(RSA))) == {"quote-signature"}


def rejected(sig: bytes, data: bytes, key: object) -> bool:
    try:
        answer = check(data, sig, key=tpm.load_key(b.pem(key)), nonce=NONCE, demanded=DEMANDED, parent=None)
    except BadEvidence:
        return True
    return bool(answer.findings)


def test_one_signature_has_one_encoding() -> None:
    """Zeros before a number, zeros lost from one, bytes after the end: all of them refused."""
    data = b.attest(NONCE, DIGEST)
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    r, s = sig[6:38], sig[40:72]
    assert not rejected(sig[:4] + b.sized(r) + b.sized(s), data, ECC)
    assert rejected(sig[:4] + b.sized(b"\0" + r) + b.sized(s), data, ECC)
    assert rejected(sig[:4] + b.sized(r) + b.sized(b"\0" + s), data, ECC)
    assert rejected(sig + b"\0", data, ECC)
    sig = b.sign(RSA, data, scheme=tpm.RSASSA)
    assert not rejected(sig, data, RSA)
    assert rejected(sig[:4] + b.sized(b"\0" + sig[6:]), data, RSA)


def test_short_ecdsa_number() -> None:
    """Signatures are made until r begins with a zero byte; without it the same number is refused."""
    data = b.attest(NONCE, DIGEST)
    while (sig := b.sign(ECC, data, scheme=tpm.ECDSA))[6]:
        pass
    assert not rejected(sig, data, ECC)
    assert rejected(sig[:4] + b.sized(sig[7:38]) + sig[38:], data, ECC)


@pytest.mark.parametrize("sig", [b"", b"\0\x18\0\x0b\0\x20", b"\0\x14\0\x0b\xff\xff"])
def test_malformed_signature(sig: bytes) -> None:
    with pytest.raises(BadEvidence):
        parse_signature(sig)


@pytest.mark.parametrize("sig", [b"\0\x1a\0\x0b\0\0", b"\0\x14\0\x12\0\0"])
def test_unsupported_signature(sig: bytes) -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_signature(sig)


def signed_by(ak: bytes, parent: bytes | None) -> set[str]:
    name = tpm.load_key(ak).name
    assert name is not None
    data = b.attest(NONCE, DIGEST, signer=tpm.qualified_name(PARENT, name))
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    return kinds(check(data, sig, key=tpm.load_key(ak), nonce=NONCE, demanded=DEMANDED, parent=parent))


def test_signer() -> None:
    good = b.tpm2b_public(ECC)
    assert signed_by(good, PARENT) == set()
    assert signed_by(good, None) == set()
    assert signed_by(good, PARENT[:-1] + b"q") == {"quote-signer"}


@pytest.mark.parametrize("attributes", [0x00040072, 0x00070072, 0x00010072, 0x00050070])
def test_key_that_would_sign_a_forgery(attributes: int) -> None:
    """Not restricted, for decryption too, not for signing, not fixed to its TPM."""
    assert signed_by(b.tpm2b_public(ECC, attributes=attributes), PARENT) == {"quote-signer"}


def test_scheme_of_the_key() -> None:
    assert "quote-signature" in signed_by(b.tpm2b_public(ECC, scheme_hash=0x000C), PARENT)


def test_a_pem_has_no_name() -> None:
    data = b.attest(NONCE, DIGEST)
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    with pytest.raises(SpecError, match="PEM"):
        check(data, sig, key=tpm.load_key(b.pem(ECC)), nonce=NONCE, demanded=DEMANDED, parent=PARENT)


PUBLIC = b.tpm2b_public(ECC)


@pytest.mark.parametrize(
    "ak",
    [
        b"",
        PUBLIC[2:],
        PUBLIC + b"\0",
        PUBLIC[:-1],
        PUBLIC[:-1] + bytes([PUBLIC[-1] ^ 1]),
        b"-----BEGIN PUBLIC KEY-----\n",
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_no_such_key(ak: bytes) -> None:
    with pytest.raises(SpecError, match="attestation key"):
        tpm.load_key(ak)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:10,", "sha256:24", "sha256:10,10", "md5:1", "SHA256:1"]
)
def test_bad_selection(text: str) -> None:
    with pytest.raises(SpecError):
        parse_selection(text)


def test_selection() -> None:
    assert parse_selection("sha256:11,10") == DEMANDED
    assert str(DEMANDED) == "sha256:10,11"


@pytest.mark.parametrize("text", ["", "0", "zz", "00 11", "00" * 67, "0x00"])
def test_bad_nonce(text: str) -> None:
    with pytest.raises(SpecError):
        parse_nonce(text)


@pytest.mark.parametrize("text", ["", "000b", "000b" + "00" * 31, "0012" + "00" * 32])
def test_bad_name(text: str) -> None:
    with pytest.raises(SpecError):
        tpm.parse_name(text)

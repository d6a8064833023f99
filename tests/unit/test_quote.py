"""The quote's parser and checks: software keys for each scheme, real ones from a software TPM in test_verify.py."""

from __future__ import annotations

import contextlib
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

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
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
RSA = rsa.generate_private_key(65537, 2048)
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PARENT = b"\0\x0b" + b"p" * 32


def judged(
    data: bytes, key: Private = ECC, *, scheme: int = tpm.ECDSA, alg: int = 0x000B, ak: bytes | None = None
) -> Quote:
    sig = b.sign(key, data, scheme=scheme, alg=alg)
    return check(data, sig, key=tpm.load_key(ak or b.pem(key)), nonce=NONCE, demanded=DEMANDED, parent=None)


def kinds(answer: Quote) -> set[str]:
    return {finding.kind.value for finding in answer.findings}


@pytest.mark.parametrize(("key", "scheme"), [(ECC, tpm.ECDSA), (RSA, tpm.RSASSA), (RSA, tpm.RSAPSS)])
def test_good(key: Private, scheme: int) -> None:
    answer = judged(b.attest(NONCE, DIGEST), key, scheme=scheme)
    assert answer.findings == ()
    assert answer.selection == DEMANDED
    assert answer.attest is not None
    assert (answer.attest.digest, answer.attest.clock, answer.attest.reset_count) == (DIGEST, 123456, 2)


@pytest.mark.parametrize(("alg", "size"), [(0x000B, 32), (0x000C, 48), (0x000D, 64)])
@pytest.mark.parametrize(
    ("key", "scheme"), [(ECC, tpm.ECDSA), (P384, tpm.ECDSA), (P521, tpm.ECDSA), (RSA, tpm.RSASSA), (RSA, tpm.RSAPSS)]
)
def test_every_scheme_and_hash(key: Private, scheme: int, alg: int, size: int) -> None:
    data = b.attest(NONCE, b"d" * size)
    assert kinds(judged(data, key, scheme=scheme, alg=alg)) == set()
    other = data.replace(b"dd", b"ed")
    sig = b.sign(key, data, scheme=scheme, alg=alg)
    answer = check(other, sig, key=tpm.load_key(b.pem(key)), nonce=NONCE, demanded=DEMANDED, parent=None)
    assert kinds(answer) == {"quote-signature"}


@pytest.mark.parametrize("salt", [32, 256 - 32 - 2])
def test_both_lengths_of_salt_that_a_tpm_uses(salt: int) -> None:
    """As long as the digest (FIPS 186), or as long as a key of 2048 bits allows."""
    data = b.attest(NONCE, DIGEST)
    sig = b.sign(RSA, data, scheme=tpm.RSAPSS, salt=salt)
    answer = check(data, sig, key=tpm.load_key(b.pem(RSA)), nonce=NONCE, demanded=DEMANDED, parent=None)
    assert answer.findings == ()


@pytest.mark.parametrize("size", [1, 20, 64, quote.NONCE_MAX])
def test_a_nonce_of_any_length(size: int) -> None:
    nonce = bytes(range(1, size + 1))
    data = b.attest(nonce, DIGEST)
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    for sent, expected in ((nonce, set()), (nonce[:-1] + b"\0", {"quote-nonce"}), (nonce[1:], {"quote-nonce"})):
        answer = check(data, sig, key=tpm.load_key(b.pem(ECC)), nonce=sent, demanded=DEMANDED, parent=None)
        assert kinds(answer) == expected


def test_pinned_firmware() -> None:
    data = b.attest(NONCE, DIGEST)
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    found = {}
    for pinned in (None, 0x2019102300163636, 0x1):
        answer = check(
            data, sig, key=tpm.load_key(b.pem(ECC)), nonce=NONCE, demanded=DEMANDED, parent=None, firmware=pinned
        )
        found[pinned] = answer.findings
    assert (found[None], found[0x2019102300163636]) == ((), ())
    (finding,) = found[0x1]
    assert (finding.kind, finding.where) == (FindingKind.QUOTE_SIGNER, "quote.attest: firmwareVersion")
    assert (finding.expected, finding.got) == ("0000000000000001", "2019102300163636")


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


def rejected(sig: bytes, data: bytes, key: Private) -> bool:
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


@pytest.mark.parametrize("sig", [b"\0\x1a\0\x0b\0\0", b"\0\x14\0\x10\0\0"])
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


@pytest.mark.parametrize("attributes", [0x00040072, 0x00070072, 0x00010072, 0x00050070, 0x00050062, 0x00050052])
def test_key_that_would_sign_a_forgery(attributes: int) -> None:
    """Not restricted, for decryption too, not for signing, not fixed to its TPM or its parent, made elsewhere."""
    assert signed_by(b.tpm2b_public(ECC, attributes=attributes), PARENT) == {"quote-signer"}


def test_scheme_of_the_key() -> None:
    assert "quote-signature" in signed_by(b.tpm2b_public(ECC, scheme_hash=0x000C), PARENT)


def test_a_pem_has_no_name() -> None:
    data = b.attest(NONCE, DIGEST)
    sig = b.sign(ECC, data, scheme=tpm.ECDSA)
    with pytest.raises(SpecError, match="PEM"):
        check(data, sig, key=tpm.load_key(b.pem(ECC)), nonce=NONCE, demanded=DEMANDED, parent=PARENT)


PUBLIC = b.tpm2b_public(ECC)
WEAK = rsa.generate_private_key(65537, 1024)
NO_SCHEME = b"\0\x10"


AES_128_CFB = b"\0\x06\0\x80\0\x43"


def rsa_public(
    key: rsa.RSAPrivateKey,
    *,
    bits: int | None = None,
    symmetric: bytes = b"\0\x10",
    scheme: bytes = b"\0\x14\0\x0b",
    attributes: int = 0x00050072,
) -> bytes:
    """A TPM2B_PUBLIC, with scheme RSASSA and SHA-256 if no other is given."""
    area = struct.pack(">HHIH", 0x0001, 0x000B, attributes, 0) + symmetric + scheme
    area += struct.pack(">HI", bits or key.key_size, 0)
    return b.sized(area + b.sized(key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")))


def test_keys_as_a_tpm_writes_them() -> None:
    key = tpm.load_key(rsa_public(RSA))
    assert (key.public, key.scheme, key.scheme_hash) == (RSA.public_key(), tpm.RSASSA, "sha256")
    storage = rsa_public(RSA, symmetric=AES_128_CFB, scheme=NO_SCHEME, attributes=0x00030072)
    assert tpm.load_key(storage).public == RSA.public_key()
    for unrestricted in (0x00040072, 0x00020072, 0x00060072):
        assert tpm.load_key(rsa_public(RSA, scheme=NO_SCHEME, attributes=unrestricted)).scheme is None
        no_scheme = b.tpm2b_public(ECC, attributes=unrestricted).replace(b"\0\x18\0\x0b", NO_SCHEME)[2:]
        assert tpm.load_key(b.sized(no_scheme)).scheme is None
    with_kdf = PUBLIC.replace(b"\0\3\0\x10", b"\0\3\0\x20\0\x0b")[2:]
    assert tpm.load_key(b.sized(with_kdf)).public == ECC.public_key()
    assert tpm.load_key(b"\n" + b.pem(RSA)).name is None


@pytest.mark.parametrize(
    ("ak", "what"),
    [
        (rsa_public(RSA, scheme=NO_SCHEME), "scheme: expected RSASSA or RSAPSS of an RSA key.*, got none"),
        (rsa_public(RSA, scheme=NO_SCHEME, attributes=0x00070072), "scheme: .* got none"),
        (b.sized(PUBLIC.replace(b"\0\x18\0\x0b", NO_SCHEME)[2:]), "scheme: .* got none"),
        (rsa_public(RSA, scheme=b"\0\x18\0\x0b"), "scheme: .* got 0x0018"),
        (PUBLIC.replace(b"\0\x18\0\x0b", b"\0\x14\0\x0b"), "scheme: .* got 0x0014"),
        (PUBLIC.replace(b"\0\x18\0\x0b", b"\0\x16\0\x0b"), "scheme: .* got 0x0016"),
        (rsa_public(RSA, symmetric=AES_128_CFB), "symmetric: expected none.*, got 0x0006"),
    ],
)
def test_a_restricted_signing_key_that_no_tpm_makes(ak: bytes, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        tpm.load_key(ak)


@pytest.mark.parametrize(
    "ak",
    [
        b"",
        PUBLIC[2:],
        PUBLIC + b"\0",
        PUBLIC[:-1],
        PUBLIC[:-1] + bytes([PUBLIC[-1] ^ 1]),
        PUBLIC.replace(b"\0\x23\0\x0b", b"\0\x08\0\x0b"),
        PUBLIC.replace(b"\0\x23\0\x0b", b"\0\x23\0\x10"),
        PUBLIC.replace(b"\0\x18\0\x0b", b"\0\x1a\0\x0b"),
        PUBLIC.replace(b"\0\3\0\x10", b"\0\x10\0\x10"),
        rsa_public(RSA, bits=1024),
        rsa_public(WEAK),
        b.pem(WEAK),
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


@pytest.mark.parametrize("text", ["", "000b", "000b" + "00" * 31, "0012" + "00" * 31, "0010" + "00" * 32])
def test_bad_name(text: str) -> None:
    with pytest.raises(SpecError):
        tpm.parse_name(text)


def second_opinion(kind: str, path: Path) -> dict[str, str]:
    """What tpm2-tools read in a file: the last word of each line's key, and its value."""
    tool = shutil.which("tpm2_print")
    if tool is None:
        pytest.skip("tpm2_print is not installed (apt-get install tpm2-tools): no second opinion")
    printed = subprocess.run([tool, "-t", kind, path], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^ *([\w-]+): (\S+)", printed, re.MULTILINE))


BUNDLES = sorted(path.parent for path in b.GOLDEN.glob("*/quote.attest"))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_quotes_of_tpms_as_another_program_reads_them(bundle: Path) -> None:
    printed = second_opinion("TPMS_ATTEST", bundle / "quote.attest")
    parsed = parse_attest((bundle / "quote.attest").read_bytes())
    assert parsed is not None
    ((algorithm, bitmap),) = parsed.selections
    # It shows the firmware's version in the byte order of the host.
    assert printed | {"firmwareVersion": ""} == {
        "magic": f"{parsed.magic:08x}",
        "type": f"{quote.ATTEST_QUOTE:04x}",
        "qualifiedSigner": parsed.signer.hex(),
        "extraData": parsed.nonce.hex(),
        "clock": f"{parsed.clock}",
        "resetCount": f"{parsed.reset_count}",
        "restartCount": f"{parsed.restart_count}",
        "safe": f"{int(parsed.safe)}",
        "firmwareVersion": "",
        "count": "1",
        "hash": f"{algorithm}",
        "sizeofSelect": f"{len(bitmap)}",
        "pcrSelect": bitmap.hex(),
        "pcrDigest": parsed.digest.hex(),
    }
    assert int.from_bytes(bytes.fromhex(printed["firmwareVersion"]), sys.byteorder) == parsed.firmware


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_keys_of_tpms_as_another_program_reads_them(bundle: Path) -> None:
    printed = second_opinion("TPM2B_PUBLIC", bundle / "ak.pub")
    key = tpm.load_key((bundle / "ak.pub").read_bytes())
    numbers = key.public.public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        assert (int(printed["rsa"], 16), printed["bits"]) == (numbers.n, f"{key.public.key_size}")
    else:
        assert (int(printed["x"], 16), int(printed["y"], 16)) == (numbers.x, numbers.y)


def test_a_field_that_is_cut_says_how_much_it_needs() -> None:
    with pytest.raises(BadEvidence) as caught:
        tpm.Reader(b"\x01", "file").uint(4, "number")
    assert (caught.value.expected, caught.value.got) == ("4 bytes", "1 to the end")
    with pytest.raises(BadEvidence) as caught:
        tpm.Reader(b"\0\x05abcd", "file").sized("name", 64)
    assert (caught.value.expected, caught.value.got) == ("5 bytes", "4 to the end")
    with pytest.raises(BadEvidence) as caught:
        tpm.Reader(b"\0\x05abcde", "file").sized("name", 4)
    assert (caught.value.expected, caught.value.got) == ("at most 4 bytes", "5")

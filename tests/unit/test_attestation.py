from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evidence
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from testbed.errors import EvidenceError, LabError
from testbed.guest import Completed
from testbed.lab import attestation

CLONE = "00112233445566778899aabbccddeeff"
EK_ATTRIBUTES = 0x000300B2  # what `tpm2_createek` gives: fixed, made in the TPM, restricted, decrypt
VALUES = bytes(range(64))


def certificate(name: str, key: Any, issuer: str, signer: Any, *, ca: bool) -> x509.Certificate:
    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    builder = (
        x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(key.public_key())
    )
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    )
    builder = builder.not_valid_after(dt.datetime(2120, 1, 1, tzinfo=dt.UTC))
    return builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(
        signer, hashes.SHA256()
    )


class _Chain:
    """A root, an issuer, and the certificate of an EK."""

    def __init__(self) -> None:
        root, issuer, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        pem = [
            certificate("root", root, "root", root, ca=True).public_bytes(Encoding.PEM),
            certificate("issuer", issuer, "root", root, ca=True).public_bytes(Encoding.PEM),
        ]
        self.authorities = (pem[0], pem[1])
        self.leaf = certificate("EK", self.key, "issuer", issuer, ca=False).public_bytes(Encoding.DER)
        self.public = evidence.tpm2b_public(self.key, attributes=EK_ATTRIBUTES)


CHAIN, OTHER = _Chain(), _Chain()


@pytest.mark.parametrize("padding", [b"", b"\xff" * 100])
def test_a_certified_endorsement_key_is_accepted(padding: bytes) -> None:
    attestation.check_endorsement(CHAIN.leaf + padding, CHAIN.public, CHAIN.authorities)


@pytest.mark.parametrize(
    ("leaf", "public", "authorities", "complaint"),
    [
        (
            CHAIN.leaf,
            CHAIN.public,
            OTHER.authorities,
            "EK: ek.crt: expected a certificate that one of the 1 authorities",
        ),
        (CHAIN.leaf, CHAIN.public, (OTHER.authorities[0], CHAIN.authorities[1]), "issuer certificate: not issued"),
        (CHAIN.leaf, OTHER.public, CHAIN.authorities, "expected the key in ek.crt"),
        (CHAIN.leaf, evidence.tpm2b_public(CHAIN.key), CHAIN.authorities, "EK: ek.pub: expected attributes"),
        (CHAIN.leaf, b"\0\3abc", CHAIN.authorities, "EK: "),
        (b"\xff" * 800, CHAIN.public, CHAIN.authorities, "expected DER"),
        (CHAIN.leaf[:100], CHAIN.public, CHAIN.authorities, "expected DER"),
        (b"", CHAIN.public, CHAIN.authorities, "expected DER"),
    ],
)
def test_an_endorsement_key_that_nobody_vouches_for_is_refused(
    leaf: bytes, public: bytes, authorities: tuple[bytes, ...], complaint: str
) -> None:
    with pytest.raises(LabError, match=complaint):
        attestation.check_endorsement(leaf, public, authorities)


def test_an_attestation_key_is_known_by_its_attributes() -> None:
    assert attestation.check_ak(evidence.tpm2b_public(CHAIN.key)).name is not None


@pytest.mark.parametrize(
    "attributes",
    [
        0x00040072,  # not restricted: it would sign what looks like a quote
        0x00050070,  # may leave the TPM
        0x00050052,  # not made in the TPM
        0x00070072,  # decrypts too
    ],
)
def test_a_key_that_proves_nothing_is_no_attestation_key(attributes: int) -> None:
    with pytest.raises(LabError, match=r"AK: ak\.pub: expected attributes"):
        attestation.check_ak(evidence.tpm2b_public(CHAIN.key, attributes=attributes))


def test_the_nonce_binds_label_clone_and_challenge() -> None:
    expected = hashlib.sha256(b"testbed-nonce-v1" + bytes.fromhex(CLONE) + b"challenge").digest()
    assert attestation.nonce(CLONE, b"challenge") == expected
    assert attestation.nonce("ff" * 16, b"challenge") != expected


def quote_of(values: bytes, asked: bytes) -> bytes:
    return evidence.attest(asked, hashlib.sha256(values).digest())


class _Guest:
    """Answers quotes one after the other, and files."""

    def __init__(self, *answers: tuple[int, bytes, bytes]) -> None:
        self.answers, self.asked = list(answers), []  # type: list[tuple[int, bytes, bytes]], list[str]

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.asked.append("quote")
        code, out, err = self.answers.pop(0)
        return Completed(argv=tuple(argv), code=code, out=out, err=err, seconds=0)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None: ...

    def get(self, path: str) -> bytes:
        self.asked.append(path.rpartition("/")[2])
        return b"boot\n" if path.endswith("boot_id") else b"log"


def answer(values: bytes, quoted: bytes) -> tuple[int, bytes, bytes]:
    words = (quote_of(quoted, attestation.nonce(CLONE, b"c")), b"signature", values)
    return 0, b"\n".join(map(base64.b64encode, words)), b""


def test_the_log_is_read_after_the_quote(tmp_path: Path) -> None:
    guest = _Guest(answer(VALUES, VALUES))
    collected = attestation.collect(guest, (10, 11), b"c", CLONE, tmp_path / "evidence")
    assert guest.asked[:2] == ["quote", "binary_runtime_measurements"]
    assert sorted(path.name for path in (tmp_path / "evidence").iterdir()) == sorted(
        ("bundle.json", "quote.attest", "quote.sig", "ima.bin")
    )
    told = json.loads((tmp_path / "evidence" / "bundle.json").read_text())
    assert told["pcr_values"] == {"10": VALUES[:32].hex(), "11": VALUES[32:].hex()}
    assert told["nonce"] == collected.nonce.hex() == attestation.nonce(CLONE, b"c").hex()


def test_a_quote_is_tried_again_when_a_pcr_changed_meanwhile(tmp_path: Path) -> None:
    refused = (1, b"", b"ERROR: Error validating calculated PCR composite with quote")
    guest = _Guest(answer(VALUES, b"before"), refused, answer(VALUES, VALUES))
    attestation.collect(guest, (10, 11), b"c", CLONE, tmp_path / "evidence")
    assert guest.asked.count("quote") == 3


def test_pcrs_that_never_rest_are_an_error_and_leave_no_bundle(tmp_path: Path) -> None:
    guest = _Guest(*[answer(VALUES, b"before")] * 20)
    with pytest.raises(LabError, match="changed in each"):
        attestation.collect(guest, (10, 11), b"c", CLONE, tmp_path / "evidence")
    assert list(tmp_path.iterdir()) == []


def test_another_failure_of_the_tpm_is_told_at_once(tmp_path: Path) -> None:
    guest = _Guest((1, b"", b"no such handle"))
    with pytest.raises(LabError, match="no such handle"):
        attestation.collect(guest, (10, 11), b"c", CLONE, tmp_path / "evidence")


@pytest.mark.parametrize(("asked", "values"), [(b"other", VALUES), (b"mine", VALUES[:32])])
def test_a_quote_of_something_else_is_refused(asked: bytes, values: bytes) -> None:
    with pytest.raises(EvidenceError, match="expected a quote over PCRs"):
        attestation.read_quoted(quote_of(VALUES, b"mine"), b"", values, (10, 11), asked)

"""Every hash of the kernel and of a TPM: read wherever a digest is, computed where this Python has it."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes as signing
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from testbed.attest import hashes, quote, tpm
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.log import from_entries
from testbed.attest.policy.reference import parse_policy
from testbed.attest.quote import Selection, parse_selection
from testbed.attest.verdict import Verdict
from testbed.attest.verify import verify
from testbed.commands.semantics import command
from testbed.errors import SpecError

NONCE = b"nonce of the verifier"
KEY = rsa.generate_private_key(65537, 2048)
ECC = ec.generate_private_key(ec.SECP256R1())
# Bits, by the kernel's name: crypto/hash_info.c and the headers that it includes.
SIZES = {
    128: "md4 md5 rmd128 tgr128",
    160: "sha1 rmd160 tgr160",
    192: "tgr192",
    224: "sha224",
    256: "sha256 rmd256 wp256 sm3 streebog256 sha3-256",
    320: "rmd320",
    384: "sha384 wp384 sha3-384",
    512: "sha512 wp512 streebog512 sha3-512",
}
KERNEL = {name: bits for bits, names in SIZES.items() for name in names.split()}
# TPM_ALG_ID, bank, its name in `hashlib`; in the kernel the same with a hyphen.
TPM = [
    (0x0012, "sm3_256", "sm3"),
    *((0x27 + n, f"sha3_{bits}", f"sha3_{bits}") for n, bits in enumerate((256, 384, 512))),
]
TPM = [row for row in TPM if row[2] in hashlib.algorithms_available]
ALGS = pytest.mark.parametrize(("alg", "bank", "name"), TPM)
NAME = b.field(b"/x\0")


@pytest.mark.parametrize(("name", "bits"), KERNEL.items())
def test_a_digest_of_every_hash_is_read(name: str, bits: int) -> None:
    size = bits // 8
    (entry,) = read_entries(b.entry(10, b"ima-ng", b.digest_field(b"d" * size, name) + NAME))
    fields = parse_fields(entry)
    assert (fields.algorithm, fields.digest) == (name, b"d" * size)
    for wrong in (size - 1, size + 1):
        (entry,) = read_entries(b.entry(10, b"ima-ng", b.digest_field(b"d" * wrong, name) + NAME))
        with pytest.raises(BadEvidence, match=f"expected {size} bytes of {name}, got {wrong}"):
            parse_fields(entry)


def test_the_tables_are_those_of_the_kernel_and_of_the_tpm() -> None:
    assert {name: bits // 8 for name, bits in KERNEL.items()} == hashes.DIGESTS
    old = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
    assert old | {alg: bank for alg, bank, _ in TPM} == hashes.TPM_ALGS
    assert all(len(hashes.HASHES[bank](b"").digest()) == size for bank, size in hashes.BANKS.items())


@ALGS
def test_a_buffers_digest_is_computed(alg: int, bank: str, name: str) -> None:
    kernel = name.replace("_", "-")
    assert hashes.digest(kernel, b"buffer") == hashlib.new(name, b"buffer").digest()
    assert len(hashes.digest(kernel, b"")) == hashes.BANKS[bank]
    assert hashes.TPM_ALGS[alg] == bank


@pytest.mark.parametrize("name", ["streebog256", "wp384", "tgr192"])
def test_a_digest_that_cannot_be_computed_is_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedEvidence, match=f"OpenSSL can compute, got {name}"):
        hashes.digest(name, b"")


def test_a_hash_that_openssl_lacks_is_no_constructor() -> None:
    assert hashes._hash("no-such-hash") is None


def bundle(directory: Path, lines: list[bytes], alg: int, values: dict[int, bytes], signed: int) -> Path:
    """A bundle quoted by bank ``alg``, whose composite is of the hash ``signed`` that the quote is signed with."""
    composite = hashes.HASHES[hashes.TPM_ALGS[signed]](b"".join(values.values())).digest()
    data = b.attest(NONCE, composite, selections=struct.pack(">IHB", 1, alg, 3) + b.bitmap((10, 11)))
    sig = b.sign(KEY, data, scheme=tpm.RSASSA, alg=signed)
    return b.write_bundle(directory, attest=data, sig=sig, log=b"".join(lines), nonce=NONCE, values=values)


def judged(directory: Path, bank: str, **more: Any) -> Verdict:
    return verify(directory, ak=b.pem(KEY), nonce=NONCE, pcrs=f"{bank}:10,11", **more)


@ALGS
@pytest.mark.parametrize("told", [True, False])
def test_a_bank_is_replayed_and_its_quote_is_checked(
    tmp_path: Path, alg: int, bank: str, name: str, told: bool
) -> None:
    lines = [*b.sample_log(), b.violation("/v")]
    values = {pcr: b.extended(b"".join(lines), pcr, name) for pcr in (10, 11)}
    directory = bundle(tmp_path, lines, alg, values, alg)
    assert parse_selection(f"{bank}:10,11") == Selection(bank=bank, pcrs=(10, 11))
    if not told:
        described = directory / "bundle.json"
        described.write_text(described.read_text().replace("pcr_values", "other"))
    verdict = judged(directory, bank)
    assert [finding.kind.value for finding in verdict.findings] == ["violation"]
    assert verdict.pcrs == {pcr: value.hex() for pcr, value in values.items()}
    values = {pcr: b.extended(b"".join(lines[:-1]), pcr, name) for pcr in (10, 11)}
    whole = judged(bundle(tmp_path / "2", lines[:-1], alg, values, 0x000B), bank)
    assert whole.ok
    assert whole.state is not None
    assert whole.state.bank == bank


@ALGS
def test_a_bank_that_the_kernel_does_not_know_holds_padded_sha1(tmp_path: Path, alg: int, bank: str, name: str) -> None:
    """`ima_calc_field_array_hash` and `ima_init_digests`: ones of 20 bytes for a violation, zeros behind both."""
    lines = [*b.sample_log(), b.violation("/v")]
    size = hashes.BANKS[bank]
    values = {10: bytes(size), 11: bytes(size)}
    for line in lines:
        shown = line[4:24] if any(line[4:24]) else b"\xff" * 20
        values[line[0]] = hashlib.new(name, values[line[0]] + shown.ljust(size, b"\0")).digest()
    directory = bundle(tmp_path, lines, alg, values, 0x000B)
    assert {finding.kind.value for finding in judged(directory, bank).findings} >= {"replay-mismatch"}
    assert [f.kind.value for f in judged(directory, bank, padded_sha1=True).findings] == ["violation"]


@ALGS
@pytest.mark.parametrize(("key", "scheme"), [(ECC, tpm.ECDSA), (KEY, tpm.RSASSA), (KEY, tpm.RSAPSS)])
def test_a_signature_of_every_hash(key: Any, scheme: int, alg: int, bank: str, name: str) -> None:
    data = b.attest(NONCE, bytes(hashlib.new(name).digest_size))
    sig = b.sign(key, data, scheme=scheme, alg=alg)
    asked: Any = {"key": tpm.load_key(b.pem(key)), "nonce": NONCE, "demanded": parse_selection("sha256:10,11")}
    assert quote.check(data, sig, parent=None, **asked).findings == ()
    other = quote.check(data.replace(bytes(8), b"x" * 8, 1), sig, parent=None, **asked)
    assert "quote-signature" in {finding.kind.value for finding in other.findings}
    assert quote.check(data, sig, parent=None, **asked).signature.hash_alg == bank


@ALGS
def test_a_key_of_every_hash_has_a_name(alg: int, bank: str, name: str) -> None:
    """Of a TPM2B_PUBLIC with that nameAlg, scheme hash and parent."""
    public = bytearray(b.tpm2b_public(ECC, scheme_hash=alg))
    public[4:6] = alg.to_bytes(2, "big")
    key = tpm.load_key(bytes(public))
    head = alg.to_bytes(2, "big")
    assert key.name == head + hashlib.new(name, public[2:]).digest()
    assert key.scheme_hash == bank
    parent = head + hashlib.new(name, b"parent").digest()
    assert tpm.parse_name(parent.hex()) == parent
    assert tpm.qualified_name(parent, key.name) == head + hashlib.new(name, parent + key.name).digest()
    with pytest.raises(SpecError, match="qualified name"):
        tpm.parse_name(parent.hex()[:-2])


class Unknown(signing.HashAlgorithm):
    """A hash that no OpenSSL has."""

    name = "unknown"
    digest_size = 32
    block_size = 64


def test_a_hash_that_openssl_cannot_verify_with_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quote._HASHES, "sha256", Unknown())
    data = b.attest(NONCE, bytes(32))
    sig = b.sign(KEY, data, scheme=tpm.RSASSA)
    with pytest.raises(UnsupportedEvidence, match="OpenSSL can verify signatures with, got sha256"):
        quote.check(
            data, sig, key=tpm.load_key(b.pem(KEY)), nonce=NONCE, demanded=parse_selection("sha256:10"), parent=None
        )


def buffer(algorithm: str, digest: bytes, payload: bytes) -> bytes:
    return b.entry(10, b"ima-buf", b.digest_field(digest, algorithm) + b.field(b"event\0") + b.field(payload))


def test_a_buffer_of_another_hash_is_compared_or_unsupported(tmp_path: Path) -> None:
    lines = [
        b.BOOT,
        buffer("sha3-256", hashlib.sha3_256(b"1").digest(), b"1"),
        buffer("sha3-256", hashlib.sha3_256(b"1").digest(), b"2"),
        buffer("streebog512", bytes(64), b"3"),
    ]
    values = {pcr: b.extended(b"".join(lines), pcr) for pcr in (10, 11)}
    found = judged(bundle(tmp_path, lines, 0x000B, values, 0x000B), "sha256").findings
    assert [(f.kind.value, f.where.split(" at ")[0]) for f in found if "event" not in f.where] == [
        ("template-hash", "ima.bin: entry 3"),
        ("unsupported", "ima.bin: entry 4"),
    ]
    assert next(f for f in found if "entry 4" in f.where).got == "streebog512"
    (tmp_path / "log").write_bytes(lines[3])
    done = CliRunner().invoke(command, [str(tmp_path / "log")])
    assert (done.exit_code, "unsupported: " in done.output, "streebog512" in done.output) == (1, True, True)


@pytest.mark.parametrize("name", ["sm3", "sha3-256", "sha3-384", "sha3-512"])
def test_a_policy_lists_digests_of_every_hash_that_ima_hash_can_be(name: str) -> None:
    size = KERNEL[name] // 8
    line = b.entry(10, b"ima-ng", b.digest_field(b"d" * size, name) + NAME)
    (entry,) = read_entries(line)
    made = from_entries([entry]).document
    assert made["host"]["files"] == {"/x": [f"{name}:{(b'd' * size).hex()}"]}
    assert parse_policy(json.dumps(made).encode(), "policy").judge_host(parse_fields(entry)) is None

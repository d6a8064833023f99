"""File signatures: evmctl's and openssl's are read as they were made, and no other bytes pass for one of them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.attest.finding import FindingKind
from testbed.attest.judge import Judge
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.image import Complaint
from testbed.attest.policy.keys import Host, Signer
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.commands import policy as policy_command
from testbed.errors import SpecError

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = json.loads((b.GOLDEN / "signatures" / "vectors.json").read_text())
KEYS: dict[str, str] = VECTORS["keys"]
FILES: dict[str, dict[str, Any]] = {one["name"]: one for one in VECTORS["files"]}
EVM: dict[str, dict[str, Any]] = {one["name"]: one for one in VECTORS["evm"]}
REFUSED = ("p256-sha1", "rsa2048-sha1", "version-1")
ACCEPTED = sorted(FILES.keys() - set(REFUSED))
NUMBERS = {"sha1": 2, "sha256": 4, "sha384": 5, "sha512": 6}
NAME = "/opt/tool"
EVM_VERITY = b"d-ngv2|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"


def policy(*keys: str, host: dict[str, Any] | None = None, **others: Any) -> Policy:
    """A policy that lists no file, with these keys, or all of the vectors."""
    signers = [{"key": key} for key in keys or KEYS.values()]
    return parse_policy(json.dumps({"schema": 1, "host": {"signed-by": signers} | (host or {})} | others).encode(), "p")


ALL = policy()


def logged(digest: str, sig: bytes = b"", name: str = NAME) -> Fields:
    """An entry of `ima-sig`, or of `ima-sigv2` for an fs-verity digest."""
    kind, _, value = digest.rpartition(":")
    template = b"ima-sigv2" if kind.startswith("verity:") else b"ima-sig"
    data = b.digest_field(bytes.fromhex(value), kind) + b.field(name.encode() + b"\0") + b.field(sig)
    return fields(template, data)


def fields(template: bytes, data: bytes) -> Fields:
    (entry,) = read_entries(b.entry(10, template, data))
    return parse_fields(entry)


def vector(name: str, **changes: Any) -> Fields:
    one = FILES[name] | changes
    return logged(one["digest"], bytes.fromhex(one["sig"]), one.get("path", NAME))


def portable(name: str, **changes: Any) -> Fields:
    """An entry of `evm-sig`; ``ends``: lengths and ``names`` of the attributes where they are not the values' own."""
    one = EVM[name] | changes
    kind, _, value = one["digest"].rpartition(":")
    values = [bytes.fromhex(value) for value in one["xattrs"].values()]
    names = "|".join(one.get("names", one["xattrs"])).encode()
    data = [
        kind.encode() + b":\0" + bytes.fromhex(value),
        NAME.encode() + b"\0",
        bytes.fromhex(one["evmsig"]),
        names + b"\0" if names else b"",
        b"".join(struct.pack("<I", length) for length in one.get("lengths", map(len, values))),
        b"".join(values),
        struct.pack("<I", one["uid"]),
        struct.pack("<I", one["gid"]),
        struct.pack("<H", one["mode"]),
    ]
    return fields(EVM_VERITY if kind.startswith("verity") else b"evm-sig", b"".join(map(b.field, data)))


def kind(complaint: Complaint | None) -> str | None:
    assert complaint is None or not complaint.tolerated
    return None if complaint is None else complaint.kind.value


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def packed(raw: bytes, key_id: bytes, number: int = 4, type_: int = 3, version: int = 2) -> bytes:
    return struct.pack(">BBB4sH", type_, version, number, key_id, len(raw)) + raw


def id_of(public: Any) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(public).digest[-4:]


def pem(public: Any) -> str:
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def certificate(key: Any, subject_id: bytes | None, begin: int = 2001) -> x509.Certificate:
    """A certificate that was valid for one day of a year, with any subject key id."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = dt.datetime(begin, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + dt.timedelta(days=1))
    if subject_id is not None:
        made = made.add_extension(x509.SubjectKeyIdentifier(subject_id), critical=False)
    return made.sign(key, hashes.SHA256())


# What was made by others


def test_the_vectors_are_of_what_they_say() -> None:
    assert {one["key"] for one in (*FILES.values(), *EVM.values())} == KEYS.keys()
    for one in (*FILES.values(), *EVM.values()):
        if not one["digest"].startswith("verity"):
            algorithm, _, value = one["digest"].partition(":")
            assert hashlib.new(algorithm, one["content"].encode()).hexdigest() == value


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_signature_by_a_key_of_the_policy_accepts_a_file(name: str) -> None:
    assert ALL.judge_host(vector(name)) is None
    assert policy(KEYS[FILES[name]["key"]]).judge_host(vector(name)) is None
    assert ALL.judge_host(vector(name, path="/elsewhere")) is None


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_same_signature_of_another_digest_is_bad(name: str) -> None:
    algorithm, _, value = FILES[name]["digest"].rpartition(":")
    # In its first bits: ECDSA signs no more of a digest than its curve has.
    other = f"{algorithm}:{(int(value, 16) ^ 1 << 4 * len(value) - 1):0{len(value)}x}"
    complaint = ALL.judge_host(vector(name, digest=other))
    assert kind(complaint) == "bad-signature"
    assert complaint is not None
    assert complaint.expected.startswith("a signature by key ")
    assert complaint.got == "a signature that does not verify with this key"


@pytest.mark.parametrize("name", ACCEPTED)
def test_without_its_key_a_file_is_as_unknown_as_before(name: str) -> None:
    others = [key for owner, key in KEYS.items() if owner != FILES[name]["key"]]
    complaint = policy(*others).judge_host(vector(name))
    assert kind(complaint) == "unknown-file"
    assert complaint is not None
    assert complaint.got == f"signed by key {FILES[name]['sig'][6:14]}, which the policy does not have"
    complaint = parse_policy(b'{"schema": 1}', "p").judge_host(vector(name))
    assert complaint is not None
    assert (complaint.kind, complaint.expected, complaint.got) == (
        FindingKind.UNKNOWN_FILE,
        "a file that the policy lists for the host",
        "",
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("p256-sha1", "a signature over a digest of sha1, which is not accepted"),
        ("rsa2048-sha1", "a signature over a digest of sha1, which is not accepted"),
        ("version-1", "a signature of version 1, which is not verified"),
    ],
)
def test_a_signature_that_is_not_verified_says_why(name: str, why: str) -> None:
    complaint = ALL.judge_host(vector(name))
    assert kind(complaint) == "unknown-file"
    assert complaint is not None
    assert complaint.expected == "a file that the policy lists for the host, or that one of its keys signed"
    assert complaint.got == why


@pytest.mark.parametrize("name", sorted(EVM))
def test_a_portable_signature_of_evm_accepts_a_file(name: str) -> None:
    assert ALL.judge_host(portable(name)) is None
    assert kind(parse_policy(b'{"schema": 1}', "p").judge_host(portable(name))) == "unknown-file"


PAGE = {name: fields for name, fields in b.page_vectors().items() if name.startswith("signature: ")}


@pytest.mark.parametrize("name", sorted(PAGE))
def test_the_vectors_of_the_page(name: str) -> None:
    one = PAGE[name]
    _, _, value = one["digest"].rpartition(":")
    blob = bytes.fromhex(one.get("sig") or one["evmsig"])
    type_, version, number, key_id, size = struct.unpack_from(">BBB4sH", blob)
    hashed = bytes.fromhex(value)
    if type_ == 5:
        hashed = hashlib.sha256(bytes.fromhex(one["xattrvalues"] + one["owner"])).digest()
        assert bytes.fromhex(one["xattrvalues"]) == bytes([4, number]) + bytes.fromhex(value)
    if version == 3:
        hashed = hashlib.sha256(bytes([type_, number]) + hashed).digest()
    assert (hashed.hex(), key_id.hex(), size, number) == (one["signed"], one["keyid"], len(blob) - 9, 4)
    public = load_der_public_key(base64.b64decode(one["key"]))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert id_of(public) == key_id
    public.verify(blob[9:], hashed, ec.ECDSA(Prehashed(hashes.SHA256())))
    if type_ != 5:
        assert policy(one["key"]).judge_host(logged(one["digest"], blob)) is None


def test_the_pages_say_what_is_read() -> None:
    assert {(bytes.fromhex(one.get("sig") or one["evmsig"])[:2]) for one in PAGE.values()} == {
        b"\3\2",
        b"\5\2",
        b"\6\3",
    }
    section = (DOCS / "formats.md").read_text().partition("## 4. File signatures")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d) \| (\d) \| `(\w+)` \|", section, re.MULTILINE)
    sizes = [struct.calcsize(f">{form}") for form in ("B", "B", "B", "4s", "H")]
    assert [(int(at), int(size)) for at, size, _ in rows] == [(sum(sizes[:n]), sizes[n]) for n in range(len(sizes))]
    assert [name for *_, name in rows] == ["type", "version", "hash_algo", "keyid", "sig_size"]
    page = (DOCS / "policy.md").read_text()
    for name, field in Host.model_fields.items():
        assert f"| `host.{field.alias or name}` |" in page
    assert [f"- **`{name}`**" in page for name in Signer.model_fields] == [True] * 2


# Bytes that are no signature of the entry


def test_every_changed_byte_and_every_shorter_signature_is_noticed() -> None:
    for name in ("p256-sha256", "p256-version-3", "p256-verity-sha256"):
        good = bytes.fromhex(FILES[name]["sig"])
        # The first byte says of what kind the field is: then the log is malformed.
        changed = [
            good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :] for at in range(1, len(good)) for bit in (1, 128)
        ]
        for sig in (*changed, *(good[:size] for size in range(1, len(good))), good + b"\0", good + good[9:]):
            found = kind(ALL.judge_host(vector(name, sig=sig.hex())))
            assert found in {"bad-signature", "unknown-file"}, sig.hex()
            if sig[:7] == good[:7]:
                assert found == ("bad-signature" if len(sig) >= 9 else "unknown-file"), sig.hex()


@pytest.mark.parametrize("name", ["rsa2048-sha256", "p256-sha256"])
def test_the_size_must_be_that_of_the_signature(name: str) -> None:
    good = bytes.fromhex(FILES[name]["sig"])
    raw, key_id = good[9:], good[3:7]
    for sig in (
        good[:7] + b"\0\0" + raw,
        good[:7] + struct.pack(">H", len(raw) + 1) + raw,
        good[:7] + struct.pack(">H", len(raw) - 1) + raw,
        packed(b"", key_id),
        packed(raw[:-1], key_id),
        packed(raw + b"\0", key_id),
        packed(b"\0" + raw, key_id),
        packed(raw * 200, key_id),
    ):
        assert kind(ALL.judge_host(vector(name, sig=sig.hex()))) == "bad-signature"


def test_an_ecdsa_signature_has_one_encoding() -> None:
    good = bytes.fromhex(FILES["p256-sha256"]["sig"])
    r, s = decode_dss_signature(good[9:])

    def number(value: int, more: int = 0) -> bytes:
        raw = bytes(more) + value.to_bytes((value.bit_length() + 8) // 8, "big")
        return b"\x02" + bytes([len(raw)]) + raw

    def sequence(*parts: bytes, long: bool = False) -> bytes:
        body = b"".join(parts)
        return b"\x30" + (b"\x81" if long else b"") + bytes([len(body)]) + body

    assert sequence(number(r), number(s)) == good[9:]
    for raw in (
        sequence(number(r, 1), number(s)),
        sequence(number(r), number(s), long=True),
        sequence(number(r), number(s), b"\x05\0"),
        sequence(number(r), number(s)) + b"\0",
        sequence(number(0), number(s)),
        sequence(number(r), number(0)),
        r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    ):
        assert kind(ALL.judge_host(vector("p256-sha256", sig=packed(raw, good[3:7]).hex()))) == "bad-signature"


def test_only_the_one_padding_of_pkcs_1_counts() -> None:
    """With the private key: what a lax reader of the padding would accept, and what it must accept."""
    private = rsa.generate_private_key(65537, 2048)
    numbers, public = private.private_numbers(), private.public_key()
    digest, size = hashlib.sha256(b"x").digest(), 256
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    without_null = bytes.fromhex("302f300b0609608648016503040201") + bytes.fromhex("0420")
    sha512 = bytes.fromhex("3031300d060960864801650304020305000420")

    def sig(block: bytes) -> bytes:
        value = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
        return packed(value.to_bytes(size, "big"), id_of(public))

    def padded(rest: bytes, kind: bytes = b"\1", filler: bytes = b"\xff", fill: int | None = None) -> bytes:
        count = size - 3 - len(rest) if fill is None else fill
        return (b"\0" + kind + filler * count + b"\0" + rest).ljust(size, b"\x5a")

    mine = policy(pem(public))
    assert mine.judge_host(logged(sha256(b"x"), sig(padded(info + digest)))) is None
    for block in (
        padded(info + digest, fill=8),
        padded(info + digest, fill=100),
        padded(info + digest + b"\0"),
        padded(info + digest, kind=b"\2"),
        padded(info + digest, filler=b"\0"),
        padded(without_null + digest),
        padded(sha512 + digest),
        padded(digest),
        padded(info + digest[:-1]),
    ):
        assert kind(mine.judge_host(logged(sha256(b"x"), sig(block)))) == "bad-signature"
    pss = private.sign(digest, padding.PSS(padding.MGF1(hashes.SHA256()), 32), Prehashed(hashes.SHA256()))
    assert kind(mine.judge_host(logged(sha256(b"x"), packed(pss, id_of(public))))) == "bad-signature"


@pytest.mark.parametrize("name", ["p256-sha256", "p256-version-3", "rsa2048-verity-sha256"])
def test_type_and_version_are_part_of_what_is_signed(name: str) -> None:
    good = FILES[name]["sig"]
    for changed in ("0302", "0303", "0603", "0602", "0304", "0300", "03ff", "0502", "0503"):
        for digest in (FILES[name]["digest"], sha256(b"x"), "verity:" + sha256(b"x")):
            found = kind(ALL.judge_host(vector(name, sig=changed + good[4:], digest=digest)))
            if (changed, digest) == (good[:4], FILES[name]["digest"]):
                assert found is None
            else:
                assert found in {"bad-signature", "unknown-file"}


def test_a_signature_is_of_a_digest_of_its_own_algorithm() -> None:
    """An ECDSA signature does not contain the algorithm: only the head says it, and nobody signed the head."""
    private = ec.generate_private_key(ec.SECP256R1())
    mine, key_id = policy(pem(private.public_key())), id_of(private.public_key())
    digest = hashlib.sha256(b"x").digest()
    raw = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert mine.judge_host(logged(sha256(b"x"), packed(raw, key_id))) is None
    # 17: SM3, 20: SHA3-256, both of 32 bytes as well.
    for number in (0, 1, 2, 3, 5, 6, 7, 17, 20, 255):
        complaint = mine.judge_host(logged(sha256(b"x"), packed(raw, key_id, number)))
        assert kind(complaint) == "unknown-file"
        assert complaint is not None
        assert "a digest of" in complaint.got
    long = hashlib.sha512(b"x")
    raw = private.sign(long.digest(), ec.ECDSA(Prehashed(hashes.SHA512())))
    assert mine.judge_host(logged(f"sha512:{long.hexdigest()}", packed(raw, key_id, 6))) is None
    # P-256 signs the first 32 bytes of it: the same signature is of these 32 bytes too, as far as ECDSA can tell.
    assert kind(mine.judge_host(logged(f"sha256:{long.hexdigest()[:64]}", packed(raw, key_id, 6)))) == "unknown-file"


def test_a_descriptor_of_fs_verity_is_not_the_file_that_it_describes() -> None:
    """Its SHA-256 is the fs-verity digest: a file with these bytes must not pass for the signed one."""
    one = FILES["p256-verity-sha256"]
    complaint = ALL.judge_host(vector("p256-verity-sha256", digest=one["digest"].removeprefix("verity:")))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == (
        "unknown-file",
        "a signature over an fs-verity digest, but the entry has another digest",
    )
    complaint = ALL.judge_host(vector("p256-sha256", digest="verity:" + FILES["p256-sha256"]["digest"]))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == (
        "unknown-file",
        "a signature over the content, but the entry has another digest",
    )


@given(st.sampled_from([b"\3", b"\5", b"\6"]), st.binary(max_size=120), st.sampled_from(["sha256", "verity:sha256"]))
@settings(max_examples=60)
def test_no_bytes_raise_and_none_are_accepted(first: bytes, rest: bytes, algorithm: str) -> None:
    for head in (b"", bytes.fromhex("0204513bed94"), bytes.fromhex("0304513bed94")):
        found = ALL.judge_host(logged(f"{algorithm}:{'ab' * 32}", first + head + rest))
        assert kind(found) in {"bad-signature", "unknown-file"}


# Which key


def test_each_key_with_the_id_is_tried() -> None:
    """Two keys with one id: the subject key id of a certificate can be anything."""
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    taken = certificate(other, id_of(mine.public_key())).public_bytes(Encoding.PEM).decode()
    sig = packed(
        mine.sign(hashlib.sha256(b"x").digest(), ec.ECDSA(Prehashed(hashes.SHA256()))), id_of(mine.public_key())
    )
    for keys in ([taken, pem(mine.public_key())], [pem(mine.public_key()), taken]):
        assert policy(*keys).judge_host(logged(sha256(b"x"), sig)) is None
        assert kind(policy(*keys).judge_host(logged(sha256(b"y"), sig))) == "bad-signature"
    assert kind(policy(taken).judge_host(logged(sha256(b"x"), sig))) == "bad-signature"


def test_a_certificate_is_known_by_both_ids_and_by_its_key_alone() -> None:
    """It is long out of date and has no usage for signatures: as for IMA, that does not count."""
    private = ec.generate_private_key(ec.SECP384R1())
    own, digest = id_of(private.public_key()), hashlib.sha384(b"x").digest()
    raw = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA384())))
    for subject_id in (None, b"\1\2", bytes(range(20)), b"\x77" * 32):
        made = certificate(private, subject_id)
        der = base64.b64encode(made.public_bytes(Encoding.DER)).decode()
        mine = policy(der)
        assert mine.judge_host(logged(f"sha384:{digest.hex()}", packed(raw, own, 5))) is None
        for key_id in {(subject_id or own)[-4:], own, bytes(4)}:
            found = kind(mine.judge_host(logged(f"sha384:{digest.hex()}", packed(raw, key_id.rjust(4, b"\0"), 5))))
            known = key_id in {own, subject_id and subject_id[-4:]} and len(key_id) == 4
            assert found == (None if known else "unknown-file")


def encoded(private: Any) -> dict[str, str]:
    public = private.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    made = certificate(private, None)
    return {
        "public key, PEM": pem(public),
        "public key, DER": base64.b64encode(der).decode(),
        "certificate, PEM": made.public_bytes(Encoding.PEM).decode(),
        "certificate, DER": base64.b64encode(made.public_bytes(Encoding.DER)).decode(),
        "after words": f"Subject: CN = test\n{made.public_bytes(Encoding.PEM).decode()}",
    }


def test_a_key_can_be_written_in_each_usual_way() -> None:
    private = rsa.generate_private_key(65537, 2048)
    ways = encoded(private)
    public = private.public_key()
    ways["RSA, PEM"] = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
    ways["RSA, DER"] = base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()
    raw = private.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    for way, text in ways.items():
        assert policy(text).judge_host(logged(sha256(b"x"), packed(raw, id_of(public)))) is None, way


PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = pem(PRIVATE.public_key())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "at least 1 character"),
        ("nothing", "got text that is neither PEM nor base64"),
        ("\u00e9", "got text that is neither PEM nor base64"),
        ("AAAA", "got something else"),
        (base64.b64encode(bytes(500)).decode(), "got something else"),
        (PUBLIC.replace("M", "N"), "got something else"),
        (PUBLIC[:60], "got something else"),
        (PUBLIC + PUBLIC, "got 2 blocks of PEM"),
        (PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), "got a private key"),
        (
            PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
            "a private key",
        ),
        (
            base64.b64encode(PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode(),
            "got something else",
        ),
        (pem(rsa.generate_private_key(65537, 1024).public_key()), "got an RSA key of 1024 bits"),
        (pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "got a key of another kind"),
        (pem(ec.generate_private_key(ec.SECP224R1()).public_key()), "got a key of another kind"),
        (pem(ed25519.Ed25519PrivateKey.generate().public_key()), "got a key of another kind"),
    ],
)
def test_what_is_no_key_is_refused(key: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        policy(PUBLIC, key)
    assert said in caught.value.message
    assert "'host.signed-by.1.key'" in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.hint


@given(st.lists(st.tuples(st.integers(0, 790), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=60)
def test_a_broken_certificate_is_refused_and_nothing_else_is_raised(changes: list[tuple[int, int]]) -> None:
    der = bytearray(base64.b64decode(KEYS["rsa2048"]))
    for at, byte in changes:
        der[at % len(der)] = byte
    with suppress(SpecError):
        policy(base64.b64encode(der).decode())


@pytest.mark.parametrize(
    ("signer", "said"),
    [
        ({}, "'host.signed-by.0.key': is missing"),
        ({"key": PUBLIC, "name": "x"}, "'host.signed-by.0.name': there is no such key"),
        ({"key": PUBLIC, "paths": []}, "'host.signed-by.0.paths'"),
        ({"key": PUBLIC, "paths": "/usr/.*"}, "'host.signed-by.0.paths'"),
        ({"key": PUBLIC, "paths": ["/usr/.*", "/(a*)*"]}, "'host.signed-by.0.paths.1': '/(a*)*' is rejected"),
        ({"key": PUBLIC, "paths": ["/a b"]}, "it has a space"),
        ({"key": [PUBLIC]}, "'host.signed-by.0.key'"),
    ],
)
def test_a_bad_signer_is_refused_by_name(signer: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_policy(json.dumps({"schema": 1, "host": {"signed-by": [signer]}}).encode(), "p.json")
    assert said in caught.value.message


# What a signature accepts

GOOD = vector("p256-sha256")
BAD = vector("p256-sha256", digest=sha256(b"x"))


def signed_by(*paths: str, **host: Any) -> Policy:
    signer = {"key": KEYS["p256"]} | ({"paths": [*paths]} if paths else {})
    return policy(host={"signed-by": [signer]} | host)


def test_a_file_that_is_listed_is_judged_by_its_digests_alone() -> None:
    listed = signed_by(files={NAME: [sha256(b"listed")]})
    complaint = listed.judge_host(GOOD)
    assert complaint is not None
    assert (kind(complaint), complaint.expected) == ("wrong-digest", sha256(b"listed"))
    assert listed.judge_host(logged(sha256(b"listed"))) is None
    assert listed.judge_host(vector("p256-sha256", path="/opt/other")) is None


def test_a_bad_signature_is_never_excused() -> None:
    for allowing in (
        signed_by(files={NAME: [sha256(b"x")]}),
        signed_by(exclude=["/opt/.*"]),
        signed_by("/usr/.*"),
        policy(KEYS["p256"], on={"unknown": "note"}),
    ):
        assert kind(allowing.judge_host(BAD)) == "bad-signature"
        assert not allowing.tolerates(FindingKind.BAD_SIGNATURE)


def test_what_is_unknown_is_noted_or_excluded_as_without_a_signature() -> None:
    unknown = vector("p384-sha256")
    noted = policy(KEYS["p256"], on={"unknown": "note"}).judge_host(unknown)
    assert noted is not None
    assert (noted.kind, noted.tolerated) == (FindingKind.UNKNOWN_FILE, True)
    assert signed_by(exclude=["/opt/.*"]).judge_host(unknown) is None


@pytest.mark.parametrize(
    ("paths", "name", "good"),
    [
        (["/opt/.*"], NAME, True),
        (["/usr/.*", "/opt/[a-z]+"], NAME, True),
        ([".*"], NAME, True),
        (["/usr/.*"], NAME, False),
        (["/opt"], NAME, False),
        (["/op"], NAME, False),
        (["/opt/.*"], "/opt/../bin/sh", False),
        (["/opt/.*"], "/opt/" + "x" * 4096, False),
        (["/opt/.*"], "/srv/opt/tool", False),
    ],
)
def test_a_key_may_sign_at_its_paths_only(paths: list[str], name: str, good: bool) -> None:
    complaint = signed_by(*paths).judge_host(vector("p256-sha256", path=name))
    assert (complaint is None) is good
    if complaint is not None:
        assert (kind(complaint), complaint.got) == (
            "unknown-file",
            "signed by a key that the policy accepts for other paths",
        )


def test_one_key_can_be_listed_twice_with_different_paths() -> None:
    twice = [{"key": KEYS["p256"], "paths": [path]} for path in ("/usr/.*", "/opt/.*")]
    assert policy(host={"signed-by": twice}).judge_host(GOOD) is None


@pytest.mark.parametrize("name", ["boot_aggregate", "boot_aggregate_late", "", "tool/x", "4026531840"])
def test_only_a_file_can_be_signed(name: str) -> None:
    """Root can log any digest under any name: that of a signed file is no boot_aggregate."""
    complaint = ALL.judge_host(vector("p256-sha256", path=name))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == ("unknown-file", "signed, but this is not the name of a file")
    boots = policy(host={"signed-by": [{"key": KEYS["p256"]}], "boot_aggregate": [sha256(b"boot")]})
    assert kind(boots.judge_host(vector("p256-sha256", path="boot_aggregate"))) == "wrong-digest"


def test_an_appended_signature_is_not_verified() -> None:
    one = FILES["p256-sha256"]
    digest = b.digest_field(bytes.fromhex(one["digest"].partition(":")[2]))
    name = b.field(NAME.encode() + b"\0")
    appended = digest + b.field(b"0\x82")
    complaint = ALL.judge_host(fields(b"ima-modsig", digest + name + b.field(b"") + appended))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == ("unknown-file", "an appended signature, which is not verified")
    assert ALL.judge_host(fields(b"ima-modsig", digest + name + b.field(bytes.fromhex(one["sig"])) + appended)) is None


def test_a_list_of_fields_is_as_good_as_the_template() -> None:
    one = FILES["p256-sha256"]
    data = b.field(bytes.fromhex(one["sig"])) + b.field(NAME.encode() + b"\0")
    data += b.digest_field(bytes.fromhex(one["digest"].partition(":")[2]))
    assert ALL.judge_host(fields(b"sig|n-ng|d-ng", data)) is None


def test_the_judge_says_file_digest_and_reason() -> None:
    judge = Judge(policy=ALL)
    one = FILES["p256-sha256"]
    log = b.ima_sig(NAME, b"evil", bytes.fromhex(one["sig"])) + b.ima_sig(NAME, b"evil", b"\3\1" + bytes(20))
    log += b.ima_sig(NAME, one["content"].encode(), bytes.fromhex(one["sig"]))
    for entry in read_entries(log):
        judge.step(entry)
    bad, unknown = judge.findings([10])
    assert (bad.kind, bad.got) == (
        FindingKind.BAD_SIGNATURE,
        f"'{NAME}', {hashlib.sha256(b'evil').hexdigest()}, a signature that does not verify with this key",
    )
    assert bad.expected == "a signature by key 513bed94, which the entry names, over this file's digest"
    assert (unknown.kind, unknown.got) == (
        FindingKind.UNKNOWN_FILE,
        f"'{NAME}', {hashlib.sha256(b'evil').hexdigest()}, a signature of version 1, which is not verified",
    )


def test_without_a_policy_nothing_is_verified() -> None:
    judge = Judge()
    for entry in read_entries(b.ima_sig(NAME, b"evil", bytes.fromhex(FILES["p256-sha256"]["sig"]))):
        judge.step(entry)
    assert judge.findings([10]) == []


# EVM


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("evm-hash-p256", {"uid": 0}),
        ("evm-hash-p256", {"gid": 0}),
        ("evm-hash-p256", {"mode": 0o104755}),
        ("evm-version-3", {"uid": 0}),
        ("evm-hash-p384-sha512", {"mode": 0o100700}),
        ("evm-hash-p256", {"evmsig": "0503" + EVM["evm-hash-p256"]["evmsig"][4:]}),
        ("evm-version-3", {"evmsig": "0502" + EVM["evm-version-3"]["evmsig"][4:]}),
        ("evm-hash-p256", {"evmsig": EVM["evm-hash-p256"]["evmsig"] + "00"}),
        ("evm-hash-p256", {"xattrs": EVM["evm-hash-p256"]["xattrs"] | {"security.capability": "00" * 20}}),
        ("evm-hash-p256", {"xattrs": {"security.ima": "0404" + "ab" * 32}, "digest": "sha256:" + "ab" * 32}),
        ("evm-sig-rsa2048", {"gid": 0}),
    ],
)
def test_metadata_that_nobody_signed_are_a_bad_signature(name: str, changes: dict[str, Any]) -> None:
    complaint = ALL.judge_host(portable(name, **changes))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == ("bad-signature", "a signature that does not verify with this key")


def test_signed_metadata_are_of_one_digest() -> None:
    complaint = ALL.judge_host(portable("evm-hash-p256", digest=sha256(b"x")))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == ("bad-signature", "signed metadata of another digest")
    for other in ("sha512:" + "ab" * 64, "verity:" + EVM["evm-hash-p256"]["digest"]):
        complaint = ALL.judge_host(portable("evm-hash-p256", digest=other))
        assert complaint is not None
        assert (kind(complaint), complaint.got) == (
            "unknown-file",
            "an EVM signature over metadata that contain no digest of this file",
        )
    # There the metadata have a signature of IMA, which is of the digest too.
    assert kind(ALL.judge_host(portable("evm-sig-rsa2048", digest=sha256(b"x")))) == "bad-signature"


def test_where_the_attributes_are_cut_is_not_signed_and_gains_nothing() -> None:
    ima = bytes.fromhex(EVM["evm-hash-p256"]["xattrs"]["security.ima"])
    for names, lengths in (
        (["security.selinux", "security.ima"], [1, len(ima) - 1]),
        (["security.ima", "security.capability"], [len(ima) - 1, 1]),
        (["security.ima"], [len(ima) - 1]),
        (["security.ima"], [len(ima) + 1]),
        (["security.ima", "security.ima"], [0, len(ima)]),
        (["security.ima"], [0xFFFFFFFF]),
        (["security.selinux"], [len(ima)]),
        ([], []),
    ):
        found = ALL.judge_host(portable("evm-hash-p256", names=names, lengths=lengths))
        assert kind(found) in {"unknown-file", "bad-signature"}, names


def test_a_signature_of_evm_needs_the_metadata() -> None:
    one = EVM["evm-hash-p256"]
    complaint = ALL.judge_host(logged(one["digest"], bytes.fromhex(one["evmsig"])))
    assert complaint is not None
    assert (kind(complaint), complaint.got) == (
        "unknown-file",
        "an EVM signature without the metadata that it is of",
    )
    data = b.digest_field(bytes.fromhex(one["digest"].partition(":")[2])) + b.field(NAME.encode() + b"\0")
    without = data + b.field(bytes.fromhex(one["evmsig"]))
    assert kind(ALL.judge_host(fields(b"d-ng|n-ng|evmsig", without))) == "unknown-file"
    ima = bytes.fromhex(one["xattrs"]["security.ima"])
    lists = b.field(b"security.ima\0") + b.field(struct.pack("<I", len(ima))) + b.field(ima)
    names = b"d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues"
    assert kind(ALL.judge_host(fields(names, without + lists))) == "unknown-file"


@pytest.mark.parametrize("first", ["02", "03", "06", "00"])
def test_only_a_portable_signature_can_be_one_of_evm(first: str) -> None:
    found = ALL.judge_host(portable("evm-hash-p256", evmsig=first + EVM["evm-hash-p256"]["evmsig"][2:]))
    assert kind(found) == "unknown-file"


def test_attributes_can_have_a_signature_of_ima_without_one_of_evm() -> None:
    assert ALL.judge_host(portable("evm-sig-rsa2048", evmsig="")) is None
    assert kind(ALL.judge_host(portable("evm-hash-p256", evmsig=""))) == "unknown-file"


def test_two_signatures_of_one_entry_both_count() -> None:
    """An EVM key that may sign here, and an IMA key that may not, or that the policy does not have."""
    one = EVM["evm-hash-p256"]
    ima = bytes.fromhex(one["xattrs"]["security.ima"])
    raw = PRIVATE.sign(bytes.fromhex(one["digest"][7:]), ec.ECDSA(Prehashed(hashes.SHA256())))
    sig = packed(raw, id_of(PRIVATE.public_key()))
    owner = [struct.pack("<I", one["uid"]), struct.pack("<I", one["gid"]), struct.pack("<H", one["mode"])]
    parts = [bytes.fromhex(one["evmsig"]), b"security.ima\0", struct.pack("<I", len(ima)), ima, *owner]
    start = b.digest_field(bytes.fromhex(one["digest"][7:])) + b.field(NAME.encode() + b"\0")
    names = b"d-ng|n-ng|sig|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"

    def both(sig: bytes, *parts: bytes) -> Fields:
        return fields(names, start + b"".join(map(b.field, (sig, *parts))))

    here, elsewhere = {"key": KEYS["p256"]}, {"key": PUBLIC, "paths": ["/usr/.*"]}
    assert policy(host={"signed-by": [here, elsewhere]}).judge_host(both(sig, *parts)) is None
    assert policy(host={"signed-by": [here]}).judge_host(both(sig, *parts)) is None
    assert kind(policy(host={"signed-by": [elsewhere]}).judge_host(both(sig, *parts))) == "unknown-file"
    assert policy(PUBLIC).judge_host(both(sig, *parts)) is None
    both_keys = policy(PUBLIC, KEYS["p256"])
    assert both_keys.judge_host(both(sig, *parts)) is None
    assert kind(both_keys.judge_host(both(sig[:-1] + bytes([sig[-1] ^ 1]), *parts))) == "bad-signature"
    assert kind(both_keys.judge_host(both(sig, *parts[:-1], bytes(2)))) == "bad-signature"


@given(st.lists(st.binary(max_size=40), min_size=4, max_size=4))
@settings(max_examples=60)
def test_no_metadata_raise(parts: list[bytes]) -> None:
    data = b.digest_field(bytes(32)) + b.field(NAME.encode() + b"\0") + b"".join(map(b.field, parts))
    data += b.field(bytes(4)) + b.field(bytes(4)) + b.field(bytes(2))
    assert kind(ALL.judge_host(fields(b"evm-sig", data))) in {"unknown-file", "bad-signature"}


# The command


def run(*words: object) -> Any:
    return CliRunner().invoke(policy_command.command, [str(word) for word in words])


def test_keys_are_brought_into_a_policy(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    ways = encoded(private)
    for name, text in ways.items():
        data = text.encode() if "DER" not in name else base64.b64decode(text)
        (tmp_path / name).write_bytes(data)
    done = run("from-key", *(tmp_path / name for name in ways))
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    # PEM and DER of one thing are one key.
    assert made["host"]["signed-by"] == [{"key": ways["public key, PEM"]}, {"key": ways["certificate, PEM"]}]
    assert made["host"]["files"] == {}
    assert "no boot_aggregate is known" in done.stderr


def test_keys_are_added_and_those_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "old.pem").write_text(KEYS["p256"])
    (tmp_path / "new.pem").write_text(KEYS["p521"])
    base = tmp_path / "base.json"
    there = [{"key": KEYS["p256"], "paths": [path]} for path in ("/usr/.*", "/opt/.*")]
    host = {"signed-by": there, "boot_aggregate": [sha256(b"boot")]}
    base.write_text(json.dumps({"schema": 1, "host": host}))
    for words, added in (
        (["from-key", tmp_path / "old.pem", tmp_path / "new.pem"], [{"key": KEYS["p521"]}]),
        (["from-rootfs", tmp_path], []),
    ):
        done = run(*words, "--onto", base)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["host"]["signed-by"] == [*there, *added]
    assert "signed-by" not in json.loads(run("from-rootfs", tmp_path).stdout)["host"]


def test_a_file_that_is_no_key_makes_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content in (b"", b"x", PUBLIC.encode() * 2):
        path.write_bytes(content)
        error = run("from-key", path, "-o", tmp_path / "p.json").exception
        assert isinstance(error, SpecError)
        assert "expected one certificate or public key" in error.message
    assert isinstance(run("from-key", tmp_path).exception, SpecError)
    assert not (tmp_path / "p.json").exists()


def test_lint_counts_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    twice = [{"key": KEYS["p256"], "paths": ["/usr/.*"]}, {"key": KEYS["named"]}]
    path.write_text(json.dumps({"schema": 1, "host": {"signed-by": twice}}))
    assert "host: 0 digests, 0 excludes, 2 keys; " in run("lint", path).stdout

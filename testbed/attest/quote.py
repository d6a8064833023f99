"""The quote: is it a genuine answer to this question, by this key, over these PCRs?"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from testbed.attest import tpm
from testbed.attest.finding import BadEvidence, Finding, FindingKind, UnsupportedEvidence
from testbed.attest.hashes import BANKS, TPM_ALGS
from testbed.attest.registers import PCRS
from testbed.attest.tpm import Key, Reader
from testbed.errors import SpecError

MAGIC = 0xFF544347  # TPM_GENERATED_VALUE
ATTEST_QUOTE = 0x8018
NONCE_MAX = 66  # TPM2B_DATA: a TPMT_HA with SHA-512
_BITMAP = 3  # bytes, PC Client profile; another size would be another encoding of the same set
_SHA2 = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_SHA3 = {"sha3_256": hashes.SHA3_256(), "sha3_384": hashes.SHA3_384(), "sha3_512": hashes.SHA3_512()}
_HASHES: dict[str, hashes.HashAlgorithm] = {**_SHA2, "sm3_256": hashes.SM3(), **_SHA3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """PCRs of one bank, ascending."""

    bank: str
    pcrs: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.bank}:{','.join(map(str, self.pcrs))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """A TPMS_ATTEST of a quote. ``selections``: each list entry's algorithm and bitmap. ``clock``: milliseconds."""

    magic: int
    signer: bytes
    nonce: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware: int
    selections: tuple[tuple[int, bytes], ...]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A TPMT_SIGNATURE. ``parts``: the one number of RSA, or r and s of ECDSA."""

    scheme: int
    hash_alg: str
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The content of a quote and the findings about it. ``attest`` is ``None`` if it is not a quote."""

    attest: Attest | None
    signature: Signature
    selection: Selection | None
    findings: tuple[Finding, ...]


def parse_selection(text: str) -> Selection:
    """Read what a verifier demands, as ``sha256:10,11``. Raises ``SpecError``."""
    match = re.fullmatch(r"([a-z0-9_]+):([0-9]{1,2}(?:,[0-9]{1,2})*)", text, re.ASCII)
    pcrs = sorted(map(int, match[2].split(","))) if match else []
    if not match or match[1] not in BANKS or len(set(pcrs)) != len(pcrs) or pcrs[-1] >= PCRS:
        hint = f"one bank of {', '.join(BANKS)} and different PCRs from 0 to {PCRS - 1}"
        raise SpecError(f"PCR selection: expected BANK:PCR,PCR..., got {text!r}", hint)
    return Selection(bank=match[1], pcrs=tuple(pcrs))


def parse_nonce(text: str) -> bytes:
    """Read a verifier's nonce in hex. Raises ``SpecError``."""
    if not re.fullmatch(rf"(?:[0-9a-fA-F]{{2}}){{1,{NONCE_MAX}}}", text, re.ASCII):
        hint = "give the nonce that you sent; without one, an old quote could not be told from a new one"
        raise SpecError(f"nonce: expected 1 to {NONCE_MAX} bytes in hex, got {text[:140]!r}", hint)
    return bytes.fromhex(text)


def parse_attest(data: bytes) -> Attest | None:
    """Read a TPMS_ATTEST to its last byte; ``None`` if it attests something other than PCRs. Raises ``BadEvidence``."""
    reader = Reader(data, "quote.attest")
    magic = reader.uint(4, "magic")
    if reader.uint(2, "type") != ATTEST_QUOTE:
        return None
    attest = Attest(
        magic=magic,
        signer=reader.sized("qualifiedSigner", 66),
        nonce=reader.sized("extraData", NONCE_MAX),
        clock=reader.uint(8, "clock"),
        reset_count=reader.uint(4, "resetCount"),
        restart_count=reader.uint(4, "restartCount"),
        safe=_yes_no(reader, "safe"),
        firmware=reader.uint(8, "firmwareVersion"),
        selections=tuple(_selection(reader) for _ in range(_count(reader))),
        digest=reader.sized("pcrDigest", 64),
    )
    reader.end()
    return attest


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE to its last byte. Raises ``BadEvidence``, ``UnsupportedEvidence`` for another scheme."""
    reader = Reader(data, "quote.sig")
    scheme = reader.uint(2, "sigAlg")
    if scheme not in {tpm.RSASSA, tpm.RSAPSS, tpm.ECDSA}:
        raise UnsupportedEvidence(reader.place("sigAlg"), "RSASSA, RSAPSS or ECDSA", f"0x{scheme:04x}")
    number = reader.uint(2, "hash")
    if number not in TPM_ALGS:
        raise UnsupportedEvidence(reader.place("hash"), f"one of {', '.join(_HASHES)}", f"0x{number:04x}")
    names = ("signatureR", "signatureS") if scheme == tpm.ECDSA else ("sig",)
    parts = tuple(reader.sized(name, 512) for name in names)
    reader.end()
    return Signature(scheme=scheme, hash_alg=TPM_ALGS[number], parts=parts)


def check(
    attest: bytes,
    sig: bytes,
    *,
    key: Key,
    nonce: bytes,
    demanded: Selection,
    parent: bytes | None,
    firmware: int | None = None,
) -> Quote:
    """Judge a quote. Raises ``BadEvidence`` if either file is malformed, ``SpecError`` if ``parent`` cannot be used.

    ``firmware``: the only firmwareVersion that is accepted. For a key outside the endorsement and platform hierarchies
    a TPM adds a number to it that depends on the key: pin the value that a quote by this key has shown (Part 1,
    "Obfuscation").
    """
    if parent is not None and key.name is None:
        raise SpecError("the signer's name cannot be checked with a PEM", "give the key as TPM2B_PUBLIC")
    signature = parse_signature(sig)
    findings = [*_signature_findings(signature, attest, key), *_attribute_findings(key)]
    parsed = parse_attest(attest)
    if parsed is None:
        got = attest[4:6].hex()
        findings.append(_finding(FindingKind.QUOTE_TYPE, "type", f"{ATTEST_QUOTE:04x}", got))
        return Quote(attest=None, signature=signature, selection=None, findings=tuple(findings))
    findings += _answer_findings(parsed, signature, nonce, demanded)
    if parent is not None and key.name is not None:
        findings += _unequal(
            FindingKind.QUOTE_SIGNER, "qualifiedSigner", tpm.qualified_name(parent, key.name), parsed.signer
        )
    if firmware is not None and firmware != parsed.firmware:
        expected, got = f"{firmware:016x}", f"{parsed.firmware:016x}"
        findings.append(_finding(FindingKind.QUOTE_SIGNER, "firmwareVersion", expected, got))
    selection = sole_selection(parsed)
    return Quote(attest=parsed, signature=signature, selection=selection, findings=tuple(findings))


def _answer_findings(attest: Attest, signature: Signature, nonce: bytes, demanded: Selection) -> list[Finding]:
    findings = []
    if attest.magic != MAGIC:
        findings.append(_finding(FindingKind.QUOTE_MAGIC, "magic", f"{MAGIC:08x}", f"{attest.magic:08x}"))
    findings += _unequal(FindingKind.QUOTE_NONCE, "extraData", nonce, attest.nonce)
    if sole_selection(attest) != demanded:
        got = " + ".join(_show(alg, bitmap) for alg, bitmap in attest.selections) or "nothing"
        findings.append(_finding(FindingKind.QUOTE_SELECTION, "pcrSelect", str(demanded), got))
    size = BANKS[signature.hash_alg]
    if len(attest.digest) != size:
        got = f"{len(attest.digest)} bytes"
        findings.append(
            _finding(FindingKind.QUOTE_DIGEST_ALG, "pcrDigest", f"{size} bytes of {signature.hash_alg}", got)
        )
    return findings


def _signature_findings(signature: Signature, signed: bytes, key: Key) -> list[Finding]:
    if signature.hash_alg not in _HASHES:
        expected = f"one of {', '.join(_HASHES)}"
        return [_finding(FindingKind.QUOTE_DIGEST_ALG, "hash", expected, signature.hash_alg, file="quote.sig")]
    if key.scheme is not None and (key.scheme, key.scheme_hash) != (signature.scheme, signature.hash_alg):
        expected = f"the key's own scheme, 0x{key.scheme:04x} with {key.scheme_hash}"
        got = f"0x{signature.scheme:04x} with {signature.hash_alg}"
        return [_finding(FindingKind.QUOTE_SIGNATURE, "sigAlg", expected, got, file="quote.sig")]
    if not _verifies(signature, signed, key.public):
        expected = "a signature by the AK"
        return [
            _finding(
                FindingKind.QUOTE_SIGNATURE,
                "signature",
                expected,
                "the signature does not verify with this key",
                file="quote.sig",
            )
        ]
    return []


def _verifies(signature: Signature, signed: bytes, public: tpm.PublicKey) -> bool:
    """Verify; each number must have exactly the size of the key, so that one signature has one encoding.

    Raises ``UnsupportedEvidence`` if this machine's OpenSSL does not have the hash.
    """
    size = (public.key_size + 7) // 8
    if any(len(part) != size for part in signature.parts):
        return False
    digest = _HASHES[signature.hash_alg]
    # Part 1, RSAPSS: the salt is as long as key and digest allow, or as the digest where a TPM keeps to FIPS 186.
    pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
    try:
        if isinstance(public, rsa.RSAPublicKey) and signature.scheme == tpm.RSASSA:
            public.verify(signature.parts[0], signed, padding.PKCS1v15(), digest)
        elif isinstance(public, rsa.RSAPublicKey) and signature.scheme == tpm.RSAPSS:
            public.verify(signature.parts[0], signed, pss, digest)
        elif isinstance(public, ec.EllipticCurvePublicKey) and signature.scheme == tpm.ECDSA:
            r, s = (int.from_bytes(part, "big") for part in signature.parts)
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
        else:
            return False
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm as error:
        expected = "a hash that this machine's OpenSSL can verify signatures with"
        raise UnsupportedEvidence("quote.sig: hash", expected, signature.hash_alg) from error
    return True


def _attribute_findings(key: Key) -> list[Finding]:
    """Check the attributes: only a restricted signing key refuses to sign a forged TPMS_ATTEST."""
    wanted = tpm.FIXED_TPM | tpm.FIXED_PARENT | tpm.ORIGIN | tpm.RESTRICTED | tpm.SIGN
    if key.attributes is None or key.attributes & (wanted | tpm.DECRYPT) == wanted:
        return []
    expected = "a restricted signing key made in its TPM and fixed to it, not for decryption"
    return [_finding(FindingKind.QUOTE_SIGNER, "objectAttributes", expected, f"0x{key.attributes:08x}", file="AK")]


def _selection(reader: Reader) -> tuple[int, bytes]:
    algorithm = reader.uint(2, "pcrSelect hash")
    size = reader.uint(1, "sizeofSelect")
    if not 1 <= size <= 4:
        raise BadEvidence(reader.place("sizeofSelect"), "1 to 4", f"{size}")
    return algorithm, reader.take(size, "pcrSelect")


def _count(reader: Reader) -> int:
    count = reader.uint(4, "pcrSelect count")
    if count > 16:
        raise BadEvidence(reader.place("pcrSelect count"), "at most 16", f"{count}")
    return count


def sole_selection(attest: Attest) -> Selection | None:
    """Return the selection if it is one bank in the one accepted encoding."""
    if len(attest.selections) != 1:
        return None
    algorithm, bitmap = attest.selections[0]
    pcrs = selected(bitmap)
    if algorithm not in TPM_ALGS or len(bitmap) != _BITMAP or not pcrs:
        return None
    return Selection(bank=TPM_ALGS[algorithm], pcrs=pcrs)


def selected(bitmap: bytes) -> tuple[int, ...]:
    """Return the PCRs in a bitmap of TPMS_PCR_SELECTION."""
    return tuple(8 * index + bit for index, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1)


def _show(algorithm: int, bitmap: bytes) -> str:
    return f"{TPM_ALGS.get(algorithm, hex(algorithm))}:{','.join(map(str, selected(bitmap)))} in {len(bitmap)} bytes"


def _yes_no(reader: Reader, field: str) -> bool:
    value = reader.uint(1, field)
    if value > 1:
        raise BadEvidence(reader.place(field), "0 or 1", f"{value}")
    return bool(value)


def _unequal(kind: FindingKind, field: str, expected: bytes, got: bytes) -> list[Finding]:
    """Compare in constant time."""
    if hmac.compare_digest(expected, got):
        return []
    return [_finding(kind, field, expected.hex(), got.hex())]


def _finding(kind: FindingKind, field: str, expected: str, got: str, *, file: str = "quote.attest") -> Finding:
    return Finding(kind=kind, where=f"{file}: {field}", expected=expected, got=got)

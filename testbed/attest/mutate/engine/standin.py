"""A stand-in TPM: a software key that quotes for a machine whose own TPM is gone.

The real TPM of a recorded bundle can no longer be asked. An attacker with root can get a *genuine* quote over any PCR
values. To model that, the machine gets this key, and the verifier gets it as the trusted attestation key. The key signs
only what a TPM would sign, except where an attack says otherwise.

Source: TPM 2.0 Library, Part 2 (TPMS_ATTEST, TPMT_SIGNATURE, TPM2B_PUBLIC). It shares no code with the reader.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from testbed.attest.log.ima import Entry
from testbed.attest.quote import Attest, Signature
from testbed.attest.tpm import tpm2b

ALGORITHMS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign: what `tpm2_createak` gives.
AK_ATTRIBUTES = 0x00050072
PARENT = b"\x00\x0b" + hashlib.sha256(b"parent of the stand-in TPM's keys").digest()
_HASHES = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384()}  # noqa: S303 - as a weak key's
_OLD_NAME_PADDED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A key of the stand-in TPM.

    ``attributes``: TPMA_OBJECT. ``scheme_id``: of an RSA key. ``parent``: the qualified name of its parent.
    """

    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    attributes: int = AK_ATTRIBUTES
    hash_alg: str = "sha256"
    scheme_id: int = RSASSA
    parent: bytes = PARENT

    @property
    def scheme(self) -> int:
        return self.scheme_id if isinstance(self.private, rsa.RSAPrivateKey) else ECDSA

    @property
    def area(self) -> bytes:
        """The TPMT_PUBLIC: no policy, no symmetric algorithm, this scheme."""
        kind = 0x0023 if self.scheme == ECDSA else 0x0001
        head = struct.pack(">HHIHH", kind, ALGORITHMS["sha256"], self.attributes, 0, 0x0010)
        head += struct.pack(">HH", self.scheme, ALGORITHMS[self.hash_alg])
        if isinstance(self.private, rsa.RSAPrivateKey):
            modulus = self.private.public_key().public_numbers().n
            return head + struct.pack(">HI", 2048, 0) + tpm2b(modulus.to_bytes(256, "big"))
        point = self.private.public_key().public_numbers()
        return (
            head
            + struct.pack(">HH", 0x0003, 0x0010)
            + b"".join(tpm2b(axis.to_bytes(32, "big")) for axis in (point.x, point.y))
        )

    @property
    def public(self) -> bytes:
        """The TPM2B_PUBLIC that a verifier is given as the attestation key."""
        return tpm2b(self.area)

    @property
    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def signer(self) -> bytes:
        """The key's qualified name, as its quotes have it."""
        name = b"\x00\x0b" + hashlib.sha256(self.area).digest()
        return b"\x00\x0b" + hashlib.sha256(self.parent + name).digest()

    def sign(self, data: bytes) -> bytes:
        """Return a TPMT_SIGNATURE over any bytes; the caller makes sure that a TPM would sign them."""
        digest = _HASHES[self.hash_alg]
        if isinstance(self.private, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            pad = pss if self.scheme == RSAPSS else padding.PKCS1v15()
            parts: tuple[bytes, ...] = (self.private.sign(data, pad, digest),)
        else:
            numbers = decode_dss_signature(self.private.sign(data, ec.ECDSA(digest)))
            parts = tuple(number.to_bytes(32, "big") for number in numbers)
        return pack_signature(Signature(scheme=self.scheme, hash_alg=self.hash_alg, parts=parts))


@functools.cache
def rsa_tpm() -> StandIn:
    """Return the stand-in TPM's key of RSA-2048, made once per process."""
    return StandIn(private=rsa.generate_private_key(public_exponent=65537, key_size=2048))


@functools.cache
def other_rsa_tpm() -> StandIn:
    """Return the key of another machine."""
    return StandIn(private=rsa.generate_private_key(public_exponent=65537, key_size=2048))


@functools.cache
def ecdsa_tpm() -> StandIn:
    """Return a key on P-256, made once per process."""
    return StandIn(private=ec.generate_private_key(ec.SECP256R1()))


def pack_attest(attest: Attest, *, kind: int = 0x8018, attested: bytes | None = None) -> bytes:
    """Return a TPMS_ATTEST; ``attested`` replaces selections and digest in one that is not a quote."""
    head = struct.pack(">IH", attest.magic, kind) + tpm2b(attest.signer) + tpm2b(attest.nonce)
    head += struct.pack(">QII?Q", attest.clock, attest.reset_count, attest.restart_count, attest.safe, attest.firmware)
    if attested is not None:
        return head + attested
    selections = [struct.pack(">HB", algorithm, len(bits)) + bits for algorithm, bits in attest.selections]
    return head + struct.pack(">I", len(selections)) + b"".join(selections) + tpm2b(attest.digest)


def pack_signature(signature: Signature) -> bytes:
    """Return a TPMT_SIGNATURE."""
    head = struct.pack(">HH", signature.scheme, ALGORITHMS[signature.hash_alg])
    return head + b"".join(map(tpm2b, signature.parts))


def selection(bank: str, pcrs: Iterable[int], size: int = 3) -> tuple[int, bytes]:
    """Return a TPMS_PCR_SELECTION's algorithm and bitmap of ``size`` bytes."""
    return ALGORITHMS[bank], sum(1 << pcr for pcr in pcrs).to_bytes(size, "little")


def extended(entries: Iterable[Entry], pcr: int, bank: str, start: bytes = b"", *, padded: bool = False) -> bytes:
    """Return what a PCR holds after the kernel extended it by these entries: as since 5.8, or as before (``padded``).

    Without ``start`` it begins with the value after a start of the machine: PCRs 17 to 22 as ones (PC Client profile).
    Source: ``ima_calc_field_array_hash_tfm`` and ``ima_pcr_extend`` (security/integrity/ima).
    """
    size = hashlib.new(bank).digest_size
    value = start or (b"\xff" if pcr in range(17, 23) else b"\0") * size
    for entry in entries:
        if entry.pcr == pcr:
            value = hashlib.new(bank, value + _extension(entry, "sha1" if padded else bank).ljust(size, b"\0")).digest()
    return value


def _extension(entry: Entry, algorithm: str) -> bytes:
    if not any(entry.digest):
        return b"\xff" * hashlib.new(algorithm).digest_size
    return hashlib.new(algorithm, hashed(entry)).digest()


def hashed(entry: Entry) -> bytes:
    """Return what an entry's hash covers: its template data; for the template `ima` without length, and padded."""
    if entry.template != b"ima":
        return entry.data
    return entry.data[:20] + entry.data[24:].ljust(_OLD_NAME_PADDED, b"\0")

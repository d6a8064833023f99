"""A credential that only one TPM can open: the one that has both an endorsement key and an attestation key.

Source: TPM 2.0 Library, Part 1, "Credential Protection" and "Key Derivation Function"; Part 2, TPM2B_ID_OBJECT. It is
made here without a TPM, in the form of the file that ``tpm2_activatecredential -i`` reads.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from testbed.attest import tpm
from testbed.attest.finding import UnsupportedEvidence
from testbed.attest.tpm import tpm2b

SECRET_SIZE = 32  # bytes: as many as the digest of the endorsement key's name, which is the most that it can protect
_SHA256 = b"\x00\x0b"
_AES_128_CFB = bytes.fromhex("000600800043")
_LABEL = b"IDENTITY\0"
_HEAD = struct.pack(">II", 0xBADCC0DE, 1)  # magic and version of tpm2-tools' files


def make_credential(endorsement: bytes, name: bytes, secret: bytes) -> bytes:
    """Seal ``secret``, of ``SECRET_SIZE`` bytes, for the TPM that has the key called ``name``.

    ``endorsement``: the endorsement key (``TPM2B_PUBLIC``), RSA 2048 or NIST P-256 of the usual templates (L-1, L-2 of
    the TCG EK Credential Profile). Raises ``UnsupportedEvidence`` for another kind, ``SpecError`` for what is no key.
    """
    assert len(secret) == SECRET_SIZE
    key = tpm.load_key(endorsement)
    _check_template(endorsement, key)
    seed, sealed = _share(key.public)
    identity = _encrypt(_kdfa(seed, b"STORAGE", name, 16), tpm2b(secret))
    proof = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 32), identity + name, "sha256")
    return _HEAD + tpm2b(tpm2b(proof) + identity) + tpm2b(sealed)


def _check_template(endorsement: bytes, key: tpm.Key) -> None:
    """Refuse a key that derives in another way: the digest of its name and its cipher decide how."""
    area = endorsement[2:]
    policy_size = int.from_bytes(area[8:10], "big")
    cipher = area[10 + policy_size : 16 + policy_size]
    if area[2:4] != _SHA256 or cipher != _AES_128_CFB:
        expected = "a key whose name is by SHA-256 and whose cipher is AES-128 in CFB mode"
        raise UnsupportedEvidence("endorsement key", expected, f"name by 0x{area[2:4].hex()}, cipher {cipher.hex()}")
    if isinstance(key.public, ec.EllipticCurvePublicKey) and not isinstance(key.public.curve, ec.SECP256R1):
        raise UnsupportedEvidence("endorsement key", "RSA or NIST P-256", key.public.curve.name)


def _share(public: tpm.PublicKey) -> tuple[bytes, bytes]:
    """Return a new seed, and it sealed for the key."""
    if isinstance(public, rsa.RSAPublicKey):
        seed = os.urandom(32)
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=_LABEL)
        return seed, public.encrypt(seed, oaep)
    private = ec.generate_private_key(ec.SECP256R1())
    numbers, theirs = private.public_key().public_numbers(), public.public_numbers()
    x, y, other = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y, theirs.x))
    shared = private.exchange(ec.ECDH(), public)
    seed = hashlib.sha256(struct.pack(">I", 1) + shared + _LABEL + x + other).digest()  # KDFe
    return seed, tpm2b(x) + tpm2b(y)


def _kdfa(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    data = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", 8 * size)
    return hmac.digest(key, data, "sha256")[:size]


def _encrypt(key: bytes, data: bytes) -> bytes:
    """Encrypt by AES-128 in CFB mode, from zeros on, whose own implementation ``cryptography`` is going to remove."""
    block, done = Cipher(algorithms.AES128(key), modes.ECB()).encryptor(), b""  # noqa: S305 - of one block
    for at in range(0, len(data), 16):
        mask = block.update(done[-16:] if done else bytes(16))
        done += bytes(one ^ other for one, other in zip(data[at : at + 16], mask, strict=False))
    return done

"""TPM structures, read strictly: every byte belongs to a field, and one value has one encoding.

Source: TPM 2.0 Library, Part 2 (structures) and Part 1, "Names". Integers are big-endian.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.hashes import BANKS, HASHES, TPM_ALGS
from testbed.errors import SpecError

RSA, ECC, NULL = 0x0001, 0x0023, 0x0010
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
CURVES: dict[int, ec.EllipticCurve] = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1(), 0x0005: ec.SECP521R1()}
FIXED_TPM, FIXED_PARENT, ORIGIN, RESTRICTED, DECRYPT, SIGN = (1 << bit for bit in (1, 4, 5, 16, 17, 18))
RSA_MIN = 2048  # bits; TPMs make keys of 1024 too, which can be factored

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def tpm2b(content: bytes) -> bytes:
    """Return bytes as a TPM2B; ``Reader.sized`` reads it."""
    return len(content).to_bytes(2, "big") + content


class Reader:
    """A position in ``data``; ``what`` is its name in errors. Raises ``BadEvidence`` if too few bytes are left."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self.what = what

    def take(self, size: int, field: str) -> bytes:
        """Return the next ``size`` bytes."""
        left = len(self._data) - self._at
        if size > left:
            raise BadEvidence(self.place(field), f"{size} bytes", f"{left} to the end")
        self._at += size
        return self._data[self._at - size : self._at]

    def uint(self, size: int, field: str) -> int:
        """Return the next ``size`` bytes as a number."""
        return int.from_bytes(self.take(size, field), "big")

    def sized(self, field: str, most: int) -> bytes:
        """Return the content of a TPM2B of at most ``most`` bytes."""
        size = self.uint(2, field)
        if size > most:
            raise BadEvidence(self.place(field), f"at most {most} bytes", f"{size}")
        return self.take(size, field)

    def end(self) -> None:
        """Reject bytes after the last field."""
        left = len(self._data) - self._at
        if left:
            raise BadEvidence(self.place("end"), "no bytes after the structure", f"{left}")

    def place(self, field: str) -> str:
        return f"{self.what}: {field} at byte {self._at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An attestation key. With a PEM only ``public`` is known: it does not contain name, scheme and attributes."""

    public: PublicKey
    name: bytes | None = None
    scheme: int | None = None
    scheme_hash: str | None = None
    attributes: int | None = None


def qualified_name(parent: bytes, name: bytes) -> bytes:
    """Return the qualified name of a key called ``name`` below a parent of qualified name ``parent``."""
    return name[:2] + _digest(name[:2], parent + name)


def _digest(algorithm: bytes, data: bytes) -> bytes:
    value: bytes = HASHES[TPM_ALGS[int.from_bytes(algorithm, "big")]](data).digest()
    return value


def parse_name(text: str) -> bytes:
    """Read a name in hex: algorithm and digest. Raises ``SpecError``."""
    raw = bytes.fromhex(text) if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text) else b""
    algorithm = TPM_ALGS.get(int.from_bytes(raw[:2], "big"))
    if algorithm is None or len(raw) != 2 + BANKS[algorithm]:
        hint = "`tpm2_readpublic -c PARENT -q FILE` writes it"
        raise SpecError(f"qualified name: expected hex of an algorithm and its digest, got {text[:80]!r}", hint)
    return raw


def load_key(data: bytes) -> Key:
    """Read an attestation key, a PEM or a TPM2B_PUBLIC. Raises ``SpecError``: it is an argument, not evidence."""
    hint = "give `tpm2_createak -u FILE` as it writes it, or a PEM public key"
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return Key(public=_usable(_read_pem(data)))
        reader = Reader(data, "TPM2B_PUBLIC")
        area = reader.sized("size", 4096)
        reader.end()
        return _public_area(area)
    except (BadEvidence, ValueError, UnsupportedAlgorithm) as error:
        raise SpecError(f"attestation key: {error}", hint) from error


def _read_pem(data: bytes) -> object:
    # Imported only here: the module loads every format of keys, which takes a tenth of the time that `testbed verify`
    # may take.
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    return load_pem_public_key(data)


def _public_area(area: bytes) -> Key:
    reader = Reader(area, "TPMT_PUBLIC")
    kind = reader.uint(2, "type")
    name_alg = reader.uint(2, "nameAlg")
    if name_alg not in TPM_ALGS:
        raise UnsupportedEvidence("nameAlg", f"one of {', '.join(BANKS)}", f"0x{name_alg:04x}")
    attributes = reader.uint(4, "objectAttributes")
    reader.sized("authPolicy", 64)
    if (symmetric := reader.uint(2, "symmetric")) != NULL:
        reader.take(4, "symmetric key bits and mode")
    scheme, scheme_hash = _scheme(reader)
    _check_restricted(kind, attributes, symmetric, scheme)
    if kind == RSA:
        public: PublicKey = _rsa(reader)
    elif kind == ECC:
        public = _ecc(reader)
    else:
        raise UnsupportedEvidence("type", "an RSA or ECC key", f"0x{kind:04x}")
    reader.end()
    name = area[2:4] + _digest(area[2:4], area)
    return Key(public=public, name=name, scheme=scheme, scheme_hash=scheme_hash, attributes=attributes)


def _check_restricted(kind: int, attributes: int, symmetric: int, scheme: int | None) -> None:
    """Refuse a restricted signing key that no TPM makes: its one scheme is fixed, and it protects no other key.

    Source: Part 2, TPMS_RSA_PARMS, TPMS_ECC_PARMS and TPMT_SYM_DEF_OBJECT.
    """
    if attributes & RESTRICTED and attributes & SIGN:
        schemes = {RSA: (RSASSA, RSAPSS), ECC: (ECDSA,)}.get(kind, (scheme,))
        if scheme not in schemes:
            expected = (
                "RSASSA or RSAPSS of an RSA key, ECDSA of an ECC key, as in every restricted signing key of a TPM"
            )
            raise BadEvidence("scheme", expected, "none" if scheme is None else f"0x{scheme:04x}")
        if symmetric != NULL:
            raise BadEvidence("symmetric", "none, as the key is for signing", f"0x{symmetric:04x}")


def _scheme(reader: Reader) -> tuple[int | None, str | None]:
    scheme = reader.uint(2, "scheme")
    if scheme == NULL:
        return None, None
    if scheme not in {RSASSA, RSAPSS, ECDSA}:
        raise UnsupportedEvidence(reader.place("scheme"), "RSASSA, RSAPSS, ECDSA or none", f"0x{scheme:04x}")
    return scheme, TPM_ALGS.get(reader.uint(2, "scheme hash"), "unknown")


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits = reader.uint(2, "keyBits")
    exponent = reader.uint(4, "exponent") or 65537
    modulus = int.from_bytes(reader.sized("modulus", 512), "big")
    if modulus.bit_length() != bits:
        raise BadEvidence("modulus", f"{bits} bits", f"{modulus.bit_length()}")
    return _strong(rsa.RSAPublicNumbers(exponent, modulus).public_key())


def _ecc(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve = CURVES.get(reader.uint(2, "curveID"))
    if curve is None:
        raise UnsupportedEvidence(reader.place("curveID"), "NIST P-256, P-384 or P-521", "another curve")
    if reader.uint(2, "kdf") != NULL:
        reader.take(2, "kdf hash")
    x, y = (int.from_bytes(reader.sized(axis, 66), "big") for axis in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def _usable(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        return _strong(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, tuple(map(type, CURVES.values()))):
        return key
    raise UnsupportedEvidence("PEM", "an RSA key or one on NIST P-256, P-384 or P-521", type(key).__name__)


def _strong(key: rsa.RSAPublicKey) -> rsa.RSAPublicKey:
    if key.key_size < RSA_MIN:
        raise UnsupportedEvidence("modulus", f"{RSA_MIN} bits or more", f"{key.key_size}")
    return key

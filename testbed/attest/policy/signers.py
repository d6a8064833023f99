"""The keys whose file signatures a policy accepts: certificates and public keys, as PEM or as base64 of DER."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from testbed import files
from testbed.attest.log.signatures import ID_SIZE, Keyring, SignatureCheck, SigningKey
from testbed.attest.policy.lint import compile_patterns, matches
from testbed.attest.policy.paths import is_host_name, shorten
from testbed.attest.tpm import CURVES, RSA_MIN, PublicKey
from testbed.errors import SpecError

if TYPE_CHECKING:
    from testbed.attest.policy.keys import Signer

_SIZE_MAX = 1 << 16
_EXPECTED = f"one certificate or public key, of RSA ({RSA_MIN} bits or more) or NIST P-256, P-384 or P-521"
_HINT = "`testbed policy from-key FILE` writes a key, PEM or DER, as a policy has it"
_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What was given for a key. ``ids``: the last bytes of its certificate's subject key id and of its own SHA-1."""

    public: PublicKey
    ids: frozenset[bytes]
    pem: str


def keyring(signers: Sequence[Signer], where: str) -> Keyring:
    """Return the keys of a policy by their ids. Raises ``SpecError``."""
    found: dict[bytes, tuple[SigningKey, ...]] = {}
    for at, signer in enumerate(signers):
        key = f"host.signed-by.{at}"
        paths = None if signer.paths is None else compile_patterns(signer.paths, where, f"{key}.paths", anywhere=True)
        try:
            given = _read(_bytes_of(signer.key))
        except ValueError as error:
            raise SpecError(f"{where}: key '{key}.key': expected {_EXPECTED}, got {error}", _HINT) from error
        made = SigningKey(public=given.public, paths=paths)
        found |= {key_id: (*found.get(key_id, ()), made) for key_id in given.ids}
    return found


def why_not(checked: SignatureCheck, name: bytes) -> str | None:
    """Return why a signature does not accept a file of this name; empty if there is none, ``None`` if it does."""
    if not checked.signers:
        return checked.why
    if not is_host_name(name):
        return "signed, but this is not the name of a file"
    if any(key.paths is None or matches(key.paths, name) for key in checked.signers):
        return None
    return "signed by a key that the policy accepts for other paths"


def key_text(path: Path) -> str:
    """Return the certificate or public key in a file, PEM or DER, as PEM. Raises ``SpecError``."""
    try:
        with files.open_plain(path) as file:
            return _read(file.read(_SIZE_MAX)).pem
    except OSError as error:
        raise SpecError(
            f"{path}: expected a plain file, got: {files.reason(error)}", "give the path of a key"
        ) from error
    except ValueError as error:
        hint = "give certificates or public keys, one in each file"
        raise SpecError(f"{path}: expected {_EXPECTED}, got {error}", hint) from error


def key_and_ids(text: str) -> tuple[str, frozenset[int]]:
    """Return a key that a policy can have, as PEM, and the ids by which entries can name it. Raises ``ValueError``."""
    given = _read(_bytes_of(text))
    return given.pem, frozenset(int.from_bytes(one, "big") for one in given.ids)


def public_of(text: str) -> PublicKey:
    """Return the public key in a key that a policy has. Raises ``ValueError``."""
    return _read(_bytes_of(text)).public


def _bytes_of(text: str) -> bytes:
    if _BEGIN.decode() in text:
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError("text that is neither PEM nor base64") from error


def _read(data: bytes) -> _Given:
    """Read a key. Raises ``ValueError``. Of a certificate only the key and its id count, as for IMA: not its dates."""
    # Imported only here: it loads every format of keys, and most policies have no key.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    if b" PRIVATE KEY-" in data:
        raise ValueError("a private key")
    if (blocks := data.count(_BEGIN)) > 1:
        raise ValueError(f"{blocks} blocks of PEM")
    try:
        given = _parse(data)
        certificate = given if isinstance(given, x509.Certificate) else None
        public = _usable(certificate.public_key() if certificate else given)
        extensions = [one.value for one in certificate.extensions] if certificate else []
    except (UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise ValueError(f"one that cannot be used: {shorten(str(error))}") from error
    ids = [x509.SubjectKeyIdentifier.from_public_key(public).digest]
    ids += [value.digest for value in extensions if isinstance(value, x509.SubjectKeyIdentifier)]
    pem = certificate.public_bytes(Encoding.PEM) if certificate else None
    pem = pem or public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _Given(public=public, ids=frozenset(one[-ID_SIZE:] for one in ids), pem=pem.decode())


def _parse(data: bytes) -> object:
    """Return a certificate, or a key of any kind. Raises ``ValueError``, and what ``cryptography`` raises beside it."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        if b" CERTIFICATE-" in data:
            return x509.load_pem_x509_certificate(data)
        if _BEGIN in data:
            return serialization.load_pem_public_key(data)
        with suppress(ValueError):
            return x509.load_der_x509_certificate(data)
        return serialization.load_der_public_key(data)
    except ValueError as error:
        raise ValueError("something else") from error


def _usable(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_MIN:
            raise ValueError(f"an RSA key of {key.key_size} bits")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, tuple(map(type, CURVES.values()))):
        return key
    raise ValueError(f"a key of another kind ({type(key).__name__})")

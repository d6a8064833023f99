"""Is this the endorsement key of a real TPM, and that an attestation key? What a registrar asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from testbed.attest import tpm
from testbed.attest.finding import BadEvidence
from testbed.errors import SpecError

if TYPE_CHECKING:  # it loads every format of keys
    from cryptography import x509

_BASE = tpm.FIXED_TPM | tpm.FIXED_PARENT | tpm.ORIGIN | tpm.RESTRICTED
_BEGIN = b"-----BEGIN"
# tcg-kp-EKCertificate (TCG EK Credential Profile).
_EK_CERTIFICATE = "2.23.133.8.1"


def load_authorities(files: Sequence[tuple[str, bytes]]) -> tuple[x509.Certificate, ...]:
    """Read certificates of authorities, PEM (several in a file) or DER, by their files' names. Raises ``SpecError``."""
    from cryptography import x509  # noqa: PLC0415

    found: list[x509.Certificate] = []
    for name, data in files:
        try:
            several = (
                x509.load_pem_x509_certificates(data) if _BEGIN in data else [x509.load_der_x509_certificate(data)]
            )
        except (ValueError, UnsupportedAlgorithm) as error:
            hint = "give the certificates of the TPM's maker, PEM or DER"
            raise SpecError(f"{name}: expected certificates, got: {error}", hint) from error
        found += several
    return tuple(found)


def check_endorsement(certificate: bytes, endorsement: bytes, authorities: Sequence[x509.Certificate]) -> str:
    """Check that one of ``authorities`` certifies an endorsement key (``TPM2B_PUBLIC``); return the issuer's name.

    ``certificate``: DER, with any bytes after it: NV memory may be longer. Raises ``BadEvidence``. Dates and
    revocation are not checked.
    """
    from cryptography import x509  # noqa: PLC0415

    key = _load("ek.pub", endorsement, must=_BASE | tpm.DECRYPT, must_not=tpm.SIGN)
    try:
        leaf = x509.load_der_x509_certificate(der_prefix(certificate))
        certified: object = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadEvidence("ek.crt", "a certificate with a key that can be read", ascii(str(error))[:200]) from error
    if certified != key.public:
        raise BadEvidence("ek.pub", "the key in ek.crt", "another key")
    _check_use(leaf)
    for authority in authorities:
        if issued(leaf, authority):
            return authority.subject.rfc4514_string()
    expected = f"a certificate that one of the {len(authorities)} authorities that you gave has issued"
    raise BadEvidence("ek.crt", expected, f"one of {ascii(leaf.issuer.rfc4514_string())[:200]}")


def _check_use(leaf: x509.Certificate) -> None:
    """Check that a certificate is one for an endorsement key, if it says what it is for; old chips do not.

    Otherwise the owner of any other certificate of that authority could open credentials without a TPM.
    """
    from cryptography import x509  # noqa: PLC0415

    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise BadEvidence("ek.crt", "extensions that can be read", ascii(str(error))[:200]) from error
    if x509.ObjectIdentifier(_EK_CERTIFICATE) not in uses:
        raise BadEvidence("ek.crt", f"a certificate of an endorsement key ({_EK_CERTIFICATE})", "one for another use")


def check_ak(public: bytes) -> tpm.Key:
    """Return a key (``TPM2B_PUBLIC``) if a TPM signs quotes, and nothing else, with it. Raises ``BadEvidence``."""
    return _load("ak.pub", public, must=_BASE | tpm.SIGN, must_not=tpm.DECRYPT)


def check_ek(public: bytes) -> tpm.Key:
    """Return a key (``TPM2B_PUBLIC``) if it has the attributes of an endorsement key. Raises ``BadEvidence``."""
    return _load("ek.pub", public, must=_BASE | tpm.DECRYPT, must_not=tpm.SIGN)


def der_prefix(data: bytes) -> bytes:
    """Return the one DER element that ``data`` begins with. Raises ``BadEvidence``."""
    long_form = data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0
    size = int.from_bytes(data[2 : 2 + long_form], "big") if long_form else data[1] if len(data) > 1 else 0
    end = 2 + long_form + size
    if data[:1] != b"\x30" or end > len(data):
        raise BadEvidence("ek.crt", "DER", f"{data[:4].hex() or 'nothing'}, {len(data)} bytes")
    return data[:end]


def issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether a certificate, which must be that of an authority, has issued another one."""
    from cryptography import x509  # noqa: PLC0415

    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return True


def _load(where: str, public: bytes, *, must: int, must_not: int) -> tpm.Key:
    try:
        key = tpm.load_key(public)
    except SpecError as error:
        raise BadEvidence(where, "a TPM2B_PUBLIC", error.message) from error
    if key.attributes is None:
        raise BadEvidence(where, "a TPM2B_PUBLIC", "a PEM")
    if key.attributes & must != must or key.attributes & must_not:
        expected = f"attributes 0x{must:08x} and not 0x{must_not:08x}"
        raise BadEvidence(where, expected, f"0x{key.attributes:08x}")
    return key

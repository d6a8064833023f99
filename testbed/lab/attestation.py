"""Evidence of a running machine: its attestation key, enrolled once before the save, and bundles of quote and log.

Enrolment is what a registrar does: the endorsement key's certificate leads to a CA that we trust, the attestation key
(AK) has the attributes of one, and only a TPM that holds both could open the credential that we made. Then the AK's
public part is believed. The AK stays in the TPM at ``AK_HANDLE``, so clones of a saved machine quote with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.attest.enrol import keys
from testbed.attest.enrol.credential import SECRET_SIZE, make_credential
from testbed.attest.finding import BadEvidence
from testbed.attest.quote import parse_attest
from testbed.attest.tpm import Key
from testbed.errors import EvidenceError, LabError, SpecError
from testbed.guest import Guest
from testbed.lab.machines.swtpm import CertificateAuthority

AK_HANDLE = "0x81010010"
NONCE_LABEL = b"testbed-nonce-v1"
_EK_CERTIFICATE = "0x01c00002"  # NV index of the RSA 2048 EK's certificate (TCG EK Credential Profile, 2.2.1.4)
_QUOTE_TRIES = 8
_TPM_SECONDS = 120

_CREATE = f"""
set -e
mkdir -p -m 700 /run/testbed/tpm
cd /run/testbed/tpm
tpm2_nvread -Q {_EK_CERTIFICATE} -o ek.crt
tpm2_createek -Q -c ek.ctx -G rsa -u ek.pub
tpm2_createak -Q -C ek.ctx -c ak.ctx -G rsa -g sha256 -s rsassa -u ak.pub
tpm2_evictcontrol -Q -C o -c ak.ctx {AK_HANDLE}
for file in ek.crt ek.pub ak.pub; do base64 -w0 $file; echo; done
"""
_ACTIVATE = """
set -e
cd /run/testbed/tpm
cat >credential
tpm2_startauthsession -Q --policy-session -S session
tpm2_policysecret -Q -S session -c e
tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i credential -o secret -P session:session
tpm2_flushcontext session
base64 -w0 secret
cd /
rm -r /run/testbed/tpm
"""
_QUOTE = f"""
set -e
mkdir -p -m 700 /run/testbed/quote
cd /run/testbed/quote
tpm2_quote -Q -c {AK_HANDLE} -l "$1" -q "$2" -g sha256 -m quote.attest -s quote.sig -o values -F values
for file in quote.attest quote.sig values; do base64 -w0 $file; echo; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """An evidence bundle that was written at ``directory``. ``nonce`` is what its quote contains."""

    directory: Path
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What one ``tpm2_quote`` gave: the two structures, and the PCR values that it read beside them."""

    attest: bytes
    sig: bytes
    values: Mapping[int, bytes]


def enrol(guest: Guest, authority: CertificateAuthority) -> bytes:
    """Return the attestation key of the machine's TPM (``TPM2B_PUBLIC``), made now and proven to live in that TPM.

    Raises ``LabError`` if anything does not fit, ``DeployError`` if the guest's TPM tools fail.
    """
    said = guest.run(["sh", "-c", _CREATE], timeout=_TPM_SECONDS).text.split()
    certificate, endorsement, ak = (base64.b64decode(word, validate=True) for word in said)
    check_endorsement(certificate, endorsement, tuple(path.read_bytes() for path in authority.certificates))
    key = check_ak(ak)
    secret = secrets.token_bytes(SECRET_SIZE)
    assert key.name is not None
    credential = make_credential(endorsement, key.name, secret)
    opened = guest.run(["sh", "-c", _ACTIVATE], input=credential, timeout=_TPM_SECONDS).text
    if base64.b64decode(opened) != secret:
        raise LabError("AK: the TPM returned a different secret: it does not hold this AK")
    return ak


def check_endorsement(certificate: bytes, endorsement: bytes, authorities: tuple[bytes, ...]) -> None:
    """Check that the EK (``TPM2B_PUBLIC``) is what a certificate (DER) says, which leads to ``authorities`` (PEM).

    ``authorities``: the root first, then the issuer. Raises ``LabError``.
    """
    try:
        root, issuer = keys.load_authorities([("root", authorities[0]), ("issuer", authorities[1])])
        if not keys.issued(issuer, root):
            raise LabError(f"issuer certificate: not issued by {root.subject.rfc4514_string()}")
        keys.check_endorsement(certificate, endorsement, [issuer])
    except (BadEvidence, SpecError) as error:
        raise LabError(f"EK: {error.message}") from error


def check_ak(public: bytes) -> Key:
    """Return the key if it has the attributes of an attestation key. Raises ``LabError``."""
    try:
        return keys.check_ak(public)
    except BadEvidence as error:
        raise LabError(f"AK: {error.message}") from error


def nonce(clone_id: str, challenge: bytes) -> bytes:
    """Return what a quote must contain: SHA-256 of the label, the clone's id (16 bytes) and the challenge.

    Clones of one save have the same keys, PCRs and clock; this makes the quote of one no answer for another.
    """
    return hashlib.sha256(NONCE_LABEL + bytes.fromhex(clone_id) + challenge).digest()


def collect(guest: Guest, pcrs: Sequence[int], challenge: bytes, clone_id: str, directory: Path) -> Collected:
    """Write an evidence bundle: a quote over ``pcrs`` that answers ``challenge``, then the IMA log.

    The log is read after the quote, so it can have more entries than the quote covers, never fewer. Raises
    ``LabError`` if PCRs change faster than they can be read, ``DeployError``.
    """
    asked = nonce(clone_id, challenge)
    tries = (_quote(guest, pcrs, asked) for _ in range(_QUOTE_TRIES))
    quoted = next((done for done in tries if done is not None), None)
    if quoted is None:
        raise LabError(
            f"PCRs {list(pcrs)} changed in each of {_QUOTE_TRIES} quotes",
            "a program in the guest causes measurements without a pause; look at dmesg",
        )
    log = guest.get("/sys/kernel/security/ima/binary_runtime_measurements")
    notes = {
        "schema": 1,
        "hash_alg": "sha256",
        "pcrs": sorted(pcrs),
        "pcr_values": {str(pcr): value.hex() for pcr, value in quoted.values.items()},
        "nonce": asked.hex(),
        "challenge": challenge.hex(),
        "boot_id": guest.get("/proc/sys/kernel/random/boot_id").decode().strip(),
        "clone_id": clone_id,
    }
    bundle = (json.dumps(notes, indent=1) + "\n").encode()
    _write(directory, {"bundle.json": bundle, "quote.attest": quoted.attest, "quote.sig": quoted.sig, "ima.bin": log})
    return Collected(directory=directory, nonce=asked)


def _quote(guest: Guest, pcrs: Sequence[int], asked: bytes) -> Quoted | None:
    # None: a PCR changed between the quote and the reading of its value, which tpm2_quote itself may notice and refuse.
    selection = "sha256:" + ",".join(map(str, sorted(pcrs)))
    done = guest.run(["sh", "-c", _QUOTE, "quote", selection, asked.hex()], timeout=_TPM_SECONDS, check=False)
    if done.code and b"PCR" in done.err:
        return None
    if done.code:
        raise LabError(f"tpm2_quote: exit status {done.code}: {done.err.decode(errors='backslashreplace')}")
    attest, sig, values = (base64.b64decode(word, validate=True) for word in done.text.split())
    return read_quoted(attest, sig, values, pcrs, asked)


def read_quoted(attest: bytes, sig: bytes, values: bytes, pcrs: Sequence[int], asked: bytes) -> Quoted | None:
    """Put together what ``tpm2_quote`` wrote; ``None`` if the values are not those that were quoted.

    Raises ``EvidenceError`` if it quoted something else than it was asked for.
    """
    parsed = parse_attest(attest)
    if parsed is None or parsed.nonce != asked or len(values) != len(pcrs) * hashlib.sha256().digest_size:
        raise EvidenceError(
            f"tpm2_quote: expected a quote over PCRs {list(pcrs)} with nonce {asked.hex()}, got another"
        )
    if parsed.digest != hashlib.sha256(values).digest():
        return None
    each = {pcr: values[32 * i : 32 * (i + 1)] for i, pcr in enumerate(sorted(pcrs))}
    return Quoted(attest=attest, sig=sig, values=each)


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    beside = directory.with_name(f".part-{directory.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, data in files.items():
        (beside / name).write_bytes(data)
    beside.rename(directory)

"""The verifier's side of an enrolment by files: a challenge for one TPM, and the check of its answer.

::

    machine                                  verifier
      enrol.tar (EK, its certificate, AK) ->   challenge: checks the keys, makes secret and nonce
      challenge.tar (credential, nonce)   <-   keeps expected.json
      evidence.tar (secret, bundle)       ->   accept: the secret shows that this TPM has the AK
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import files
from testbed.attest.bundle import LIMITS, read_bundle
from testbed.attest.enrol import keys, parcel
from testbed.attest.enrol.credential import SECRET_SIZE, make_credential
from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS
from testbed.attest.quote import parse_nonce, parse_selection
from testbed.attest.strict_json import read_json
from testbed.errors import SpecError

if TYPE_CHECKING:
    from cryptography import x509

SCHEMA = 1
EXPECTED, CHALLENGE = "expected.json", "challenge.tar"
_ENROLMENT = {"ek.pub": 1 << 12, "ak.pub": 1 << 12, "ek.crt": 1 << 13}
_ANSWER = {**LIMITS, "ak.pub": 1 << 12, "secret": SECRET_SIZE}
_SCRIPT = Path(__file__).with_name("collect.sh")
_EXPECTED_MAX = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What one machine has to answer. ``issuer``: who certified its endorsement key; empty: nobody was asked.

    ``proof``: SHA-256 of the secret in the credential. ``pcrs``: as for ``--pcrs``.
    """

    ak: bytes
    nonce: bytes
    proof: bytes
    pcrs: str
    issuer: str


def script(pcrs: str) -> str:
    """Return the shell script that collects evidence over ``pcrs`` (``sha256:10,11``). Raises ``SpecError``."""
    selection = parse_selection(pcrs)
    values = {
        "@BANK@": selection.bank,
        "@PCRS@": ",".join(map(str, selection.pcrs)),
        "@BYTES@": f"{BANKS[selection.bank]}",
    }
    text = _SCRIPT.read_text(encoding="ascii")
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def challenge(
    enrolment: Path, directory: Path, *, authorities: Sequence[x509.Certificate] | None, pcrs: str
) -> Challenge:
    """Read ``enrol.tar`` and write a new directory with the challenge and with what its answer must be.

    ``authorities``: who may have certified the endorsement key; ``None``: this is not asked. Raises ``BadEvidence`` for
    keys that are not a TPM's, ``SpecError``.
    """
    selection = parse_selection(pcrs)
    given = parcel.unpack(enrolment, _ENROLMENT)
    for name in ("ek.pub", "ak.pub", *(("ek.crt",) if authorities is not None else ())):
        if name not in given:
            raise BadEvidence(enrolment.name, f"a file {name}", "none; the TPM may have no certificate")
    ak = keys.check_ak(given["ak.pub"])
    issuer = ""
    if authorities is None:
        keys.check_ek(given["ek.pub"])
    else:
        issuer = keys.check_endorsement(given["ek.crt"], given["ek.pub"], authorities)
    secret, nonce = secrets.token_bytes(SECRET_SIZE), secrets.token_bytes(32)
    assert ak.name is not None
    credential = make_credential(given["ek.pub"], ak.name, secret)
    proof = hashlib.sha256(secret).digest()
    made = Challenge(ak=given["ak.pub"], nonce=nonce, proof=proof, pcrs=str(selection), issuer=issuer)
    with files.new_directory(directory) as spare:
        files.write_plain(spare / CHALLENGE, parcel.pack({"credential": credential, "nonce": nonce.hex().encode()}))
        files.write_plain(spare / EXPECTED, _as_json(made), mode=0o600)
    return made


def accept(directory: Path, evidence: Path, bundle: Path) -> Challenge:
    """Check ``evidence.tar`` against the challenge in ``directory``, and write its bundle, with the AK, as ``bundle``.

    Nothing is verified but the secret: `testbed verify` judges the bundle. Raises ``BadEvidence`` if the secret is not
    that of the challenge: then this TPM does not have the attestation key. Raises ``SpecError`` for a wrong challenge.
    """
    expected = read_challenge(directory / EXPECTED)
    with files.new_directory(bundle) as spare:
        names = parcel.unpack_into(evidence, _ANSWER, spare)
        for name in _ANSWER.keys() - names:
            raise BadEvidence(evidence.name, f"a file {name}", "none")
        opened = (spare / "secret").read_bytes()
        (spare / "secret").unlink()
        if not hmac.compare_digest(hashlib.sha256(opened).digest(), expected.proof):
            raise BadEvidence("secret", "the one in the credential", "another: this TPM does not have this key")
        if (spare / "ak.pub").read_bytes() != expected.ak:
            raise BadEvidence("ak.pub", "the attestation key that was enrolled", "another key")
        read_bundle(spare)
    return expected


def read_challenge(path: Path) -> Challenge:
    """Read ``expected.json``, the verifier's own file. Raises ``SpecError``."""
    hint = f"give the directory that `testbed collect challenge` made; it has {CHALLENGE} and {EXPECTED}"
    try:
        with files.open_plain(path) as file:
            raw = read_json(file.read(_EXPECTED_MAX))
        return _of_json(raw)
    except OSError as error:
        raise SpecError(f"{path}: expected a plain file, got: {files.reason(error)}", hint) from error
    except (ValueError, KeyError, TypeError, SpecError) as error:
        raise SpecError(f"{path}: expected what a challenge must be answered with, got: {error}", hint) from error


def _of_json(raw: Any) -> Challenge:
    """Read what ``_as_json`` wrote. Raises what a wrong object causes."""
    if raw["schema"] != SCHEMA:
        raise ValueError(f"another schema than {SCHEMA}")
    return Challenge(
        ak=bytes.fromhex(raw["ak"]),
        nonce=parse_nonce(raw["nonce"]),
        proof=bytes.fromhex(raw["proof"]),
        pcrs=str(parse_selection(raw["pcrs"])),
        issuer=str(raw["issuer"]),
    )


def _as_json(made: Challenge) -> bytes:
    raw = {"schema": SCHEMA, "nonce": made.nonce.hex(), "pcrs": made.pcrs, "ak": made.ak.hex()}
    raw |= {"proof": made.proof.hex(), "issuer": made.issuer}
    return json.dumps(raw, indent=1).encode() + os.linesep.encode()

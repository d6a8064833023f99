"""A seal: a signed list of the SHA-256 of all files of a results directory, with how its runs were judged.

It is an in-toto Statement (v1) with the predicate *Test Result* (v0.1) in a DSSE envelope. The signature covers the
list, so a verifier with the public key notices each file that was changed, removed or added since.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from testbed import files
from testbed.analysis.tables import stored, worst_check
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.errors import EvidenceError, SpecError
from testbed.record import Status
from testbed.rundir import LOCK, Campaign, load

FILE = "seal.dsse.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_PAYLOAD = "application/vnd.in-toto+json"
# Not sealed: the seal itself, and the lock that each later command makes.
_LEFT_OUT = frozenset({FILE, LOCK})
_MAX = 1 << 28
_AUTHOR = "take it again from its author"
_KEYS = "Ed25519, or ECDSA on P-256, P-384 or P-521, as PEM without a password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A seal that was written or read: who signed (``key``: the id of the key), what it covers, and its result."""

    path: Path
    key: str
    digests: dict[str, str]
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SealDifferences:
    """How a directory differs from its seal: names of files, sorted."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is as it was sealed, and there is no other."""
        return not (self.changed or self.missing or self.added)


def seal(directory: Path, key: bytes) -> Sealed:
    """Sign the digests of all files of a campaign with a private key in PEM, and write the seal into it.

    Raises ``SpecError`` for a key that cannot sign, a directory that is no campaign, and for what no digest can cover
    (symbolic links, names that are not UTF-8); ``OSError`` for a file that cannot be read.
    """
    signer = _signer(key)
    predicate = test_result(directory)
    digests = dict(_digests(directory))
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    envelope = Envelope(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode(), _PAYLOAD, {})
    signature = envelope.sign(signer)
    path = directory / FILE
    files.write_plain(path, json.dumps(envelope.to_dict(), indent=1).encode() + b"\n")
    return Sealed(path=path, key=signature.keyid, digests=digests, result=predicate["result"])


def unseal(directory: Path, key: bytes) -> Sealed | None:
    """Read a directory's seal and verify its signature with a public key in PEM; ``None`` if another key made it.

    Raises ``SpecError`` for a key that cannot verify, ``EvidenceError`` if there is no seal or it is malformed.
    """
    public = _public(key)
    path = directory / FILE
    envelope = _envelope(path)
    try:
        envelope.verify([public], 1)
    except VerificationError:
        return None
    digests, result = _statement(path, envelope)
    return Sealed(path=path, key=public.keyid, digests=digests, result=result)


def compare(directory: Path, sealed: Sealed) -> SealDifferences:
    """Compare a directory with its seal. A symbolic link counts as changed, or as added.

    Raises ``OSError`` for a file that cannot be read.
    """
    here = {name: None if linked else path for name, path, linked in _walk(directory)}
    changed = [
        name
        for name, digest in sealed.digests.items()
        if name in here and ((path := here[name]) is None or _digest(path) != digest)
    ]
    return SealDifferences(
        changed=tuple(sorted(changed)),
        missing=tuple(sorted(sealed.digests.keys() - here.keys())),
        added=tuple(sorted(here.keys() - sealed.digests.keys())),
    )


def test_result(directory: Path) -> dict[str, Any]:
    """Return the predicate: how the runs were judged, and the plan as its configuration.

    ``FAILED`` if a run failed, is missing or was not judged as expected; ``WARNED`` if one was not judged at all.
    Raises ``SpecError`` if the directory is no campaign.
    """
    if not (directory / "plan.json").is_file():
        raise SpecError(f"{directory}: expected a campaign, got no plan.json", "seal each campaign by itself")
    loaded = load(Campaign(path=directory))
    checks = stored.read(directory, worst_check.FILE, ("run", "verdict"))
    verdicts = worst_check.worst(checks) if checks is not None else {}
    records = {path.name: record for path, record in loaded.current}
    names = [f"{cell.id}-{block.index}" for block in loaded.plan.blocks for cell in block.cells]
    listed: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for name in sorted(names):
        record = records.get(name)
        if record is None or record.status is not Status.OK:
            listed["failedTests"].append(name)
        elif name not in verdicts:
            listed["warnedTests"].append(name)
        else:
            good = verdicts[name] == str(CheckVerdict.OK)
            listed["passedTests" if good else "failedTests"].append(name)
    configuration = [
        {"name": name, "digest": {"sha256": _digest(directory / name)}} for name in ("plan.json", "campaign.json")
    ]
    result = "FAILED" if listed["failedTests"] else "WARNED" if listed["warnedTests"] else "PASSED"
    return {"result": result, "configuration": configuration, **listed}


def _walk(directory: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield the name of each file below a directory, its path, and whether it is not a plain file; sorted."""
    for folder, folders, names in sorted(os.walk(directory, onerror=_raise)):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            shown = path.relative_to(directory).as_posix()
            if shown not in _LEFT_OUT:
                yield shown, path, not stat.S_ISREG(path.lstat().st_mode)


def _raise(error: OSError) -> None:
    raise error


def _digests(directory: Path) -> Iterator[tuple[str, str]]:
    for name, path, special in _walk(directory):
        if special:
            raise SpecError(
                f"{path}: expected a plain file, got a symbolic link or something else that is no file",
                "replace it by what it leads to, or remove it: a seal covers the bytes in this directory alone",
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise SpecError(f"{name!a}: a name that is not UTF-8 cannot be in a seal", "rename the file") from None
        yield name, _digest(path)


def _digest(path: Path) -> str:
    with files.naming(path), files.open_plain(path, follow=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _envelope(path: Path) -> Envelope:
    try:
        with files.open_plain(path, follow=False) as file:
            # A larger file is cut, so it is no JSON.
            return Envelope.from_dict(json.loads(file.read(_MAX)))
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO}:
            raise
        raise EvidenceError(
            f"{path}: expected a seal, got: {files.reason(error)}", "`testbed seal` makes it"
        ) from error
    except Exception as error:
        # Whatever a library raises for hostile bytes: a seal that cannot be read is malformed.
        raise EvidenceError(f"{path}: expected a DSSE envelope, got: {error!r}", _AUTHOR) from error


def _statement(path: Path, envelope: Envelope) -> tuple[dict[str, str], str]:
    try:
        statement = json.loads(envelope.payload)
        kinds = envelope.payload_type, statement["_type"], statement["predicateType"]
        digests = {str(one["name"]): str(one["digest"]["sha256"]) for one in statement["subject"]}
        twice = len(statement["subject"]) - len(digests)
        result = str(statement["predicate"]["result"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceError(f"{path}: expected an in-toto statement, got: {error!r}", _AUTHOR) from error
    if kinds != (_PAYLOAD, STATEMENT, PREDICATE) or twice:
        got = f"{kinds}, {twice} names twice"
        raise EvidenceError(f"{path}: expected an in-toto test result, got: {got}", _AUTHOR)
    return digests, result


def _signer(pem: bytes) -> CryptoSigner:
    try:
        key = load_pem_private_key(pem, password=None)
        if isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
            return CryptoSigner(key)
        got: object = f"a key of type {type(key).__name__}"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        got = error
    raise SpecError(f"--key: expected a private key, got: {got}", f"give {_KEYS}; `openssl genpkey` makes one")


def _public(pem: bytes) -> SSlibKey:
    try:
        key = load_pem_public_key(pem)
        if isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
            return SSlibKey.from_crypto(key)
        got: object = f"a key of type {type(key).__name__}"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        got = error
    raise SpecError(f"--key: expected a public key, got: {got}", f"give {_KEYS}; `openssl pkey -pubout` shows it")


def proves(sealed: Sealed) -> Sequence[str]:
    """Return in words what a seal proves and what it does not."""
    return (
        f"The seal proves that the owner of key {sealed.key[:16]}... signed exactly these files.",
        "The result is that of checks.parquet: sealing judged nothing again.",
        "It does not prove when, nor that the runs happened as recorded: who ran them can sign anything.",
        "The quotes in runs/*/evidence are signed by the TPMs of the machines; `testbed check-results` verifies them.",
    )

"""A verdict as an EAT Attestation Result: claims of EAR and AR4SI in a signed JWT (docs/interop.md).

Source: draft-ietf-rats-ear-04 and, for readers that are older, draft-fv-rats-ear-00; draft-ietf-rats-ar4si, "Specific
Claims". ``_CLAIMS`` is the one place that maps our findings to theirs.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed import __version__
from testbed.attest.finding import Container, FindingKind
from testbed.attest.verdict import Judgement, Verdict
from testbed.errors import SpecError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

DEVELOPER = "container-testbed"
HOST = "host"
# AR4SI: values from 2 on affirm, from 32 on warn, from 96 on contraindicate; the others are no claim.
AFFIRMS, WARNS, CONTRAINDICATES = 2, 32, 96
_CANNOT_PARSE, _UNRECOGNIZED, _UNKNOWN, _CRYPTO = 1, 33, 97, 99
INSTANCE, CONFIGURATION, EXECUTABLES = "instance-identity", "configuration", "executables"
_NONCE_BYTES = range(8, 65)  # EAT: bytes of a nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One edition of EAR: its tag and the names of its claims. ``overall``: whether the token has a status of its own.

    ``lists_policies``: whether a policy is an item of a list. ``details``: the claim for what EAR has no name for.
    """

    tag: str
    status: str
    vector: str
    policy: str
    verifier: str
    details: str
    overall: bool
    lists_policies: bool


PROFILES: Mapping[str, Profile] = {
    "ietf-04": Profile(
        tag="tag:ietf.org,2026:rats/ear#04",
        status="ear_status",
        vector="ear_trustworthiness_vector",
        policy="ear_appraisal_policy_ids",
        verifier="ear_verifier_id",
        details="ear_verifier_claims",
        overall=True,
        lists_policies=True,
    ),
    "veraison-2023": Profile(
        tag="tag:github.com,2023:veraison/ear",
        status="ear.status",
        vector="ear.trustworthiness-vector",
        policy="ear.appraisal-policy-id",
        verifier="ear.verifier-id",
        details="ear.veraison.policy-claims",
        overall=False,
        lists_policies=False,
    ),
}
DEFAULT_PROFILE = "ietf-04"

# What each kind of finding says about which claim. Kinds that are not here say: executables, contraindicated.
_CLAIMS: Mapping[FindingKind, tuple[str, int]] = {
    FindingKind.QUOTE_MAGIC: (INSTANCE, _CRYPTO),
    FindingKind.QUOTE_TYPE: (INSTANCE, _CRYPTO),
    FindingKind.QUOTE_SIGNATURE: (INSTANCE, _CRYPTO),
    FindingKind.QUOTE_DIGEST_ALG: (INSTANCE, _CRYPTO),
    FindingKind.QUOTE_NONCE: (INSTANCE, _CRYPTO),
    FindingKind.QUOTE_SIGNER: (INSTANCE, _UNKNOWN),
    FindingKind.AMBIGUOUS_IDENTITY: (INSTANCE, _UNKNOWN),
    FindingKind.MISATTRIBUTED: (INSTANCE, _UNKNOWN),
    FindingKind.QUOTE_CLOCK: (INSTANCE, CONTRAINDICATES),
    FindingKind.QUOTE_RESET: (INSTANCE, CONTRAINDICATES),
    FindingKind.QUOTE_SELECTION: (CONFIGURATION, CONTRAINDICATES),
    FindingKind.REGISTER_RESETTABLE: (CONFIGURATION, CONTRAINDICATES),
    FindingKind.WRONG_LAUNCH: (CONFIGURATION, CONTRAINDICATES),
    FindingKind.REPLAY_MISMATCH: (EXECUTABLES, _CRYPTO),
    FindingKind.LOG_MISSING: (EXECUTABLES, _CRYPTO),
    FindingKind.TEMPLATE_HASH: (EXECUTABLES, _CRYPTO),
    FindingKind.BAD_SIGNATURE: (EXECUTABLES, _CRYPTO),
    FindingKind.UNKNOWN_FILE: (EXECUTABLES, _UNRECOGNIZED),
    FindingKind.UNSUPPORTED: (EXECUTABLES, _CANNOT_PARSE),
    FindingKind.MALFORMED: (EXECUTABLES, _CANNOT_PARSE),
}

# Then nobody vouches for the log and the nonce: nothing is affirmed of them.
_FORGED = frozenset(kind for kind, (claim, value) in _CLAIMS.items() if (claim, value) == (INSTANCE, _CRYPTO)) | {
    FindingKind.QUOTE_SIGNER
}


def claims(
    verdict: Verdict, *, issued: int, nonce: bytes, policy: str | None = None, profile: str = DEFAULT_PROFILE
) -> dict[str, Any]:
    """Return the claims of a verdict: a submodule ``host``, and ``container-SEQ`` for each container.

    ``issued``: seconds since 1970. ``nonce``: what the quote was asked with. ``policy``: SHA-256 of the policy's file,
    hex; ``None``: there was none, and then nothing is affirmed about what ran.
    """
    names = PROFILES[profile]
    judgements = {HOST: verdict.container_judgement("")}
    judgements |= {
        f"container-{key}": judged for key, judged in verdict.container_judgements(verdict.containers).items()
    }
    counts = _counts(verdict)
    submods: dict[str, Any] = {}
    for name, judged in judgements.items():
        key = None if name == HOST else name.removeprefix("container-")
        found = counts[None] if key is None else counts[None] + counts.get(key, Counter())
        vector = _vector(found, signed=not _unsigned(verdict), judged=policy is not None and not _FORGED & found.keys())
        appraisal: dict[str, Any] = {names.status: _tier(judged, judged=policy is not None), names.vector: vector}
        if policy is not None:
            identifier = f"urn:sha256:{policy}"
            appraisal[names.policy] = [identifier] if names.lists_policies else identifier
        if len(nonce) in _NONCE_BYTES and not _FORGED & verdict.kinds and not _unsigned(verdict):
            appraisal["eat_nonce"] = base64.urlsafe_b64encode(nonce).rstrip(b"=").decode()
        container = None if key is None else verdict.containers[key]
        appraisal[names.details] = _details(judged, found, verdict, container)
        submods[name] = appraisal
    made: dict[str, Any] = {"eat_profile": names.tag, "iat": issued}
    made[names.verifier] = {"developer": DEVELOPER, "build": f"testbed {__version__}"}
    if names.overall:
        made[names.status] = _tier(verdict.judgement, judged=policy is not None)
    return made | {"submods": submods}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultKey:
    """The key of a verifier, and the JWT's name of how it signs."""

    private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    algorithm: str


def signed(content: Mapping[str, Any], key: ResultKey) -> str:
    """Return claims as a JWT that ``key`` has signed."""
    import jwt  # noqa: PLC0415 - it is slow to import

    return jwt.encode(dict(content), key.private, algorithm=key.algorithm)


def load_result_key(key: bytes) -> ResultKey:
    """Read a private key in PEM, for ES256, ES384 or EdDSA. Raises ``SpecError`` for one of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    hint = "`openssl genpkey -algorithm ed25519 -out FILE` makes one"
    expected = "--ear-key: expected a private key in PEM without a password, NIST P-256, P-384 or Ed25519"
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The error may quote the file, and the file may be a key.
        raise SpecError(f"{expected}, got another file", hint) from error
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return ResultKey(private=private, algorithm="EdDSA")
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1 | ec.SECP384R1):
        return ResultKey(private=private, algorithm="ES256" if isinstance(private.curve, ec.SECP256R1) else "ES384")
    raise SpecError(f"{expected}, got a key of another kind ({type(private).__name__})", hint)


def _counts(verdict: Verdict) -> dict[str | None, Counter[FindingKind]]:
    """Return the number of findings of each kind, by container; ``None``: of the evidence as a whole."""
    counts: dict[str | None, Counter[FindingKind]] = {None: Counter()}
    for finding in verdict.findings:
        counts.setdefault(finding.container, Counter())[finding.kind] += 1
    for (kind, container), number in verdict.omitted.items():
        counts.setdefault(container, Counter())[kind] += number
    return counts


def _unsigned(verdict: Verdict) -> bool:
    """Whether nothing is known of the signer: the evidence could not even be read, or it was not replayed."""
    return not verdict.pcrs and not verdict.ok


def _vector(kinds: Iterable[FindingKind], *, signed: bool, judged: bool) -> dict[str, int]:
    """Return the worst value of each claim. A claim that no finding is about is affirmed, if it was looked at."""
    found = {INSTANCE: [AFFIRMS] if signed else [0], CONFIGURATION: [0], EXECUTABLES: [AFFIRMS if judged else 0]}
    if not signed:
        found[EXECUTABLES] = [0]
    for kind in kinds:
        if kind is not FindingKind.UNATTESTED:
            claim, value = _CLAIMS.get(kind, (EXECUTABLES, CONTRAINDICATES))
            found[claim].append(value)
    worst = {claim: max(values, key=_badness) for claim, values in found.items()}
    # Nothing is claimed of a configuration that nobody complains of; for the others 0 says that nobody looked.
    return {claim: value for claim, value in worst.items() if value or claim != CONFIGURATION}


def _badness(value: int) -> tuple[int, int]:
    """Order values: an affirmation, no claim, what could not be read, a warning, a contraindication."""
    return (0, value) if AFFIRMS <= value < WARNS else (1, value)


def _tier(judgement: Judgement, *, judged: bool) -> str:
    """Return the tier. What is not trusted is never a mere warning: a reader may go on after a warning."""
    if judgement is not Judgement.TRUSTED:
        return "contraindicated"
    return "affirming" if judged else "none"


def _details(
    judgement: Judgement, found: Counter[FindingKind], verdict: Verdict, container: Container | None
) -> dict[str, Any]:
    told: dict[str, Any] = {"verdict": judgement.value}
    told["findings"] = {kind.value: number for kind, number in sorted(found.items())}
    if container is None:
        told |= {"entries": verdict.entries, "unattested": verdict.unattested}
        return told | {"pcrs": {f"{pcr}": value for pcr, value in sorted(verdict.pcrs.items())}}
    told |= {"entries": container.entries, "image": container.image, "image-digest": container.image_digest}
    return told | {"runtime-id": container.runtime_id, "parent": container.parent}

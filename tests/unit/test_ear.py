"""Verdicts as EAR: read back by pyjwt, checked with the right key and with a wrong one, and mapped as documented."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evidence
import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from testbed.attest.finding import Container, Finding, FindingKind
from testbed.attest.foreign import ear
from testbed.attest.verdict import Verdict
from testbed.commands import _ear
from testbed.commands.policy import command as policy_command
from testbed.commands.verify import command
from testbed.errors import SpecError

REAL = evidence.GOLDEN / "bundle-debian-6.12"
NONCE = json.loads((REAL / "bundle.json").read_bytes())["nonce"]
DOCS = Path(__file__).parents[2] / "docs" / "interop.md"
MAKERS: dict[str, Callable[[], Any]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
KEYS: dict[str, Any] = {name: make() for name, make in MAKERS.items()}


def pem(key: Any, password: bytes | None = None) -> bytes:
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))


def run(*words: str | Path, bundle: Path = REAL, ak: Path = REAL / "ak.pub", nonce: str = NONCE) -> Result:
    argv = [str(bundle), "--ak", str(ak), "--nonce", nonce, *map(str, words)]
    return CliRunner().invoke(command, argv)


def result(tmp_path: Path, algorithm: str = "ES256", *words: str, **more: Any) -> dict[str, Any]:
    (tmp_path / "key.pem").write_bytes(pem(KEYS[algorithm]))
    run("--ear", tmp_path / "ear.jwt", "--ear-key", tmp_path / "key.pem", *words, **more)
    return opened((tmp_path / "ear.jwt").read_text(), algorithm)


def opened(token: str, algorithm: str) -> dict[str, Any]:
    return dict(jwt.decode(token, KEYS[algorithm].public_key(), algorithms=[algorithm]))


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_reader_checks_the_signature_with_the_public_key(algorithm: str, tmp_path: Path) -> None:
    claims = result(tmp_path, algorithm)
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert abs(claims["iat"] - time.time()) < 60
    assert sorted(claims["ear_verifier_id"]) == ["build", "developer"]
    assert set(claims["submods"]) >= {"host", "container-1", "container-2"}
    token = (tmp_path / "ear.jwt").read_text()
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT"}
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, MAKERS[algorithm]().public_key(), algorithms=[algorithm])
    head, body, signature = token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed["submods"]["host"]["ear_status"] = "affirming"
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged}.{signature}", KEYS[algorithm].public_key(), algorithms=[algorithm])


def test_without_a_policy_nothing_is_affirmed(tmp_path: Path) -> None:
    claims = result(tmp_path)
    assert claims["ear_status"] == "none"
    for appraisal in claims["submods"].values():
        assert appraisal["ear_status"] == "none"
        assert appraisal["ear_trustworthiness_vector"] == {"instance-identity": 2, "executables": 0}
        assert "ear_appraisal_policy_ids" not in appraisal
        padded = appraisal["eat_nonce"] + "=" * (-len(appraisal["eat_nonce"]) % 4)
        assert base64.urlsafe_b64decode(padded).hex() == NONCE
    details = claims["submods"]["host"]["ear_verifier_claims"]
    assert (details["verdict"], details["entries"]) == ("trusted", 64)
    container = claims["submods"]["container-1"]["ear_verifier_claims"]
    assert re.fullmatch("[0-9a-f]{64}", container["runtime-id"])


def test_with_a_policy_that_all_fits_everything_is_affirmed(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    words = ["from-log", str(REAL), "--ak", str(REAL / "ak.pub"), "--nonce", NONCE, "-o", str(policy)]
    assert CliRunner().invoke(policy_command, words).exit_code == 0
    claims = result(tmp_path, "EdDSA", "--policy", str(policy))
    assert claims["ear_status"] == "affirming"
    for appraisal in claims["submods"].values():
        assert appraisal["ear_status"] == "affirming"
        assert appraisal["ear_trustworthiness_vector"] == {"instance-identity": 2, "executables": 2}
        assert appraisal["ear_appraisal_policy_ids"] == [
            f"urn:sha256:{hashlib.sha256(policy.read_bytes()).hexdigest()}"
        ]


def test_with_a_policy_each_container_has_its_own_tier() -> None:
    verdict = Verdict(
        findings=(finding(FindingKind.UNKNOWN_FILE, "2"),),
        pcrs={10: "aa", 11: "bb"},
        containers={key: Container(seq=int(key), mntns=1, cgroup=1, started=1) for key in ("1", "2")},
    )
    claims = ear.claims(verdict, issued=1, nonce=bytes(32), policy="ab" * 32)
    status = {name: appraisal["ear_status"] for name, appraisal in claims["submods"].items()}
    assert status == {"host": "affirming", "container-1": "affirming", "container-2": "contraindicated"}
    assert claims["ear_status"] == "contraindicated"
    assert claims["submods"]["container-2"]["ear_trustworthiness_vector"]["executables"] == 33
    assert claims["submods"]["host"]["ear_appraisal_policy_ids"] == ["urn:sha256:" + "ab" * 32]
    assert claims["submods"]["container-2"]["ear_verifier_claims"]["findings"] == {"unknown-file": 1}


def finding(kind: FindingKind, container: str | None = None) -> Finding:
    return Finding(kind=kind, where="here", expected="this", got="that", container=container)


UNSIGNED = {
    FindingKind.QUOTE_MAGIC,
    FindingKind.QUOTE_TYPE,
    FindingKind.QUOTE_SIGNATURE,
    FindingKind.QUOTE_SIGNER,
    FindingKind.QUOTE_NONCE,
    FindingKind.QUOTE_DIGEST_ALG,
}


@pytest.mark.parametrize("kind", [kind for kind in FindingKind if kind is not FindingKind.UNATTESTED])
@pytest.mark.parametrize("profile", ear.PROFILES)
def test_no_finding_is_affirmed(kind: FindingKind, profile: str) -> None:
    names = ear.PROFILES[profile]
    verdict = Verdict(
        findings=(finding(kind),), pcrs={10: "aa"}, containers={"1": Container(seq=1, mntns=1, cgroup=1, started=1)}
    )
    claims = ear.claims(verdict, issued=1, nonce=bytes(8), policy="ab" * 32, profile=profile)
    for appraisal in claims["submods"].values():
        assert appraisal[names.status] == "contraindicated"
        vector = appraisal[names.vector]
        assert any(value == 1 or value >= 32 for value in vector.values()), vector
        assert all(-128 <= value <= 127 for value in vector.values())
        # Nobody vouches for the log and the nonce of a quote that is not the TPM's answer to this question.
        assert vector["executables"] < 2 or kind not in UNSIGNED
    assert ("eat_nonce" in claims["submods"]["host"]) == (kind not in UNSIGNED)


def test_only_counted_findings_count() -> None:
    verdict = Verdict(findings=(), omitted={(FindingKind.WRONG_DIGEST, None): 7}, pcrs={10: "aa"})
    appraisal = ear.claims(verdict, issued=1, nonce=b"", policy="ab" * 32)["submods"]["host"]
    assert appraisal["ear_verifier_claims"]["findings"] == {"wrong-digest": 7}
    assert appraisal["ear_trustworthiness_vector"]["executables"] == 96


def test_the_worst_finding_of_a_claim_counts() -> None:
    kinds = (FindingKind.UNKNOWN_FILE, FindingKind.TEMPLATE_HASH, FindingKind.WRONG_DIGEST, FindingKind.UNSUPPORTED)
    verdict = Verdict(findings=tuple(map(finding, kinds)), pcrs={10: "aa"})
    appraisal = ear.claims(verdict, issued=1, nonce=b"", policy="ab" * 32)["submods"]["host"]
    assert appraisal["ear_trustworthiness_vector"] == {"instance-identity": 2, "executables": 99}


def test_evidence_that_cannot_be_read_says_nothing_of_its_signer(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    claims = result(tmp_path, bundle=tmp_path / "empty")
    assert claims["ear_status"] == "contraindicated"
    assert claims["submods"]["host"]["ear_trustworthiness_vector"] == {"instance-identity": 0, "executables": 1}


def test_another_nonce_is_contraindicated_and_not_echoed(tmp_path: Path) -> None:
    claims = result(tmp_path, nonce="00" * 32)
    host = claims["submods"]["host"]
    assert (host["ear_status"], host["ear_trustworthiness_vector"]["instance-identity"]) == ("contraindicated", 99)
    assert "eat_nonce" not in host


def test_readers_of_2023_find_their_names(tmp_path: Path) -> None:
    claims = result(tmp_path, "ES256", "--ear-profile", "veraison-2023")
    assert claims["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert sorted(claims) == ["ear.verifier-id", "eat_profile", "iat", "submods"]
    assert claims["submods"]["host"]["ear.status"] == "none"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)), "of another kind"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "of another kind"),
        (pem(KEYS["ES256"], b"secret"), "another file"),
        (evidence.pem(KEYS["ES256"]), "another file"),
        (b"", "another file"),
    ],
)
def test_a_key_that_does_not_do_is_a_wrong_argument(key: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(key)
    done = run("--ear", tmp_path / "ear.jwt", "--ear-key", tmp_path / "key.pem")
    assert (done.exit_code, problem in done.output) == (2, True), done.output
    assert not (tmp_path / "ear.jwt").exists()
    with pytest.raises(SpecError):
        ear.load_result_key(key)


def test_an_ear_needs_a_key_and_a_key_needs_an_ear(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(KEYS["ES256"]))
    assert run("--ear", tmp_path / "ear.jwt").exit_code == 2
    assert run("--ear-key", tmp_path / "key.pem").exit_code == 2


def test_the_option_names_every_profile() -> None:
    assert tuple(ear.PROFILES) == _ear._PROFILES


def test_the_page_has_the_whole_mapping() -> None:
    """Each kind stands in the row of its claim and value."""
    rows: dict[str, tuple[str, int]] = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\| `(instance-identity|configuration|executables)` \| (-?\d+) \| (.*) \|", line):
            rows |= dict.fromkeys(re.findall(r"`([a-z-]+)`", match[3]), (match[1], int(match[2])))
    expected = {
        kind.value: ear._CLAIMS.get(kind, (ear.EXECUTABLES, ear.CONTRAINDICATES))
        for kind in FindingKind
        if kind is not FindingKind.UNATTESTED
    }
    assert rows == expected

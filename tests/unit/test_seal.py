"""``testbed seal``: a seal covers every file; what was changed, removed or added is named; wrong keys are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.dsse import Envelope

from testbed.analysis import seal
from testbed.cli import main
from testbed.errors import EvidenceError, SpecError

ROOT = Path(__file__).parents[2]
PEM, PKCS8 = forms.Encoding.PEM, forms.PrivateFormat.PKCS8
MAKERS: dict[str, Callable[[], Any]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}


def keys(where: Path, kind: str = "ed25519") -> tuple[Path, Path]:
    """Write a private and a public key."""
    key = MAKERS[kind]()
    private, public = where / f"{kind}.pem", where / f"{kind}.pub"
    private.write_bytes(key.private_bytes(PEM, PKCS8, forms.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, forms.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "results/reference-paper", tmp_path / "campaign")
    return tmp_path / "campaign"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["seal", *map(str, words)])


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_what_was_sealed_is_verified(tmp_path: Path, campaign: Path, kind: str) -> None:
    private, public = keys(tmp_path, kind)
    made = run(campaign, "--key", private)
    assert made.exit_code == 0, made.output
    assert "sealed, result PASSED" in made.output
    done = run(campaign, "--verify", "--key", public)
    assert done.exit_code == 0
    assert done.output.startswith("UNCHANGED: ")
    for text in (made.output, done.output):
        assert "does not prove when, nor that the runs happened as recorded" in text


def test_the_seal_is_an_in_toto_test_result_in_a_dsse_envelope(tmp_path: Path, campaign: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    seal.seal(campaign, key.private_bytes(PEM, PKCS8, forms.NoEncryption()))
    envelope = json.loads((campaign / seal.FILE).read_text())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    assert kind == "application/vnd.in-toto+json"
    # By the text of the two specifications, without the library.
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    key.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), pae)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    files = {path.relative_to(campaign).as_posix() for path in campaign.rglob("*") if path.is_file()}
    assert subjects.keys() == files - {seal.FILE}
    plan = (campaign / "plan.json").read_bytes()
    assert subjects["plan.json"] == hashlib.sha256(plan).hexdigest()
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    assert len(predicate["passedTests"]) == 7
    assert predicate["warnedTests"] == predicate["failedTests"] == []
    assert predicate["configuration"][0]["digest"]["sha256"] == subjects["plan.json"]


def test_every_difference_is_named(tmp_path: Path, campaign: Path) -> None:
    private, public = keys(tmp_path)
    run(campaign, "--key", private)
    (campaign / "plan.json").write_bytes(b"{}")
    (campaign / "rows.parquet").unlink()
    (campaign / "new\x1b[31m").touch()
    (campaign / "campaign.json").unlink()
    (campaign / "campaign.json").symlink_to("plan.json")
    (campaign / "runs/away").symlink_to("/")
    (campaign / ".lock").touch()
    done = run(campaign, "--verify", "--key", public)
    assert done.exit_code == 1
    named = [line.strip() for line in done.output.splitlines() if line.startswith("  ")]
    assert named == [
        "changed: campaign.json",
        "changed: plan.json",
        "missing: rows.parquet",
        "added: new\\x1b[31m",
        "added: runs/away",
    ]


def test_one_changed_bit_is_found(tmp_path: Path, campaign: Path) -> None:
    private, public = keys(tmp_path)
    run(campaign, "--key", private)
    log = min(campaign.glob("runs/*/evidence/ima.bin"))
    data = bytearray(log.read_bytes())
    data[40] ^= 1
    log.write_bytes(data)
    done = run(campaign, "--verify", "--key", public)
    assert f"  changed: {log.relative_to(campaign)}" in done.output.splitlines()


def test_another_key_is_no_seal_of_this_one(tmp_path: Path, campaign: Path) -> None:
    private, _ = keys(tmp_path)
    _, other = keys(tmp_path, "p256")
    run(campaign, "--key", private)
    done = run(campaign, "--verify", "--key", other)
    assert (done.exit_code, done.output.split(":")[0]) == (1, "NOT SEALED BY THIS KEY")


def test_a_list_that_was_changed_is_not_sealed(tmp_path: Path, campaign: Path) -> None:
    private, public = keys(tmp_path)
    run(campaign, "--key", private)
    envelope = json.loads((campaign / seal.FILE).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"].pop()
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (campaign / seal.FILE).write_text(json.dumps(envelope))
    done = run(campaign, "--verify", "--key", public)
    assert (done.exit_code, "NOT SEALED" in done.output) == (1, True)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"{", b"\xff", b'{"payload": 1, "payloadType": "x", "signatures": []}', b"[" * 100_000],
)
def test_a_seal_that_cannot_be_read_is_malformed(tmp_path: Path, campaign: Path, content: bytes) -> None:
    _, public = keys(tmp_path)
    (campaign / seal.FILE).write_bytes(content)
    done = run(campaign, "--verify", "--key", public)
    assert (done.exit_code, "expected a DSSE envelope" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    "statement",
    [
        [],
        {"_type": "x"},
        {"_type": "x", "predicateType": "y", "subject": [], "predicate": {"result": "PASSED"}},
        {
            "_type": seal.STATEMENT,
            "predicateType": seal.PREDICATE,
            "subject": [{"name": "a", "digest": {"sha256": "0"}}] * 2,
            "predicate": {"result": "PASSED"},
        },
    ],
)
def test_a_signed_statement_of_another_kind_is_malformed(tmp_path: Path, campaign: Path, statement: object) -> None:
    private, public = keys(tmp_path)
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(seal._signer(private.read_bytes()))
    (campaign / seal.FILE).write_text(json.dumps(envelope.to_dict()))
    with pytest.raises(EvidenceError, match="in-toto"):
        seal.unseal(campaign, public.read_bytes())


def test_no_seal_is_no_verdict(tmp_path: Path, campaign: Path) -> None:
    _, public = keys(tmp_path)
    done = run(campaign, "--verify", "--key", public)
    assert (done.exit_code, "expected a seal" in done.stderr) == (4, True)
    (campaign / seal.FILE).symlink_to(tmp_path / "elsewhere")
    assert run(campaign, "--verify", "--key", public).exit_code == 4


@pytest.mark.parametrize("verify", [False, True], ids=["sign", "verify"])
def test_a_key_that_cannot_be_used_is_a_wrong_argument(tmp_path: Path, campaign: Path, verify: bool) -> None:
    key = rsa.generate_private_key(65537, 2048)
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, forms.BestAvailableEncryption(b"x"))
    private, public = keys(tmp_path)
    other_kind = (
        key.public_key().public_bytes(PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        if verify
        else key.private_bytes(PEM, PKCS8, forms.NoEncryption())
    )
    other_half = private.read_bytes() if verify else public.read_bytes()
    for content in (b"", b"no key", other_kind, locked, other_half):
        path = tmp_path / "key"
        path.write_bytes(content)
        done = run(campaign, "--key", path, *(["--verify"] if verify else []))
        assert done.exit_code == 2, done.output
        assert "--key: expected a " in done.stderr
        assert "hint: give Ed25519, or ECDSA" in done.stderr
    assert run(campaign, "--key", tmp_path / "none").exit_code == 2
    assert run(campaign).exit_code == 2
    assert not (campaign / seal.FILE).exists()


def test_what_no_digest_covers_is_refused(tmp_path: Path, campaign: Path) -> None:
    private, _ = keys(tmp_path)
    link = campaign / "runs/link"
    link.symlink_to("/etc")
    done = run(campaign, "--key", private)
    assert (done.exit_code, f"{link}: expected a plain file" in done.stderr) == (2, True)
    link.unlink()
    os.mkfifo(campaign / "fifo")
    assert run(campaign, "--key", private).exit_code == 2
    (campaign / "fifo").unlink()
    os.close(os.open(os.fsencode(campaign) + b"/x\xff", os.O_CREAT))
    done = run(campaign, "--key", private)
    assert (done.exit_code, "not UTF-8" in done.stderr) == (2, True)
    assert not (campaign / seal.FILE).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, campaign: Path) -> None:
    private, _ = keys(tmp_path)
    (campaign / "plan.json").chmod(0)
    done = run(campaign, "--key", private)
    assert (done.exit_code, "plan.json: permission denied" in done.stderr) == (3, True)


def test_a_read_error_is_of_the_machine(tmp_path: Path, campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys(tmp_path)
    run(campaign, "--key", private)

    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(seal, "_digest", fail)
    for words in ((), ("--verify",)):
        done = run(campaign, "--key", public if words else private, *words)
        assert (done.exit_code, "permission denied" in done.stderr) == (3, True)


def test_the_result_says_how_the_runs_were_judged(campaign: Path) -> None:
    table = pd.read_parquet(campaign / "checks.parquet")
    first, second = sorted(table["run"])[:2]
    table.loc[table["run"] == first, "verdict"] = "unexpected"
    table[table["run"] != second].to_parquet(campaign / "checks.parquet")
    made = seal.test_result(campaign)
    assert (made["result"], made["failedTests"], made["warnedTests"]) == ("FAILED", [first], [second])
    shutil.rmtree(campaign / "runs" / sorted(table["run"])[2])
    assert len(seal.test_result(campaign)["failedTests"]) == 2
    (campaign / "reference.json").unlink()
    (campaign / "checks.parquet").unlink()
    assert len(seal.test_result(campaign)["warnedTests"]) == 6


def test_only_a_campaign_is_sealed(tmp_path: Path) -> None:
    private, _ = keys(tmp_path)
    with pytest.raises(SpecError, match=r"got no plan\.json"):
        seal.seal(tmp_path, private.read_bytes())

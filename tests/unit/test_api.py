"""``import testbed`` for programs: the examples of its docstrings and of docs/api.md, its laziness, its errors."""

from __future__ import annotations

import doctest
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evidence import GOLDEN
from test_truth import archive, layer

import testbed
from testbed import api
from testbed.api import campaigns
from testbed.attest.finding import FindingKind
from testbed.attest.mutate.registry import find
from testbed.attest.policy.reference import load_policy
from testbed.attest.saved.state import save_state
from testbed.attest.verdict import Judgement
from testbed.errors import EvidenceError, SpecError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference"
REAL = GOLDEN / "bundle-debian-6.12"
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
LOAD = functools.cache(campaigns.load)
CLAIM = functools.partial(api.read_claim, "examples/measurer/claims/shell-script.json")
MODULES = ("api.campaigns", "api.evidence", "api.logs")


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples name files of the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes the campaigns of the repository, and reading one takes seconds."""
    monkeypatch.setattr(campaigns, "load", LOAD)
    monkeypatch.setattr(api, "load", LOAD)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings(name: str) -> None:
    module = importlib.import_module(f"testbed.{name}")
    found = doctest.testmod(module, optionflags=FLAGS)
    assert found.failed == 0
    assert found.attempted >= 5


def test_the_examples_of_the_page(tmp_path: Path) -> None:
    image = archive(tmp_path / "image.tar", [layer({"usr/bin/busybox": b"#!/usr/bin/busybox\n"})])
    text = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(text, {"testbed": testbed, "archive": image}, "api.md", "docs/api.md", 0)
    assert len(test.examples) > 40
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test).failed == 0


def test_the_page_and_the_package_have_the_same_names() -> None:
    functions = {name for name in testbed.__all__ if name[0].islower()}
    listed = {
        name for row in re.findall(r"^\| \[(.*?)\]\(#", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    headed = {name for head in re.findall(r"^### (.*)$", PAGE, re.MULTILINE) for name in head.split(", ")}
    assert listed == headed == functions
    assert testbed.__all__ == api.__all__
    assert set(testbed.__all__) <= set(dir(testbed))
    assert all(getattr(api, name).__doc__ for name in testbed.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = testbed.nonesuch


def test_the_import_is_light_and_the_first_use_draws_nothing() -> None:
    program = """
import sys, testbed
heavy = ("pandas", "numpy", "matplotlib", "pydantic", "click", "testbed.api")
first = [name for name in heavy if name in sys.modules]
testbed.load
print(first, [name for name in ("matplotlib", "libvirt", "paramiko", "testbed.lab") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[] []\n", done.stderr


BUNDLE: dict[str, Any] = {"ak": REAL / "ak.pub", "nonce": "00" * 32}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: testbed.load("nonesuch"), "campaign: expected a directory, got nonesuch: nothing there"),
        (lambda: testbed.load(REAL / "ima.bin"), "ima.bin: a file"),
        (lambda: testbed.overhead(LOAD("results/reference"), measurer="x"), "measurer: expected one of container-file"),
        (lambda: testbed.overhead(LOAD("results/reference"), metric="elapsed"), "metric: expected one of cpu"),
        (lambda: testbed.compare([LOAD("results/reference")]), "expected two or more campaigns, got 1"),
        (lambda: LOAD("results/reference").record("x"), "run: expected the name of a directory"),
        (lambda: testbed.verify("nonesuch", **BUNDLE), "bundle: expected a directory"),
        (lambda: testbed.verify(REAL, **BUNDLE | {"ak": "nonesuch"}), "ak: expected a plain file that can be read"),
        (lambda: testbed.verify(REAL, **BUNDLE | {"ak": b"junk"}), "attestation key"),
        (lambda: testbed.verify(REAL, **BUNDLE | {"nonce": "xyz"}), "nonce: expected 1 to 66 bytes in hex"),
        (lambda: testbed.verify(REAL, **BUNDLE, pcrs="md5:1"), "PCR selection: expected"),
        (lambda: testbed.verify(REAL, **BUNDLE, ak_parent="00"), "qualified name: expected"),
        (lambda: testbed.verify(REAL, **BUNDLE, policy="nonesuch"), "nonesuch"),
        (lambda: testbed.verify(REAL, **BUNDLE, since="nonesuch"), "nonesuch"),
        (lambda: testbed.verify(REAL, **BUNDLE, starts={24: b""}), "starts: expected a PCR from 0 to 23, got 24"),
        (lambda: testbed.verify(REAL, **BUNDLE, resettable={11: "x"}), "resettable: expected a PCR from 16 to 23"),
        (lambda: testbed.verify(REAL, **BUNDLE, ima_pcr=24), "ima_pcr: expected a PCR from 0 to 23"),
        (lambda: testbed.verify(REAL, **BUNDLE, log_digest="crc"), "log_digest: expected one of sha1"),
        (lambda: testbed.verify(REAL, **BUNDLE, byte_order="up"), "byte_order: expected one of big, little"),
        (lambda: testbed.verify(REAL, **BUNDLE, recheck=True), "recheck: expected `since` with it"),
        (lambda: testbed.decode(REAL, bank="crc"), "bank: expected one of sha1"),
        (lambda: testbed.quote("nonesuch"), "bundle: expected a directory"),
        (lambda: testbed.forge(REAL, "nonesuch", "x"), "attack: expected the name of an attack"),
        (lambda: testbed.forge(REAL, "line-deleted", REAL), "expected no such file or directory yet"),
        (testbed.semantics, "expected one or more logs, got none"),
        (lambda: testbed.semantics("nonesuch"), "nonesuch: expected a plain file that can be read"),
        (lambda: testbed.image_digest("x", platform="linux"), "platform: expected OS/ARCHITECTURE"),
        (lambda: testbed.image_digest("x", driver="btrfs"), "driver: expected one of overlay, vfs"),
        (lambda: testbed.claim("nonesuch", "tools", "x"), "no measurer 'nonesuch'"),
        (lambda: testbed.claim("none", "tools", "x", measurer_path="nonesuch"), "measurer_path: expected a directory"),
        (lambda: testbed.read_claim("README.md"), "expected the output of `testbed claim --json`"),
        (lambda: testbed.check_log("none", b"", CLAIM(), {}), "none: expected a measurer with a log of its own"),
        (
            lambda: testbed.check_log("execlog", b"", CLAIM(), {"a": "x"}, measurer_path="examples/measurer"),
            "containers: expected one of container-0, got 'x'",
        ),
    ],
)
def test_a_wrong_argument_is_the_error_of_the_command_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        call()
    assert said in caught.value.message


def test_what_is_no_campaign_is_malformed() -> None:
    with pytest.raises(EvidenceError, match=r"plan\.json: no such file"):
        campaigns.load(REAL)


def test_evidence_is_judged_and_never_raises() -> None:
    verdict = testbed.verify(REAL, **BUNDLE)
    assert verdict.judgement is Judgement.UNTRUSTED
    assert verdict.kinds == {FindingKind.QUOTE_NONCE}
    assert testbed.verify(ROOT, **BUNDLE).judgement is Judgement.MALFORMED


def test_key_and_nonce_may_be_bytes_and_files_may_be_read_already(tmp_path: Path) -> None:
    ak, nonce = (REAL / "ak.pub").read_bytes(), bytes.fromhex(testbed.quote(REAL)["nonce"])
    first = testbed.verify(REAL, ak=ak, nonce=nonce)
    assert first.ok
    assert first.state is not None
    save_state(tmp_path / "state", first.state)
    for since in (first.state, tmp_path / "state", str(tmp_path / "state")):
        later = testbed.verify(REAL, ak=ak, nonce=nonce, since=since, recheck=True)
        assert later.judgement is Judgement.TRUSTED
    policy = GOLDEN / "policy/from-log-debian-6.12.json"
    for given in (policy, load_policy(policy)):
        assert testbed.verify(REAL, ak=ak, nonce=nonce, policy=given).judgement is Judgement.TRUSTED


def test_without_a_verdict_nothing_is_said_of_attestation() -> None:
    log = testbed.decode(REAL)
    assert log["attested"].isna().all()
    verdict = testbed.verify(REAL, ak=REAL / "ak.pub", nonce=testbed.quote(REAL)["nonce"])
    assert testbed.decode(REAL, verdict)["attested"].all()
    assert {pcr: group["value"].iloc[-1] for pcr, group in log.groupby("pcr")} == dict(verdict.pcrs)


@pytest.mark.parametrize("attack", ["line-deleted", "digest-edited", "policy-unknown-file", "saved-reboot"])
def test_a_forgery_comes_with_the_arguments_that_judge_it(attack: str, tmp_path: Path) -> None:
    forged = testbed.forge(REAL, attack, tmp_path / "forged")
    expect = {kind for kind in map(str, find(attack).expect) if kind != "unattested"}
    assert expect <= set(testbed.findings(testbed.verify(**forged))["kind"])


def test_a_quote_of_something_else_is_malformed(tmp_path: Path) -> None:
    place = testbed.forge(REAL, "attest-type-patched", tmp_path / "forged")["bundle"]
    with pytest.raises(EvidenceError, match=r"quote\.attest: type"):
        testbed.quote(place)

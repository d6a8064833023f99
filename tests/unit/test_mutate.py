"""The attacks on evidence: each must give exactly its findings, and a verifier that is broken must be noticed."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shlex
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from evidence import GOLDEN

from testbed import cli
from testbed.attest import beats, checked, judge, quote, registers, roster, whole
from testbed.attest import verify as verifier
from testbed.attest.checked import Checked, Task, check
from testbed.attest.finding import FindingKind
from testbed.attest.log import signatures
from testbed.attest.log.stream import Run
from testbed.attest.mutate.attacks import payloads
from testbed.attest.mutate.engine import standin
from testbed.attest.mutate.engine.lines import patched, victim_payload
from testbed.attest.mutate.engine.model import REFUSED, EvidenceAttack, Forged, Honest, Power
from testbed.attest.mutate.engine.trial import AttackOutcome, matrix, read_honest, strike, write_files
from testbed.attest.mutate.engine.trial import arguments as verify_arguments
from testbed.attest.mutate.engine.trial import judge as judge_forged
from testbed.attest.mutate.registry import ATTACKS, find, table
from testbed.attest.policy import exclude
from testbed.attest.policy import mounts as policy_mounts
from testbed.attest.policy import reference as policy
from testbed.attest.rivals import verifiers
from testbed.attest.saved import resume, state
from testbed.attest.tpm import load_key
from testbed.attest.verdict import Judgement
from testbed.commands import _evidence
from testbed.commands import audit as audit_command
from testbed.errors import EvidenceError, SpecError

BUNDLES = [GOLDEN / f"bundle-{name}" for name in ("debian-6.1", "debian-6.12", "synthetic", "synthetic-ecdsa")]
REAL = BUNDLES[1]
PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
each = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def arguments(bundle: Path) -> dict[str, Any]:
    nonce = bytes.fromhex(json.loads((bundle / "bundle.json").read_text())["nonce"])
    return {"ak": (bundle / "ak.pub").read_bytes(), "nonce": nonce}


@functools.cache
def honest(bundle: Path) -> Honest:
    return read_honest(bundle, **arguments(bundle))


def struck(attack: EvidenceAttack, bundle: Path = REAL) -> AttackOutcome:
    with tempfile.TemporaryDirectory() as scratch:
        return strike(attack, honest(bundle), Path(scratch) / "bundle")


@pytest.mark.parametrize("at", [24, 40], ids=["mntns", "started"])
def test_an_identity_is_changed_whatever_it_was(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = patched(victim_payload(honest(REAL)), at, b"\1")
    monkeypatch.setattr(payloads, "victim_payload", lambda _: victim)
    forged = payloads._payload(honest(REAL), at, b"\1").files["ima.bin"]
    assert isinstance(forged, bytes)
    assert victim not in forged
    assert patched(victim, at, b"\0") in forged


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gives_exactly_what_it_must(attack: EvidenceAttack) -> None:
    for bundle in BUNDLES:
        row = struck(attack, bundle)
        assert not row.skipped
        assert row.ok, f"{bundle.name}: expected {sorted(attack.expect)}, got {sorted(row.got)}: {row.findings}"


def test_names_are_unique_and_kebab_case() -> None:
    assert [name for name, count in Counter(one.name for one in ATTACKS).items() if count > 1] == []
    assert [one.name for one in ATTACKS if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.name)] == []


def test_there_are_many_and_their_kinds_exist() -> None:
    assert len(ATTACKS) >= 300
    assert {kind for one in ATTACKS for kind in one.expect} <= {*map(str, FindingKind), REFUSED}
    assert {one.power for one in ATTACKS} == set(Power)


def test_every_kind_that_evidence_alone_can_give_is_provoked() -> None:
    truth = {"ghost", "misattributed", "stale"}
    assert {str(kind) for kind in FindingKind} - {kind for one in ATTACKS for kind in one.expect} == truth


def test_every_case_of_the_catalogue_has_an_attack_or_the_page_says_why_not() -> None:
    cases = {f"T{number}" for number in (*range(46, 63), *range(66, 73))}
    excused = PAGE.read_text().partition("## Cases that are not attacks")[2].partition("## All attacks")[0]
    assert cases - {one.catalogue for one in ATTACKS} <= set(re.findall(r"T\d+", excused))


def test_the_page_has_the_table_of_all_attacks() -> None:
    assert PAGE.read_text().endswith("\n\n" + table())


def test_the_limits_on_the_page_are_attacks_that_nothing_follows_from() -> None:
    section = PAGE.read_text().partition("| limit | why |")[2].partition("\n\n")[0]
    names = [name for line in section.splitlines() for name in re.findall(r"`([a-z0-9-]+)`", line.split(" | ")[0])]
    assert len(names) >= 9
    assert [name for name in names if find(name).expect] == []


@each
def test_the_real_and_synthetic_bundles_can_be_attacked_in_every_way(bundle: Path) -> None:
    assert [one.name for one in ATTACKS if one.applies(honest(bundle))] == []


# The stand-in TPM


@pytest.mark.parametrize("name", ["honest-quoted-again", "honest-ecdsa"])
@each
def test_the_stand_in_is_trusted_and_its_name_is_checked(bundle: Path, name: str, tmp_path: Path) -> None:
    forged = find(name).forge(honest(bundle))
    verdict = judge_forged(forged, tmp_path / "bundle")
    assert verdict.judgement is Judgement.TRUSTED
    assert not any("name was not checked" in note for note in verdict.notes)
    assert verdict.pcrs == {pcr: value.hex() for pcr, value in honest(bundle).values.items()}
    assert verdict.attested == honest(bundle).attested


@each
def test_the_stand_in_writes_what_the_real_tpm_wrote(bundle: Path) -> None:
    """Its own writers, on the values of a real quote, give the real quote's bytes."""
    one = honest(bundle)
    assert standin.pack_attest(one.attest) == one.files["quote.attest"]
    assert standin.pack_signature(one.signature) == one.files["quote.sig"]
    for pcr, value in one.values.items():
        assert standin.extended(one.covered(), pcr, "sha256") == value


@pytest.mark.parametrize(
    ("tpm", "kind"),
    [(standin.rsa_tpm(), rsa.RSAPublicKey), (standin.ecdsa_tpm(), ec.EllipticCurvePublicKey)],
    ids=["rsa", "ecdsa"],
)
def test_the_stand_in_key_reads_as_a_restricted_signing_key(tpm: standin.StandIn, kind: type) -> None:
    key = load_key(tpm.public)
    assert isinstance(key.public, kind)
    assert (key.scheme, key.scheme_hash, key.attributes) == (tpm.scheme, "sha256", standin.AK_ATTRIBUTES)
    assert load_key(tpm.pem).public == key.public


def test_machines_have_different_keys() -> None:
    assert standin.rsa_tpm().public != standin.other_rsa_tpm().public
    assert standin.rsa_tpm().public == standin.rsa_tpm().public


@pytest.mark.parametrize("name", ["run-good", "run-hash-middle", "run-name-nul", "run-two-pcrs", "run-policy-unknown"])
def test_two_processes_see_what_one_sees(name: str, tmp_path: Path) -> None:
    forged = find(name).forge(honest(REAL))
    write_files(forged, tmp_path / "bundle")
    given = verify_arguments(forged, tmp_path / "before")
    verdict = verifier.verify(
        tmp_path / "bundle", ak=forged.ak, nonce=forged.nonce, pcrs=forged.pcrs, processes=2, **given
    )
    assert {finding.kind.value for finding in verdict.findings} == find(name).expect


# A verifier that is broken


def allow(*_: object, **__: object) -> Any:
    return []


def unchecked(run: Run, task: Task) -> Checked:
    """Accept a run whatever its template digests and files are."""
    digests = tuple(hashlib.sha1(data).digest() for data in run.data)
    return check(run._replace(shown=digests), replace(task, policy=None)) or pytest.fail("a run of good digests")


BROKEN: dict[str, tuple[object, str, Any, set[str]]] = {
    "any signature": (quote, "_verifies", lambda *_: True, {"signature-bit-first", "whole-story-unsigned"}),
    "any nonce or name": (quote, "_unequal", allow, {"quote-replayed", "nonce-truncated", "other-parent"}),
    "any key": (quote, "_attribute_findings", allow, {"key-unrestricted", "key-not-fixed", "key-decrypts"}),
    "any magic": (quote, "MAGIC", 0x00544347, {"magic-of-no-tpm", "honest-quoted-again"}),
    "any template hash": (judge, "template_digest", lambda entry: entry.digest, {"template-hash-edited"}),
    "any run": (checked, "check", unchecked, {"run-hash-middle", "run-policy-unknown"}),
    "any clock": (resume, "quote_findings", allow, {"saved-reboot", "saved-clock-back", "saved-replayed"}),
    "no progress": (resume, "progress_findings", allow, {"saved-stalled", "saved-lagging"}),
    "any past": (resume, "past_findings", allow, {"saved-past-changed-recheck", "saved-log-shorter-idle"}),
    "any beat": (beats.Beats, "_since_last", allow, {"beats-gone", "beats-late", "beats-lost", "saved-beats-gone"}),
    "any end": (beats.Beats, "end", allow, {"beats-detached"}),
    "any hook": (beats, "_unproved", allow, {"v2-beats-unproved", "v2-beats-blind"}),
    "any place": (policy, "believed", lambda *_, **__: True, {"identity-place", "identity-before"}),
    "any boot": (whole, "_nothing", allow, {"no-ima", "no-ima-no-values", "no-ima-declared", "no-ima-but-containers"}),
    "any first entry": (whole, "_not_the_boot", allow, {"no-boot-aggregate", "boot-aggregate-violated"}),
    "any register": (
        verifier,
        "resettable_findings",
        lambda *_: ([], []),
        {"resettable-16", "resettable-20", "resettable-23", "resettable-forgotten"},
    ),
    "any earlier policy": (
        state,
        "same_policy",
        lambda *_: None,
        {"saved-policy-renewed", "saved-policy-added", "saved-policy-dropped"},
    ),
    "any container": (beats.Beats, "_numbers", allow, {"beats-container-missing", "beats-containers-back"}),
    "any parent": (roster.Roster, "absent", allow, {"identity-nested-of-nobody"}),
    "any second": (roster.Roster, "ambiguous", allow, {"identity-shared", "identity-restart-alive"}),
    "any mount": (
        policy_mounts.MountRules,
        "refused",
        lambda *_, **__: None,
        {"policy-v2-mounts-more", "policy-v2-mounts-later", "saved-v2-mounts"},
    ),
    "any measurer": (whole, "_parts", allow, {"policy-v2-measurer-missing", "policy-v2-measurer-other"}),
    "any program": (judge.Judge, "_program", allow, {"v2-program", "policy-v2-program-other"}),
    "any launch": (judge.Judge, "_launch", allow, {"launch-twice", "launch-without-image", "launch-over-the-limit"}),
    "no demand": (policy.Policy, "demands", lambda *_: "", {"policy-launch-config-no-launch"}),
    "any file signature": (signatures, "_made", lambda *_: True, {"signed-other-file", "signed-as-version-3"}),
    "any exclude": (exclude, "heads", lambda _: (b"/",), {"policy-exclude-all", "policy-exclude-catastrophic"}),
    "no start value": (
        resume,
        "pcr_register",
        lambda pcr, bank: registers.Register(bank=bank, index=pcr, start=b"\1" * 32),
        {"honest-quoted-again", "order-pcr-10-first"},
    ),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_broken_verifier_is_noticed(flaw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, replacement, must = BROKEN[flaw]
    honest(REAL)
    monkeypatch.setattr(module, name, replacement)
    noticed = set()
    for attack in map(find, must):
        try:
            noticed |= {attack.name} if not struck(attack).ok else set()
        except AssertionError:
            noticed.add(attack.name)  # evidence to begin with is not trusted any more
    assert noticed == must


@pytest.mark.parametrize("reached", [{}, {10: 1, 11: 1}, {10: 1}])
def test_a_verifier_that_attests_too_little_is_noticed(
    reached: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or there would be no entries to attack, and so no attack that fails."""
    good = verifier.verify(REAL, **arguments(REAL))
    monkeypatch.setattr("testbed.attest.mutate.engine.trial.verify", lambda *_, **__: replace(good, attested=reached))
    with pytest.raises(EvidenceError, match="entries that lead to the quoted"):
        read_honest(REAL, **arguments(REAL))


def verdictless(*_: object, **__: object) -> Any:
    raise SpecError("no")


def test_a_verifier_that_refuses_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = honest(REAL)
    monkeypatch.setattr("testbed.attest.mutate.engine.trial.verify", verdictless)
    with tempfile.TemporaryDirectory() as scratch:
        row = strike(find("line-deleted"), one, Path(scratch) / "bundle")
    assert row.got == {REFUSED}
    assert not row.ok


@pytest.mark.parametrize(
    ("expect", "got", "ok"),
    [
        ({"violation"}, {"violation"}, True),
        ({"violation"}, {"violation", "unattested"}, True),
        ({"violation"}, {"violation", "malformed"}, False),
        ({"violation", "malformed"}, {"violation"}, False),
        ({"unattested"}, set(), False),
        ({"unattested"}, {"unattested"}, True),
        (set(), {"unattested"}, True),
        (set(), {"violation"}, False),
    ],
)
def test_what_counts_as_exactly(expect: set[str], got: set[str], ok: bool) -> None:
    attack = EvidenceAttack(
        name="x", catalogue="T1", summary="", power=Power.FILES, expect=frozenset(expect), forge=never_forge
    )
    assert AttackOutcome(attack=attack, got=frozenset(got)).ok is ok


def never_forge(_: Honest) -> Forged:
    raise AssertionError


# The matrix and where it cannot be made


def test_an_attack_that_does_not_apply_says_why(tmp_path: Path) -> None:
    """From evidence without containers: the log is of PCR 10 alone."""
    forged = find("measurer-never-started").forge(honest(REAL))
    judge_forged(forged, tmp_path / "bundle")
    three = [find("line-deleted"), find("nonce-truncated"), find("signature-bit-last")]
    rows = matrix(tmp_path / "bundle", three, ak=forged.ak, nonce=forged.nonce)
    assert [bool(row.skipped) for row in rows] == [True, True, False]
    assert all(row.ok for row in rows)
    assert "needs two containers" in rows[0].skipped
    assert "PCRs 10 and 11" in rows[1].skipped


def test_evidence_that_is_not_trusted_is_not_attacked(tmp_path: Path) -> None:
    forged = find("line-deleted").forge(honest(REAL))
    judge_forged(forged, tmp_path / "bundle")
    with pytest.raises(SpecError, match="untrusted: replay-mismatch"):
        read_honest(tmp_path / "bundle", ak=forged.ak, nonce=forged.nonce)


def test_evidence_that_is_malformed_is_not_attacked(tmp_path: Path) -> None:
    forged = find("json-nan").forge(honest(REAL))
    judge_forged(forged, tmp_path / "bundle")
    with pytest.raises(EvidenceError, match="malformed"):
        read_honest(tmp_path / "bundle", ak=forged.ak, nonce=forged.nonce)


def test_evidence_with_a_garbage_tail_can_be_attacked(tmp_path: Path) -> None:
    forged = find("tail-garbage").forge(honest(REAL))
    judge_forged(forged, tmp_path / "bundle")
    rows = matrix(tmp_path / "bundle", [find("line-deleted"), find("lines-swapped")], **arguments(REAL))
    assert all(row.ok for row in rows)


def test_nothing_is_left_behind_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(_: AttackOutcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matrix(REAL, ATTACKS[:3], **arguments(REAL), advance=stop)
    assert list(tmp_path.iterdir()) == []

    def stop_within(*_: object, **__: object) -> Any:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matrix(REAL, ATTACKS[:3], **arguments(REAL), ask=stop_within)
    assert list(tmp_path.iterdir()) == []


def test_other_verifiers_see_the_same_files() -> None:
    seen = []

    def ask(directory: Path, forged: Forged) -> dict[str, str]:
        seen.append((directory / "ima.bin").read_bytes() == forged.files["ima.bin"])
        return {"other": "accepts"}

    rows = matrix(REAL, [find("line-deleted")], **arguments(REAL), ask=ask)
    assert seen == [True]
    assert rows[0].rivals == {"other": "accepts"}


# The commands


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.main, list(words), catch_exceptions=False)


def few(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(audit_command, "ATTACKS", tuple(map(find, names)))


def test_audit_prints_the_matrix_and_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, "line-deleted", "json-nonce-lying", "policy-nan")
    done = run("audit", str(REAL))
    assert done.exit_code == 0, done.output
    assert "line-deleted\tT52\tfiles\treplay-mismatch\treplay-mismatch\tyes" in done.stdout
    assert "json-nonce-lying\tT51\tfiles\tnothing\tnothing\tyes" in done.stdout
    assert "policy-nan\tT70\tfiles\trefused\trefused\tyes" in done.stdout
    assert done.stdout.splitlines()[-1] == "3 of 3 attacks gave exactly the expected findings"
    assert "the bundle's own claim" in done.stderr


def test_audit_of_a_broken_verifier_fails_and_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, "line-deleted", "template-hash-edited")
    monkeypatch.setattr(judge, "template_digest", lambda _: bytes(19) + b"\1")
    monkeypatch.setattr("testbed.attest.mutate.engine.trial.read_honest", lambda *_, **__: honest(REAL))
    done = run("audit", str(REAL))
    assert done.exit_code == 1
    assert "line-deleted\tT52\tfiles\treplay-mismatch\treplay-mismatch template-hash\tNO" in done.stdout
    assert "line-deleted: template-hash at ima.bin: entry" in done.stdout
    assert "1 of 2 attacks" in done.stdout


def test_audit_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, "line-deleted", "clone")
    nonce = arguments(REAL)["nonce"].hex()
    done = run("audit", str(REAL), "--json", "--nonce", nonce, "--ak", str(REAL / "ak.pub"))
    assert done.exit_code == 0
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert (told["schema"], told["made"], told["as_expected"]) == (1, 2, 2)
    assert told["attacks"][0]["got"] == ["replay-mismatch"]
    assert told["attacks"][1]["expect"] == []


def test_audit_asks_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, "line-deleted")
    asked = []

    def opinion(name: str, directory: Path, **given: Any) -> verifiers.Opinion:
        asked.append((name, given["pcrs"], (directory / "quote.sig").is_file()))
        return verifiers.Opinion(rival=name, verdict=verifiers.Says.ACCEPTS, detail="")

    monkeypatch.setattr(verifiers, "available", lambda: ("evmctl",))
    monkeypatch.setattr(verifiers, "judge", opinion)
    done = run("audit", str(REAL), "--rivals")
    assert done.exit_code == 0
    assert asked == [("evmctl", "sha256:10,11", True)]
    assert "yes\taccepts" in done.stdout
    monkeypatch.setattr(verifiers, "available", tuple)
    assert run("audit", str(REAL), "--rivals").exit_code == 2


def test_audit_names_what_could_not_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few(monkeypatch, "line-deleted", "signature-bit-last")
    assert run("mutate", str(REAL), "--apply", "measurer-never-started", "-o", str(tmp_path / "new")).exit_code == 0
    done = run("audit", str(tmp_path / "new"))
    assert done.exit_code == 0
    assert "not made: line-deleted: needs two containers" in done.stdout
    assert "1 of 1 attacks gave exactly the expected findings; 1 could not be made from this bundle" in done.stdout
    refused = run("mutate", str(tmp_path / "new"), "--apply", "line-deleted", "-o", str(tmp_path / "newer"))
    assert refused.exit_code == 2
    assert "cannot be made from this bundle" in refused.stderr
    listed = run("mutate", str(tmp_path / "new"), "--list")
    assert "(not from this bundle: needs two containers" in listed.stdout


def test_list_names_every_attack() -> None:
    done = run("mutate", str(REAL), "--list")
    assert done.exit_code == 0
    assert [line.split("\t")[0] for line in done.stdout.splitlines()[1:]] == [one.name for one in ATTACKS]


# Each with something else in its command line than the key and the nonce.
@pytest.mark.parametrize(
    "name",
    [
        "line-deleted",
        "quote-replayed",
        "firmware-other",
        "uki-declared",
        "padded-declared",
        "bank-sha1-demanded",
        "key-unrestricted-as-pem",
        "policy-unknown-file",
        "policy-exclude-all",
        "saved-progress",
        "saved-reboot",
        "saved-past-changed-recheck",
        "saved-other-key",
        "ima-bin-fifo",
        "ima-bin-link-out",
        "ima-bin-huge",
        "quote-sig-directory",
    ],
)
def test_apply_writes_what_its_command_line_judges_as_expected(name: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er"
    done = run("mutate", str(REAL), "--apply", name, "-o", str(out))
    assert done.exit_code == 0, done.output
    first, command, last = done.stdout.splitlines()
    attack = find(name)
    assert first == f"{name} ({attack.catalogue}): {attack.summary}"
    words = shlex.split(command)
    assert words[0] == "testbed"
    judged = run(*words[1:], "--json")
    if attack.expect == {REFUSED}:
        assert judged.exit_code == 2
        assert "rejects its own argument" in last
        return
    assert {finding["kind"] for finding in json.loads(judged.stdout)["findings"]} == attack.expect
    assert last == f"expected: {' '.join(sorted(attack.expect)) or 'nothing'}"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "either --list or --apply"),
        (("--list", "--apply", "clone"), "either --list or --apply"),
        (("--apply", "clone"), "needs -o"),
        (("--apply", "clon", "-o", "x"), "similar: clone"),
        (("--list", "--nonce", "xyz"), "nonce: expected"),
        (("--list", "--nonce", "00"), "untrusted: quote-nonce"),
    ],
)
def test_wrong_words(words: tuple[str, ...], said: str) -> None:
    done = run("mutate", str(REAL), *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_apply_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = run("mutate", str(REAL), "--apply", "clone", "-o", str(tmp_path / "there"))
    assert done.exit_code == 2
    assert "no such file or directory yet" in done.stderr
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nonce": 1}', '{"nonce": "zz"}', "[" * 100_000])
def test_a_bundle_without_a_nonce_of_its_own(text: str, tmp_path: Path) -> None:
    (tmp_path / "ak.pub").write_bytes((REAL / "ak.pub").read_bytes())
    (tmp_path / "bundle.json").write_text(text)
    done = run("audit", str(tmp_path))
    assert done.exit_code == 2
    assert "nonce" in done.stderr


def test_a_bundle_without_a_key(tmp_path: Path) -> None:
    done = run("audit", str(tmp_path))
    assert done.exit_code == 2
    assert "ak.pub or ak.pem" in done.stderr


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _evidence.show(["attack", "correct"], [["[bold]x", "NO"], ["y", "yes"]])
    out = capsys.readouterr().out
    assert "[bold]x" in out
    assert "┃" in out or "|" in out


def test_the_matrix_is_a_function_for_reports() -> None:
    rows = matrix(REAL, ATTACKS[:2], **arguments(REAL))
    assert [row.attack for row in rows] == list(ATTACKS[:2])
    assert all(row.ok for row in rows)
    assert honest(REAL).pcrs == verifier.DEFAULT_PCRS

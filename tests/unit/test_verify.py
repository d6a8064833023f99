"""The judge on real quotes of a software TPM (tests/golden/make_bundle.py), and on everything done to them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import evidence as b
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from evidence import GOLDEN

from testbed.attest.finding import Finding, FindingKind
from testbed.attest.log.ima import read_entries
from testbed.attest.verdict import Judgement, Verdict
from testbed.attest.verify import attested_entries, verify
from testbed.commands import verify as cli
from testbed.errors import SpecError

NONCE = bytes.fromhex("d1ce5eed00112233445566778899aabb")
REAL = (GOLDEN / "bundle-synthetic", GOLDEN / "bundle-synthetic-ecdsa")
AK = (REAL[0] / "ak.pub").read_bytes()
PARENT = (REAL[0] / "ek.qualified-name").read_bytes()
LOG = (REAL[0] / "ima.bin").read_bytes()
LINES = [LOG[e.offset : e.end] for e in read_entries(LOG)]
AHEAD = 2
TAIL = len(b"".join(LINES[:-AHEAD]))
Edit = Callable[..., Verdict]


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Judge a copy of the RSA bundle with some files replaced, `values=False` for one without PCR values."""
    copy = tmp_path / "bundle"
    shutil.copytree(REAL[0], copy)
    changed: set[str] = set()

    def judge(*, values: bool = True, ak: bytes = AK, nonce: bytes = NONCE, **files: bytes) -> Verdict:
        given = {name.replace("_", "."): data for name, data in files.items()}
        for name in changed - set(given):
            shutil.copyfile(REAL[0] / name, copy / name)
        for name, data in given.items():
            (copy / name).write_bytes(data)
        changed.clear()
        changed.update(given)
        if not values:
            changed.add("bundle.json")
            described = json.loads((copy / "bundle.json").read_text())
            del described["pcr_values"]
            (copy / "bundle.json").write_text(json.dumps(described))
        return verify(copy, ak=ak, nonce=nonce, ak_parent=PARENT if ak == AK else None)

    return judge


def kinds(verdict: Verdict) -> set[str]:
    return {finding.kind.value for finding in verdict.findings}


@pytest.mark.parametrize("values", [True, False])
def test_good(edit: Edit, values: bool) -> None:
    verdict = edit(values=values)
    assert kinds(verdict) == {"unattested"}
    assert verdict.ok
    assert (verdict.entries, verdict.unattested) == (23, AHEAD)
    assert verdict.pcrs == {pcr: b.extended(LOG[:TAIL], pcr).hex() for pcr in (10, 11)}
    assert verdict.attested == {10: 12, 11: 9}
    assert {key: (one.runtime_id, one.entries) for key, one in verdict.containers.items()} == {
        "1": (f"{1:064x}", 4),
        "2": (f"{2:064x}", 5),
    }
    assert verdict.notes == ("the log has no ctr-beat: nothing proves that the measurer was always attached",)


@pytest.mark.parametrize("bundle", REAL, ids=lambda path: path.name)
def test_pem_says_that_the_name_was_not_checked(bundle: Path) -> None:
    verdict = verify(bundle, ak=(bundle / "ak.pem").read_bytes(), nonce=NONCE)
    assert verdict.ok
    assert "signer's name was not checked" in verdict.notes[0]


@pytest.mark.parametrize("file", ["quote.attest", "quote.sig"])
@pytest.mark.parametrize("bundle", REAL, ids=lambda path: path.name)
def test_every_byte_of_the_quote_counts(tmp_path: Path, bundle: Path, file: str) -> None:
    """Each byte three times: its lowest bit, its highest, and all of it."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    ak = (bundle / "ak.pub").read_bytes()
    good = (bundle / file).read_bytes()
    passed = []
    for at in range(len(good)):
        for flip in (0x01, 0x80, 0xFF):
            (copy / file).write_bytes(good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
            if verify(copy, ak=ak, nonce=NONCE).judgement is Judgement.TRUSTED:
                passed.append((at, flip))
    assert passed == []


def flips(first: int, end: int, positions: int, seed: int) -> list[tuple[int, int]]:
    chosen = random.Random(seed)
    where = list(range(first, end)) if end - first <= positions else chosen.sample(range(first, end), positions)
    return [(at, flip) for at in where for flip in chosen.sample(range(1, 256), 3)]


def flipped(log: bytes, at: int, flip: int) -> bytes:
    return log[:at] + bytes([log[at] ^ flip]) + log[at + 1 :]


@pytest.mark.parametrize("values", [True, False])
def test_flips_in_the_attested_log(edit: Edit, values: bool) -> None:
    """Three values at each of many places, with the attester's PCR values and without."""
    assert TAIL > 2100
    passed = [
        (at, flip)
        for at, flip in flips(0, TAIL, 2100 if values else 300, seed=1)
        if edit(ima_bin=flipped(LOG, at, flip), values=values).ok
    ]
    assert passed == []


def attested_part(verdict: Verdict) -> tuple[object, ...]:
    others = tuple(finding for finding in verdict.findings if not finding.informative)
    return others, verdict.pcrs, verdict.attested, verdict.containers, verdict.judgement


@pytest.mark.parametrize("values", [True, False])
def test_flips_in_the_tail_change_nothing_attested(edit: Edit, values: bool) -> None:
    expected = attested_part(edit(values=values))
    for at, flip in flips(TAIL, len(LOG), 400, seed=2):
        verdict = edit(ima_bin=flipped(LOG, at, flip), values=values)
        assert attested_part(verdict) == expected
        assert kinds(verdict) == {"unattested"}


TAILS = {
    "violation": b.violation("/bin/x"),
    "unquoted PCR": b.ima_ng("/bin/x", b"", 12),
    "unknown template": b.entry(10, b"dep", b"?"),
    "wrong template hash": b.entry(11, b"ima-ng", b"", digest=b"x" * 20),
    "not a payload": b.ima_buf("ctr-file", b"TBCM"),
    "second start": b.ima_buf("ctr-start", b.ctr_start(b.libpod())),
    "huge length": b.ima_ng("/bin/x", b"")[:24] + b"\xff" * 4,
    "one byte": b"\n",
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS.keys())
@pytest.mark.parametrize("values", [True, False])
def test_any_tail(edit: Edit, tail: bytes, values: bool) -> None:
    """What an attested entry must not be is only unattested here, and its bytes are counted."""
    verdict = edit(ima_bin=LOG[:TAIL] + tail, values=values)
    assert attested_part(verdict) == attested_part(edit(values=values))
    (finding,) = verdict.findings
    assert finding.kind is FindingKind.UNATTESTED
    assert f"{len(tail)} byte{'s' * (len(tail) > 1)} after the last attested entry" in finding.got


def test_no_tail(edit: Edit) -> None:
    assert edit(ima_bin=LOG[:TAIL]).findings == ()


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("number", range(len(LINES) - AHEAD))
def test_deleted_and_duplicated_lines(edit: Edit, number: int, values: bool) -> None:
    without = LINES[:number] + LINES[number + 1 :]
    twice = LINES[: number + 1] + LINES[number:]
    assert "replay-mismatch" in kinds(edit(ima_bin=b"".join(without), values=values))
    verdict = edit(ima_bin=b"".join(twice), values=values)
    if number == 20 or (
        values and number == 19
    ):  # the last of PCR 11 and of PCR 10: once more is past the quoted state
        assert kinds(verdict) == {"unattested"}
    else:
        assert "replay-mismatch" in kinds(verdict)


def test_swapped_lines(edit: Edit) -> None:
    """Within a PCR the order counts; between PCRs nothing in a quote can tell it."""
    numbers = range(len(LINES) - AHEAD - 1)
    for number in numbers:
        lines = [*LINES]
        lines[number : number + 2] = reversed(lines[number : number + 2])
        same = LINES[number][0] == LINES[number + 1][0]
        verdict = edit(ima_bin=b"".join(lines))
        assert ("replay-mismatch" in kinds(verdict)) == same, number
        assert verdict.ok == (not same), number


def test_cut(edit: Edit) -> None:
    for end in range(0, TAIL, 7):
        assert not edit(ima_bin=LOG[:end]).ok, end


def test_all_lines_of_pcr_11_removed(edit: Edit) -> None:
    log = b"".join(line for line in LINES if line[0] != 11)
    verdict = edit(ima_bin=log)
    assert kinds(verdict) == {"log-missing", "unattested"}
    assert verdict.judgement is Judgement.UNTRUSTED
    assert kinds(edit(ima_bin=log, values=False)) == {"replay-mismatch"}


def test_empty_log(edit: Edit) -> None:
    assert kinds(edit(ima_bin=b"")) == {"log-missing"}


def test_line_of_a_pcr_that_was_not_quoted(edit: Edit) -> None:
    log = b"".join([LINES[0], b.ima_ng("/bin/evil", b"", 12), *LINES[1:]])
    assert kinds(edit(ima_bin=log)) == {"replay-mismatch", "unattested"}


def test_template_hash_alone(edit: Edit) -> None:
    """The SHA-1 that the log shows is in no PCR of another bank: only this check sees it changed."""
    log = flipped(LOG, 10, 1)
    verdict = edit(ima_bin=log)
    assert kinds(verdict) == {"template-hash", "unattested"}
    assert "entry 1 at byte 0" in verdict.findings[0].where


def test_template_name_is_in_no_hash(edit: Edit) -> None:
    """An ``ima-buf`` entry passed off as ``ima-sig`` has the same hashes; it may not lose its meaning unseen."""
    start = LINES[1]
    assert not edit(ima_bin=LOG.replace(start, start.replace(b"ima-buf", b"ima-sig"))).ok
    assert kinds(edit(ima_bin=LOG.replace(b"ima-ng", b"ima-xx"))) == {"unsupported", "unattested"}


def test_questions_of_the_verifier(edit: Edit, tmp_path: Path) -> None:
    assert kinds(edit(nonce=NONCE[:-1] + b"x")) == {"quote-nonce", "unattested"}
    assert kinds(edit(nonce=NONCE[:-1])) == {"quote-nonce", "unattested"}
    other = (REAL[1] / "ak.pub").read_bytes()
    assert kinds(edit(ak=other)) == {"quote-signature", "unattested"}
    for pcrs in ("sha256:10", "sha256:10,11,12", "sha1:10,11", "sha256:11"):
        verdict = verify(tmp_path / "bundle", ak=AK, nonce=NONCE, pcrs=pcrs)
        assert "quote-selection" in kinds(verdict)
    wrong = PARENT[:-1] + bytes([PARENT[-1] ^ 1])
    assert "quote-signer" in kinds(verify(tmp_path / "bundle", ak=AK, nonce=NONCE, ak_parent=wrong))


def test_quote_and_signature_of_another_time(edit: Edit) -> None:
    other = (REAL[1] / "quote.attest").read_bytes()
    assert "quote-signature" in kinds(edit(quote_attest=other))


@pytest.mark.parametrize("name", ["quote_attest", "quote_sig"])
def test_trailing_bytes(edit: Edit, name: str) -> None:
    good = (REAL[0] / name.replace("_", ".")).read_bytes()
    assert edit(**{name: good + b"\0"}).judgement is Judgement.MALFORMED
    assert edit(**{name: good[:-1]}).judgement is Judgement.MALFORMED
    assert edit(**{name: bytes(5000)}).judgement is Judgement.MALFORMED
    assert edit(**{name: b""}).judgement is Judgement.MALFORMED


def described(**changes: object) -> bytes:
    return json.dumps(json.loads((REAL[0] / "bundle.json").read_text()) | changes).encode()


def test_pcr_values_are_not_believed_against_the_quote(edit: Edit) -> None:
    """Values that the quote does not bear out do not help, nor do they hide that the log fits."""
    short = b"".join(LINES[:5])
    lies = {str(pcr): b.extended(short, pcr).hex() for pcr in (10, 11)}
    verdict = edit(bundle_json=described(pcr_values=lies))
    assert verdict.ok
    assert any("searched" in note for note in verdict.notes)
    assert kinds(edit(bundle_json=described(pcr_values=lies), ima_bin=short)) == {"replay-mismatch"}
    values = json.loads((REAL[0] / "bundle.json").read_text())["pcr_values"]
    moved = {"10": values["10"] + values["11"][:2], "11": values["11"][2:]}
    assert any("searched" in note for note in edit(bundle_json=described(pcr_values=moved)).notes)


def test_unknown_keys_pass(edit: Edit) -> None:
    assert edit(bundle_json=described(kernel="6.12")).ok


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        described(schema=2),
        described(schema=True),
        described(schema="1"),
        described(hash_alg=None),
        described(pcrs="10,11"),
        described(pcrs=[10, 24]),
        described(nonce="D1"),
        described(nonce=7),
        described(pcr_values=[]),
        described(pcr_values={"010": "00"}),
        described(pcr_values={"10": "0"}),
        described(pcr_values={"10": None}),
        described()[:-1] + b', "schema": 1}',
        described(x=float("nan")),
    ],
)
def test_malformed_bundle_json(edit: Edit, data: bytes) -> None:
    verdict = edit(bundle_json=data)
    assert verdict.judgement is Judgement.MALFORMED
    assert verdict.findings[0].where.startswith("bundle.json")


@pytest.mark.parametrize("name", ["bundle.json", "quote.attest", "quote.sig", "ima.bin"])
@pytest.mark.parametrize("how", ["missing", "link", "fifo", "directory"])
def test_only_plain_files_are_read(tmp_path: Path, name: str, how: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(REAL[0], copy)
    (copy / name).unlink()
    if how == "link":
        (copy / name).symlink_to(REAL[0] / name)
    elif how == "fifo":
        os.mkfifo(copy / name)
    elif how == "directory":
        (copy / name).mkdir()
    verdict = verify(copy, ak=AK, nonce=NONCE)
    assert verdict.judgement is Judgement.MALFORMED
    assert name in verdict.findings[0].where


def test_bad_arguments() -> None:
    with pytest.raises(SpecError):
        verify(REAL[0], ak=b"no key", nonce=NONCE)
    with pytest.raises(SpecError):
        verify(REAL[0], ak=AK, nonce=NONCE, pcrs="10,11")


KEY = ec.generate_private_key(ec.SECP256R1())


def quoted(tmp_path: Path, lines: list[bytes]) -> Verdict:
    """Judge a log that a software key quoted whole."""
    log = b"".join(lines)
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    data = b.attest(NONCE, hashlib.sha256(values[10] + values[11]).digest())
    sig = b.sign(KEY, data, scheme=0x0018)
    bundle = b.write_bundle(tmp_path / "quoted", attest=data, sig=sig, log=log, nonce=NONCE, values=values)
    return verify(bundle, ak=b.pem(KEY), nonce=NONCE)


START = b.ima_buf("ctr-start", b.ctr_start(b.libpod()))
FILE = b.ima_buf("ctr-file", b.ctr_file(b"/bin/x", b""))
WRONG_BUF = b.entry(
    11, b"ima-buf", b.digest_field(bytes(32)) + b.field(b"ctr-file\0") + b.field(b.ctr_file(b"/bin/x", b""))
)
OTHER_MNTNS = b.ima_buf("ctr-file", b.ctr_file(b"/bin/x", b"").replace((4026532500).to_bytes(8, "little"), b"\1" * 8))


@pytest.mark.parametrize(
    ("lines", "kind", "judgement"),
    [
        ([START, FILE], None, Judgement.TRUSTED),
        ([b.violation("/bin/x")], FindingKind.VIOLATION, Judgement.UNTRUSTED),
        ([START, b.ima_buf("ctr-violation", b.ctr_violation(b"/x"))], FindingKind.VIOLATION, Judgement.UNTRUSTED),
        ([b.ima_buf("ctr-violation", b"")], FindingKind.MALFORMED, Judgement.MALFORMED),
        ([b.entry(10, b"dep", b"?")], FindingKind.UNSUPPORTED, Judgement.UNTRUSTED),
        ([b.ima_buf("kexec-cmdline", b"quiet")], None, Judgement.TRUSTED),
        ([b.ima_buf("ctr-later", b"")], FindingKind.UNSUPPORTED, Judgement.UNTRUSTED),
        ([b.ima_buf("ctr-image", b.ctr_image(b"d" * 32))], None, Judgement.TRUSTED),
        ([START, WRONG_BUF], FindingKind.TEMPLATE_HASH, Judgement.UNTRUSTED),
        ([START, b.ima_buf("ctr-file", b"TBCM")], FindingKind.MALFORMED, Judgement.MALFORMED),
        ([FILE], FindingKind.MALFORMED, Judgement.MALFORMED),
        ([START, START[:24] + START[24:]], FindingKind.MALFORMED, Judgement.MALFORMED),
        ([START, OTHER_MNTNS], FindingKind.MALFORMED, Judgement.MALFORMED),
    ],
)
def test_attested_entries_are_judged(
    tmp_path: Path, lines: list[bytes], kind: FindingKind | None, judgement: Judgement
) -> None:
    """These lines really were extended: the quote and the replay are good, and still."""
    verdict = quoted(tmp_path, [b.ima_ng("boot_aggregate", b""), *lines])
    assert {finding.kind for finding in verdict.findings} == ({kind} if kind else set())
    assert verdict.judgement is judgement


def test_attested_entries_can_be_read_again(tmp_path: Path) -> None:
    verdict = verify(REAL[0], ak=AK, nonce=NONCE)
    assert [e.number for e in attested_entries(REAL[0], verdict)] == list(range(1, 22))


def test_a_container_answers_for_itself() -> None:
    own = Finding(kind=FindingKind.MISSING, where="x", expected="y", got="z", container="2")
    base = verify(REAL[0], ak=AK, nonce=NONCE)
    verdict = Verdict(findings=(own,), containers=base.containers)
    shown = verdict.as_json()["containers"]
    assert (shown["1"]["verdict"], shown["2"]["verdict"]) == ("trusted", "untrusted")
    assert shown["1"]["findings"] == []
    assert shown["2"]["findings"] == [{"kind": "missing", "where": "x", "expected": "y", "got": "z"}]


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.command, [str(word) for word in words])


def test_command() -> None:
    key = ("--ak", REAL[0] / "ak.pub")
    done = call(REAL[0], *key, "--nonce", NONCE.hex(), "--ak-parent", PARENT.hex())
    assert done.exit_code == 0
    assert done.output.startswith("trusted (log authentic, files not judged)\n")
    assert "name was not checked" not in done.output
    pem = call(REAL[0], "--ak", REAL[0] / "ak.pem", "--nonce", NONCE.hex())
    assert pem.exit_code == 0
    assert "the signer's name was not checked" in pem.output
    assert call(REAL[0], *key, "--nonce", "00").exit_code == 1
    assert call(GOLDEN, *key, "--nonce", "00").exit_code == 4
    assert call(REAL[0], *key, "--nonce", "00", "--pcrs", "sha256:10").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        (REAL[0], "--nonce", "00"),
        (REAL[0], "--ak", REAL[0] / "ak.pub"),
        (REAL[0] / "no", "--ak", REAL[0] / "ak.pub", "--nonce", "00"),
        (REAL[0], "--ak", REAL[0] / "no", "--nonce", "00"),
        (REAL[0], "--ak", REAL[0] / "bundle.json", "--nonce", "00"),
        (REAL[0], "--ak", REAL[0] / "ak.pub", "--nonce", "0"),
        (REAL[0], "--ak", REAL[0] / "ak.pub", "--nonce", "00", "--pcrs", "10"),
        (REAL[0], "--ak", REAL[0] / "ak.pub", "--nonce", "00", "--ak-parent", "00"),
        (REAL[0], "--ak", REAL[0] / "ak.pem", "--nonce", "00", "--ak-parent", PARENT.hex()),
    ],
)
def test_wrong_arguments(words: tuple[object, ...]) -> None:
    assert call(*words).exit_code == 2


def test_json() -> None:
    done = call(REAL[0], "--ak", REAL[0] / "ak.pub", "--nonce", NONCE.hex(), "--json")
    said = json.loads(done.output)
    assert list(said) == [
        "schema",
        "verdict",
        "findings",
        "omitted",
        "entries",
        "unattested",
        "pcrs",
        "containers",
        "notes",
    ]
    assert (said["schema"], said["verdict"], said["entries"], said["unattested"]) == (2, "trusted", 23, AHEAD)
    assert set(said["findings"][0]) == {"kind", "where", "expected", "got"}
    assert set(said["pcrs"]) == {"10", "11"}
    assert said["containers"]["2"] | {"runtime_id": ""} == {
        "verdict": "trusted",
        "image": "",
        "image_digest": "",
        "drift": False,
        "runtime_id": "",
        "parent": 0,
        "entries": 5,
        "findings": [],
        "omitted": {},
    }
    bad = json.loads(call(GOLDEN, "--ak", REAL[0] / "ak.pub", "--nonce", "00", "--json").output)
    assert (bad["verdict"], bad["findings"][0]["kind"]) == ("malformed", "malformed")


def test_every_kind_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "verify.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([a-z-]+)`", page))
    assert {kind.value for kind in FindingKind} <= explained


def loaded(*argv: object) -> set[str]:
    """Return the top names of the modules that a call of the command line has imported at its end."""
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from testbed.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1].split()
    return set(modules) | {module.split(".")[0] for module in modules}


# What takes longer to import than a short log to verify, and who needs it.
SLOW = {
    "pydantic": "a policy",
    "multiprocessing": "--jobs 2",
    "cryptography.hazmat.primitives.serialization": "a PEM, a saved state",
    "pandas": "the analysis",
    "numpy": "the analysis",
    "pyarrow": "images",
    "rich": "bars and tables",
    "tempfile": "nothing",
}


def test_a_verification_without_a_policy_imports_nothing_slow(tmp_path: Path) -> None:
    directory = GOLDEN / "bundle-debian-6.12"
    nonce = json.loads((directory / "bundle.json").read_text())["nonce"]
    argv = ["verify", directory, "--ak", directory / "ak.pub", "--nonce", nonce]
    assert loaded(*argv) & SLOW.keys() == set()
    saving = loaded(*argv, "--save-state", tmp_path / "state.json")
    assert saving & SLOW.keys() == {"cryptography.hazmat.primitives.serialization"}
    again = loaded(*argv, "--since", tmp_path / "state.json")
    assert again & SLOW.keys() == {"cryptography.hazmat.primitives.serialization"}
    policy = GOLDEN / "policy" / "from-log-debian-6.12.json"
    assert "pydantic" in loaded(*argv, "--policy", policy)


def test_a_verdict_has_a_state_only_if_one_is_wanted() -> None:
    ak, nonce = (
        (REAL[0] / "ak.pub").read_bytes(),
        bytes.fromhex(json.loads((REAL[0] / "bundle.json").read_text())["nonce"]),
    )
    kept, without = (verify(REAL[0], ak=ak, nonce=nonce, make_state=wanted) for wanted in (True, False))
    assert kept.state is not None
    assert without.state is None
    assert without.findings == kept.findings

"""What other verifiers say of golden evidence and of changed evidence; and what is made of their answers.

Where a rival is not on the machine its tests skip, for Keylime unless `TESTBED_KEYLIME_PYTHON` names a Python that has
it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evidence
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from testbed import shell
from testbed.attest.finding import BadEvidence
from testbed.attest.log.ima import read_entries
from testbed.attest.rivals import ask_keylime, verifiers
from testbed.attest.rivals.verifiers import Opinion, Says
from testbed.errors import DeadlineExceeded, HostError, SpecError
from testbed.guest import Completed

REAL = ("bundle-debian-6.12", "bundle-debian-6.1")
NONCE = bytes(range(20))
PCRS = (10, 11)


def needs(name: str) -> None:
    if name not in verifiers.available():
        pytest.skip(f"{name} is not on this machine")


def ask(name: str, directory: Path, **options: Any) -> Opinion:
    """Ask about a bundle that has its own key and nonce, as it was made."""
    nonce = bytes.fromhex(json.loads((directory / "bundle.json").read_bytes())["nonce"])
    return verifiers.judge(name, directory, ak=(directory / "ak.pub").read_bytes(), nonce=nonce, **options)


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(evidence.GOLDEN / name, to / name))


def edit_log(directory: Path, *, drop_pcr: int | None = None, tail: bytes = b"") -> Path:
    log = (directory / "ima.bin").read_bytes()
    kept = [log[entry.offset : entry.end] for entry in read_entries(log) if entry.pcr != drop_pcr]
    (directory / "ima.bin").write_bytes(b"".join(kept) + tail)
    return directory


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def made(directory: Path, key: rsa.RSAPrivateKey, log: bytes, **quoted: Any) -> Path:
    """A bundle as a person who holds the key would make it; `quoted` changes the quote."""
    values = {pcr: evidence.extended(log, pcr) for pcr in PCRS}
    attest = evidence.attest(NONCE, hashlib.sha256(b"".join(values.values())).digest(), **quoted)
    sig = evidence.sign(key, attest, scheme=0x0014)
    evidence.write_bundle(directory, attest=attest, sig=sig, log=log, nonce=NONCE, values=values)
    (directory / "ak.pub").write_bytes(evidence.pem(key))
    return directory


HOST_LOG = b"".join(
    [
        evidence.ima_ng("boot_aggregate", b"aggregate"),
        evidence.ima_ng("/usr/bin/true", b"true"),
        evidence.ima_old("/usr/bin/old", b"old"),
        evidence.ima_sig("/usr/bin/bare", b"bare"),
        evidence.ima_sig("/usr/bin/signed", b"signed", b"\x03\x02\x04" + bytes(4) + b"\0\2" + b"ab"),
        evidence.ima_buf("kexec-cmdline", b"quiet", pcr=10),
    ]
)


# What they accept and must not. If a rival learns better, its test here fails, and docs/rivals.md is to be changed.


@pytest.mark.parametrize("bundle", REAL)
def test_evmctl_accepts_real_evidence(bundle: str) -> None:
    needs("evmctl")
    assert ask("evmctl", evidence.GOLDEN / bundle).verdict is Says.ACCEPTS


@pytest.mark.parametrize("bundle", REAL)
def test_evmctl_does_not_miss_a_pcr_whose_entries_were_all_deleted(bundle: str, tmp_path: Path) -> None:
    needs("evmctl")
    assert ask("evmctl", edit_log(copied(bundle, tmp_path), drop_pcr=11)).verdict is Says.ACCEPTS


def test_evmctl_ends_where_the_pcrs_that_it_has_met_fit(tmp_path: Path) -> None:
    """These logs have one entry of PCR 10, the first: whatever follows, of PCR 11, is not read."""
    needs("evmctl")
    directory = copied(REAL[0], tmp_path)
    log = (directory / "ima.bin").read_bytes()
    second = list(read_entries(log))[1]
    for changed in (
        log[:-1] + bytes([log[-1] ^ 1]),
        log[: second.offset] + b"garbage",
        log[: second.offset] + bytes(31),
    ):
        (directory / "ima.bin").write_bytes(changed)
        assert ask("evmctl", directory).verdict is Says.ACCEPTS


def test_evmctl_rejects_changed_content_before_that(tmp_path: Path) -> None:
    needs("evmctl")
    directory = copied("bundle-synthetic", tmp_path)
    log = (directory / "ima.bin").read_bytes()
    assert ask("evmctl", directory).verdict is Says.ACCEPTS
    (directory / "ima.bin").write_bytes(log.replace(b"/usr/bin/host-1-1", b"/usr/bin/host-1-9"))
    opinion = ask("evmctl", directory)
    assert opinion.verdict is Says.REJECTS
    assert "template data digest" in opinion.detail


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_evmctl_dies_of_a_length_in_template_data(length: int, tmp_path: Path) -> None:
    needs("evmctl")
    directory = copied(REAL[0], tmp_path)
    log = (directory / "ima.bin").read_bytes()
    first = next(read_entries(log))
    where = first.end - len(first.data)
    (directory / "ima.bin").write_bytes(log[:where] + struct.pack("<I", length) + log[where + 4 :])
    assert ask("evmctl", directory).verdict in ({Says.CRASHED} if length else {Says.CRASHED, Says.REJECTS})


def test_checkquote_accepts_real_evidence_and_rejects_another_nonce() -> None:
    needs("tpm2_checkquote")
    for bundle in REAL:
        directory = evidence.GOLDEN / bundle
        assert ask("tpm2_checkquote", directory).verdict is Says.ACCEPTS
        other = verifiers.judge("tpm2_checkquote", directory, ak=(directory / "ak.pub").read_bytes(), nonce=NONCE)
        assert other.verdict is Says.REJECTS


def test_checkquote_compares_the_values_with_the_quote(tmp_path: Path) -> None:
    needs("tpm2_checkquote")
    directory = copied(REAL[0], tmp_path)
    told = json.loads((directory / "bundle.json").read_bytes())
    told["pcr_values"]["11"] = "00" * 32
    (directory / "bundle.json").write_text(json.dumps(told))
    assert ask("tpm2_checkquote", directory).verdict is Says.REJECTS
    del told["pcr_values"]
    (directory / "bundle.json").write_text(json.dumps(told))
    assert ask("tpm2_checkquote", directory).verdict is Says.ACCEPTS


@pytest.mark.parametrize("quoted", [{"magic": 0xDEADBEEF}, {"pcrs": (0, 1)}], ids=["CVE-2024-29038", "CVE-2024-29039"])
def test_checkquote_accepts_what_no_tpm_would_say_or_of_other_pcrs(
    quoted: dict[str, Any], key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    needs("tpm2_checkquote")
    opinion = ask("tpm2_checkquote", made(tmp_path, key, HOST_LOG, **quoted))
    if opinion.verdict is Says.REJECTS:
        pytest.skip(f"fixed here, as in 5.6.1 and 5.7 ({verifiers.version('tpm2_checkquote')})")
    assert opinion.verdict is Says.ACCEPTS


def test_checkquote_accepts_other_bytes_for_one_signature(tmp_path: Path) -> None:
    needs("tpm2_checkquote")
    directory = copied(REAL[0], tmp_path)
    sig = (directory / "quote.sig").read_bytes()
    assert sig[:2] == b"\0\x14"  # RSASSA
    for other in (sig + b"\0", b"\0\x16" + sig[2:]):
        (directory / "quote.sig").write_bytes(other)
        assert ask("tpm2_checkquote", directory).verdict is Says.ACCEPTS
    (directory / "quote.sig").write_bytes(sig[:-1] + bytes([sig[-1] ^ 1]))
    assert ask("tpm2_checkquote", directory).verdict is Says.REJECTS


def test_checkquote_accepts_a_key_that_signs_anything(tmp_path: Path) -> None:
    needs("tpm2_checkquote")
    loose = ec.generate_private_key(ec.SECP256R1())
    attest = evidence.attest(NONCE, hashlib.sha256(bytes(64)).digest())
    values = dict.fromkeys(PCRS, bytes(32))
    sig = evidence.sign(loose, attest, scheme=0x0018)
    evidence.write_bundle(tmp_path, attest=attest, sig=sig, log=b"", nonce=NONCE, values=values)
    (tmp_path / "ak.pub").write_bytes(evidence.tpm2b_public(loose, attributes=0x00040072))
    assert ask("tpm2_checkquote", tmp_path).verdict is Says.ACCEPTS


def test_keylime_accepts_a_log_of_pcr_10(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    needs("keylime")
    assert ask("keylime", made(tmp_path, key, HOST_LOG)).verdict is Says.ACCEPTS


def test_keylime_rejects_another_value(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    needs("keylime")
    directory = made(tmp_path, key, HOST_LOG)
    (directory / "ima.bin").write_bytes(HOST_LOG.replace(b"/usr/bin/true", b"/usr/bin/ture"))
    opinion = ask("keylime", directory)
    assert opinion.verdict is Says.REJECTS
    assert "pcr_mismatch" in opinion.detail
    assert "ima_hash" in opinion.detail


@pytest.mark.parametrize("bundle", REAL)
def test_keylime_rejects_real_evidence_for_its_pcr_11(bundle: str) -> None:
    needs("keylime")
    opinion = ask("keylime", evidence.GOLDEN / bundle)
    assert opinion.verdict is Says.REJECTS
    assert "ima_pcr" in opinion.detail


def test_keylime_extends_pcr_10_with_entries_of_others() -> None:
    """In the real logs PCR 10 has its value before any other entry, so that it does not show there."""
    needs("keylime")
    assert "pcr_mismatch" in ask("keylime", evidence.GOLDEN / "bundle-synthetic").detail


@pytest.mark.parametrize("bundle", REAL)
def test_keylime_accepts_a_log_whose_pcr_11_was_deleted(bundle: str, tmp_path: Path) -> None:
    needs("keylime")
    assert ask("keylime", edit_log(copied(bundle, tmp_path), drop_pcr=11)).verdict is Says.ACCEPTS


def test_keylime_rejects_a_file_with_a_newline_in_its_name(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    needs("keylime")
    log = HOST_LOG + evidence.ima_ng("/tmp/two\nlines", b"x")
    assert ask("keylime", made(tmp_path, key, log)).verdict is Says.REJECTS


# What is made of their answers, with no rival at all.


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Completed | Exception]]:
    """All rivals, as said; by the program's name, or the option by which Keylime's driver is asked."""
    said: dict[str, Completed | Exception] = {
        "--version": completed(out=b"evmctl 1.4\n"),
        "--probe": completed(out=b'{"verdict": "accepts", "detail": "7.14.3"}'),
    }

    def run(argv: list[str], *, timeout: float, check: bool) -> Completed:
        assert argv[0] == "prlimit"
        assert (timeout, check) == (verifiers.DEADLINE_SECONDS, False)
        words = argv[4:]
        answer = said[words[-1] if words[-1] in said else Path(words[0]).name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(shell, "run", run)
    monkeypatch.setattr(shell, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setenv(verifiers.KEYLIME_PYTHON, "/opt/python")
    verifiers._version.cache_clear()
    yield said
    verifiers._version.cache_clear()


def completed(code: int = 0, out: bytes = b"", err: bytes = b"") -> Completed:
    return Completed(argv=(), code=code, out=out, err=err, seconds=0.0)


@pytest.mark.parametrize(
    ("answer", "verdict", "detail"),
    [
        (completed(0, err=b"Matched.\n"), Says.ACCEPTS, "Matched."),
        (completed(125, out=b"first\n\n", err=b"no\nerrno: No such file (2)\n"), Says.REJECTS, "no"),
        (completed(1), Says.REJECTS, "exit status 1"),
        (completed(-11), Says.CRASHED, "signal 11: Segmentation fault"),
        (completed(-24), Says.CRASHED, "signal 24: CPU time limit exceeded"),
        (completed(1, err=b"prlimit: failed to set\n"), Says.CANNOT, "prlimit: failed to set"),
        (DeadlineExceeded("late"), Says.CRASHED, "no end after 60 s"),
        (completed(1, err=b"x" * 1000), Says.REJECTS, "x" * 200),
    ],
)
def test_an_answer_is_read(
    answers: dict[str, Completed | Exception], answer: Completed | Exception, verdict: Says, detail: str
) -> None:
    answers["evmctl"] = answers["tpm2_checkquote"] = answer
    for name in ("evmctl", "tpm2_checkquote"):
        assert ask(name, evidence.GOLDEN / REAL[0]) == Opinion(rival=name, verdict=verdict, detail=detail)


@pytest.mark.parametrize(
    ("answer", "verdict", "detail"),
    [
        (completed(0, out=b'{"verdict": "rejects", "detail": "why"}'), Says.REJECTS, "why"),
        (completed(0, out=b'{"verdict": "crashed", "detail": "TypeError"}'), Says.CRASHED, "TypeError"),
        (completed(1, err=b"Traceback\nMemoryError\n"), Says.CRASHED, "MemoryError"),
        (completed(-9), Says.CRASHED, "exit status -9"),
        (completed(0, out=b'{"verdict": "hm", "detail": ""}'), Says.CRASHED, '{"verdict": "hm", "detail": ""}'),
        (completed(0, out=b"[]"), Says.CRASHED, "[]"),
        (completed(0, out=b"{}"), Says.CRASHED, "{}"),
    ],
)
def test_an_answer_of_the_driver_is_read(
    answers: dict[str, Completed | Exception], answer: Completed, verdict: Says, detail: str
) -> None:
    answers["python"] = answer
    assert ask("keylime", evidence.GOLDEN / REAL[0]) == Opinion(rival="keylime", verdict=verdict, detail=detail)


def test_places_of_this_machine_are_not_in_a_detail(answers: dict[str, Completed | Exception], tmp_path: Path) -> None:
    directory = copied(REAL[0], tmp_path)
    answers["evmctl"] = completed(1, err=f"cannot open {directory}/ima.bin".encode())
    assert ask("evmctl", directory).detail == "cannot open BUNDLE/ima.bin"


@pytest.mark.parametrize("told", ["{", "[]", '{"pcr_values": {"10": "zz"}}', '{"pcr_values": []}', "{}", "[" * 100_000])
def test_values_that_cannot_be_read_are_those_that_were_given(
    answers: dict[str, Completed | Exception], told: str, tmp_path: Path
) -> None:
    answers["evmctl"] = completed(0)
    directory = copied(REAL[0], tmp_path)
    (directory / "bundle.json").write_text(told)
    options: dict[str, Any] = {"ak": (directory / "ak.pub").read_bytes(), "nonce": NONCE}
    assert verifiers.judge("evmctl", directory, **options).verdict is Says.CANNOT
    assert verifiers.judge("keylime", directory, **options).verdict is Says.CANNOT
    given = verifiers.judge("evmctl", directory, **options, values={10: "11" * 32, 11: "22" * 32})
    assert given.verdict is Says.ACCEPTS


def test_a_description_that_is_no_file_or_too_large_is_not_read(
    answers: dict[str, Completed | Exception], tmp_path: Path
) -> None:
    directory = copied(REAL[0], tmp_path)
    options: dict[str, Any] = {"ak": (directory / "ak.pub").read_bytes(), "nonce": NONCE}
    good = (directory / "bundle.json").read_bytes()
    (directory / "bundle.json").write_bytes(good + b" " * (1 << 20))
    assert verifiers.judge("evmctl", directory, **options).verdict is Says.CANNOT
    (directory / "bundle.json").unlink()
    (directory / "bundle.json").mkdir()
    assert verifiers.judge("evmctl", directory, **options).verdict is Says.CANNOT


def test_keylime_is_not_asked_about_a_log_that_has_no_text_form(
    answers: dict[str, Completed | Exception], tmp_path: Path
) -> None:
    directory = edit_log(copied(REAL[0], tmp_path), tail=b"garbage")
    assert "28 bytes of header" in ask("keylime", directory).detail


@pytest.mark.parametrize(
    ("name", "file"), [("evmctl", "ima.bin"), ("keylime", "ima.bin"), ("tpm2_checkquote", "quote.sig")]
)
def test_a_rival_is_not_made_to_wait_for_a_fifo(
    answers: dict[str, Completed | Exception], name: str, file: str, tmp_path: Path
) -> None:
    directory = copied(REAL[0], tmp_path)
    (directory / file).unlink()
    for fifo in (False, True):
        if fifo:
            os.mkfifo(directory / file)
        assert ask(name, directory) == Opinion(rival=name, verdict=Says.CANNOT, detail=f"{file} is not a plain file")


def test_who_is_there_is_told(answers: dict[str, Completed | Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    answers["--version"] = completed(out=b'tool="tpm2_checkquote" version="5.4" tctis="x"\n')
    assert verifiers.available() == ("evmctl", "tpm2_checkquote", "keylime")
    assert [verifiers.version(name) for name in (*verifiers.SEES, "nobody")] == ["5.4", "5.4", "7.14.3", ""]
    assert verifiers.version("keylime", keylime_python="/opt/other/python") == "7.14.3"
    verifiers._version.cache_clear()
    monkeypatch.setattr(shell, "which", lambda _: None)
    assert verifiers.available() == ()
    assert ask("evmctl", evidence.GOLDEN / REAL[0]).verdict is Says.ABSENT


@pytest.mark.parametrize(
    "answer",
    [
        completed(1),
        completed(out=b"no json"),
        completed(out=b'{"verdict": "absent", "detail": "x"}'),
        HostError("none"),
        DeadlineExceeded("late"),
    ],
)
def test_a_python_without_keylime_is_told(
    answers: dict[str, Completed | Exception], answer: Completed | Exception
) -> None:
    answers["--probe"] = answer
    assert "keylime" not in verifiers.available()


def test_a_version_that_is_not_said_is_unknown(answers: dict[str, Completed | Exception]) -> None:
    answers["--version"] = completed(out=b"development\n")
    assert verifiers.version("evmctl") == "unknown"


def test_a_wrong_key_or_selection_is_a_wrong_argument() -> None:
    with pytest.raises(SpecError):
        verifiers.judge("evmctl", evidence.GOLDEN / REAL[0], ak=b"none", nonce=NONCE)
    ak = (evidence.GOLDEN / REAL[0] / "ak.pub").read_bytes()
    with pytest.raises(SpecError):
        verifiers.judge("evmctl", evidence.GOLDEN / REAL[0], ak=ak, nonce=NONCE, pcrs="sha256:99")


# The forms that they read.


def test_the_text_form_is_the_kernels() -> None:
    lines = verifiers.ascii_log(HOST_LOG + evidence.violation("/var/log/x")).decode().split("\n")
    digest = hashlib.sha256(b"true").hexdigest()
    shown = hashlib.sha1(evidence.digest_field(bytes.fromhex(digest)) + evidence.field(b"/usr/bin/true\0")).hexdigest()
    assert lines[1] == f"10 {shown} ima-ng sha256:{digest} /usr/bin/true"
    assert lines[2].endswith(f" ima {hashlib.sha1(b'old').hexdigest()} /usr/bin/old")
    assert lines[3].endswith(f" ima-sig sha256:{hashlib.sha256(b'bare').hexdigest()} /usr/bin/bare ")
    assert lines[4].endswith(" /usr/bin/signed 03020400000000000261" + "62")
    assert lines[5].endswith(f" kexec-cmdline {b'quiet'.hex()}")
    assert lines[6] == f"10 {'00' * 20} ima-ng sha256:{'00' * 32} /var/log/x"
    assert lines[7:] == [""]
    assert verifiers.ascii_log(evidence.ima_ng("x", b"", pcr=9)).startswith(b" 9 ")


def test_the_text_form_of_a_template_that_keylime_has_not_is_a_line_all_the_same() -> None:
    assert verifiers.ascii_log(evidence.entry(10, b"ima-new", b"\1\2")).endswith(b" ima-new 0102\n")
    unknown = evidence.entry(10, b"ima-ng", evidence.digest_field(bytes(32), "sha9") + evidence.field(b"x\0"))
    with pytest.raises(BadEvidence, match="entry 1"):
        verifiers.ascii_log(unknown)


def test_the_policy_for_keylime_lists_all() -> None:
    policy = verifiers.keylime_policy(HOST_LOG + evidence.entry(10, b"ima-new", b"\1"))
    assert policy["digests"]["/usr/bin/true"] == [hashlib.sha256(b"true").hexdigest()]
    assert set(policy["digests"]) >= {"boot_aggregate", "/usr/bin/old", "/usr/bin/bare", "/usr/bin/signed"}
    assert policy["ima-buf"] == {"kexec-cmdline": [hashlib.sha256(b"quiet").hexdigest()]}


def test_the_pcr_file_for_evmctl_has_every_pcr() -> None:
    lines = verifiers.evmctl_pcrs({10: "ab" * 32}, 32).splitlines()
    assert len(lines) == 24
    assert lines[10] == "PCR-10: " + "ab" * 32
    assert lines[11] == "PCR-11: " + "00" * 32


# The driver that a Python with Keylime runs, on a stand-in of what it uses of Keylime.


class Failure:
    def __init__(self, *ids: str) -> None:
        self.events = [types.SimpleNamespace(event_id=one) for one in ids]

    def __bool__(self) -> bool:
        return bool(self.events)


@pytest.fixture
def keylime(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Modules as the driver imports them; `asked` has the lines and arguments of the call, `failure` its answer."""
    stand_in = types.SimpleNamespace(asked=[], failure=Failure())

    def process(agent: object, lines: list[str], policy: object, *, pcrval: str, hash_alg: str) -> tuple[str, Failure]:
        stand_in.asked.append((agent, lines, policy, pcrval, hash_alg))
        if isinstance(stand_in.failure, Exception):
            raise stand_in.failure
        return "", stand_in.failure

    modules: dict[str, dict[str, Any]] = {
        "keylime": {},
        "keylime.ima": {},
        "keylime.ima.ima": {"process_measurement_list": process, "deserialize_runtime_policy": json.loads},
        "keylime.agentstates": {"AgentAttestState": str},
        "keylime.common": {},
        "keylime.common.algorithms": {"Hash": str.upper},
    }
    for name, contents in modules.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "gpg", raising=False)
    monkeypatch.setattr(logging, "disable", lambda _: None)
    # In this process the peak is pytest's own.
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: 0)
    return stand_in


@pytest.fixture
def question(tmp_path: Path) -> list[str]:
    log, policy = tmp_path / "log", tmp_path / "policy"
    log.write_bytes(b"one\ntwo \xff\n")
    policy.write_bytes(b'{"digests": {}}')
    return ["sha256", "ab", str(log), str(policy)]


def test_the_driver_asks_as_keylimes_verifier_does(keylime: types.SimpleNamespace, question: list[str]) -> None:
    answer = ask_keylime.main(question)
    assert (answer["verdict"], answer["detail"]) == ("accepts", "2 lines")
    assert keylime.asked == [("agent", ["one", "two \ufffd", ""], {"digests": {}}, "ab", "SHA256")]
    assert {"seconds", "cpu_seconds", "load_seconds", "lines_seconds", "beyond_kib", "peak_kib"} <= answer.keys()


def test_the_driver_tells_each_reason_once(keylime: types.SimpleNamespace, question: list[str]) -> None:
    keylime.failure = Failure("a", "b", "a")
    answer = ask_keylime.main(question)
    assert (answer["verdict"], answer["detail"]) == ("rejects", "a, b")


def test_the_driver_tells_what_keylime_raises(keylime: types.SimpleNamespace, question: list[str]) -> None:
    keylime.failure = UnicodeError("surrogates")
    assert ask_keylime.main(question) == {"verdict": "crashed", "detail": "UnicodeError: surrogates"}


def test_the_driver_tells_where_there_is_no_keylime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "disable", lambda _: None)
    monkeypatch.setitem(sys.modules, "keylime", None)
    assert ask_keylime.main(["--probe"])["verdict"] == "absent"


def test_the_driver_tells_keylimes_version(keylime: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 7")
    assert ask_keylime.main(["--probe"]) == {"verdict": "accepts", "detail": "keylime 7"}


def test_the_benchmark_runs(tmp_path: Path) -> None:
    """On what is here; a contestant that rejects its log, or sees other PCR values, would end it."""
    program = Path(__file__).parents[2] / "benchmarks" / "verify.py"
    argv: list[str | Path] = [
        sys.executable,
        program,
        "--entries",
        "2000",
        "--rounds",
        "1",
        "--scratch",
        tmp_path,
        "--raw",
        tmp_path / "raw",
    ]
    done = shell.run(argv, timeout=120)
    assert re.search(r"^\| ours \| .+ \| 1\.00, 1\.00 \| [0-9.]+ \| [0-9.]+ \|$", done.text, re.MULTILINE)
    assert "1,000 entries more on 2,000 that were verified" in done.text
    raw = json.loads((tmp_path / "raw").read_bytes())
    assert {"ours", "ours, 2 processes", "plain Python loop", "hashes alone", "grown"} <= raw.keys()
    assert {len(values) for values in raw.values()} == {1}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]

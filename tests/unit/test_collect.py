"""Evidence of a foreign machine: the shell script over a real software TPM, and the verifier's side of the exchange."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import evidence
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from software_tpm import SoftwareTpm, software_tpm

from testbed import shell
from testbed.attest.enrol import exchange, keys, parcel
from testbed.attest.enrol.credential import make_credential
from testbed.attest.finding import BadEvidence, FindingKind, UnsupportedEvidence
from testbed.attest.verdict import Verdict
from testbed.attest.verify import verify
from testbed.commands.collect import command
from testbed.errors import SpecError
from testbed.guest import Completed

SCRIPT = Path(exchange.__file__).with_name("collect.sh")
LIMITS = {"a": 10, "b": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A machine with a TPM, a log and the script."""

    tpm: SoftwareTpm
    home: Path
    shell: str = "dash"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def put(self, *entries: bytes) -> None:
        """Log entries as the kernel does: in the log first, then in the TPM."""
        with self.log.open("ab") as file:
            file.write(b"".join(entries))
        self.tpm.extend(entries)

    def collect(self, *words: str | Path, **more: str) -> Completed:
        more = {"IMA_LOG": str(self.log), "COLLECT_DIR": str(self.home / "kept"), **more}
        return self.tpm.run(self.shell, self.home / "collect.sh", *words, check=False, **more)

    def said(self, *words: str | Path, status: int = 1, **more: str) -> str:
        done = self.collect(*words, **more)
        assert done.code == status, done.err
        return done.err.decode()

    def left(self) -> str:
        """What the script left in the TPM."""
        return "".join(self.tpm.run("tpm2_getcap", f"handles-{kind}").text for kind in ("transient", "loaded-session"))


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path_factory.mktemp("tpm"), ("sha256", "sha1")) as found:
        yield found


@pytest.fixture(scope="module")
def logged(tpm: SoftwareTpm, tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """The machine that tests share."""
    return prepared(tpm, tmp_path_factory.mktemp("machine"))


def prepared(tpm: SoftwareTpm, home: Path) -> Foreign:
    (home / "collect.sh").write_text(exchange.script("sha256:10,11"))
    (home / "log").touch()
    machine = Foreign(tpm=tpm, home=home)
    machine.put(*evidence.sample_log(4, 2))
    return machine


@pytest.fixture
def machine(logged: Foreign, tmp_path: Path) -> Foreign:
    """The same machine with a directory of its own for keys."""
    for name in ("collect.sh", "log"):
        (tmp_path / name).symlink_to(logged.home / name)
    return replace(logged, home=tmp_path)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True)


def test_a_person_carries_three_files_and_the_verifier_trusts_the_machine(machine: Foreign, tmp_path: Path) -> None:
    assert machine.said("enrol", status=0).startswith("carry ")
    made, bundle = tmp_path / "challenge", tmp_path / "bundle"
    done = call("challenge", tmp_path / "kept/enrol.tar", "--ca", machine.tpm.authority, "-o", made)
    assert done.exit_code == 0, done.output
    assert "certified by CN=swtpm-localca" in done.output
    assert machine.said("answer", made / "challenge.tar", status=0).startswith("carry ")
    done = call("accept", made, tmp_path / "kept/evidence.tar", "-o", bundle)
    assert done.exit_code == 0, done.output
    expected = exchange.read_challenge(made / "expected.json")
    words = done.output.splitlines()[1].split()
    assert words[:3] == ["testbed", "verify", str(bundle)]
    assert words[words.index("--nonce") + 1] == expected.nonce.hex()
    verdict = verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=expected.nonce, pcrs=expected.pcrs)
    assert verdict.ok, verdict.findings
    assert verdict.entries == sum(verdict.attested.values()) > 10
    assert sorted(path.name for path in bundle.iterdir()) == [
        *("ak.pub", "bundle.json", "ima.bin", "quote.attest", "quote.sig"),
    ]
    assert machine.left().strip() == ""
    assert (made / "expected.json").stat().st_mode & 0o777 == 0o600


def test_the_log_may_run_ahead_of_the_quote(machine: Foreign, tmp_path: Path) -> None:
    late = evidence.ima_ng("/usr/bin/late", b"late")
    wrap = tmp_path / "bin"
    wrap.mkdir()
    # While tpm2_quote runs, after it has quoted, the kernel logs one more file.
    (wrap / "tpm2_quote").write_text(
        '#!/bin/sh\nreal=$(PATH=$(printf %s "$PATH" | cut -d: -f2-) command -v tpm2_quote)\n"$real" "$@" || exit\n'
        f'[ "$1" = --version ] || cat {tmp_path}/late >>"$IMA_LOG"\n'
    )
    (wrap / "tpm2_quote").chmod(0o755)
    (tmp_path / "late").write_bytes(late)
    shutil.copy(machine.log.resolve(), tmp_path / "own")
    path = f"{wrap}:{os.environ['PATH']}"
    machine.said("quote", "aa" * 32, status=0, PATH=path, IMA_LOG=str(tmp_path / "own"))
    verdict = judged(tmp_path, "aa" * 32)
    assert (verdict.ok, verdict.unattested) == (True, 1)


def test_a_machine_that_measures_without_a_pause_is_quoted_without_values(machine: Foreign, tmp_path: Path) -> None:
    wrap = tmp_path / "bin"
    wrap.mkdir()
    (wrap / "tpm2_quote").write_text(
        '#!/bin/sh\nPATH=$(printf %s "$PATH" | cut -d: -f2-)\ncase " $* " in\n'
        f'*" -o "*) cat {tmp_path}/late >>"$IMA_LOG"; echo "ERROR: PCR values failed to match" >&2; exit 1 ;;\nesac\n'
        'exec tpm2_quote "$@"\n'
    )
    (wrap / "tpm2_quote").chmod(0o755)
    (tmp_path / "late").write_bytes(evidence.ima_ng("/usr/bin/late", b"late"))
    shutil.copy(machine.log.resolve(), tmp_path / "own")
    said = machine.said(
        "quote", "DD" * 32, status=0, PATH=f"{wrap}:{os.environ['PATH']}", IMA_LOG=str(tmp_path / "own")
    )
    assert said.count("trying again") == 2
    assert "quote is taken without the values" in said
    verdict = judged(tmp_path, "dd" * 32)
    assert (verdict.ok, verdict.unattested) == (True, 3)
    assert "pcr_values" not in (tmp_path / "unpacked/bundle.json").read_text()


def judged(home: Path, nonce: str) -> Verdict:
    bundle = home / "unpacked"
    bundle.mkdir()
    parcel.unpack_into(home / "kept/evidence.tar", exchange._ANSWER, bundle)
    return verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=bytes.fromhex(nonce))


def test_what_extends_a_pcr_without_an_entry_is_waited_for_and_then_named(tmp_path: Path) -> None:
    with software_tpm(tmp_path / "tpm") as tpm:
        extended_in_silence(tpm, tmp_path)


def extended_in_silence(tpm: SoftwareTpm, tmp_path: Path) -> None:
    machine = prepared(tpm, tmp_path)
    wrap = tmp_path / "bin"
    wrap.mkdir()
    (wrap / "tpm2_quote").write_text(
        '#!/bin/sh\nPATH=$(printf %s "$PATH" | cut -d: -f2-)\n'
        f'[ "$1" = --version ] || tpm2_pcrextend 11:sha256={"ab" * 32}\nexec tpm2_quote "$@"\n'
    )
    (wrap / "tpm2_quote").chmod(0o755)
    said = machine.said("quote", "bb" * 32, PATH=f"{wrap}:{os.environ['PATH']}", COLLECT_TRIES="3")
    assert said.count("trying again") == 2
    assert "changed in each of 3 tries, without an entry in the log" in said
    assert machine.left().strip() == ""
    # Now it is over, and the evidence is collected; the verifier sees that something was extended.
    machine.said("quote", "cc" * 32, status=0)
    verdict = judged(tmp_path, "cc" * 32)
    assert FindingKind.REPLAY_MISMATCH in verdict.kinds


def test_needs_are_named_before_anything_is_done(machine: Foreign, tmp_path: Path) -> None:
    assert "good: tpm2-tools" in machine.said("check", status=0)
    assert "boot a kernel with IMA" in machine.said("check", IMA_LOG=str(tmp_path / "nowhere"))
    absent = "/sys/kernel/security/testbed/nothing"
    assert "mount -t securityfs" in machine.said("check", IMA_LOG=absent) or Path("/sys/kernel/security/ima").exists()
    assert "the TPM does not answer" in machine.said("check", TPM2TOOLS_TCTI="swtpm:path=/nowhere")
    (tmp_path / "empty").mkdir()
    for tool in ("mktemp", "rm", "id"):
        (tmp_path / "empty" / tool).symlink_to(shutil.which(tool) or tool)
    bare = machine.tpm.run("/bin/sh", tmp_path / "collect.sh", "check", check=False, PATH=str(tmp_path / "empty"))
    assert bare.code == 1
    assert not (tmp_path / "kept").exists()
    for bank, problem in (("sha384", "no PCR 10 in the bank sha384"),):
        (tmp_path / "other.sh").write_text(exchange.script(f"{bank}:10"))
        done = machine.tpm.run("sh", tmp_path / "other.sh", "check", check=False, IMA_LOG=str(machine.log))
        assert problem in done.err.decode()


def test_an_old_tool_is_named(machine: Foreign, tmp_path: Path) -> None:
    wrap = tmp_path / "bin"
    wrap.mkdir()
    (wrap / "tpm2_quote").write_text('#!/bin/sh\necho \'tool="tpm2_quote" version="4.3.2" tctis="x"\'\n')
    (wrap / "tpm2_quote").chmod(0o755)
    assert "expected version 5 or later, got 4.3.2" in machine.said("check", PATH=f"{wrap}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        ((), 2, "sh collect.sh enrol"),
        (("quote",), 2, "sh collect.sh enrol"),
        (("quote", "abc"), 1, "1 to 66 bytes"),
        (("quote", "zz"), 1, "must be hex digits"),
        (("quote", "aa" * 67), 1, "1 to 66 bytes"),
        (("answer", "/nowhere"), 1, "cannot be read"),
    ],
)
def test_wrong_words_are_named(machine: Foreign, words: tuple[str, ...], status: int, problem: str) -> None:
    assert problem in machine.said(*words, status=status)


def test_a_second_key_is_not_made(machine: Foreign) -> None:
    machine.said("enrol", status=0)
    assert "has an attestation key already" in machine.said("enrol")


def test_a_challenge_for_another_key_is_not_answered(machine: Foreign, tmp_path: Path) -> None:
    machine.said("enrol", status=0)
    call("challenge", tmp_path / "kept/enrol.tar", "--no-certificate", "-o", tmp_path / "first")
    shutil.rmtree(tmp_path / "kept")
    machine.said("enrol", status=0)
    assert "another TPM or another key" in machine.said("answer", tmp_path / "first/challenge.tar")
    (tmp_path / "no.tar").write_bytes(b"no")
    assert "is not a challenge" in machine.said("answer", tmp_path / "no.tar")
    assert machine.left().strip() == ""


def test_a_machine_without_a_certificate_is_enrolled_only_if_you_say_so(machine: Foreign, tmp_path: Path) -> None:
    machine.said("enrol", status=0)
    given = parcel.unpack(tmp_path / "kept/enrol.tar", exchange._ENROLMENT)
    del given["ek.crt"]
    (tmp_path / "bare.tar").write_bytes(parcel.pack(given))
    done = call("challenge", tmp_path / "bare.tar", "--ca", machine.tpm.authority, "-o", tmp_path / "c")
    assert isinstance(done.exception, BadEvidence)
    assert not (tmp_path / "c").exists()
    done = call("challenge", tmp_path / "bare.tar", "--no-certificate", "-o", tmp_path / "c")
    assert done.exit_code == 0
    assert "nobody was asked" in done.output


def test_a_certificate_of_somebody_else_is_refused(machine: Foreign, tmp_path: Path) -> None:
    machine.said("enrol", status=0)
    given = parcel.unpack(tmp_path / "kept/enrol.tar", exchange._ENROLMENT)
    root = machine.tpm.authority.with_name("swtpm-localca-rootca-cert.pem")
    (authority,) = keys.load_authorities([("ca", machine.tpm.authority.read_bytes())])
    (other,) = keys.load_authorities([("root", root.read_bytes())])
    assert "swtpm" in keys.check_endorsement(given["ek.crt"] + bytes(100), given["ek.pub"], [other, authority])
    # The leaf itself is no authority, and the root did not issue it.
    leaf = x509.load_der_x509_certificate(keys.der_prefix(given["ek.crt"]))
    for wrong in ([other], [leaf], []):
        with pytest.raises(BadEvidence, match="has issued"):
            keys.check_endorsement(given["ek.crt"], given["ek.pub"], wrong)
    with pytest.raises(BadEvidence, match="attributes"):
        keys.check_endorsement(given["ek.crt"], given["ak.pub"], [authority])
    with pytest.raises(BadEvidence, match="attributes"):
        keys.check_ak(given["ek.pub"])
    for damaged in (b"", b"\x30", b"\x30\x82", given["ek.crt"][:-400], b"x" * 9, b"\x30\x03abc"):
        with pytest.raises(BadEvidence):
            keys.check_endorsement(damaged, given["ek.pub"], [authority])


def test_an_answer_that_is_not_the_one_is_refused(machine: Foreign, tmp_path: Path) -> None:
    machine.said("enrol", status=0)
    made = tmp_path / "c"
    call("challenge", tmp_path / "kept/enrol.tar", "--no-certificate", "-o", made)
    machine.said("answer", made / "challenge.tar", status=0)
    given = parcel.unpack(tmp_path / "kept/evidence.tar", exchange._ANSWER)
    assert sorted(given) == sorted(exchange._ANSWER)
    for name, value, problem in (
        ("secret", bytes(32), "does not have this key"),
        ("secret", b"", "does not have this key"),
        ("ak.pub", given["ak.pub"][:-1] + b"x", "another key"),
        ("bundle.json", b'{"schema": 1, "schema": 1}', "twice in one object"),
    ):
        changed = tmp_path / "changed.tar"
        changed.write_bytes(parcel.pack(given | {name: value}))
        with pytest.raises(BadEvidence, match=problem):
            exchange.accept(made, changed, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
    for name in given:
        less = {key: value for key, value in given.items() if key != name}
        (tmp_path / "less.tar").write_bytes(parcel.pack(less))
        with pytest.raises(BadEvidence, match=re.escape(name)):
            exchange.accept(made, tmp_path / "less.tar", tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []


def test_an_ecc_endorsement_key_opens_its_credential(tpm: SoftwareTpm, tmp_path: Path) -> None:
    """Chips have both kinds; ours has a certificate for RSA only, so this does by hand what the script does."""
    at = {name: tmp_path / name for name in ("ek.ctx", "ek.pub", "ak.ctx", "ak.pub", "credential", "secret", "session")}
    tpm.run("tpm2_createek", "-Q", "-c", at["ek.ctx"], "-G", "ecc", "-u", at["ek.pub"])
    tpm.run("tpm2_flushcontext", "-t")
    tpm.run(
        "tpm2_createak", "-Q", "-C", at["ek.ctx"], "-c", at["ak.ctx"], "-G", "ecc", "-s", "ecdsa", "-u", at["ak.pub"]
    )
    tpm.run("tpm2_flushcontext", "-t")
    name = keys.check_ak(at["ak.pub"].read_bytes()).name
    assert name is not None
    at["credential"].write_bytes(make_credential(at["ek.pub"].read_bytes(), name, bytes(range(32))))
    tpm.run("tpm2_startauthsession", "-Q", "--policy-session", "-S", at["session"])
    tpm.run("tpm2_policysecret", "-Q", "-S", at["session"], "-c", "e")
    words: list[str | Path] = ["-c", at["ak.ctx"], "-C", at["ek.ctx"], "-i", at["credential"], "-o", at["secret"]]
    tpm.run("tpm2_activatecredential", "-Q", *words, "-P", f"session:{at['session']}")
    tpm.run("tpm2_flushcontext", at["session"])
    tpm.run("tpm2_flushcontext", "-t")
    assert at["secret"].read_bytes() == bytes(range(32))


def test_an_endorsement_key_of_another_template_is_refused() -> None:
    golden = (evidence.GOLDEN / "bundle-synthetic" / "ak.pub").read_bytes()
    with pytest.raises(UnsupportedEvidence, match="AES-128"):
        make_credential(golden, bytes(34), bytes(32))
    with pytest.raises(SpecError):
        make_credential(b"\0\4abcd", bytes(34), bytes(32))


# The archives.


def archive(*infos: tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as out:  # type: ignore[call-overload]
        for info in infos:
            out.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def info(name: str, size: int = 3, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, target
    return made


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (archive(info("../a")), "only files called"),
        (archive(info("/a")), "only files called"),
        (archive(info("c")), "only files called"),
        (archive(info("a"), info("a")), "a second one"),
        (archive(info("a"), info("./a")), "a second one"),
        (archive(info("a", 0, tarfile.SYMTYPE, "/etc/passwd")), "a plain file"),
        (archive(info("b"), info("a", 0, tarfile.LNKTYPE, "b")), "a plain file"),
        (archive(info("a", 0, tarfile.DIRTYPE)), "a plain file"),
        (archive(info("a", 0, tarfile.FIFOTYPE)), "a plain file"),
        (archive(info("a", 11)), "at most 10 bytes"),
        (archive(info("a"), mode="w:gz"), "without compression"),
        (archive(info("a", 9))[:515], "tar archive"),
        (archive(info("a"))[:700], "tar archive"),
        (b"", "tar archive"),
        (b"x" * 2000, "tar archive"),
    ],
)
def test_a_hostile_archive_is_refused(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(BadEvidence, match=problem):
        parcel.unpack(path, LIMITS)


def test_an_archive_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "absent"):
        with pytest.raises(BadEvidence, match="a plain file that can be read"):
            parcel.unpack(path, LIMITS)


def test_an_archive_is_read_as_it_was_packed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(parcel.pack({"a": b"one", "b": b""}))
    assert parcel.unpack(path, LIMITS) == {"a": b"one", "b": b""}
    assert path.read_bytes() == parcel.pack({"a": b"one", "b": b""})


# The commands, without a TPM.


def test_the_script_has_what_is_asked_for(tmp_path: Path) -> None:
    done = call("script", "--pcrs", "sha1:11,10", "-o", tmp_path / "collect.sh")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "collect.sh").read_text()
    assert "bank=sha1\npcrs='10,11'\nvalue_bytes=20\n" in text
    assert "@" not in re.sub(r'"\$@"', "", text)
    assert call("script").output == exchange.script("sha256:10,11")
    for wrong in ("sha256", "sha256:24", "sha256:10;reboot", "md5:10"):
        assert call("script", "--pcrs", wrong).exit_code == 2


@pytest.mark.parametrize("program", ["dash", "bash", "busybox"])
def test_the_script_is_portable(program: str, tmp_path: Path) -> None:
    if shell.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    (tmp_path / "c.sh").write_text(exchange.script("sha256:10,11"))
    argv = [program, *(["sh"] if program == "busybox" else ["--posix"] if program == "bash" else [])]
    assert shell.run([*argv, "-n", tmp_path / "c.sh"], timeout=10).err == b""
    assert shell.run([*argv, tmp_path / "c.sh"], timeout=10, check=False).code == 2


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    if shell.which("shellcheck") is None:
        pytest.skip("shellcheck is not on this machine")
    (tmp_path / "c.sh").write_text(exchange.script("sha256:10,11"))
    assert shell.run(["shellcheck", "-s", "sh", tmp_path / "c.sh"], timeout=60, check=False).text == ""


def test_wrong_arguments_have_status_2(tmp_path: Path) -> None:
    enrolment = tmp_path / "enrol.tar"
    enrolment.write_bytes(parcel.pack({"ek.pub": b""}))
    (tmp_path / "ca").write_bytes(b"no certificate")
    for words in (
        ("challenge", enrolment, "-o", tmp_path / "c"),
        ("challenge", enrolment, "-o", tmp_path / "c", "--no-certificate", "--ca", tmp_path / "ca"),
        ("challenge", enrolment, "-o", tmp_path / "c", "--ca", tmp_path / "ca"),
        ("challenge", enrolment, "-o", tmp_path / "c", "--no-certificate", "--pcrs", "no"),
        ("challenge", tmp_path / "absent", "-o", tmp_path / "c", "--no-certificate"),
    ):
        assert call(*words).exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1, "schema": 1}',
        json.dumps({"schema": 1, "nonce": "x", "pcrs": "sha256:10", "ak": "", "proof": "", "issuer": ""}),
        json.dumps({"schema": 1, "nonce": "aa", "pcrs": 7, "ak": "", "proof": "", "issuer": ""}),
    ],
)
def test_a_challenge_that_cannot_be_read_is_a_wrong_argument(text: str, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text(text)
    with pytest.raises(SpecError, match=r"expected.json"):
        exchange.read_challenge(tmp_path / "expected.json")
    with pytest.raises(SpecError, match="a plain file"):
        exchange.read_challenge(tmp_path)


def test_a_directory_that_is_there_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "enrol.tar").write_bytes(parcel.pack({"ek.pub": b"", "ak.pub": b""}))
    done = call("challenge", tmp_path / "enrol.tar", "--no-certificate", "-o", tmp_path)
    assert isinstance(done.exception, BadEvidence)
    assert hashlib.sha256((tmp_path / "enrol.tar").read_bytes()).hexdigest()


def _certificate(*uses: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=1))
    if uses:
        made = made.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(use) for use in uses]), critical=False)
    return made.sign(key, hashes.SHA256())


def test_a_certificate_for_another_use_is_refused() -> None:
    """Otherwise the owner of any certificate of that authority could answer without a TPM."""
    keys._check_use(_certificate())  # some old chips say nothing
    keys._check_use(_certificate("2.23.133.8.1"))
    with pytest.raises(BadEvidence, match="one for another use"):
        keys._check_use(_certificate("1.3.6.1.5.5.7.3.1"))


def test_hostile_headers_of_an_archive_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "enrol.tar"
    negative = tarfile.TarInfo("ek.pub")
    negative.pax_headers = {"size": "-1"}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as out:
        out.addfile(negative)
    with pytest.raises(BadEvidence):
        parcel.unpack(archive, exchange._ENROLMENT)
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 1
    archive.write_bytes((link.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 3000)
    with pytest.raises(BadEvidence):
        parcel.unpack(archive, dict.fromkeys(exchange._ENROLMENT, 1 << 20))
    with archive.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(BadEvidence, match="expected at most"):
        parcel.unpack(archive, exchange._ENROLMENT)


def test_a_directory_that_is_a_link_is_not_written(machine: Foreign, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(tmp_path / "kept", ignore_errors=True)
    (tmp_path / "kept").symlink_to(tmp_path / "elsewhere")
    assert "is not a directory of your own" in machine.said("enrol", status=1)
    assert not any((tmp_path / "elsewhere").iterdir())

"""Bundles from Keylime's answers and tpm2-tools' files, and logs as CEL: with real quotes of a software TPM.

What is made is given to the other side's code where it is installed: `tpm2_checkquote`, and Keylime's own check of a
quote (`TESTBED_KEYLIME_PYTHON`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evidence
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from software_tpm import SoftwareTpm, software_tpm

from testbed import errors, shell
from testbed.attest.bundle import read_bundle
from testbed.attest.enrol import parcel
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.foreign import cel, pcr_values, plain_signature, quotes, text_log
from testbed.attest.log.ima import LogFormat, read_entries
from testbed.attest.log.text import is_text
from testbed.attest.quote import Selection
from testbed.attest.rivals import verifiers
from testbed.attest.rivals.verifiers import Says
from testbed.attest.verify import verify
from testbed.commands.bundle import command
from testbed.errors import SpecError

TEN = Selection(bank="sha256", pcrs=(10,))
BOTH = Selection(bank="sha256", pcrs=(10, 11))
NONCE = "a text, as Keylime sends it"
LOG = [
    *evidence.sample_log(4, 2),
    evidence.violation("/var/log/x"),
    evidence.ima_sig("/usr/bin/bare", b"bare"),
    evidence.ima_buf("kexec-cmdline", b"quiet", pcr=10),
]
KINDS = {"rsassa": ("rsa", "rsassa"), "rsapss": ("rsa", "rsapss"), "ecdsa": ("ecc", "ecdsa")}
CHECK = """
import base64, json, sys, types
try:
    import gpg
except ImportError:
    sys.modules["gpg"] = types.ModuleType("gpg")
from keylime.tpm import tpm_util
answer = json.load(open(sys.argv[1]))
# As Tpm._get_quote_parameters does, whose module needs what only Keylime's services have.
quote, sig, pcrs = map(base64.b64decode, answer["results"]["quote"][1:].split(":"))
values = tpm_util.checkquote(open(sys.argv[2], "rb").read(), sys.argv[3], sig, quote, pcrs, "sha256")
print(json.dumps({str(pcr): value for pcr, value in values.items()}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """Quotes over the same PCRs by one key, in each form; ``home`` has the files."""

    home: Path
    kind: str

    def __getitem__(self, name: str) -> bytes:
        return (self.home / f"{self.kind}.{name}").read_bytes()

    def path(self, name: str) -> Path:
        return self.home / f"{self.kind}.{name}"

    def answer(self, **more: Any) -> bytes:
        """What Keylime's agent would have answered."""
        parts = (base64.b64encode(self[name]).decode() for name in ("attest", "tss", "structures"))
        results: dict[str, Any] = {
            "quote": "r" + ":".join(parts),
            "hash_alg": "sha256",
            "enc_alg": "rsa",
            "sign_alg": self.kind,
        }
        results |= {"ima_measurement_list": verifiers.ascii_log(b"".join(LOG)).decode(), "pubkey": "x", "boottime": 7}
        results |= {"ima_measurement_list_entry": 0} | more
        return json.dumps({"code": 200, "status": "Success", "results": results}).encode()


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path_factory.mktemp("tpm")) as found:
        found.extend(LOG)
        yield found


@pytest.fixture(scope="module", params=KINDS)
def quoted(request: pytest.FixtureRequest, tpm: SoftwareTpm, tmp_path_factory: pytest.TempPathFactory) -> Quoted:
    made = Quoted(home=tmp_path_factory.mktemp(request.param), kind=request.param)
    algorithm, scheme = KINDS[request.param]

    def tool(name: str, *words: str | Path) -> None:
        tpm.run(f"tpm2_{name}", "-Q", *words)
        tpm.run("tpm2_flushcontext", "-t")

    ek, ak = made.path("ek.ctx"), made.path("ak.ctx")
    tool("createek", "-c", ek, "-G", "rsa", "-u", made.path("ek.pub"))
    tool("createak", "-C", ek, "-c", ak, "-G", algorithm, "-s", scheme, "-g", "sha256", "-u", made.path("ak.pub"))
    tool("readpublic", "-c", ak, "-f", "pem", "-o", made.path("pem"))
    for name, words in (("tss", ("-F", "values", "-o", "values")), ("plain", ("-o", "structures"))):
        more, out = words[:-1], words[-1]
        asked = ("-l", str(BOTH), "-q", NONCE.encode().hex(), "-g", "sha256", "-f", name, "--scheme", scheme)
        written: tuple[str | Path, ...] = (
            "-m",
            made.path(f"{name}.attest"),
            "-s",
            made.path(name),
            *more,
            made.path(out),
        )
        tool("quote", "-c", ak, *asked, *written)
    # Both are of the same state, but the clock has gone on.
    made.path("attest").write_bytes(made["tss.attest"])
    (made.home / "log.bin").write_bytes(b"".join(LOG))
    (made.home / "log.txt").write_bytes(verifiers.ascii_log(b"".join(LOG)))
    return made


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def trusted(bundle: Path, quoted: Quoted) -> None:
    verdict = verify(bundle, ak=quoted["ak.pub"], nonce=NONCE.encode())
    # The violation is one, by IMA's own word; all else is as it was quoted.
    assert {finding.kind.value for finding in verdict.findings} == {"violation"}
    assert verdict.unattested == 0
    assert verdict.entries == len(LOG)
    # tpm2_checkquote 5.4 verifies no RSAPSS, that of tpm2_quote neither.
    if "tpm2_checkquote" in verifiers.available() and quoted.kind != "rsapss":
        assert (
            verifiers.judge("tpm2_checkquote", bundle, ak=quoted["ak.pub"], nonce=NONCE.encode()).verdict
            is Says.ACCEPTS
        )


@pytest.mark.parametrize("signature", ["tss", "plain"])
@pytest.mark.parametrize("log", ["log.bin", "log.txt"])
def test_files_of_tpm2_tools_are_a_bundle(quoted: Quoted, signature: str, log: str, tmp_path: Path) -> None:
    values = "values" if signature == "tss" else "structures"
    bundle = tmp_path / "bundle"
    words = ("--attest", quoted.path(f"{signature}.attest"), "--sig", quoted.path(signature))
    done = call(
        *("import", "tpm2", *words, "--log", quoted.home / log),
        *("--pcrs", quoted.path(values), "--ak", quoted.path("pem"), "-o", bundle),
    )
    assert done.exit_code == 0, done.output
    assert f"the quote itself has {NONCE.encode().hex()}" in done.output
    assert (bundle / "ima.bin").read_bytes() == b"".join(LOG)
    made = read_bundle(bundle)
    assert made.pcr_values == {pcr: evidence.extended(b"".join(LOG), pcr) for pcr in (10, 11)}
    assert made.sig[:2] == struct.pack(">H", {"rsassa": 0x14, "rsapss": 0x16, "ecdsa": 0x18}[quoted.kind])
    assert ("the log was text" in done.stderr) == (log == "log.txt")
    assert ("the bare signature verifies" in done.stderr) == (signature == "plain")
    trusted(bundle, quoted)


def test_keylimes_answer_is_a_bundle(quoted: Quoted, tmp_path: Path) -> None:
    # The structures are those of the other quote; the values in them are the same.
    (tmp_path / "answer.json").write_bytes(quoted.answer())
    done = call("import", "keylime", tmp_path / "answer.json", "-o", tmp_path / "bundle")
    assert done.exit_code == 0, done.output
    assert "Keylime's nonce is a text" in done.stderr
    assert "the log was text" in done.stderr
    trusted(tmp_path / "bundle", quoted)


def test_keylimes_own_code_reads_what_we_read(quoted: Quoted, tmp_path: Path) -> None:
    if "keylime" not in verifiers.available():
        pytest.skip(f"Keylime is not on this machine; {verifiers.KEYLIME_PYTHON} can name a Python that has it")
    if quoted.kind == "rsapss":
        pytest.skip("Keylime's checkquote does not know RSAPSS")
    (tmp_path / "answer.json").write_bytes(quoted.answer())
    python = os.environ.get(verifiers.KEYLIME_PYTHON) or sys.executable
    argv: list[str | Path] = [python, "-I", "-c", CHECK, tmp_path / "answer.json", quoted.path("pem"), NONCE]
    theirs = json.loads(shell.run(argv, timeout=120).out)
    imported, log = read(quoted.answer())
    assert imported.values is not None
    assert theirs == {f"{pcr}": value.hex() for pcr, value in imported.values.items()}
    assert text_log.as_binary(log, "log") == b"".join(LOG)


def test_a_binary_log_replaces_the_list_and_results_alone_do(quoted: Quoted, tmp_path: Path) -> None:
    results = json.loads(quoted.answer(ima_measurement_list="10 not a line", ima_measurement_list_entry=7))["results"]
    (tmp_path / "answer.json").write_text(json.dumps(results))
    done = call(
        *("import", "keylime", tmp_path / "answer.json", "--log", quoted.home / "log.bin", "-o", tmp_path / "bundle")
    )
    assert done.exit_code == 0, done.output
    trusted(tmp_path / "bundle", quoted)


def test_values_that_were_not_quoted_are_left_out_and_named(quoted: Quoted) -> None:
    made = quotes.from_parts(quoted["tss.attest"], quoted["tss"], bytes(64))
    assert made.values is None
    assert "not those that were quoted" in made.notes[0]
    assert quotes.from_parts(quoted["tss.attest"], quoted["tss"], None).values is None


def test_a_bare_signature_of_another_key_is_refused(quoted: Quoted, tmp_path: Path) -> None:
    other = evidence.pem(ec.generate_private_key(ec.SECP256R1()) if quoted.kind == "ecdsa" else RSA)
    with pytest.raises(BadEvidence, match="by the key that you gave"):
        plain_signature.as_tpmt(quoted["plain"], quoted["plain.attest"], other)
    with pytest.raises(BadEvidence, match="give the key with --ak"):
        plain_signature.as_tpmt(quoted["plain"], quoted["plain.attest"], None)
    with pytest.raises(BadEvidence, match="by the key that you gave"):
        plain_signature.as_tpmt(quoted["plain"], quoted["plain.attest"][:-1] + b"x", quoted["pem"])
    for damaged in (
        b"",
        b"\x30\x80",
        quoted["plain"][:-1],
        quoted["plain"] + b"x",
        b"\x30\x06\x02\x01\x80\x02\x01\x80",
    ):
        with pytest.raises(BadEvidence):
            plain_signature.as_tpmt(damaged, quoted["plain.attest"], quoted["pem"])
    with pytest.raises(SpecError):
        plain_signature.as_tpmt(b"x", quoted["plain.attest"], b"no key")


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


# Without a TPM: what hostile files do.


def answer(**results: Any) -> bytes:
    """An answer over PCR 10 by a key of ours."""
    return json.dumps({"results": {"quote": text(), "ima_measurement_list": "", **results}}).encode()


def text(attest: bytes | None = None, sig: bytes | None = None, values: bytes = bytes(32)) -> str:
    made = signed() if attest is None else attest
    signature = evidence.sign(RSA, made, scheme=0x14) if sig is None else sig
    return "r" + ":".join(base64.b64encode(part).decode() for part in (made, signature, values))


def signed(**more: Any) -> bytes:
    return evidence.attest(b"nonce", hashlib.sha256(bytes(32)).digest(), pcrs=(10,), **more)


def test_a_small_answer_is_read() -> None:
    made, log = read(answer())
    assert (made.selection, made.nonce, made.values, log) == (TEN, b"nonce", {10: bytes(32)}, b"")
    made, _ = read(answer(hash_alg="sha1", mb_measurement_list="AAAA"))
    assert any("hash_alg 'sha1'" in note for note in made.notes)
    assert any("mb_measurement_list" in note for note in made.notes)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "an object"),
        (b"{}", "begins with r"),
        (b'{"results": {"quote": "r", "quote": "r"}}', "twice in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (answer(quote=7), "begins with r"),
        (answer(quote="dAAAA:AAAA:AAAA"), "begins with r"),
        (answer(quote="rAAAA:AAAA"), "three parts"),
        (answer(quote="r?:AAAA:AAAA"), "base64"),
        (answer(quote="rA" + "A" * 40_000 + ":AAAA:AAAA"), "at most 32768 characters"),
        (answer(quote="r\u00e9:AAAA:AAAA"), "base64"),
        (answer(quote=text(b"\x78\x9c0000")), "not compressed"),
        (answer(quote=text(signed() + b"x")), "no bytes after"),
        (answer(quote=text(signed(kind=0x8017))), "8018"),
        (answer(quote=text(signed(selections=struct.pack(">I", 0)))), "one bank"),
        (answer(quote=text(sig=b"")), "give the key with --ak"),
        (answer(quote=text(values=b"")), "0 bytes"),
        (answer(quote=text(values=bytes(33))), "33 bytes"),
        (answer(ima_measurement_list=7), "a text"),
        (answer(ima_measurement_list="\ud800"), "text"),
        (answer(ima_measurement_list_entry=3), "from its first entry"),
        (answer(ima_measurement_list_entry=True), "from its first entry"),
        (answer(ima_measurement_list_entry="0"), "from its first entry"),
    ],
)
def test_a_hostile_answer_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadEvidence, match=problem):
        read(data)


def read(data: bytes) -> tuple[quotes.Imported, bytes]:
    raw = quotes.read_answer(data)
    return quotes.answered_quote(raw), quotes.answered_log(raw)


def structures(
    pcrs: tuple[int, ...], values: tuple[bytes, ...], *, bank: int = 0x000B, count: int = 1, lists: int | None = None
) -> bytes:
    """What `tpm2_quote -o` writes without `-F values`."""
    chosen = struct.pack("<HB3sxx", bank, 3, evidence.bitmap(pcrs))
    data = struct.pack("<I", count) + chosen + bytes(15 * 8)
    groups = [values[at : at + 8] for at in range(0, len(values), 8)]
    data += struct.pack("<I", len(groups) if lists is None else lists)
    for group in groups:
        data += struct.pack("<I", len(group))
        data += b"".join(struct.pack("<H64s", len(value), value) for value in group) + bytes(66 * (8 - len(group)))
    return data


def test_structures_of_many_pcrs_are_read() -> None:
    pcrs = tuple(range(11))
    values = tuple(bytes([pcr]) * 32 for pcr in pcrs)
    selection = Selection(bank="sha256", pcrs=pcrs)
    assert pcr_values.read_pcr_values(structures(pcrs, values), selection, "x") == dict(zip(pcrs, values, strict=True))
    assert pcr_values.read_pcr_values(b"".join(values), selection, "x") == dict(zip(pcrs, values, strict=True))


ONE = structures((10,), (bytes(32),))


@pytest.mark.parametrize(
    "data",
    [
        structures((11,), (bytes(32),)),
        structures((10,), (bytes(20),)),
        structures((10,), (bytes(32), bytes(32))),
        structures((10,), (bytes(32),), bank=0x0004),
        structures((10,), (bytes(32),), bank=0x7777),
        structures((10,), (bytes(32),), count=0),
        structures((10,), (bytes(32),), lists=1 << 31),
        structures((10,), (bytes(32),), lists=0),
        ONE[:136] + struct.pack("<I", 9) + ONE[140:],
        ONE[:140] + struct.pack("<H", 65) + ONE[142:],
        ONE[:-1],
        ONE + b"x",
        struct.pack("<I", 1 << 31) + ONE[4:-4],
    ],
)
def test_hostile_structures_are_refused(data: bytes) -> None:
    with pytest.raises(BadEvidence, match=r"^x: expected"):
        pcr_values.read_pcr_values(data, TEN, "x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"10 not a line\n", "line 1"),
        (b"hello\n", "a line of an IMA log"),
        (verifiers.ascii_log(evidence.BOOT)[:-5] + b"\n", "line 1"),
        (verifiers.ascii_log(evidence.BOOT) + b"> " + verifiers.ascii_log(evidence.BOOT), "line 2"),
        (verifiers.ascii_log(evidence.BOOT).replace(b"boot", "bo\ufffdt".encode()), "not UTF-8"),
        (b"10 " + b"ab" * 32 + b" ima-ng sha256:00 /x\n", "line 1"),
        (b"10 " + b"ab" * 20 + b" ima-new x\n", "template"),
        (b"\n" * ((1 << 22) + 1), "at most"),
    ],
)
def test_a_line_that_is_not_as_the_kernel_prints_it_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(BadEvidence, match=problem):
        text_log.as_binary(text, "log")


def test_a_text_is_turned_into_what_it_was() -> None:
    log = b"".join([*LOG, evidence.ima_old("/usr/bin/old", b"x"), evidence.ima_ng("/a\nb", b"x")])
    assert text_log.as_binary(verifiers.ascii_log(log), "log") == log
    assert text_log.as_binary(b"\n\n", "log") == b""
    assert not is_text(log)
    assert is_text(verifiers.ascii_log(log))


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(answer())
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(bytes(5000))
    (tmp_path / "there").mkdir()
    (tmp_path / "attest").write_bytes(signed())
    (tmp_path / "sig").write_bytes(evidence.sign(RSA, signed(), scheme=0x14))
    (tmp_path / "log").write_bytes(evidence.BOOT)
    tpm2 = ("import", "tpm2", "--attest", tmp_path / "attest", "--sig", tmp_path / "sig", "--log", tmp_path / "log")
    assert call(*tpm2, "-o", tmp_path / "good").exit_code == 0
    for words, error in (
        (("import", "keylime", tmp_path / "answer", "-o", tmp_path / "there"), OSError),
        (("import", "keylime", tmp_path / "fifo", "-o", tmp_path / "new"), SpecError),
        (("import", "keylime", tmp_path / "there", "-o", tmp_path / "new"), SpecError),
        (("import", "keylime", tmp_path / "answer", "--log", tmp_path / "fifo", "-o", tmp_path / "new"), SpecError),
        ((*tpm2[:2], "--attest", tmp_path / "big", *tpm2[4:], "-o", tmp_path / "new"), SpecError),
        ((*tpm2, "--pcrs", tmp_path / "attest", "-o", tmp_path / "new"), BadEvidence),
    ):
        assert isinstance(call(*words).exception, error), words
        assert not (tmp_path / "new").exists()
    assert call(*tpm2[:4], "-o", tmp_path / "new").exit_code == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes near ``data``: a piece of it is replaced, or it is cut."""

    def change(at: int, drop: int, put: bytes) -> bytes:
        return data[:at] + put + data[at + drop :]

    changed = st.builds(change, st.integers(0, len(data)), st.integers(0, 40), st.binary(max_size=40))
    return changed | st.integers(0, len(data)).map(lambda end: data[:end])


@settings(max_examples=300, deadline=None)
@given(mutated(answer()) | mutated(answer(ima_measurement_list=verifiers.ascii_log(b"".join(LOG)).decode())))
def test_no_answer_is_a_defect(data: bytes) -> None:
    with suppress(BadEvidence):
        _, log = read(data)
        text_log.as_binary(log, "log")


@settings(max_examples=300, deadline=None)
@given(mutated(ONE) | st.binary(max_size=80))
def test_no_values_are_a_defect(data: bytes) -> None:
    with suppress(BadEvidence):
        assert list(pcr_values.read_pcr_values(data, TEN, "x")) == [10]


@settings(max_examples=200, deadline=None)
@given(mutated(parcel.pack({"a": b"x" * 9, "b": b"y"})))
def test_no_archive_is_a_defect(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.tar"
        path.write_bytes(data)
        with suppress(BadEvidence):
            assert {
                name for name, content in parcel.unpack(path, {"a": 9, "b": 9}).items() if len(content) > 9
            } == set()


# CEL.


def replayed(records: list[dict[str, Any]], bank: str, pcr: int) -> str:
    """A reader of CEL-JSON of its own: what a PCR holds after these records."""
    value = bytes(hashlib.new(bank).digest_size)
    for number, record in enumerate(records):
        assert sorted(record) == ["content", "content_type", "digests", "pcr", "recnum"]
        assert (record["recnum"], record["content_type"]) == (number, "ima_template")
        (digest,) = (one["digest"] for one in record["digests"] if one["hashAlg"] == bank)
        if record["pcr"] == pcr:
            value = hashlib.new(bank, value + bytes.fromhex(digest)).digest()
    return value.hex()


@pytest.mark.parametrize("bundle", ["bundle-debian-6.12", "bundle-debian-6.1", "bundle-synthetic"])
def test_the_records_lead_to_the_quoted_values(bundle: str, tmp_path: Path) -> None:
    where = evidence.GOLDEN / bundle
    assert call("cel", where, "-o", tmp_path / "log.cel.json").exit_code == 0
    records = json.loads((tmp_path / "log.cel.json").read_bytes())
    assert json.loads(call("cel", where).stdout) == records
    verdict = verify(
        where,
        ak=(where / "ak.pub").read_bytes(),
        nonce=bytes.fromhex(json.loads((where / "bundle.json").read_bytes())["nonce"]),
    )
    attested = records[: sum(verdict.attested.values())]
    for pcr, value in verdict.pcrs.items():
        assert replayed(attested, "sha256", pcr) == value
    entries = list(read_entries((where / "ima.bin").read_bytes()))
    assert [one["content"]["template_data"] for one in records] == [entry.data.hex() for entry in entries]
    for record, entry in zip(records, entries, strict=True):
        assert record["digests"][0] == {"hashAlg": "sha1", "digest": entry.digest.hex()}


def test_a_violation_is_ones_and_a_padded_bank_is_padded() -> None:
    entries = list(read_entries(evidence.violation("/x") + evidence.ima_ng("/y", b"y")))
    first, second = cel.records(entries, ("sha1", "sha256"), padded=True)
    assert [one["digest"] for one in first["digests"]] == ["ff" * 20, "ff" * 20 + "00" * 12]
    assert second["digests"][1]["digest"] == second["digests"][0]["digest"] + "00" * 12
    (first, _) = cel.records(entries, ("sha256",))
    assert first["digests"] == [{"hashAlg": "sha256", "digest": "ff" * 32}]


def test_an_empty_log_is_an_empty_list() -> None:
    assert json.loads("".join(cel.lines([], ("sha256",)))) == []


def test_a_log_of_another_byte_order_has_no_records() -> None:
    big = LogFormat(byte_order="big")
    entries = read_entries(evidence.reformed(evidence.BOOT, order=">"), big)
    with pytest.raises(UnsupportedEvidence, match="little-endian"):
        list(cel.records(entries, ("sha256",)))


def test_a_log_that_ends_within_an_entry_leaves_no_file(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    evidence.write_bundle(bundle, attest=b"", sig=b"", log=evidence.BOOT[:-1], nonce=b"")
    assert isinstance(call("cel", bundle, "-o", tmp_path / "out").exception, errors.TestbedError)
    assert not (tmp_path / "out").exists()

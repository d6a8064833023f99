"""What holds of every log: entries are read as they were written, honest evidence verifies, no changed one does."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.attest import tpm
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import TEMPLATES, Entry, encode, read_entries, template_digest
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.verdict import Verdict
from testbed.attest.verify import verify

KEY = ec.derive_private_key(0x7E57, ec.SECP256R1())
AK = b.pem(KEY)
NONCE = b"n" * 20
PCRS = (10, 11)
REAL = sorted(path.parent for path in b.GOLDEN.glob("*/quote.attest"))

# No deadline: how fast an example is says only how busy the machine is.
MODULE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"0"))
CONTENTS = st.binary(max_size=8)
LISTS = (b"d-ng|n-ng", b"n-ng|d-ngv2|sig", b"d|n-ng", b"n|d-ng")


@st.composite
def any_entries(draw: st.DrawFn) -> tuple[int, bytes, bytes, bytes]:
    """PCR, digest, template and data of an entry that can be framed, whatever its data say."""
    known = st.sampled_from([*TEMPLATES, *LISTS])
    other = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255).map(str.encode)
    template = draw(known | other)
    data = draw(st.binary(max_size=300))
    if template == b"ima":
        data = draw(st.binary(min_size=20, max_size=20)) + b.field(data[:255])
    return draw(st.integers(0, 2**32 - 1)), draw(st.binary(min_size=20, max_size=20)), template, data


def streamed(log: bytes) -> list[Entry]:
    found: list[Entry] = []
    for item in read_runs(io.BytesIO(log), len(log)):
        found += item.entries() if isinstance(item, Run) else [item]
    return found


@MODULE
@given(st.lists(any_entries(), max_size=6))
def test_entries_are_read_as_they_were_written(written: list[tuple[int, bytes, bytes, bytes]]) -> None:
    parts = [encode(*one) for one in written]
    log = b"".join(parts)
    read = list(read_entries(log))
    assert [(one.pcr, one.digest, one.template, one.data) for one in read] == written
    assert [log[one.offset : one.end] for one in read] == parts
    assert [one.number for one in read] == list(range(1, len(parts) + 1))
    assert streamed(log) == read


@MODULE
@given(st.integers(0, 2**32 - 1), NAMES, CONTENTS, st.binary(max_size=20))
def test_the_writers_of_these_tests_agree(pcr: int, name: bytes, content: bytes, buf: bytes) -> None:
    """``encode`` and writers that share no code with it, for each shape of an entry."""
    text = name.decode("latin-1")
    for raw in (
        b.ima_ng(text, content, pcr),
        b.ima_sig(text, content, b"\3" + buf, pcr),
        b.ima_old(text, content, pcr),
        b.ima_buf(text, buf, pcr),
        b.violation(text, pcr),
    ):
        (one,) = read_entries(raw)
        assert encode(one.pcr, one.digest, one.template, one.data) == raw
        assert one.pcr == pcr
        assert one.violation or template_digest(one) == one.digest


WRITTEN = {
    b"d-ng": lambda digest: b"sha256:\0" + digest,
    b"d-ngv2": lambda digest: b"verity:sha256:\0" + digest,
    b"d": lambda digest: digest[:20],
}


@MODULE
@given(st.data(), st.sampled_from([name for name in [*TEMPLATES, *LISTS] if name != b"ima"]))
def test_fields_are_read_as_they_were_written(data: st.DataObject, template: bytes) -> None:
    names = (
        tuple(name.encode() for name in TEMPLATES[template]) if template in TEMPLATES else tuple(template.split(b"|"))
    )
    digest, name = data.draw(st.binary(min_size=32, max_size=32)), data.draw(NAMES)
    # An entry of no file has nothing in the fields of an inode, nor in those beside them.
    no_file = bool({b"iuid", b"igid", b"imode"} & set(names)) and data.draw(st.booleans())
    values = {}
    for field in names:
        if field in WRITTEN:
            values[field] = WRITTEN[field](digest)
        elif field in (b"n-ng", b"n"):
            values[field] = name + b"\0"
        elif no_file and field != b"buf":
            values[field] = b""
        elif field == b"sig":
            values[field] = data.draw(st.just(b"") | st.binary(max_size=9).map(lambda rest: b"\3" + rest))
        elif field == b"d-modsig":
            values[field] = b"sha256:\0" + bytes(32)
        elif field in (b"iuid", b"igid", b"imode"):
            values[field] = bytes(2 if field == b"imode" else 4)
        else:
            values[field] = data.draw(st.binary(max_size=9))
    (one,) = read_entries(b.entry(10, template, b"".join(map(b.field, values.values()))))
    read = parse_fields(one)
    assert read.name == name
    assert digest.startswith(read.digest)
    assert read.digest_type == ("verity" if b"d-ngv2" in values else "ima")
    assert (read.sig, read.buf) == (values.get(b"sig", b""), values.get(b"buf"))
    rest = {field.decode(): value for field, value in values.items() if field not in (*WRITTEN, b"n-ng", b"n")}
    assert dict(read.others) == {field: value for field, value in rest.items() if field not in ("sig", "buf")}


def quoted(log: bytes) -> tuple[bytes, bytes, dict[int, bytes]]:
    """An honest quote of the state that this log leads to."""
    values = {pcr: b.extended(log, pcr) for pcr in PCRS}
    attested = b.attest(NONCE, hashlib.sha256(values[10] + values[11]).digest())
    return attested, b.sign(KEY, attested, scheme=tpm.ECDSA), values


def judged(directory: Path, quote: tuple[bytes, bytes, dict[int, bytes]], log: bytes, *, told: bool) -> Verdict:
    attested, sig, values = quote
    b.write_bundle(directory, attest=attested, sig=sig, log=log, nonce=NONCE, values=values if told else None)
    return verify(directory, ak=AK, nonce=NONCE)


@st.composite
def honest_logs(draw: st.DrawFn) -> list[bytes]:
    """Entries as they may come: files of the host by any template, and containers, each with its start first."""
    log = [b.ima_ng("boot_aggregate", b"aggregate")]
    started: set[int] = set()
    for path, content, kind in draw(st.lists(st.tuples(NAMES, CONTENTS, st.integers(0, 4)), max_size=12)):
        seq = 1 + len(content) % 3
        if kind < 3:
            log.append((b.ima_ng, b.ima_sig, b.ima_old)[kind]("/" + path.decode("latin-1"), content))
            continue
        if seq not in started:
            started.add(seq)
            log.append(b.ima_buf("ctr-start", b.ctr_start(b.libpod(f"{seq:064x}"), seq=seq)))
        log.append(b.ima_buf("ctr-file", b.ctr_file(b"/" + path, content, seq=seq, route=kind - 2)))
    return log


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundle")


@MODULE
@given(lines=honest_logs(), told=st.booleans())
def test_an_honest_bundle_verifies(directory: Path, lines: list[bytes], told: bool) -> None:
    log = b"".join(lines)
    verdict = judged(directory, quoted(log), log, told=told)
    assert verdict.findings == ()
    assert (verdict.entries, verdict.unattested) == (len(lines), 0)
    pcrs = Counter(entry.pcr for entry in read_entries(log))
    assert verdict.attested == {pcr: pcrs[pcr] for pcr in PCRS}


def changed(draw: Callable[[st.SearchStrategy[Any]], Any], lines: list[bytes]) -> bytes | None:
    """The log with an entry deleted, doubled, exchanged with the next other one of its PCR, or with one bit changed.

    ``None`` where that is no change of what is attested: the last entry of a PCR once more is only past its end.
    """
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(["delete", "double", "swap", "flip"]))
    before, one, after = lines[:at], lines[at], lines[at + 1 :]
    if how == "delete":
        return b"".join(before + after)
    if how == "flip":
        bit = draw(st.integers(0, 8 * len(one) - 1))
        other = bytearray(one)
        other[bit // 8] ^= 1 << bit % 8
        return b"".join([*before, bytes(other), *after])
    later = next((n for n, line in enumerate(after) if line[:4] == one[:4] and line != one), None)
    if later is None:
        return None
    if how == "double":
        return b"".join([*before, one, one, *after])
    return b"".join([*before, after[later], *after[:later], one, *after[later + 1 :]])


@settings(MODULE, max_examples=300)
@given(data=st.data(), lines=honest_logs(), told=st.booleans())
def test_no_change_of_one_entry_verifies(directory: Path, data: st.DataObject, lines: list[bytes], told: bool) -> None:
    log = changed(data.draw, lines)
    if log is not None:
        assert not judged(directory, quoted(b"".join(lines)), log, told=told).ok


def cases(count: int) -> list[random.Random]:
    return [random.Random(seed) for seed in range(count)]


@pytest.mark.parametrize("told", [True, False])
def test_200_honest_bundles_whose_log_ran_ahead(tmp_path: Path, told: bool) -> None:
    """Between the quote and the reading of the log entries are appended, the last perhaps not yet whole."""
    lines = b.sample_log(20, 12)
    offsets = [len(b"".join(lines[:count])) for count in range(len(lines) + 1)]
    whole = b"".join(lines)
    quotes = {count: quoted(whole[: offsets[count]]) for count in range(1, len(lines) + 1, 4)}
    wrong = []
    for case in cases(200):
        count = case.choice(list(quotes))
        read = case.randint(count, len(lines))
        cut = case.randrange(1, len(lines[read])) if read < len(lines) and case.random() < 0.5 else 0
        verdict = judged(tmp_path / "bundle", quotes[count], whole[: offsets[read] + cut], told=told)
        expected = ["unattested"] if read > count or cut else []
        if (
            [finding.kind.value for finding in verdict.findings] != expected
            or (verdict.entries, verdict.unattested) != (read, read - count)
            or not verdict.ok
        ):
            wrong.append((count, read, cut, verdict.findings))
    assert wrong == []


@pytest.mark.parametrize("bundle", REAL, ids=lambda path: path.name)
def test_a_real_quote_whose_log_ran_ahead(tmp_path: Path, bundle: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    log = (bundle / "ima.bin").read_bytes()
    nonce = bytes.fromhex(json.loads((bundle / "bundle.json").read_text())["nonce"])
    before = verify(copy, ak=(bundle / "ak.pub").read_bytes(), nonce=nonce)
    for case in cases(20):
        more = [b.ima_ng(f"/usr/bin/{n}", b"%d" % n, pcr=case.choice(PCRS)) for n in range(case.randrange(1, 5))]
        tail = b"".join(more)[: -case.randrange(1, 30) if case.random() < 0.5 else None]
        (copy / "ima.bin").write_bytes(log + tail)
        verdict = verify(copy, ak=(bundle / "ak.pub").read_bytes(), nonce=nonce)
        assert [finding.kind.value for finding in verdict.findings] == ["unattested"]
        assert (verdict.attested, verdict.pcrs) == (before.attested, before.pcrs)

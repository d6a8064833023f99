"""The judge's glue: real bundles, a real image archive, and every way in which something can be absent or wrong."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import evidence
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fake_campaign import build

from testbed import plugins, rundir
from testbed.analysis.judged import checks, judging
from testbed.analysis.report import report
from testbed.analysis.tables import stored
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.image import ground_truth
from testbed.attest.image.verity import digests_of
from testbed.measurers import Executed
from testbed.plan import Cell
from testbed.record import Evidence, Record, Started
from testbed.rundir import Campaign, load

KEY = ec.derive_private_key(0x7E57BED, ec.SECP256R1())
NONCE = b"\x11" * 32
CONTAINER = f"{1:064x}"
PROGRAM = b"/usr/bin/tool"
INTERPRETER = "/usr/bin/interpreter"
TREE = hashlib.sha256(b"tree").digest()
ARMS = {"none": 0.0, "none2": 0.0, "container-file": 0.3, "container-image": 0.4}


@pytest.fixture(autouse=True)
def _one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's one program; how the loader finds libraries is tested where it is done."""

    def executed(archive: Path, container: str, programs: object, *, verity: bool = False) -> frozenset[Executed]:
        assert archive.exists()
        both = digests_of(io.BytesIO(b"tool"))
        path, sealed = PurePosixPath(PROGRAM.decode()), both.verity if verity else ""
        return frozenset({Executed(container=container, path=path, digest=both.sha256, size=4, verity=sealed)})

    monkeypatch.setattr(ground_truth, "executed", executed)
    monkeypatch.setattr(ground_truth, "image_tree", lambda archive: TREE.hex() if archive.exists() else "")
    # As if the program were a script.
    monkeypatch.setattr(ground_truth, "arguments", _as_a_script)


def _as_a_script(archive: Path, argv: tuple[str, ...]) -> tuple[str, ...]:
    return (INTERPRETER, *argv) if archive.exists() else argv


def _archive(path: Path) -> str:
    path.parent.mkdir(parents=True)
    manifest = f"sha256:{'ab' * 32}"
    index = path.parent / "index.json"
    index.write_text(json.dumps({"manifests": [{"digest": manifest}]}))
    with tarfile.open(path, "w") as out:
        out.add(index, "index.json")
    index.unlink()
    return manifest


def _log(content: bytes) -> list[bytes]:
    start = evidence.ima_buf("ctr-start", evidence.ctr_start(evidence.libpod(CONTAINER)))
    return [start, evidence.ima_buf("ctr-file", evidence.ctr_file(PROGRAM, content))]


def _start(tree: bytes) -> list[bytes]:
    argv = tuple(word.encode() for word in (INTERPRETER, *plugins.workload("tools").argv))
    launch = evidence.ctr_launch(tree, argv)
    return [evidence.ima_buf("ctr-image", evidence.ctr_image(tree)), evidence.ima_buf("ctr-launch", launch)]


def _bundle(directory: Path, cell: Cell, content: bytes = b"tool", tree: bytes = TREE) -> None:
    log = evidence.ima_ng("boot_aggregate", b"aggregate")
    log += b"".join(_log(content)) if cell.measurer.startswith("container") else b""
    log += b"".join(_start(tree)) if cell.measurer == "container-image" else b""
    values = {pcr: evidence.extended(log, pcr) for pcr in (10, 11)}
    quoted = evidence.attest(NONCE, hashlib.sha256(values[10] + values[11]).digest())
    sig = evidence.sign(KEY, quoted, scheme=0x0018)
    evidence.write_bundle(directory / "evidence", attest=quoted, sig=sig, log=log, nonce=NONCE, values=values)
    (directory / "ak.pem").write_bytes(evidence.pem(KEY))


def _judged(root: Path, *, store: str = "plain", **bundle: bytes) -> Campaign:
    """A campaign of three arms and two blocks with evidence as the lab leaves it."""

    def change(_: Cell, record: Record) -> Record:
        return dataclasses.replace(
            record,
            facts=record.facts
            | {"nonce": NONCE.hex(), "images": {"tools": f"localhost/tools@sha256:{'ab' * 32}"}, "store": store},
            containers=(Started(id=CONTAINER, image="tools", workload="tools", exit_status=0),),
            evidence=Evidence(bundle="evidence", ak="ak.pem"),
        )

    campaign = build(root, arms=ARMS, blocks=2, change=change)
    cells = {cell.id: cell for cell in rundir.read_plan(campaign).cells}
    for path, record in rundir.records(campaign):
        _bundle(path, cells[record.cell_id], **bundle)
    _archive(campaign.image_path("tools"))
    return campaign


def _checks(campaign: Campaign, arm: str = "container-file") -> list[dict[str, Any]]:
    """The checks of one arm, a row per run."""
    table = checks.checks(load(campaign), judging.judge_of(campaign))
    return [
        {str(name): value for name, value in row.items()} for row in table.to_dict("records") if row["measurer"] == arm
    ]


def _words(rows: list[dict[str, Any]], column: str) -> set[Any]:
    return {row[column] for row in rows}


def _findings(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(finding["kind"], finding["where"]) for row in rows for finding in row["findings"]}


def test_files_of_a_store_with_fs_verity_must_have_that_digest(tmp_path: Path) -> None:
    """The record says how the store was; an entry with a SHA-256 is then as wrong as one with another content."""
    campaign = _judged(tmp_path, store="verity")
    found = _findings(_checks(campaign))
    assert {kind for kind, _ in found} == {FindingKind.WRONG_DIGEST}


@pytest.mark.parametrize("arm", ARMS)
def test_clean_runs_are_as_expected(tmp_path: Path, arm: str) -> None:
    rows = _checks(_judged(tmp_path), arm)
    assert len(rows) == 2
    assert _words(rows, "verdict") == {"ok"}
    assert _words(rows, "judgement") == {"trusted"}
    promised = {"container-file": 1, "container-image": 3}.get(arm, 0)
    assert _words(rows, "promises") == {bool(promised)}
    assert _words(rows, "promised") == {promised}
    assert rows[0]["attested"] == [{"pcr": 10, "entries": 1}, {"pcr": 11, "entries": promised + bool(promised)}]


def test_the_report_of_clean_runs_tells_how_to_verify_one(tmp_path: Path) -> None:
    written = report.write(load(_judged(tmp_path)))
    text = written.report.read_text()
    assert written.exit_status == 0
    assert text.startswith("# Correctness OK: all 8 runs")
    assert "/evidence --ak " in text
    assert f"ak.pem --nonce {NONCE.hex()}" in text


def test_changed_content_is_an_unexpected_finding(tmp_path: Path) -> None:
    campaign = _judged(tmp_path, content=b"evil")
    rows = _checks(campaign)
    assert _words(rows, "verdict") == {"unexpected"}
    assert {kind for kind, _ in _findings(rows)} == {"wrong-digest"}
    assert _words(_checks(campaign, "none"), "verdict") == {"ok"}


def test_another_image_is_an_unexpected_finding(tmp_path: Path) -> None:
    campaign = _judged(tmp_path, tree=hashlib.sha256(b"another").digest())
    rows = _checks(campaign, "container-image")
    assert _words(rows, "verdict") == {"unexpected"}
    assert {kind for kind, _ in _findings(rows)} == {"wrong-digest"}
    assert _words(_checks(campaign, "container-file"), "verdict") == {"ok"}


@pytest.mark.parametrize("missing", ["evidence", "ak.pem", "evidence/quote.sig"])
def test_absent_evidence_is_malformed_and_no_pass(tmp_path: Path, missing: str) -> None:
    campaign = _judged(tmp_path)
    for path, _ in rundir.records(campaign):
        gone = path / missing
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for arm in ARMS:
        rows = _checks(campaign, arm)
        assert _words(rows, "verdict") == {"unexpected"}
        assert _words(rows, "judgement") == {"malformed"}


@pytest.mark.parametrize("name", ["ak.pem", "evidence/ima.bin"])
def test_evidence_that_this_user_may_not_read_has_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    campaign = _judged(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK or not f"{path}".endswith(name))
    with pytest.raises(PermissionError) as caught:
        _checks(campaign)
    assert str(caught.value.filename).endswith(name)


def test_an_image_that_this_user_may_not_read_has_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = _judged(tmp_path)

    def refuse(path: Path, _mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{path}")

    monkeypatch.setattr(tarfile, "open", refuse)
    with pytest.raises(PermissionError):
        _checks(campaign)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"nonce": "22" * 32}, "quote-nonce"),
        ({"nonce": "no hex"}, "malformed"),
        ({"nonce": None}, "malformed"),
        ({"images": {}}, "unsupported"),
        ({"images": {"tools": f"sha256:{'cd' * 32}"}}, "unsupported"),
    ],
)
def test_facts_that_do_not_fit_the_evidence_are_found(tmp_path: Path, facts: dict[str, object], kind: str) -> None:
    campaign = _judged(tmp_path)
    for path, record in rundir.records(campaign):
        rundir.write_record(path, dataclasses.replace(record, facts=record.facts | facts))
    rows = _checks(campaign)
    assert _words(rows, "verdict") == {"unexpected"}
    assert kind in {found for found, _ in _findings(rows)}


def test_an_absent_image_is_no_ground_truth_and_no_pass(tmp_path: Path) -> None:
    campaign = _judged(tmp_path)
    campaign.image_path("tools").unlink()
    rows = _checks(campaign)
    assert _findings(rows) == {("unsupported", "images/tools.oci.tar")}
    assert all(pd.isna(row["promised"]) for row in rows)
    assert _words(_checks(campaign, "none"), "verdict") == {"ok"}


def test_no_container_is_no_ground_truth(tmp_path: Path) -> None:
    campaign = _judged(tmp_path)
    for path, record in rundir.records(campaign):
        rundir.write_record(path, dataclasses.replace(record, containers=()))
    assert ("unsupported", "record.json: containers") in _findings(_checks(campaign))


def test_a_cut_log_is_not_compared_with_the_truth(tmp_path: Path) -> None:
    campaign = _judged(tmp_path)
    for path, _ in rundir.records(campaign):
        log = path / "evidence" / "ima.bin"
        log.write_bytes(log.read_bytes()[: len(evidence.ima_ng("boot_aggregate", b"aggregate"))])
    assert {kind for kind, _ in _findings(_checks(campaign))} == {"log-missing"}


@pytest.mark.parametrize(
    ("expect", "found", "verdict", "unexpected", "missed"),
    [
        ((), (), "ok", [], []),
        ((), ("unattested",), "ok", [], []),
        ((), ("ghost",), "unexpected", ["ghost"], []),
        (("ghost",), ("ghost",), "ok", [], []),
        (("ghost",), (), "missed", [], ["ghost"]),
        (("ghost",), ("stale",), "missed", ["stale"], ["ghost"]),
        (("unattested",), (), "missed", [], ["unattested"]),
    ],
)
def test_expected_and_found(
    expect: tuple[str, ...], found: tuple[str, ...], verdict: str, unexpected: list[str], missed: list[str]
) -> None:
    findings = [Finding(kind=FindingKind(kind), where="", expected="", got="") for kind in found]
    assert checks.compare(expect, findings) == (verdict, unexpected, missed)


def test_checks_keep_their_schema_through_parquet(tmp_path: Path) -> None:
    table = checks.checks(load(_judged(tmp_path)), judging.judge_of(_judged(tmp_path / "b")))
    stored.write(table, tmp_path / "checks.parquet", checks.SCHEMA)
    back = pd.read_parquet(tmp_path / "checks.parquet")
    assert list(back.columns) == checks.SCHEMA.names
    assert back["run"].tolist() == table["run"].tolist()
    assert [list(kinds) for kinds in back["expected"]] == table["expected"].tolist()
    empty = checks.checks(
        load(build(tmp_path / "c", change=lambda _, __: None)), judging.judge_of(_judged(tmp_path / "d"))
    )
    stored.write(empty, tmp_path / "checks.parquet", checks.SCHEMA)
    assert pd.read_parquet(tmp_path / "checks.parquet").empty

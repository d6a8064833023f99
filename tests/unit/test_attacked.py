"""The report's part on the verifier itself, with real evidence, a short list of attacks and made-up rivals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from evidence import GOLDEN
from fake_campaign import build

from testbed import rundir
from testbed.analysis.judged import attacked
from testbed.analysis.judged.attacked import Attacked, doubts, section
from testbed.analysis.judged.checks import Judged
from testbed.analysis.report import report
from testbed.analysis.tables import frames
from testbed.attest.mutate.registry import find
from testbed.attest.rivals import verifiers
from testbed.attest.verdict import Verdict
from testbed.plan import Cell
from testbed.record import Evidence, Record
from testbed.rundir import Campaign, load

REAL = GOLDEN / "bundle-debian-6.12"
ATTACKS = tuple(find(name) for name in ("signature-bit-first", "line-deleted", "ima-bin-fifo", "honest-quoted-again"))
SAID = {"evmctl": verifiers.Says.ACCEPTS, "tpm2_checkquote": verifiers.Says.CRASHED}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacked, "ATTACKS", ATTACKS)
    monkeypatch.setattr(verifiers, "available", lambda: tuple(SAID))
    monkeypatch.setattr(
        verifiers, "judge", lambda name, *_, **__: verifiers.Opinion(rival=name, verdict=SAID[name], detail="")
    )


def campaign_with(root: Path, bundle: Path | None) -> Campaign:
    nonce = json.loads((REAL / "bundle.json").read_text())["nonce"]

    def change(_: Cell, record: Record) -> Record:
        evidence = Evidence(bundle="evidence", ak="ak.pub")
        return dataclasses.replace(record, facts=record.facts | {"nonce": nonce}, evidence=evidence)

    campaign = build(root, blocks=1, change=change)
    for path, _ in rundir.records(campaign):
        if bundle is not None:
            shutil.copytree(bundle, path / "evidence")
            shutil.copy(REAL / "ak.pub", path / "ak.pub")
    return campaign


def struck(root: Path, bundle: Path | None = REAL) -> tuple[Attacked, ...]:
    campaign = campaign_with(root, bundle)
    return attacked.attack(campaign, frames.runs(load(campaign)))


def test_one_run_of_a_kernel_is_attacked(tmp_path: Path) -> None:
    (one,) = struck(tmp_path)
    assert one.ok
    assert one.kernel == "debian-6.12"
    assert [row.attack.name for row in one.rows] == [attack.name for attack in ATTACKS]
    text = "\n".join(section((one,)))
    assert "4 of 4 attacks on the evidence of" in text
    # Each rival is counted on what it looks at, and not asked of what is not a plain file.
    assert "| `evmctl` | accepts | 2 of the log | 1 | 0 | 0 | 1 |" in text
    assert "| `tpm2_checkquote` | crashed | 1 of the quote | 0 | 0 | 1 | 0 |" in text
    assert "`evmctl` accepts: `line-deleted`." in text
    assert doubts((one,)) == []


def test_evidence_that_is_not_trusted_is_not_attacked(tmp_path: Path) -> None:
    assert struck(tmp_path / "none", None) == ()
    other = tmp_path / "other"
    shutil.copytree(REAL, other)
    (other / "quote.sig").write_bytes((GOLDEN / "bundle-debian-6.1" / "quote.sig").read_bytes())
    assert struck(tmp_path / "forged", other) == ()
    assert "Not attacked" in "\n".join(section(()))


def test_the_run_with_most_attacks_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = dataclasses.replace(ATTACKS[0], applies=lambda _: "never")
    monkeypatch.setattr(attacked, "ATTACKS", (never, ATTACKS[1]))
    (one,) = struck(tmp_path)
    assert "1 of 1 attacks" in "\n".join(section((one,)))
    assert "(1 cannot be made from it)" in "\n".join(section((one,)))


def test_a_verifier_that_fails_is_told_and_fails_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(ATTACKS[1], expect=frozenset({"violation"}))
    monkeypatch.setattr(attacked, "ATTACKS", (wrong,))
    monkeypatch.setattr(verifiers, "available", tuple)
    campaign = campaign_with(tmp_path, REAL)
    (one,) = attacked.attack(campaign, frames.runs(load(campaign)))
    assert not one.ok
    text = "\n".join(section((one,)))
    assert "0 of 1 attacks" in text
    assert "`line-deleted`: expected violation, got replay-mismatch" in text
    assert "no other verifier" in text
    assert "no verdict here is certain" in doubts((one,))[0]
    written = report.write(load(campaign), lambda *_: Judged(verdict=Verdict(findings=()), promises=False))
    assert written.summary.startswith("Correctness OK")
    assert written.exit_status == 1
    assert "no verdict here is certain" in written.report.read_text()


def test_many_names_are_cut(tmp_path: Path) -> None:
    (one,) = struck(tmp_path)
    deleted = next(row for row in one.rows if row.attack.name == "line-deleted")
    rows = tuple(
        dataclasses.replace(deleted, attack=dataclasses.replace(deleted.attack, name=f"a-{n}")) for n in range(20)
    )
    assert "`a-7` and 12 more." in "\n".join(section((dataclasses.replace(one, rows=rows),)))

"""``testbed check-results``: reference data is in order, and each thing that can be wrong with results is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from test_judging import _judged, _one_program  # noqa: F401 - the fixture has images say one program

from testbed import plugins
from testbed.analysis.judged import checks as checks_module
from testbed.analysis.recheck import derived, recheck, verdicts
from testbed.analysis.recheck.step import SHOWN, RecheckStep, listed
from testbed.analysis.report import report
from testbed.analysis.tables import stored
from testbed.cli import main
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference-paper"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(REFERENCE, tmp_path / "results/copy")
    return tmp_path / "results/copy"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["check-results", *map(str, words)])


def steps(path: Path) -> dict[str, dict[str, Any]]:
    done = run(path, "--json")
    (one,) = json.loads(done.output)["campaigns"]
    wrong = not all(step["ok"] for step in one["steps"])
    failed = any(claim["verdict"] == "does not hold" for claim in one["claims"])
    assert done.exit_code == one["exit_status"] == int(wrong or failed)
    return {step["step"]: step for step in one["steps"]}


def wrong(path: Path) -> dict[str, list[str]]:
    return {name: step["problems"] for name, step in steps(path).items() if not step["ok"]}


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def record_of(path: Path, measurer: str) -> Path:
    loaded = load(Campaign(path=path))
    return next(run for run, record in loaded.records if loaded.cells[record.cell_id].measurer == measurer)


def test_reference_data_is_in_order_and_its_claims_hold() -> None:
    done = run(REFERENCE)
    assert done.exit_code == 0, done.output
    for name in ("plan", "complete", "records", "verdicts", "tables"):
        assert f"{name}: ok: " in done.output
    assert "7 from evidence alone" in done.output
    assert "not checked: of 7 runs, whether the log has all that was executed" in done.output
    assert "11 claims: 11 hold" in done.output
    assert "What this does not show" in done.output


def test_nothing_is_changed_by_a_check(copied: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copied.rglob("*") if path.is_file()}
    assert run(copied).exit_code == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copied.rglob("*") if path.is_file()}
    assert before == after


def test_a_directory_of_campaigns_is_checked_campaign_by_campaign(copied: Path) -> None:
    shutil.copytree(copied, copied.with_name("other"))
    shutil.rmtree(record_of(copied.with_name("other"), "none"))
    done = run(copied.parent)
    assert done.exit_code == 1
    assert done.output.count("complete: ok") == done.output.count("complete: NOT OK") == 1
    assert (alone := run(copied.parent / "copy/runs")).exit_code == 4
    assert "got no plan.json" in alone.stderr


def test_a_missing_run_is_named(copied: Path) -> None:
    gone = record_of(copied, "container-file")
    shutil.rmtree(gone)
    found = wrong(copied)
    assert found["complete"] == [f"runs/{gone.name}: missing: container-file on tools, no record"]
    assert any(f"a verdict on {gone.name}, which is no good run" in words for words in found["verdicts"])
    assert "tables" in found


def test_a_failed_run_is_not_complete(copied: Path) -> None:
    path = record_of(copied, "ima-exec")
    edited(path / "record.json", lambda raw: raw.update(status="timed-out", reason="too slow"))
    assert wrong(copied)["complete"] == [f"runs/{path.name}: timed-out: ima-exec on tools, too slow"]


def test_a_changed_number_is_named(copied: Path) -> None:
    path = record_of(copied, "prototype-file")
    edited(path / "record.json", lambda raw: [sample.update(value=sample["value"] / 20) for sample in raw["samples"]])
    found = wrong(copied)
    assert set(found) == {"tables"}
    assert any("rows.parquet: value: " in words and path.name in words for words in found["tables"])
    done = run(copied)
    assert done.exit_code == 1
    assert "does not hold: live-cost-prototype" in done.output


def test_a_changed_table_is_named(copied: Path) -> None:
    rows = pd.read_parquet(copied / "rows.parquet")
    rows.loc[3, "value"] = 12345.0
    rows.to_parquet(copied / "rows.parquet")
    happened = pd.read_parquet(copied / "events.parquet")
    happened.loc[0, "extends"] = 99
    happened.to_parquet(copied / "events.parquet")
    found = wrong(copied)
    assert set(found) == {"tables"}
    assert [words.split(": ")[:2] for words in found["tables"]] == [
        ["rows.parquet", "value"],
        ["events.parquet", "extends"],
    ]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("verdict", "missed", "verdict: stored 'missed', made again 'ok'"),
        ("judgement", "trusted", "judgement: stored 'trusted', made again 'untrusted'"),
        ("entries", 1, "entries: stored 1, made again "),
        ("measurer", "none", "measurer 'none', the plan says 'prototype-file'"),
        ("expected", [], "expected: stored [], made again ['weak-binding']"),
    ],
)
def test_a_changed_verdict_is_named(copied: Path, column: str, value: Any, said: str) -> None:
    run_ = record_of(copied, "prototype-file").name
    table = pd.read_parquet(copied / "checks.parquet")
    table.at[table.index[table["run"] == run_][0], column] = value  # noqa: PD008 - a cell that can hold a list
    stored.write(table, copied / "checks.parquet", checks_module.SCHEMA)
    words = wrong(copied).get("verdicts", [])
    assert any(said in word and run_ in word for word in words), words


def test_a_finding_that_was_removed_is_found_in_the_evidence(copied: Path) -> None:
    run_ = record_of(copied, "prototype-file").name
    table = pd.read_parquet(copied / "checks.parquet")
    at = table.index[table["run"] == run_][0]
    changes: dict[str, Any] = {
        "findings": [],
        "judgement": "trusted",
        "missed": ["weak-binding"],
        "verdict": "missed",
    }
    for column, value in changes.items():
        table.at[at, column] = value  # noqa: PD008 - a cell that can hold a list
    stored.write(table, copied / "checks.parquet", checks_module.SCHEMA)
    words = " ".join(wrong(copied)["verdicts"])
    assert "the evidence gives a finding that is not stored: weak-binding" in words


def test_changed_evidence_is_named(copied: Path) -> None:
    path = record_of(copied, "container-file")
    log = path / "evidence/ima.bin"
    log.write_bytes(log.read_bytes()[:-1])
    words = " ".join(wrong(copied)["verdicts"])
    assert f"runs/{path.name}" in words
    assert "a finding that is not stored" in words


def test_a_run_without_evidence_keeps_its_verdict_and_the_reader_knows(copied: Path) -> None:
    path = record_of(copied, "none")
    shutil.rmtree(path / "evidence")
    step = steps(copied)["verdicts"]
    assert step["ok"]
    assert f"the verdicts on 1 runs, whose evidence is not here ({path.name})" in step["unchecked"]


@pytest.mark.parametrize("name", ["checks.parquet", "rows.parquet"])
def test_without_its_tables_a_campaign_is_not_in_order(tmp_path: Path, copied: Path, name: str) -> None:
    # As a campaign that nobody reported; a reference data set must have them.
    (copied / "reference.json").unlink()
    (copied / name).unlink()
    step = "verdicts" if name.startswith("checks") else "tables"
    assert any(name in words for words in wrong(copied)[step])


def test_a_stray_run_and_a_swapped_one_are_named(copied: Path) -> None:
    one, other = record_of(copied, "none"), record_of(copied, "none2")
    (copied / "runs/empty").mkdir()
    (copied / "runs/.part-x").mkdir()
    text = (one / "record.json").read_bytes()
    (one / "record.json").write_bytes((other / "record.json").read_bytes())
    (other / "record.json").write_bytes(text)
    words = wrong(copied)["records"]
    assert "runs/empty: expected record.json, got none" in words
    assert "runs/.part-x: left by a process that was killed" in words
    assert any(word.startswith(f"runs/{one.name}: its record is of {other.name}") for word in words)


@pytest.mark.parametrize("value", ["/etc", "../other/evidence"])
def test_evidence_outside_of_its_run_is_named(copied: Path, value: str) -> None:
    path = record_of(copied, "none")
    edited(path / "record.json", lambda raw: raw["evidence"].update(bundle=value))
    done = run(copied)
    assert done.exit_code == 4
    assert "record.json: not of the expected shape" in done.output
    assert "evidence.bundle" in done.output


def test_a_plan_of_another_name_is_named(copied: Path) -> None:
    edited(copied / "plan.json", lambda raw: raw.update(seed=raw["seed"] + 1))
    (words,) = wrong(copied)["plan"]
    assert "expected a name that ends in icount-" in words
    edited(copied / "plan.json", lambda raw: raw.update(order="shuffled"))
    assert "named by another rule" in steps(copied)["plan"]["unchecked"][0]


def test_a_block_without_a_cell_is_named(copied: Path) -> None:
    edited(copied / "plan.json", lambda raw: raw["blocks"][0]["cells"].pop())
    assert wrong(copied)["plan"] == ["block debian-6.12-0: expected each cell of that kernel once"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("plan.json", b"{"), ("campaign.json", b"[]"), ("rows.parquet", b"PAR1"), ("checks.parquet", b"")],
)
def test_what_is_malformed_ends_with_4(copied: Path, name: str, content: bytes) -> None:
    (copied / name).write_bytes(content)
    done = run(copied)
    assert done.exit_code == 4
    assert name in done.stderr


def test_records_that_must_not_be_pooled_end_with_4(copied: Path) -> None:
    edited(record_of(copied, "none") / "record.json", lambda raw: raw["facts"].update(qemu_version="0.1"))
    done = run(copied)
    assert (done.exit_code, "qemu_version" in done.stderr) == (4, True)


def test_a_whole_campaign_is_judged_again_with_its_images(tmp_path: Path) -> None:
    campaign = _judged(tmp_path / "results")
    report.write(load(campaign))
    checked = recheck.check(campaign.path, ())
    by_name = {step.name: step for step in checked.steps}
    assert by_name["verdicts"].said == "8 stored; 8 made again from evidence and images, 0 from evidence alone"
    assert by_name["verdicts"].ok, by_name["verdicts"].problems
    assert by_name["tables"].ok, by_name["tables"].problems
    assert not by_name["tables"].unchecked
    # One image less: its runs cannot be judged whole.
    table = pd.read_parquet(campaign.path / "checks.parquet")
    table.at[0, "promised"] = 77  # noqa: PD008 - a cell that can hold a list
    stored.write(table, campaign.path / "checks.parquet", checks_module.SCHEMA)
    again = {step.name: step for step in recheck.check(campaign.path, ()).steps}
    assert any("promised: stored 77" in words for words in again["verdicts"].problems)


def test_a_measurer_that_is_not_here_is_not_judged(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = plugins.names

    def without(family: str) -> tuple[str, ...]:
        return tuple(name for name in known(family) if name != "prototype-file")

    monkeypatch.setattr(plugins, "names", without)
    loaded = load(Campaign(path=copied))
    step = verdicts.recheck(loaded, stored.read(copied, "checks.parquet", checks_module.SCHEMA.names))
    assert step.ok, step.problems
    assert "runs of prototype-file: no such measurer here; name it with --measurer-path" in step.unchecked


def test_tables_of_different_length_differ() -> None:
    one, other = pd.DataFrame({"run": ["a"], "x": [1.0]}), pd.DataFrame({"run": ["a", "b"], "x": [1.0, None]})
    assert list(derived.differences(one, other)) == ["1 rows, expected 2"]
    assert list(derived.differences(other, other)) == []


def test_hostile_names_and_reasons_do_not_reach_the_terminal(copied: Path) -> None:
    (copied / "runs/\x1b]0;x\x07").mkdir()
    path = record_of(copied, "none")
    edited(path / "record.json", lambda raw: raw.update(status="timed-out", reason="\x1b[2Jgone\nok: fine"))
    done = run(copied)
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\\x1b[2Jgone\\nok: fine" in done.output
    assert "runs/\\x1b]0;x\\x07: expected record.json" in done.output


def test_many_problems_are_counted() -> None:
    step = RecheckStep(name="x", said="y", problems=tuple(map(str, range(SHOWN + 3))))
    assert step.lines()[-1] == "    ... and 3 more; --json has them all"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


@pytest.mark.parametrize(
    ("column", "value"), [("verdict", "zzz"), ("expected", None), ("findings", "abc"), ("attested", None)]
)
def test_a_table_of_checks_with_other_types_is_malformed(copied: Path, column: str, value: object) -> None:
    path = copied / "checks.parquet"
    table = pd.read_parquet(path)
    table[column] = pd.Series([value] * len(table), dtype=object)
    table.to_parquet(path)
    for command in ("check-results", "report"):
        done = CliRunner().invoke(main, [command, str(copied)])
        assert done.exit_code == 4, done.output
        assert "Traceback" not in done.output


def test_a_second_verdict_on_a_run_is_named(copied: Path) -> None:
    path = copied / "checks.parquet"
    table = pd.read_parquet(path)
    table.loc[len(table)] = table.iloc[0]
    table.to_parquet(path)
    assert any("2 verdicts on runs/" in words for words in wrong(copied)["verdicts"])


@pytest.mark.parametrize("name", ["report", "figures"])
def test_a_report_does_not_write_through_a_link(copied: Path, tmp_path: Path, name: str) -> None:
    """A campaign of somebody else may have such a link: the pages would replace the runs of another directory."""
    victim = tmp_path / "victim"
    (victim / "runs").mkdir(parents=True)
    (victim / "runs" / "thesis.txt").write_text("precious")
    (copied / name).symlink_to(victim)
    done = CliRunner().invoke(main, ["report", str(copied)])
    assert done.exit_code == 2
    assert "got a symbolic link" in done.output
    assert (victim / "runs" / "thesis.txt").read_text() == "precious"


def test_a_report_does_not_keep_a_verdict_against_the_evidence(copied: Path) -> None:
    signature = record_of(copied, "container-file") / "evidence" / "quote.sig"
    data = bytearray(signature.read_bytes())
    data[-1] ^= 1
    signature.write_bytes(data)
    done = CliRunner().invoke(main, ["report", str(copied)])
    assert done.exit_code == 4
    assert "stored as trusted, and the evidence here is not" in done.output

"""A report's words: its first line, its tables, its doubts, and the exit status that says the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from fake_campaign import ARMS, Change, build, failed

from testbed import plugins
from testbed.analysis import markdown
from testbed.analysis.judged.checks import Judge, Judged
from testbed.analysis.report import inputs, report, runs_and_facts
from testbed.analysis.report.correctness import CheckCounts
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.verdict import Verdict
from testbed.commands.figures import command as figures_command
from testbed.commands.report import command as report_command
from testbed.plan import Cell
from testbed.record import MadeBy, Record, Status, Tier
from testbed.rundir import load


def _judge(*findings: Finding, when: Callable[[Cell, Record], bool] = lambda _, __: True) -> Judge:
    def judge(cell: Cell, _: Path, record: Record) -> Judged:
        found = findings if when(cell, record) else ()
        measures = cell.measurer in {"ima-exec", "container-file"}
        verdict = Verdict(findings=found, entries=100, unattested=record.block, attested={10: 91, 11: 7})
        return Judged(verdict=verdict, promises=measures, promised=57 if measures else 0)

    return judge


GHOST = Finding(kind=FindingKind.GHOST, where="entry 12, PCR 11", expected="no entry", got="/bin/`|evil")


def _text(tmp_path: Path, judge: Judge | None = None, change: Change | None = None, **options: object) -> str:
    campaign = build(tmp_path, **({"change": change} if change else {}), **options)  # type: ignore[arg-type]
    return report.render(inputs.gather(load(campaign), judge or _judge()))


def _section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_first_line_of_a_clean_campaign(tmp_path: Path) -> None:
    first = _text(tmp_path).splitlines()[0]
    assert first == "# Correctness OK: all 30 runs were judged as expected; tier icount"


def test_the_ladder_has_number_interval_n_verdict_and_cost(tmp_path: Path) -> None:
    part = _section(_text(tmp_path), "Overhead")
    first, row = [line for line in part.splitlines() if "`ima-exec`" in line][:2]
    assert first == "| operation | `none` | `ima-exec` | `hooks-only` | `container-file` |"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "`ima-exec`"
    assert cells[2].startswith("+1.8")
    assert "[+1." in cells[2]
    assert cells[3:5] == ["6", "OVERHEAD"]
    assert cells[5].endswith("M instructions")
    assert cells[6] == "419.7 M instructions"
    assert "A/A of `tools`" in part
    assert "not time" in part


def test_rungs_stand_as_the_ladder_climbs(tmp_path: Path) -> None:
    part = _section(_text(tmp_path), "Correctness")
    order = [part.index(f"| `{arm}` |") for arm in ("none", "none2", "ima-exec", "hooks-only", "container-file")]
    assert order == sorted(order)


def test_files_of_a_campaign(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    written = report.write(load(campaign), _judge())
    assert "(figures/overhead.png)" in written.report.read_text()
    derived = {str(path.relative_to(campaign.path)) for path in campaign.path.rglob("*") if path.is_file()}
    assert {name for name in derived if not name.startswith(("runs/", "report/runs/"))} == {
        *("plan.json", "campaign.json", "report.md", "report/index.html"),
        *("rows.parquet", "checks.parquet", "events.parquet"),
        *(f"figures/{name}.{kind}" for name in ("overhead", "blocks") for kind in ("pdf", "png")),
    }
    assert len(pd.read_parquet(campaign.path / "checks.parquet")) == 30


def test_an_unexpected_finding_is_told_where_expected_and_got(tmp_path: Path) -> None:
    judge = _judge(GHOST, when=lambda cell, record: cell.measurer == "container-file" and record.block < 2)
    text = _text(tmp_path, judge)
    assert text.startswith("# Correctness NOT OK: 28 of 30 judged runs")
    part = _section(text, "Correctness")
    assert "4 of 6 **!**" in part
    assert "| ghost x2 |" in part
    assert "entry 12, PCR 11" in part
    # Evidence is written by others: its text can break neither the table nor out of its quotes.
    assert "`` /bin/`\\|evil ``" in part or "``/bin/`\\|evil``" in part
    assert "### Not as expected: `ima-exec`" not in part


def test_what_had_to_be_found_and_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = replace(plugins.attack("none"), expect=frozenset({"wrong-digest"}))
    monkeypatch.setattr(plugins, "attack", lambda _: attack)
    part = _section(_text(tmp_path), "Correctness")
    assert "Expected and not found: wrong-digest." in part


def test_a_run_without_evidence_is_no_pass(tmp_path: Path) -> None:
    written = report.write(load(build(tmp_path, tier=Tier.TCG)))
    assert written.summary.startswith("Correctness NOT OK: 0 of 30")
    assert written.exit_status == 1
    assert "nothing was collected" in written.report.read_text()


def test_lost_and_missing_runs_are_listed_with_their_reason(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record | None:
        if record.block == 3 and cell.measurer == "ima-exec":
            return failed(record, Status.TIMED_OUT, "no answer in 60 s | `x`")
        return None if record.block == 5 else record

    campaign = build(tmp_path, change=change, tier=Tier.TCG)
    written = report.write(load(campaign), _judge())
    part = _section(written.report.read_text(), "Runs that failed, were rejected or are missing")
    assert written.summary.startswith("Correctness INCOMPLETE: 24 of 24 judged runs")
    assert written.exit_status == 3
    assert part.count("| missing | `no record` |") == 5
    assert "no answer in 60 s" in part
    assert "| `ima-exec` | 6 | 4 | 0 | 0 | 1 | 0 | 1 |" in part


def test_of_many_missing_runs_some_are_listed_and_all_counted(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record | None:
        if record.block == 5 and cell.measurer == "none":
            return failed(record, Status.MACHINE_LOST, "the last one, and the one that matters")
        return None if record.block > 0 else record

    written = report.write(load(build(tmp_path, change=change, tier=Tier.TCG)), _judge())
    part = _section(written.report.read_text(), "Runs that failed, were rejected or are missing")
    assert "the one that matters" in part
    assert part.count("| missing | `no record` |") == 20
    assert "4 more have no record" in part
    assert "| `ima-exec` | 6 | 1 | 0 | 0 | 0 | 0 | 5 |" in part


def test_unmeasured_events_are_summed_and_zero_is_told(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        missed = cell.measurer == "container-file"
        return replace(record, counters=record.counters | {"unmeasured_mprotect": 2}) if missed else record

    assert "None: every `unmeasured_*` counter of 6 runs is 0." in _section(_text(tmp_path / "a"), "Unmeasured events")
    part = _section(_text(tmp_path / "b", change=change), "Unmeasured events")
    assert "| container-file | tools | unmeasured_mprotect | 12 |" in part
    assert "proves nothing" in part


@pytest.mark.parametrize(
    ("blocks", "doubt"),
    [(3, "below 6 blocks there is no 95 % interval"), (6, "smallest possible exact p is 0.031"), (12, "")],
)
def test_doubts_about_few_blocks(tmp_path: Path, blocks: int, doubt: str) -> None:
    part = _section(_text(tmp_path, blocks=blocks), "Doubts")
    assert doubt in part
    assert ("n = " in part) == bool(doubt)


def test_doubts_about_noise_wider_than_delta(tmp_path: Path) -> None:
    assert "wider than δ" in _section(_text(tmp_path / "a", noise=0.02), "Doubts")
    assert "wider than δ" not in _section(_text(tmp_path / "b"), "Doubts")


def test_doubts_about_a_baseline_that_differs_from_itself(tmp_path: Path) -> None:
    """However little: the duplicate takes 0.02 % more, in each block."""
    arms = {"none": 0.0, "none2": 0.0002, "ima-exec": 0.02}
    part = _section(_text(tmp_path / "a", arms=arms, noise=0.00001), "Doubts")
    assert "`none2` differs from `none` on `tools` (debian-6.12, crun): A/A [+0.01" in part
    assert "its contrasts are INVALID" in part
    assert "INVALID" not in _section(_text(tmp_path / "b", arms=arms | {"none2": 0.0}), "Doubts")


def test_doubts_about_a_missing_duplicate_and_about_later_attempts(tmp_path: Path) -> None:
    def change(_: Cell, record: Record) -> Record:
        return replace(record, attempt=2) if record.block == 0 else record

    part = _section(_text(tmp_path, change=change, arms={"none": 0, "ima-exec": 0.02}), "Doubts")
    assert "No A/A" in part
    assert "2 runs are a second or later attempt" in part


def test_the_correctness_tier_claims_no_overhead(tmp_path: Path) -> None:
    campaign = build(tmp_path, tier=Tier.TCG)
    text = report.write(load(campaign), _judge()).report.read_text()
    assert "No overhead is claimed: this tier has no meaningful clock." in text
    assert not (campaign.path / "figures").exists()


def test_facts_and_commands(tmp_path: Path) -> None:
    text = _text(tmp_path)
    facts = _section(text, "Facts")
    assert "| qemu_version | `7.2.0` |" in facts
    assert "| host.cpu | `a fake one` |" in facts
    assert "| images.tools | `sha256:" in facts
    assert "`boot_id`, `clone_id`" in facts
    assert f"testbed report {tmp_path}" in _section(text, "Reproducing this campaign")


MADE_BY = MadeBy(version="0.2.0", sources="ab" * 32, command=("testbed", "run", "~/my file.toml", "--set", 'a="b"'))


def test_a_report_names_the_commands_that_made_the_campaign(tmp_path: Path) -> None:
    def change(cell: Cell, record: Record) -> Record:
        later = replace(MADE_BY, command=("testbed", "run", "x.toml", "--machines", "1"))
        last = record.block == 5
        return replace(record, made_by=later if last else MADE_BY, started_utc=f"2024-01-0{1 + last}T00:00:00Z")

    part = _section(_text(tmp_path, change=change), "Reproducing this campaign")
    first, second = "testbed run ~/'my file.toml' --set 'a=\"b\"'", "testbed run x.toml --machines 1"
    assert f"in this order:\n\n```\n{first}\n{second}\n```" in part
    assert "probably" not in part


def test_a_campaign_without_its_command_gets_a_guess_that_is_called_one(tmp_path: Path) -> None:
    part = _section(_text(tmp_path), "Reproducing this campaign")
    assert "probably" in part
    assert "testbed run experiments/fake.toml --tier icount" in part


@pytest.mark.parametrize("other", [None, replace(MADE_BY, sources="cd" * 32)], ids=["unknown code", "other sources"])
def test_mixed_code_is_doubted(tmp_path: Path, other: MadeBy | None) -> None:
    def change(cell: Cell, record: Record) -> Record:
        return replace(record, made_by=other if record.block == 0 else MADE_BY)

    mixed = _section(_text(tmp_path / "a", change=change), "Doubts")
    assert "made by 2 different states of the code (sources `abababababab`: 25 runs, " in mixed
    same = _section(_text(tmp_path / "b", change=lambda _, record: replace(record, made_by=MADE_BY)), "Doubts")
    assert "states of the code" not in same


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (CheckCounts(judged=5, wrong=0, failed=0, unrun=0), 0, "OK: all 5"),
        (CheckCounts(judged=5, wrong=1, failed=0, unrun=0), 1, "NOT OK: 4 of 5"),
        (CheckCounts(judged=5, wrong=0, failed=1, unrun=0), 1, "INCOMPLETE: 5 of 5"),
        (CheckCounts(judged=5, wrong=1, failed=1, unrun=1), 3, "NOT OK: 4 of 5"),
        (CheckCounts(judged=5, wrong=0, failed=0, unrun=2), 3, "INCOMPLETE"),
        (CheckCounts(judged=0, wrong=0, failed=0, unrun=0), 3, "NOT SHOWN"),
        (CheckCounts(judged=0, wrong=0, failed=4, unrun=0), 1, "NOT SHOWN"),
    ],
)
def test_outcome(outcome: CheckCounts, status: int, words: str) -> None:
    assert outcome.exit_status == status
    assert outcome.words.startswith(f"Correctness {words}")


def test_report_command_says_the_verdict_and_its_status(tmp_path: Path) -> None:
    campaign = build(tmp_path, tier=Tier.TCG)
    done = CliRunner().invoke(report_command, [str(campaign.path)])
    assert done.exit_code == 1
    assert done.output.startswith("Correctness NOT OK")
    assert str(campaign.path / "report.md") in done.output


def test_figures_command_draws_without_judging(tmp_path: Path) -> None:
    campaign = build(tmp_path)
    done = CliRunner().invoke(figures_command, [str(campaign.path)])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == 4
    assert not (campaign.path / "checks.parquet").exists()
    nothing = CliRunner().invoke(figures_command, [str(build(tmp_path, tier=Tier.TCG, arms=ARMS).path)])
    assert nothing.exit_code == 0
    assert "nothing to draw" in nothing.output


@pytest.mark.parametrize(
    ("text", "quoted"), [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a\n\nb", "`a b`"), ("", "(empty)")]
)
def test_code_cannot_be_broken_out_of(text: str, quoted: str) -> None:
    assert markdown.code(text) == quoted


def test_a_cell_stays_one_cell() -> None:
    assert markdown.table(("a", "b"), [("x|y", "1\n2")])[2] == "| x\\|y | 1 2 |"


def test_a_fact_of_somebody_else_is_no_markup() -> None:
    assert runs_and_facts._shown("host.cpu") == "host.cpu"
    assert runs_and_facts._shown("<b>x\u202e") == "`'<b>x\\u202e'`"

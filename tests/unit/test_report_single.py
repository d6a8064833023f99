"""The report's table of single system calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fake_campaign import build

from testbed.analysis.report import overhead, single
from testbed.analysis.tables import metrics, tables
from testbed.plan import Cell
from testbed.record import Record, Sample, Tier
from testbed.rundir import load

COSTS = {"none": 2000.0, "none2": 2000.0, "hooks-only": 2200.0, "container-file": 2300.0}


def _read(tmp_path: Path, *, tier: Tier = Tier.ICOUNT) -> tables.Tables:
    def change(cell: Cell, record: Record) -> Record:
        samples = [
            Sample(metric=metric, unit="s", value=COSTS[cell.measurer] * (n + 1) * 1e-9, iteration=1, warmup=False)
            for n, metric in enumerate(metrics.SINGLE)
        ]
        return replace(record, samples=(*record.samples, *samples))

    return tables.read(load(build(tmp_path, arms=dict.fromkeys(COSTS, 0.0), tier=tier, change=change)))


def test_each_kind_of_call_is_a_row_with_its_baseline_and_what_each_arm_adds(tmp_path: Path) -> None:
    lines = single.section(_read(tmp_path))
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ") and "---" not in line}
    assert set(rows) == {"system call", *(f"{name}, debian-6.12, crun" for name in metrics.SINGLE.values())}
    first = rows["open/close, debian-6.12, crun"]
    assert "| 2 k instructions |" in first
    assert "+10.0000 % " in first
    assert "+200.0000 " in first
    assert "OVERHEAD" in first
    assert rows["system call"].count("`") == 4


def test_they_have_no_part_of_their_own_in_the_report(tmp_path: Path) -> None:
    text = "\n".join(overhead.section(_read(tmp_path), {}))
    assert text.count("**One system call**") == 1
    assert "of one fork" not in text


def test_a_campaign_without_them_has_no_table(tmp_path: Path) -> None:
    assert single.section(tables.read(load(build(tmp_path)))) == []
    assert single.section(_read(tmp_path / "other", tier=Tier.TCG)) == []

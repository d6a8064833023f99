"""What `docs/overhead.md` tells is what the reference campaign found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.analysis.judged import judging
from testbed.analysis.report import inputs, report
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told() -> str:
    campaign = Campaign(path=ROOT / "results/reference")
    return report.render(inputs.gather(load(campaign), judging.judge_of(campaign)))


def test_each_line_of_its_tables_is_one_of_the_report(told: str) -> None:
    page = (ROOT / "docs/overhead.md").read_text(encoding="utf-8")
    tables = re.findall(r"<!-- table: (?!cost|hosts)[^\n]*\n(.*?)<!-- end -->", page, re.DOTALL)
    lines = [line for table in tables for line in table.splitlines()]
    assert len(lines) > 30
    assert [line for line in lines if line not in told.splitlines()] == []


def test_the_reference_is_a_complete_campaign_that_was_judged_as_it_had_to_be(told: str) -> None:
    runs = len(list((ROOT / "results/reference/runs").iterdir()))
    assert told.startswith(f"# Correctness OK: all {runs} runs")

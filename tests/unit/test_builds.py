"""Builds of the disks as a level above the block: the table, and what the report says of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import fake_campaign
import pytest

from testbed.analysis.report import overhead
from testbed.analysis.tables import builds, tables
from testbed.plan import Cell
from testbed.record import Record
from testbed.rundir import load

ARMS = {"none": 0.0, "none2": 0.0, "container-file": 0.5}


def slower_on_odd_builds(cell: Cell, record: Record) -> Record:
    """The measurer costs 1 % more on every second block, which is every block of the second build."""
    if cell.measurer != "container-file" or record.block % 2 == 0:
        return record
    samples = tuple(replace(one, value=1.01 * one.value) if one.metric == "cpu" else one for one in record.samples)
    return replace(record, samples=samples)


def test_what_builds_differ_by_is_found(tmp_path: Path) -> None:
    made = fake_campaign.build(tmp_path, arms=ARMS, blocks=12, builds=2, change=slower_on_odd_builds)
    known = tables.read(load(made))
    (row,) = known.builds.to_dict("records")
    assert (row["treatment"], row["builds"], row["n"]) == ("container-file", 2, 12)
    assert row["apart"] == pytest.approx(math.log(1.01), rel=0.05)
    assert row["between"] == pytest.approx(math.log(1.01) / math.sqrt(2), rel=0.05)
    assert row["within"] < 0.001
    (contrast,) = known.ladder.to_dict("records")
    assert row["low"] < contrast["low"] < contrast["high"] < row["high"]
    said = "\n".join(overhead.section(known, {}))
    assert "The blocks booted 2 builds of the disks in turns" in said
    assert "Builds differ most for `container-file`" in said
    assert "larger than that between boots for 1 of 1 overheads" in said


def test_builds_that_do_not_differ_have_no_spread(tmp_path: Path) -> None:
    known = tables.read(load(fake_campaign.build(tmp_path, arms=ARMS, blocks=12, builds=2)))
    (row,) = known.builds.to_dict("records")
    assert row["between"] < row["within"]
    assert "for 0 of 1 overheads" in "\n".join(overhead.section(known, {}))


def test_of_one_build_the_report_says_what_its_intervals_are_conditional_on(tmp_path: Path) -> None:
    known = tables.read(load(fake_campaign.build(tmp_path, arms=ARMS)))
    assert known.builds.empty
    assert tuple(known.builds.columns) == builds.COLUMNS
    said = "\n".join(overhead.section(known, {}))
    assert "All blocks booted one build of the disks:" in said

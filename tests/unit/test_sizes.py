"""Each program over its size: the table, the line through it, the figure, the report's words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_campaign import build

from testbed.analysis import figures
from testbed.analysis.report import by_size, draw
from testbed.analysis.tables import sizes, tables
from testbed.analysis.tables.ladder import Question
from testbed.plan import Cell
from testbed.record import Record, Sample, Tier
from testbed.rundir import load
from testbed.workloads import WorkloadFailed
from testbed.workloads import sizes as workload

QUESTION = Question(tier=Tier.ICOUNT)
BYTES = {"true": 30_000, "ls": 160_000, "bash": 1_300_000, "perl": 4_000_000}
BASE = 1.5e-3
# Seconds a byte and a file: under icount a nanosecond is an instruction.
PRICES: Mapping[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "none2": (0.0, 2e-6),
    "hooks-only": (0.0, 3e-6),
    "container-file": (32e-9, 80e-6),
}


def rows_of(prices: Mapping[str, tuple[float, float]] = PRICES, blocks: int = 6) -> pd.DataFrame:
    """Return rows as a campaign has them: every block has another base, which must cancel."""
    listed = []
    for block in range(blocks):
        base = BASE * (1 + 0.1 * block)
        for arm, (byte, file) in prices.items():
            for name, size in BYTES.items():
                values = {
                    workload.BYTES: size,
                    workload.FIRST: base + file + byte * size,
                    workload.AGAIN: base / 2 + file / 10,
                }
                listed += [
                    {"measurer": arm, "block": block, "metric": prefix + name, "value": value}
                    for prefix, value in values.items()
                ]
    named = pd.DataFrame(listed)
    return named.assign(
        kernel="debian-6.12", runtime="crun", attack="none", status="ok", current=True, oracle="ok", warmup=False
    )


def row_of(table: pd.DataFrame, **wanted: str) -> dict[Any, Any]:
    """Return the one row with these values."""
    (found,) = (
        row for row in table.to_dict("records") if all(row[column] == value for column, value in wanted.items())
    )
    return found


def test_a_program_costs_what_the_arm_adds_to_the_mean_of_both_baselines() -> None:
    table = sizes.sizes(rows_of(), QUESTION)
    row = row_of(table, treatment="container-file", program="perl")
    # Half of what the duplicate takes more is in the baseline.
    assert row["value"] == pytest.approx(80e3 + 32 * 4e6 - 1e3)
    assert row["again"] == pytest.approx(8e3 - 100)
    assert (row["bytes"], row["n"], row["unit"]) == (4_000_000, 6, "instructions")
    assert set(table["treatment"]) == {"none2", "hooks-only", "container-file"}


def test_the_duplicate_is_compared_with_the_baseline_alone() -> None:
    table = sizes.sizes(rows_of(), QUESTION)
    assert row_of(table, treatment="none2", program="ls")["value"] == pytest.approx(2000)


def test_the_line_finds_both_prices_with_their_intervals() -> None:
    lines = sizes.lines(rows_of(), QUESTION)
    assert list(lines["treatment"]) == ["hooks-only", "container-file"], "as the ladder climbs, without the duplicate"
    line = row_of(lines, treatment="container-file")
    assert line["byte"] == pytest.approx(32)
    assert line["file"] == pytest.approx(79e3)
    assert line["byte_low"] <= line["byte"] <= line["byte_high"]
    assert line["explained"] == pytest.approx(1)
    assert (line["programs"], line["n"]) == (4, 6)
    assert row_of(lines, treatment="hooks-only")["explained"] == pytest.approx(0, abs=1e-6)


def test_of_five_blocks_a_price_has_no_interval() -> None:
    (_, line) = sizes.lines(rows_of(blocks=5), QUESTION).to_dict("records")
    assert (line["byte_low"], line["byte_high"]) == (-math.inf, math.inf)


def test_two_programs_are_no_line() -> None:
    rows = rows_of()
    few = rows[rows["metric"].str.endswith(("/ls", "/perl"))]
    assert len(sizes.sizes(few, QUESTION)) == 6
    assert sizes.lines(few, QUESTION).empty


@pytest.mark.parametrize(
    "lost", [{"oracle": "missed"}, {"status": "rejected"}, {"attack": "program-detached"}, {"warmup": True}]
)
def test_runs_that_do_not_count_have_no_points(lost: dict[str, Any]) -> None:
    rows = rows_of()
    mine = rows["measurer"] == "container-file"
    rows = rows.assign(**{column: rows[column].mask(mine, value) for column, value in lost.items()})
    assert set(sizes.sizes(rows, QUESTION)["treatment"]) == {"none2", "hooks-only"}


@pytest.mark.parametrize("tier", [Tier.TCG])
def test_without_a_clock_or_a_baseline_there_is_nothing(tier: Tier) -> None:
    assert sizes.sizes(rows_of(), Question(tier=tier)).empty
    rows = rows_of()
    assert sizes.sizes(rows[rows["measurer"] != "none"], QUESTION).empty
    other = rows.assign(metric="cpu")
    assert list(sizes.sizes(other, QUESTION).columns) == list(sizes.SIZES)
    assert list(sizes.lines(other, QUESTION).columns) == list(sizes.LINES)


def test_without_the_duplicate_the_baseline_is_enough() -> None:
    rows = rows_of({name: price for name, price in PRICES.items() if name != "none2"})
    line = row_of(sizes.lines(rows, QUESTION), treatment="container-file")
    assert line["file"] == pytest.approx(80e3)


def _campaign(tmp_path: Path) -> tables.Tables:
    def change(cell: Cell, record: Record) -> Record:
        byte, file = PRICES[cell.measurer]
        samples = [
            Sample(metric=prefix + name, unit=unit, value=value, iteration=1, warmup=False)
            for name, size in BYTES.items()
            for prefix, unit, value in (
                (workload.BYTES, "B", size),
                (workload.FIRST, "s", BASE + file + byte * size),
                (workload.AGAIN, "s", BASE),
            )
        ]
        return Record(**{n: getattr(record, n) for n in record.__slots__} | {"samples": (*record.samples, *samples)})

    return tables.read(load(build(tmp_path, arms=dict.fromkeys(PRICES, 0.0), change=change)))


def test_every_program_is_a_point_that_says_its_numbers(tmp_path: Path) -> None:
    known = _campaign(tmp_path)
    figure = figures.sizes(known.sizes, known.size_lines, "none2", draw.caption(known))
    (ax,) = figure.axes
    marks = [line.get_gid() or "" for line in ax.lines]
    assert sum("container-file" in mark for mark in marks) == len(BYTES)
    assert not any("none2" in mark for mark in marks)
    assert any(re.search(r"perl, 4 M B, container-file: 128 M instructions added to 1\.5 M", mark) for mark in marks)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "hooks-only: 0 a byte, 2 k a file",
        "container-file: 32 a byte, 79 k a file",
    ]
    assert "4 programs" in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "sizes" in draw.drawn(known)


def test_the_report_has_the_prices_and_the_second_execution(tmp_path: Path) -> None:
    known = _campaign(tmp_path)
    text = "\n".join(by_size.section(known, {"sizes": "figures/sizes.png"}))
    assert "![cost by size](figures/sizes.png)" in text
    assert "| `container-file` | +32" in text
    assert "second execution" in text


def test_a_campaign_without_programs_has_no_such_part(tmp_path: Path) -> None:
    known = tables.read(load(build(tmp_path)))
    assert by_size.section(known, {}) == []
    assert "sizes" not in draw.drawn(known)


# ---- the workload ----

NAMES = (*workload.PROGRAMS, *workload.SCRIPTS)
LINES = [f"{name} {1000 + n} {900 + n} {500 + n}" for n, name in enumerate(NAMES)]


def test_each_program_has_three_values() -> None:
    output = workload.parse("\n".join(LINES) + "\n")
    assert output.operations == 2 * len(NAMES)
    found = {value.metric: (value.unit, value.value) for value in output.values}  # noqa: PD011 - not of pandas
    assert len(found) == 3 * len(NAMES)
    at = NAMES.index("perl")
    assert found["exec_bytes/perl"] == ("B", 1000 + at)
    assert found["exec_first/perl"][1] == pytest.approx((900 + at) / 1e6)
    assert found["exec_again/perl"][1] == pytest.approx((500 + at) / 1e6)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, "more 1 1 1"],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: ["[ 0 1 1", *lines[1:]],
        lambda lines: ["[ 1 0 1", *lines[1:]],
        lambda lines: ["[ 1 1 -1", *lines[1:]],
    ],
)
def test_a_line_that_is_not_right_fails(change: object) -> None:
    assert callable(change)
    with pytest.raises(WorkloadFailed, match=r"expected .*, got"):
        workload.parse("\n".join(change(LINES)))


def test_the_image_has_the_programs_that_the_workload_names() -> None:
    recipe = (Path(__file__).parents[2] / "images/containers/sizes.toml").read_text()
    kept = set(re.findall(r'"usr/bin/([^"]+)"', recipe)) - {"sh", "dash"} | {"dash"}
    assert {name.replace("[[]", "[") for name in kept} - {"dash"} == set(NAMES) - {"dash"}
    assert "dash" in NAMES
    assert len(set(NAMES)) == len(NAMES) == len(workload.WORKLOAD.argv) - 1

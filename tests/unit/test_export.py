"""``testbed export`` and its dictionary: every column of every table is documented, and nothing else is."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import fake_campaign
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fake_campaign import RUNGS, WORKLOADS, Shape

from testbed.analysis import export
from testbed.analysis.dictionary import page
from testbed.analysis.dictionary.recorded import LOG_ENTRY
from testbed.analysis.judged import checks
from testbed.analysis.tables import events, frames, stored, worst_check
from testbed.attest.decoded.decode import DecodedEntry
from testbed.cli import main
from testbed.plan import Cell
from testbed.record import Record, Sample, Status
from testbed.rundir import Campaign, load
from testbed.workloads import sizes

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"
TABLES = {table.name: table for table in page.TABLES}
SOME = {
    **{name: WORKLOADS[name] for name in ("archive", "exec-static", "mmap", "nginx", "start-cold", "start-warm")},
    **{f"files-{number}": Shape(files=number, lookups=2 * number, bytes=90_000 * number) for number in (10, 20, 40)},
}
# What Parquet and pandas call the types of the dictionary.
KINDS = {"text": "OSU", "integer": "iuf", "number": "fiu", "flag": "b", "list": "O"}


def _with_programs(cell: Cell, record: Record) -> Record:
    """Let one workload count programs, as `sizes` does."""
    if cell.workload != "archive":
        return record
    byte = 32e-9 if cell.measurer.startswith("container") else 0.0
    values = {
        f"{prefix}{name}": value
        for name, size in (("true", 3e4), ("ls", 1.6e5), ("perl", 4e6))
        for prefix, value in ((sizes.BYTES, size), (sizes.FIRST, 1e-3 + byte * size), (sizes.AGAIN, 9e-4))
    }
    counted = [
        Sample(metric=metric, unit="s", value=value, iteration=1, warmup=False) for metric, value in values.items()
    ]
    return replace(record, samples=(*record.samples, *counted))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    built = fake_campaign.build(
        tmp_path_factory.mktemp("results"), arms=RUNGS, workloads=SOME, blocks=3, builds=2, change=_with_programs
    )
    judged = pd.read_parquet(REFERENCE / worst_check.FILE).head(1)
    runs = [path.name for path in sorted((built.path / "runs").iterdir())]
    every = pd.concat([judged] * len(runs), ignore_index=True).assign(run=runs, verdict="ok")
    stored.write(every, built.path / worst_check.FILE, checks.SCHEMA)
    return built


@pytest.fixture(scope="module")
def made(campaign: Campaign) -> Mapping[str, pd.DataFrame]:
    return export.flat(load(campaign))


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_documented_and_no_other(made: Mapping[str, pd.DataFrame], name: str) -> None:
    assert tuple(made[name].columns) == TABLES[name].names
    assert len(made[name]), "a table without a row tests nothing"


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_its_type(made: Mapping[str, pd.DataFrame], name: str) -> None:
    for column in TABLES[name].columns:
        values = made[name][column.name].dropna()
        if values.empty or column.type == "list":
            continue
        kind = values.infer_objects().dtype.kind
        assert kind in KINDS[column.type], f"{name}.{column.name}: {column.type}, is {values.dtype}"
        if column.type == "integer":
            assert (values.astype("float64") % 1 == 0).all(), column.name


def test_the_dictionary_has_exactly_the_tables(made: Mapping[str, pd.DataFrame]) -> None:
    assert set(made) == set(TABLES)
    assert len(TABLES) == len(page.TABLES)


def test_stored_tables_are_documented_too() -> None:
    assert TABLES["rows"].names == frames.ROW_COLUMNS
    assert set(TABLES["events"].names) == set(events.COLUMNS)
    assert set(TABLES["checks"].names) == set(checks.SCHEMA.names)
    for name in ("rows", "events", "checks"):
        stored = set(pq.read_schema(REFERENCE / TABLES[name].file).names)
        # What a later version adds is not in a table that was stored before.
        added = set(events.LATER) if name == "events" else set()
        assert stored | added == set(TABLES[name].names)


def test_every_metric_and_status_is_explained() -> None:
    text = page.page()
    metrics = set(pd.read_parquet(REFERENCE / frames.FILE, columns=["metric"])["metric"].dropna())
    assert metrics
    assert [metric for metric in metrics if f"`{metric}`" not in text] == []
    assert [status for status in Status if f"`{status}`" not in text] == []


def test_a_line_of_the_log_is_documented() -> None:
    assert set(LOG_ENTRY.names) == {"schema", "runtime_id", *(field.name for field in fields(DecodedEntry))}


def test_each_column_says_something() -> None:
    for table in (*page.TABLES, LOG_ENTRY):
        assert len(set(table.names)) == len(table.names)
        for column in table.columns:
            assert column.type in KINDS, column
            assert len(column.meaning) > 7, column
            assert len(column.meaning.split()) < 25, column


def test_the_page_is_made_from_the_dictionary() -> None:
    done = CliRunner().invoke(main, ["export", "--dictionary"])
    assert done.exit_code == 0
    assert done.stdout == page.page() == (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_csv_and_parquet_have_the_same_content(campaign: Campaign, tmp_path: Path) -> None:
    words = ["export", str(campaign.path), "--csv", str(tmp_path / "c"), "--parquet", str(tmp_path / "p")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 2 * (len(TABLES) + 1)
    for name, table in TABLES.items():
        text, packed = pd.read_csv(tmp_path / "c" / f"{name}.csv"), pd.read_parquet(tmp_path / "p" / f"{name}.parquet")
        assert tuple(text.columns) == tuple(packed.columns) == table.names
        assert len(text) == len(packed)
    findings = pd.read_csv(tmp_path / "c" / "checks.csv")["attested"][0]
    assert set(json.loads(findings)[0]) == {"pcr", "entries"}
    with (tmp_path / "c" / export.DICTIONARY).open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["table"] for row in listed} == set(TABLES)
    assert all(row["meaning"] and row["type"] for row in listed)


def test_a_campaign_that_was_not_judged_says_so(tmp_path: Path) -> None:
    small = fake_campaign.build(tmp_path / "results", blocks=2)
    done = CliRunner().invoke(main, ["export", str(small.path), "--csv", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert "nothing is judged yet" in done.stderr
    assert tuple(pd.read_csv(tmp_path / "c" / "checks.csv").columns) == TABLES["checks"].names
    assert tuple(pd.read_csv(tmp_path / "c" / "overall.csv").columns) == TABLES["overall"].names


@pytest.mark.parametrize("words", [[], ["."], ["--csv", "x"]])
def test_wrong_arguments(words: list[str]) -> None:
    done = CliRunner().invoke(main, ["export", *words])
    assert done.exit_code == 2
    assert "expected CAMPAIGN_DIR with --csv DIR" in done.stderr


def test_a_file_in_the_way(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["export", str(campaign.path), "--csv", str(tmp_path / "file")])
    assert done.exit_code == 2
    assert "expected a directory, or nothing yet, got a file" in done.stderr


def test_the_dictionary_needs_no_pandas() -> None:
    program = "import sys; sys.modules['pandas'] = None; from testbed.cli import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, "export", "--dictionary"]
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, check=False).returncode == 0

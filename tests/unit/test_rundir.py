"""The run directory: whole or absent, and what was written is what is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from testbed import rundir
from testbed.errors import EvidenceError, HostError
from testbed.plan import Block, Cell, Plan
from testbed.record import Evidence, MadeBy, Record, Sample, Started, Status, Tier

CELL = Cell(kernel="k", runtime="crun", measurer="none", workload="tools", attack="none", inputs="aa")
OTHER = dataclasses.replace(CELL, measurer="ima-exec")
BLOCK = Block(index=3, kernel="k", cells=(CELL, OTHER))
PLAN = Plan(campaign="c", tier=Tier.ICOUNT, seed=1, cells=(CELL, OTHER), blocks=(BLOCK,))
RECORD = Record(
    cell_id=CELL.id,
    block=3,
    position=1,
    previous=OTHER.id,
    status=Status.WORKLOAD_FAILED,
    reason="line 2: expected 'a', got 'b'",
    started_utc="2026-01-01T00:00:00Z",
    seconds=1.5,
    facts={"qemu": "9", "nested": {"a": [1]}},
    samples=(Sample(metric="cpu", unit="s", value=0.25, iteration=0, warmup=True),),
    containers=(Started(id="ab", image="tools", workload="tools", exit_status=0),),
    counters={"unmeasured": 2},
    evidence=Evidence(bundle="evidence", dmesg="dmesg.txt"),
)


@pytest.fixture
def campaign(tmp_path: Path) -> rundir.Campaign:
    return rundir.Campaign(path=tmp_path / "results/c")


def written(campaign: rundir.Campaign, cell: Cell = CELL) -> Path:
    with rundir.new_run(campaign, cell, BLOCK) as directory:
        rundir.write_record(directory, dataclasses.replace(RECORD, cell_id=cell.id))
    return campaign.run_path(cell, BLOCK) / "record.json"


def test_a_record_comes_back_as_it_was(campaign: rundir.Campaign) -> None:
    assert rundir.read_record(written(campaign)) == RECORD


def test_a_record_says_what_made_it_and_one_of_schema_1_does_not(campaign: rundir.Campaign) -> None:
    made_by = MadeBy(
        version="0.2.0", sources="ab", commit="cd", dirty=True, command=("testbed", "run"), settings={"a": "b"}
    )
    with rundir.new_run(campaign, CELL, BLOCK) as directory:
        rundir.write_record(directory, dataclasses.replace(RECORD, made_by=made_by))
    path = campaign.run_path(CELL, BLOCK) / "record.json"
    assert rundir.read_record(path).made_by == made_by
    raw = json.loads(path.read_text())
    assert (raw["schema"], raw.pop("made_by")["command"]) == (2, ["testbed", "run"])
    path.write_text(json.dumps(raw | {"schema": 1}))
    assert rundir.read_record(path) == dataclasses.replace(RECORD, schema=1)


def test_a_plan_comes_back_as_it_was(campaign: rundir.Campaign) -> None:
    rundir.write_plan(campaign, PLAN)
    assert rundir.read_plan(campaign) == PLAN


def test_a_run_is_complete_when_its_record_is_in_place(campaign: rundir.Campaign) -> None:
    assert campaign.record_of(CELL, BLOCK) is None
    written(campaign)
    assert campaign.record_of(CELL, BLOCK) == RECORD
    assert campaign.record_of(OTHER, BLOCK) is None
    assert campaign.record_of(CELL, dataclasses.replace(BLOCK, index=4)) is None


def test_a_run_that_is_interrupted_leaves_nothing(campaign: rundir.Campaign) -> None:
    with suppress(KeyboardInterrupt), rundir.new_run(campaign, CELL, BLOCK) as directory:
        rundir.write_record(directory, RECORD)
        raise KeyboardInterrupt
    assert list((campaign.path / "runs").iterdir()) == []
    assert list(rundir.records(campaign)) == []


def test_a_run_in_work_is_not_among_the_records(campaign: rundir.Campaign) -> None:
    with rundir.new_run(campaign, CELL, BLOCK) as directory:
        rundir.write_record(directory, RECORD)
        assert list(rundir.records(campaign)) == []
    assert [record for _, record in rundir.records(campaign)] == [RECORD]


def test_a_sweep_takes_leavings_and_no_runs(campaign: rundir.Campaign) -> None:
    record = written(campaign)
    with rundir.new_run(campaign, OTHER, BLOCK) as directory:
        spare = directory.with_name(f"{directory.name}-killed")
        spare.mkdir()
        rundir.write_record(directory, RECORD)
    rundir.sweep(campaign)
    assert not spare.exists()
    assert record.exists()
    assert campaign.record_of(OTHER, BLOCK) == RECORD


def test_others_can_read_a_run(campaign: rundir.Campaign) -> None:
    assert written(campaign).parent.stat().st_mode & 0o777 == 0o755


def test_records_are_given_by_name(campaign: rundir.Campaign) -> None:
    written(campaign), written(campaign, OTHER)
    names = [path.name for path, _ in rundir.records(campaign)]
    assert names == sorted(f"{cell.id}-3" for cell in (CELL, OTHER))


def test_a_value_that_json_lacks_leaves_no_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a/b.json"
    rundir.write_json(path, {"old": 1})
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    with pytest.raises(ValueError, match="Circular"):
        rundir.write_json(path, cycle)
    assert json.loads(path.read_text()) == {"old": 1}


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return edit


DAMAGE: dict[str, Callable[[Path], object]] = {
    "absent": Path.unlink,
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:-20]),
    "not text": lambda path: path.write_bytes(b'{"schema": "\xff"}'),
    "a list": lambda path: path.write_text("[]"),
    "another schema": _edit(lambda value: value.update(schema=value["schema"] + 1)),
    "a key too few": _edit(lambda value: value.pop("samples" if "samples" in value else "cells")),
    "an unknown status or tier": _edit(lambda value: value.update(status="fine", tier="fast")),
    "a list that is none": _edit(lambda value: value.update(samples=7, cells=7)),
    "a part of another shape": _edit(lambda value: value.update(samples=[{"metric": "x"}], cells=[{"kernel": "x"}])),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_record_is_refused_by_name(campaign: rundir.Campaign, how: str) -> None:
    path = written(campaign)
    DAMAGE[how](path)
    with pytest.raises(EvidenceError) as caught:
        rundir.read_record(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_plan_is_refused_by_name(campaign: rundir.Campaign, how: str) -> None:
    rundir.write_plan(campaign, PLAN)
    DAMAGE[how](campaign.plan_file)
    with pytest.raises(EvidenceError) as caught:
        rundir.read_plan(campaign)
    assert str(campaign.plan_file) in caught.value.message


def test_a_record_with_an_unknown_key_is_refused(campaign: rundir.Campaign) -> None:
    path = written(campaign)
    _edit(lambda value: value.update(surprise=1))(path)
    with pytest.raises(EvidenceError, match="surprise"):
        rundir.read_record(path)


def test_the_facts_are_read_as_they_are(campaign: rundir.Campaign) -> None:
    rundir.write_json(campaign.facts_file, {"schema": 1, "host": {"cpus": 2}})
    assert rundir.read_facts(campaign)["host"] == {"cpus": 2}
    campaign.facts_file.write_text("3")
    with pytest.raises(EvidenceError, match="expected an object"):
        rundir.read_facts(campaign)


def test_a_campaign_is_run_by_one_at_a_time(tmp_path: Path) -> None:
    campaign = rundir.Campaign(path=tmp_path / "c")
    with (
        rundir.alone(campaign),
        pytest.raises(HostError, match="another process runs this campaign"),
        rundir.alone(campaign),
    ):
        pass
    with rundir.alone(campaign):
        assert campaign.path.is_dir()


def test_an_event_is_on_disk_at_once(tmp_path: Path) -> None:
    events = rundir.Events(tmp_path / "events.jsonl")
    events.add("booted", seconds=3.5)
    events.add("ended", status=Status.OK, where=Path("x"))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line.pop("utc")[:2] for line in lines] == ["20", "20"]
    assert lines == [{"event": "booted", "seconds": 3.5}, {"event": "ended", "status": "ok", "where": "x"}]


def test_what_is_retired_is_kept_under_the_next_number(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert rundir.retire(path) == 0
    for attempt in (1, 2):
        path.mkdir()
        (path / "which").write_text(str(attempt))
        assert rundir.retire(path) == attempt
        assert not path.exists()
    assert rundir.retire(path) == 2
    assert {p.name: (p / "which").read_text() for p in tmp_path.iterdir()} == {"run~1": "1", "run~2": "2"}


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "x"},
        {"started_utc": 5},
        {"facts": [1]},
        {"counters": [1]},
        {"counters": {"files": "many"}},
        {"evidence": {"bundle": "/etc"}},
        {"evidence": {"bundle": "../other/evidence"}},
        {"evidence": {"ak": "a" * 5000}},
        {"evidence": {"dmesg": 5}},
        {"containers": [{"id": 5, "image": "a", "workload": "a", "exit_status": 0}]},
        {"samples": [{"metric": "cpu", "unit": "s", "value": "x", "iteration": 0}]},
        {"reason": "\ud800"},
    ],
    ids=str,
)
def test_a_record_of_somebody_else_with_wrong_types_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    rundir.write_record(tmp_path, RECORD)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EvidenceError, match="not of the expected shape"):
        rundir.read_record(path)


@pytest.mark.parametrize("index", ["0/../../x", None, [1], True])
def test_a_plan_whose_blocks_are_not_numbered_is_named(tmp_path: Path, index: object) -> None:
    campaign = rundir.Campaign(path=tmp_path)
    rundir.write_plan(campaign, PLAN)
    raw = json.loads(campaign.plan_file.read_text())
    raw["blocks"][0]["index"] = index
    campaign.plan_file.write_text(json.dumps(raw))
    with pytest.raises(EvidenceError, match="a block's index is no number"):
        rundir.read_plan(campaign)

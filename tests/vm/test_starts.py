"""A restored machine and a fresh boot: the same numbers and the same verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import pytest

from testbed import rundir
from testbed.analysis.judged import checks, judging
from testbed.lab import campaign
from testbed.lab.block import Parts
from testbed.plan import Cell
from testbed.record import Record
from testbed.rundir import Campaign, load
from testbed.spec import Experiment

# One boot differs from the next by 0.2 % (docs/statistics.md): medians of four boots and of two agree within this.
MARGIN = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One campaign and its records, with the cell that each is of."""

    campaign: Campaign
    runs: tuple[tuple[Cell, Record], ...]

    def cpu(self) -> list[float]:
        found = (one for _, record in self.runs for one in record.samples)
        return [one.value for one in found if one.metric == "cpu" and not one.warmup]


def conduct(start: Literal["restore", "boot"], results: Path) -> Ended:
    wish = Experiment(
        name=start,
        question="do they start alike?",
        tier="icount",
        measurers=("none", "container-file"),
        workloads=("start-warm",),
        blocks=2,
        start=start,
    )
    done = campaign.conduct(wish, results=results, tier=None, connect=None, machines=2)
    cells = {cell.id: cell for cell in rundir.read_plan(done).cells}
    found = tuple((cells[record.cell_id], record) for _, record in rundir.records(done))
    return Ended(campaign=done, runs=found)


@pytest.fixture(scope="module")
def ended(parts: dict[str, Parts], lab: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    assert parts["debian-6.12"], "built before the clock runs"
    home = tmp_path_factory.mktemp("starts")
    return {start: conduct(start, home / start) for start in ("restore", "boot")}


def of(ended: Ended, measurer: str) -> Ended:
    return Ended(campaign=ended.campaign, runs=tuple(run for run in ended.runs if run[0].measurer == measurer))


@pytest.mark.parametrize("measurer", ["none", "container-file"])
def test_both_give_the_same_numbers(ended: dict[str, Ended], measurer: str) -> None:
    booted, restored = (of(ended[start], measurer).cpu() for start in ("boot", "restore"))
    assert len(booted) == len(restored) == 2
    assert median(booted) == pytest.approx(median(restored), rel=MARGIN)


@pytest.mark.parametrize("start", ["restore", "boot"])
def test_the_oracle_sees_both(ended: dict[str, Ended], start: str) -> None:
    done = ended[start].campaign
    table = checks.checks(load(done), judging.judge_of(done))
    assert len(table) == 4
    assert set(table["verdict"]) == {"ok"}
    assert (table.loc[table["measurer"] == "container-file", "promised"] > 0).all()


def test_each_run_says_how_its_machine_began(ended: dict[str, Ended]) -> None:
    for start, one in ended.items():
        assert {record.facts["start"] for _, record in one.runs} == {start}
    boots = {start: len({r.facts["boot_id"] for _, r in one.runs}) for start, one in ended.items()}
    assert boots == {"restore": 2, "boot": 4}, "a boot a block, or a run"

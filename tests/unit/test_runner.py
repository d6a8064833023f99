"""The order of things, with machines that are not there: resume, lost machines, what ends a campaign, what stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed import plan, spec
from testbed.errors import DeadlineExceeded, DeployError, LostMachine
from testbed.lab import block, cell, runner
from testbed.lab.block import Ready
from testbed.lab.cell import RunRequest
from testbed.lab.machines.domain import MachineSpec
from testbed.record import MadeBy, Record, Status, Tier
from testbed.rundir import Campaign, records

WISH = spec.Experiment(
    name="x", question="?", measurers=("none", "none2", "container-file"), workloads=("tools",), blocks=2
)


class Silent:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, text: str) -> None:
        self.said.append(text)


@dataclass
class FakeSaved:
    """A saved machine: there while its directory is."""

    directory: Path

    @classmethod
    def load(cls, directory: Path) -> FakeSaved | None:
        return cls(directory) if directory.is_dir() else None

    def remove(self) -> None:
        self.directory.rmdir()


@dataclass
class Floor:
    """A campaign whose boots and runs are functions of the test."""

    job: runner.RunningCampaign
    lab: Any = field(default_factory=lambda: SimpleNamespace(destroy_all=lambda: None))
    boots: list[int] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    fate: Callable[[RunRequest], Record | None] = lambda _: None
    boot: Callable[[int], None] = lambda _: None

    def go(self) -> Silent:
        reporter = Silent()
        runner.run(self.lab, self.job, reporter, 1)
        return reporter

    def found(self) -> dict[str, Status]:
        return {path.name: record.status for path, record in records(self.job.campaign)}


@pytest.fixture
def floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Floor:
    decided = plan.resolve(WISH, tier=Tier.TCG, kernels={"debian-6.12": "k"}, inputs={})
    parts: Any = {"debian-6.12": SimpleNamespace(images=(), products={}, of=lambda build: f"parts of build {build}")}
    campaign = Campaign(path=tmp_path / "campaign")
    made = Floor(
        job=runner.RunningCampaign(
            experiment=WISH, plan=decided, campaign=campaign, parts=parts, saves=tmp_path / "saves", facts={}
        )
    )

    def prepare(_lab: object, _parts: object, block: plan.Block, where: Path, at: Campaign) -> FakeSaved:
        made.boots.append(block.index)
        made.boot(block.index)
        at.block_path(block).mkdir(parents=True, exist_ok=True)
        (at.block_path(block) / "facts.json").write_text("{}")
        (at.block_path(block) / "ak.pub").write_bytes(b"ak")
        where.mkdir(parents=True)
        return FakeSaved(where)

    def run_cell(_start: object, request: RunRequest, _directory: Path) -> Record:
        made.runs.append(f"{request.cell.measurer}-{request.block}")
        return made.fate(request) or ended(request, Status.OK)

    monkeypatch.setattr(runner, "prepare", prepare)
    monkeypatch.setattr(runner, "run_cell", run_cell)
    monkeypatch.setattr(runner, "Saved", FakeSaved)
    return made


def ended(request: RunRequest, status: Status) -> Record:
    return Record(
        cell_id=request.cell.id,
        block=request.block,
        position=request.position,
        previous=request.previous,
        status=status,
        attempt=request.attempt,
        started_utc="",
        seconds=0.0,
    )


def test_every_cell_of_every_block_once_and_no_save_is_left(floor: Floor) -> None:
    floor.go()
    assert floor.boots == [0, 1]
    assert sorted(floor.runs) == sorted(f"{m}-{b}" for m in WISH.measurers for b in (0, 1))
    assert set(floor.found().values()) == {Status.OK}
    assert list(floor.job.saves.iterdir()) == []


def test_each_block_boots_its_build_of_the_disks_and_its_records_say_which(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = WISH.model_copy(update={"builds": 2})
    floor.job = replace(
        floor.job, experiment=wish, plan=plan.resolve(wish, tier=Tier.TCG, kernels={"debian-6.12": "k"}, inputs={})
    )
    booted: list[tuple[int, object]] = []
    stand_in: Any = vars(runner)["prepare"]

    def prepare(lab: Any, parts: Any, block: plan.Block, where: Path, at: Campaign) -> Any:
        booted.append((block.index, parts))
        return stand_in(lab, parts, block, where, at)

    said: list[tuple[int, int]] = []
    monkeypatch.setattr(runner, "prepare", prepare)
    floor.fate = lambda request: said.append((request.block, request.facts["build"]))
    floor.go()
    assert booted == [(0, "parts of build 0"), (1, "parts of build 1")]
    assert set(said) == {(0, 0), (1, 1)}


def test_parts_of_a_build_have_its_machine() -> None:
    first = MachineSpec(name="x", kernel=None, image=None, tier=Tier.TCG)  # type: ignore[arg-type]
    second = replace(first, store=Path("/other"))
    parts = block.Parts(machine=first, bundle=None, images=(), rebuilt=(second,))  # type: ignore[arg-type]
    assert [parts.of(build).machine for build in (0, 1)] == [first, second] == list(parts.machines)


def test_a_record_says_which_code_made_it_and_what_its_machine_was_set_to(floor: Floor) -> None:
    machine = MachineSpec(name="x", kernel=None, image=None, tier=Tier.ICOUNT, memory_mib=800)  # type: ignore[arg-type]
    made_by = MadeBy(version="1", sources="ab", command=("testbed", "run"))
    parts: Any = {"debian-6.12": block.Parts(machine=machine, bundle=None, images=())}  # type: ignore[arg-type]
    floor.job = replace(floor.job, parts=parts, made_by=made_by)
    asked: list[RunRequest] = []
    floor.fate = asked.append
    floor.go()
    (said,) = {request.made_by.sources for request in asked if request.made_by}
    assert said == "ab"
    set_to = {name: value for request in asked for name, value in request.made_by.settings.items()}  # type: ignore[union-attr]
    assert set_to == {setting.name: setting.value for setting in block.settings(machine)}
    assert set_to["memory used and given back"] == "100 MiB"


def test_what_is_set_in_a_guest_is_what_is_recorded() -> None:
    def made(tier: Tier) -> list[str]:
        machine = MachineSpec(name="x", kernel=None, image=None, tier=tier)  # type: ignore[arg-type]
        return [" ".join(setting.argv) for setting in block.settings(machine)]

    assert made(Tier.TCG) == ["udevadm settle", "sync"]
    loaded, *others = made(Tier.KVM)
    assert others == made(Tier.TCG)
    steps = ("insmod /opt/testbed/testbed_measurer.ko", "attach --mode hooks", "detach", "rmmod testbed_measurer")
    assert sorted(steps, key=loaded.index) == list(steps)
    counted = made(Tier.ICOUNT)
    assert counted[-3:] == made(Tier.KVM)
    assert len(counted) == 8
    assert "echo 100000000 >/sys/kernel/debug/sched/$name" in counted[0]
    assert counted[1] == "sysctl -qw vm.percpu_pagelist_high_fraction=8"
    assert "echo 10000 >$file" in counted[2]
    assert counted[3] == "sysctl -qw net.core.high_order_alloc_disable=1"
    assert counted[4] == "python3 -c bytearray(128 << 20)"


def test_what_is_complete_is_not_run_again(floor: Floor) -> None:
    floor.go()
    floor.go()
    assert floor.boots == [0, 1]
    assert len(floor.runs) == 6


def test_a_lost_machine_is_a_record_and_the_next_cell_runs(floor: Floor) -> None:
    lost = floor.job.plan.blocks[0].cells[1]
    floor.fate = lambda e: ended(e, Status.MACHINE_LOST) if (e.cell, e.block) == (lost, 0) else None
    floor.go()
    assert sorted(floor.found().values()) == sorted([Status.MACHINE_LOST, *[Status.OK] * 5])
    assert [path.name for path in floor.job.saves.iterdir()] == ["debian-6.12-0"], "kept for the next try"


def test_a_lost_run_is_tried_again_from_the_same_save(floor: Floor) -> None:
    lost = floor.job.plan.blocks[0].cells[1]
    floor.fate = lambda e: ended(e, Status.TIMED_OUT) if (e.cell, e.block, e.attempt) == (lost, 0, 1) else None
    floor.go()
    said = floor.go().said
    assert any("resuming from its saved machine" in line for line in said)
    assert floor.boots == [0, 1]
    assert floor.found() == {
        **{f"{c.id}-{b}": Status.OK for c in floor.job.plan.cells for b in (0, 1)},
        f"{lost.id}-0~1": Status.TIMED_OUT,
    }
    assert list(floor.job.saves.iterdir()) == []


def test_a_block_whose_save_is_gone_is_run_whole_again(floor: Floor) -> None:
    first, second, third = floor.job.plan.blocks[0].cells
    floor.fate = lambda e: ended(e, Status.MACHINE_LOST) if (e.cell, e.block, e.attempt) == (third, 0, 1) else None
    floor.go()
    (floor.job.saves / "debian-6.12-0").rmdir()
    floor.go()
    assert floor.boots == [0, 1, 0]
    kept = {name for name in floor.found() if "~" in name}
    assert kept == {f"{c.id}-0~1" for c in (first, second, third)}


def test_a_failed_workload_is_an_answer(floor: Floor) -> None:
    floor.fate = lambda e: ended(e, Status.WORKLOAD_FAILED)
    floor.go()
    floor.go()
    assert len(floor.runs) == 6


def test_a_rejected_run_has_its_whole_group_run_again_and_stays_on_disk(floor: Floor) -> None:
    bad = floor.job.plan.blocks[1].cells[1]
    floor.fate = lambda e: ended(e, Status.REJECTED) if (e.cell, e.block, e.attempt) == (bad, 1, 1) else None
    floor.go()
    assert floor.boots == [0, 1]
    assert floor.runs[-3:] == [f"{c.measurer}-1" for c in floor.job.plan.blocks[1].cells]
    kept = {name: status for name, status in floor.found().items() if "~" in name}
    assert kept == {f"{c.id}-1~1": Status.REJECTED if c == bad else Status.OK for c in floor.job.plan.cells}
    assert {s for n, s in floor.found().items() if "~" not in n} == {Status.OK}
    assert list(floor.job.saves.iterdir()) == []


def test_a_group_that_is_always_rejected_is_given_up(floor: Floor) -> None:
    bad = floor.job.plan.blocks[0].cells[2]
    floor.fate = lambda e: ended(e, Status.REJECTED) if (e.cell, e.block) == (bad, 0) else None
    floor.go()
    floor.go()
    assert len(floor.runs) == 3 + WISH.limits.tries * 3
    assert floor.found()[f"{bad.id}-0"] is Status.REJECTED


def test_only_what_is_wanted_is_run_and_the_rest_later(floor: Floor) -> None:
    whole = floor.job
    floor.job = replace(whole, wanted=lambda cell: cell.measurer == "none")
    floor.go()
    assert floor.runs == ["none-0", "none-1"]
    floor.job = whole
    floor.go()
    assert sorted(floor.runs) == sorted(f"{m}-{b}" for m in WISH.measurers for b in (0, 1))


def test_each_run_boots_where_the_experiment_says_so(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.job = replace(floor.job, experiment=WISH.model_copy(update={"start": "boot"}))
    begun: list[str] = []

    @contextmanager
    def boot(_lab: object, _parts: object, cells: tuple[plan.Cell, ...], _directory: Path) -> Iterator[None]:
        begun.extend(cell.measurer for cell in cells)
        yield

    def run_cell(start: cell.Start, request: RunRequest, directory: Path) -> Record:
        with start(directory):
            return ended(request, Status.OK)

    monkeypatch.setattr(runner, "boot", boot)
    monkeypatch.setattr(runner, "run_cell", run_cell)
    floor.go()
    assert floor.boots == [], "nothing is saved"
    assert sorted(begun) == sorted(WISH.measurers * 2)


def test_a_block_that_does_not_boot_leaves_records(floor: Floor) -> None:
    def boot(index: int) -> None:
        if index == 0:
            raise DeadlineExceeded("no answer")

    floor.boot = boot
    floor.go()
    assert sorted(floor.found().values()) == sorted([Status.MACHINE_LOST] * 3 + [Status.OK] * 3)
    floor.boot = lambda _: None
    floor.go()
    assert sum(status is Status.OK for status in floor.found().values()) == 6


def test_what_no_run_would_survive_ends_the_campaign_and_keeps_what_was(floor: Floor) -> None:
    ends: list[str] = []
    floor.lab = SimpleNamespace(destroy_all=lambda: ends.append("all"))

    def fate(request: RunRequest) -> Record | None:
        if request.position == 1:
            raise DeployError("the kernel module was refused")
        return None

    floor.fate = fate
    with pytest.raises(DeployError, match="refused"):
        floor.go()
    assert ends == ["all"], "machines of other blocks are ended, too"
    first, second, _ = floor.job.plan.blocks[0].cells
    assert floor.found()[f"{first.id}-0"] is Status.OK
    assert f"{second.id}-0" not in floor.found()
    assert list((floor.job.campaign.path / "runs").glob(".part-*")) == []


def test_an_interrupt_is_no_fate_of_a_cell(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gone = threading.Event(), threading.Event()
    floor.lab = SimpleNamespace(destroy_all=gone.set)

    def fate(request: RunRequest) -> Record:
        begun.set()
        assert gone.wait(30)
        return ended(request, Status.MACHINE_LOST)

    def interrupt(*_: object) -> None:
        assert begun.wait(30)
        raise KeyboardInterrupt

    floor.fate = fate
    monkeypatch.setattr(runner, "_first_failure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        floor.go()
    assert floor.found() == {}
    assert (floor.job.saves / "debian-6.12-0").is_dir()


@pytest.mark.parametrize(
    ("error", "status"),
    [(LostMachine("QEMU ended"), Status.MACHINE_LOST), (DeadlineExceeded("no end"), Status.TIMED_OUT)],
)
def test_a_machine_that_dies_leaves_a_record(tmp_path: Path, error: Exception, status: Status) -> None:
    @contextmanager
    def start(_directory: Path) -> Iterator[Ready]:
        raise error
        yield

    chosen = plan.resolve(WISH, tier=Tier.TCG, kernels={"debian-6.12": "k"}, inputs={}).cells[0]
    request = RunRequest(
        cell=chosen,
        block=3,
        position=0,
        previous=None,
        attempt=1,
        warmups=0,
        iterations=1,
        tier=Tier.TCG,
        limits=spec.Limits(),
        images={},
        bpf_stats=False,
        facts={"tier": "tcg"},
        made_by=MadeBy(version="1", sources="ab"),
    )
    record = cell.run_cell(start, request, tmp_path)
    assert (record.status, record.reason, record.block) == (status, str(error), 3)
    assert record.made_by == cell.lost(request, "no machine").made_by == MadeBy(version="1", sources="ab")
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 1


def test_a_guest_that_refuses_a_measurer_ends_all_unless_somebody_wants_to_know(floor: Floor) -> None:
    bad = floor.job.plan.blocks[0].cells[0].measurer

    def fate(request: RunRequest) -> None:
        if request.cell.measurer == bad:
            raise DeployError("refused")

    floor.fate = fate
    with pytest.raises(DeployError):
        floor.go()
    told: list[str] = []
    floor.job = replace(floor.job, refused=lambda cell, _: told.append(cell.measurer))
    floor.go()
    assert told == [bad, bad], "in each block"
    assert len(floor.found()) == 4, "the others ran"

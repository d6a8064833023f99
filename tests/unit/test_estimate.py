"""What a plan is expected to take, and the command that says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed import cli, estimate, plan, rundir
from testbed.errors import SpecError
from testbed.lab import campaign, probe
from testbed.record import Record, Status, Tier
from testbed.spec import Experiment

WISH = Experiment(name="x", question="?", measurers=("none", "none2"), workloads=("tools",), blocks=4)
EMPTY = estimate.History(runs={}, boots={})


def decided(wish: Experiment = WISH) -> plan.Plan:
    return plan.resolve(wish, tier=Tier.ICOUNT, kernels={"debian-6.12": "k"}, inputs={})


def todo() -> list[tuple[plan.Cell, ...]]:
    return [block.cells for block in decided().blocks]


def test_two_machines_share_the_blocks() -> None:
    known = estimate.History(
        runs={("icount", "tools", "none"): 10, ("icount", "tools", "none2"): 20}, boots={"icount": 30}
    )
    one, two, many = (estimate.estimate(Tier.ICOUNT, todo(), known, n) for n in (1, 2, 9))
    assert (one.runs, one.boots, one.seen) == (8, 4, 8)
    assert one.minutes == pytest.approx(4)
    assert two.minutes == pytest.approx(2)
    assert many.minutes == pytest.approx(1)
    assert many.size > one.size, "each machine has a save of its own"


def test_what_was_never_seen_is_guessed_from_what_is_alike() -> None:
    known = estimate.History(runs={("icount", "tools", "none"): 100.0, ("kvm", "tools", "none2"): 1.0}, boots={})
    assert known.seconds(Tier.ICOUNT, "tools", "none") == (100.0, True)
    assert known.seconds(Tier.ICOUNT, "tools", "none2") == (100.0, False)
    seconds, seen = EMPTY.seconds(Tier.ICOUNT, "tools", "none")
    assert seconds > 0
    assert not seen
    assert estimate.estimate(Tier.ICOUNT, todo(), known, 1).seen == 4


def test_earlier_runs_are_read(tmp_path: Path) -> None:
    made = decided()
    at = rundir.Campaign(path=tmp_path / "c")
    rundir.write_plan(at, made)
    for block in made.blocks:
        for n, cell in enumerate(block.cells):
            record = Record(
                cell_id=cell.id,
                block=block.index,
                position=n,
                previous=None,
                status=Status.OK,
                started_utc="",
                seconds=5.0 + block.index,
                facts={"tier": "icount", "boot_seconds": 40.0},
            )
            rundir.write_record(at.run_path(cell, block), record)
    lost = at.run_path(made.cells[0], replace(made.blocks[0], index=9))
    rundir.write_record(lost, replace(record, status=Status.MACHINE_LOST, seconds=1e6))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{")
    known = estimate.history(tmp_path)
    assert known.runs == {("icount", "tools", "none"): 6.5, ("icount", "tools", "none2"): 6.5}
    assert known.boots == {"icount": 40.0}


def test_a_selection_names_axes() -> None:
    cells = decided().cells
    assert [c.measurer for c in cells if plan.selection(["measurer=none2"])(c)] == ["none2"]
    assert all(plan.selection(["measurer=none,none2", "workload=tools"])(c) for c in cells)
    assert not any(plan.selection(["measurer=none", "workload=other"])(c) for c in cells)
    assert all(plan.selection([])(c) for c in cells)


@pytest.mark.parametrize("wish", ["colour=red", "workload", "workload=", "=x"])
def test_a_selection_of_nothing_is_a_mistake(wish: str) -> None:
    with pytest.raises(SpecError, match="AXIS=NAME"):
        plan.selection([wish])


def test_too_long_is_refused_before_anything_begins() -> None:
    expected = estimate.estimate(Tier.ICOUNT, todo(), EMPTY, 1)
    campaign.check_time(expected, None)
    campaign.check_time(expected, expected.minutes)
    with pytest.raises(SpecError, match="but at most 1 min are allowed"):
        campaign.check_time(expected, 1.0)


def test_the_command_shows_cells_minutes_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "choose_tier", lambda *_: (Tier.ICOUNT, "as requested"))
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nquestion = "?"\nmeasurers = ["none", "none2"]\nworkloads = ["tools"]\nblocks = 2\n')
    said = CliRunner().invoke(cli.main, ["plan", str(path), "--results", str(tmp_path), "--order"])
    assert said.exit_code == 0, said.output
    assert "4 runs in 2 boots" in said.output
    assert said.output.count("tools crun none none2") == 2
    short = CliRunner().invoke(cli.main, ["plan", str(path), "--results", str(tmp_path), "--max-minutes", "0.1"])
    assert short.exit_code == 2
    assert "at most 0.1 min are allowed" in short.output


def test_a_control_needs_a_warm_up_and_a_pod_a_runtime() -> None:
    wish = WISH.model_copy(update={"measurers": ("none", "control"), "warmups": 0})
    with pytest.raises(SpecError, match="wastes a share"):
        plan.check_names(wish, ["debian-6.12"])
    plan.check_names(wish.model_copy(update={"warmups": 1}), ["debian-6.12"])


@pytest.mark.parametrize("workload", ["nginx", "pod"])
def test_loopback_and_pods_need_a_runtime_that_makes_pods(workload: str) -> None:
    wish = WISH.model_copy(update={"workloads": (workload,), "runtimes": ("podman",)})
    with pytest.raises(SpecError, match="is a pod, and runtime 'podman' does not start pods"):
        plan.check_names(wish, ["debian-6.12"])
    plan.check_names(wish.model_copy(update={"runtimes": ("crun",)}), ["debian-6.12"])

"""Two hosts: the count of each arm, what of the guest is equal, and the figure of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_campaign
import pytest
from click.testing import CliRunner, Result

from testbed import cli
from testbed.analysis import hosts
from testbed.analysis.figures.hosts import host_counts
from testbed.plan import Cell
from testbed.record import Record, Tier
from testbed.rundir import Campaign, load

ARMS = {"none": 0.0, "none2": 0.0, "ima-exec": 0.02, "container-file": 0.62}
WORKLOADS: dict[str, Any] = {"python-start": 0.3, "start-warm": 0.1, "nginx": 0.2}
KERNEL = {"measurer": "a" * 64, "kernel": "c" * 64, "image": "d" * 64, "command_line": "quiet", "cpu": "Haswell"}


def campaign(at: Path, *, cpu: str = "One", kernel: dict[str, str] = KERNEL, **more: Any) -> Path:
    wish: dict[str, Any] = {"arms": ARMS, "workloads": WORKLOADS, "drift": 0.0, "noise": 0.00001}
    path = fake_campaign.build(at, **wish | more).path
    facts = {
        "host": {"cpu": cpu},
        "kernels": {"debian-6.12": kernel},
        "images": {"python": "x"},
        "qemu_version": "7.2.0",
    }
    file = path / "campaign.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    return path


def counts(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["compare", "--counts", *map(str, words)])


def rows(said: Result) -> dict[tuple[str, str], list[str]]:
    table = [line for line in said.output.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_equal_guests_on_two_hosts_execute_equally_many_instructions(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b", cpu="Two", seed=2, blocks=2)
    said = counts(one, two)
    assert said.exit_code == 0, said.output
    assert f"- {one}: One, 6 boots" in said.output
    assert f"- {two}: Two, 2 boots" in said.output
    assert (
        "Equal in both: kernel, guest image, kernel command line, CPU model, measurer (debian-6.12); archives of the "
        "images python; QEMU 7.2.0." in said.output
    )
    assert len(rows(said)) == len(ARMS) * len(WORKLOADS)
    for kind in ("one process at a time", "starts of a container", "servers"):
        assert f"Largest difference, {kind}: counts 0.00" in said.output
    assert "Not compared" not in said.output
    assert "host.cpu: One | Two" in said.output


def dearer(cell: Cell, record: Record) -> Record:
    from dataclasses import replace

    if (cell.measurer, cell.workload) != ("ima-exec", "python-start"):
        return record
    return replace(record, samples=tuple(replace(one, value=1.004 * one.value) for one in record.samples))


def test_a_count_that_differs_is_marked(tmp_path: Path) -> None:
    said = counts(campaign(tmp_path / "a"), campaign(tmp_path / "b", change=dearer))
    assert said.exit_code == 1
    wrong = {key: row for key, row in rows(said).items() if row[-1]}
    assert set(wrong) == {("python-start", "ima-exec")}
    assert wrong["python-start", "ima-exec"][1].startswith("+0.40")
    assert "counts 0.40" in said.output
    assert "(ima-exec on python-start)" in said.output


def test_another_measurer_counts_another_program(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b", kernel=KERNEL | {"measurer": "b" * 64})
    said = counts(one, two)
    assert said.exit_code == 0, said.output
    assert "Not compared: `container-file`." in said.output
    assert "CPU model (debian-6.12)" in said.output
    assert {row[1] for (_, arm), row in rows(said).items() if arm == "container-file"} == {"other measurer"}
    assert all(row[1].endswith(" %") for (_, arm), row in rows(said).items() if arm != "container-file")


def test_the_figure_has_every_count_of_one_measurer(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b", cpu="Two", kernel=KERNEL | {"measurer": "b" * 64})
    said = counts(one, two, "--figure", tmp_path / "drawn")
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["hosts.pdf", "hosts.png"]
    figure = host_counts(hosts.compare([load(Campaign(path=path)) for path in (one, two)]))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == sorted(WORKLOADS)
    marks = [line.get_gid() for line in ax.lines if str(line.get_gid()).startswith("mark:")]
    assert len(marks) == 3 * len(WORKLOADS)
    (text,) = figure.texts
    assert "Two over One; 6 and 6 boots" in text.get_text().replace("\n", " ")
    assert "3 cells with different measurers are left out" in text.get_text().replace("\n", " ")


def test_two_kernels_are_told_apart(tmp_path: Path) -> None:
    kernels = ("debian-6.1", "debian-6.12")
    said = counts(*(campaign(tmp_path / name, kernels=kernels, workloads={"nginx": 0.2}) for name in "ab"))
    assert {name for name, _ in rows(said)} == {f"nginx, {kernel}" for kernel in kernels}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--counts", "A"], "--counts: expected two campaigns, got 1"),
        (["--counts", "A", "B", "C"], "--counts: expected two campaigns, got 3"),
        (["--counts", "A", "OTHER"], "expected cells that both campaigns have, got none"),
        (["--counts", "--across", "kernel", "A"], "--counts: cannot be used with --across"),
        (["--counts", "TIMED", "TIMED"], "expected campaigns of tier icount, got kvm"),
    ],
)
def test_what_cannot_be_compared_is_an_error(tmp_path: Path, words: list[str], said: str) -> None:
    made: dict[str, dict[str, Any]] = {
        "A": {},
        "B": {},
        "C": {},
        "OTHER": {"workloads": {"tools": 0.4}},
        "TIMED": {"tier": Tier.KVM},
    }
    named = [str(campaign(tmp_path / word, **made[word])) if word in made else word for word in dict.fromkeys(words)]
    named += named[-1:] * (len(words) - len(named))
    done = CliRunner().invoke(cli.main, ["compare", *named])
    assert done.exit_code == 2
    assert said in done.stderr


def test_no_figure_where_nothing_can_be_compared(tmp_path: Path) -> None:
    arms = {"container-file": 0.62}
    one = campaign(tmp_path / "a", arms=arms)
    two = campaign(tmp_path / "b", arms=arms, kernel=KERNEL | {"measurer": "b" * 64})
    done = counts(one, two, "--figure", tmp_path / "drawn")
    assert done.exit_code == 2
    assert "expected a count of one measurer in both campaigns" in done.stderr

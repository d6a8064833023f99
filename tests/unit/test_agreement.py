"""Comparing: what campaigns share, what is allowed, what else differs, and one axis within a campaign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_campaign
import pytest
from click.testing import CliRunner, Result

from testbed import cli
from testbed.analysis import agreement
from testbed.analysis.figures.against import against
from testbed.plan import Cell
from testbed.record import Record, Tier
from testbed.rundir import Campaign, load

ARMS = {"none": 0.0, "none2": 0.0, "container-file": 0.62}


def compare(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["compare", *map(str, words)])


def campaign(at: Path, *, cost: float = 0.62, noise: float = 0.0001, seed: int = 1, **more: Any) -> Path:
    wish: dict[str, Any] = {"arms": ARMS | {"container-file": cost}, "noise": noise, "seed": seed}
    return fake_campaign.build(at, **wish | more).path


def state(path: Path, **facts: object) -> Path:
    """Change facts in a campaign's ``campaign.json``."""
    file = path / "campaign.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    return path


def rows(said: Result) -> list[list[str]]:
    table = [line for line in said.output.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_two_runs_of_the_same_agree(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", seed=2))
    assert said.exit_code == 0, said.output
    assert "Largest difference, one process at a time: 0.0" in said.output
    assert "A/A: 2 of 2 intervals" in said.output
    assert "What differs" not in said.output
    assert "Left out" not in said.output


def test_what_differs_is_marked(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", cost=0.63))
    assert said.exit_code == 1
    assert "**!**" in said.output
    assert "0.615 %" in said.output or "0.61" in said.output


def test_a_wide_floor_is_told(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", noise=0.002))
    assert said.exit_code == 1
    assert "A/A: 1 of 2 intervals" in said.output
    assert "allowed ±0.1 %" in said.output


def test_one_campaign_is_no_comparison(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"))
    assert said.exit_code == 2
    assert "expected two or more campaigns, got 1" in said.output


def test_cells_that_both_have_are_compared_and_the_others_counted(tmp_path: Path) -> None:
    large = campaign(tmp_path / "a", arms=ARMS | {"ima-exec": 0.02}, workloads={"tools": 0.4, "hello": 0.1})
    said = compare(large, campaign(tmp_path / "b"))
    assert said.exit_code == 0, said.output
    assert [row[:2] for row in rows(said)] == [["`tools`", "`container-file`"]]
    assert "Left out: 3 overheads" in said.output
    assert "A/A: 2 of 2 intervals" in said.output


def test_campaigns_that_share_no_cell_are_refused(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", kernels=("debian-6.1",)))
    assert said.exit_code == 2
    assert "expected overheads that all campaigns have, got none" in said.stderr


@pytest.mark.parametrize("differs", ["tier", "qemu"])
def test_only_the_tier_and_qemu_are_refused(tmp_path: Path, differs: str) -> None:
    one = state(campaign(tmp_path / "a"), qemu_version="7.2.0")
    if differs == "tier":
        other, fact = state(campaign(tmp_path / "b", tier=Tier.KVM), qemu_version="7.2.0"), "tier"
    else:
        other, fact = state(campaign(tmp_path / "b"), qemu_version="8.2.0"), "qemu_version"
    said = compare(one, other)
    assert said.exit_code == 4
    assert f"{other}: {fact}: expected " in said.stderr


def test_another_setting_of_the_kernel_is_refused_and_one_that_does_not_say_is_tuned(tmp_path: Path) -> None:
    old, tuned, plain = (campaign(tmp_path / name) for name in "abc")
    state(tuned, experiment={"machine": {"command_line": "tuned"}})
    state(plain, experiment={"machine": {"command_line": "distribution"}})
    assert compare(old, tuned).exit_code == 0
    said = compare(old, plain)
    assert said.exit_code == 4
    assert "experiment.machine.command_line: expected 'tuned'" in said.stderr


def test_two_campaigns_are_drawn_against_each_other(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", seed=2), "--figure", tmp_path / "drawn")
    assert said.exit_code == 0, said.output
    assert said.output.startswith(f"{tmp_path / 'drawn' / 'against.pdf'}\n")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"against.pdf", "against.png"}
    alone = compare(campaign(tmp_path / "c"), "--figure", tmp_path / "alone")
    assert alone.exit_code == 2
    assert "--figure: expected two campaigns" in alone.stderr


def test_ratios_of_campaigns_that_must_not_be_pooled_are_drawn_and_still_refused(tmp_path: Path) -> None:
    one = state(campaign(tmp_path / "a"), qemu_version="7.2.0")
    other = state(campaign(tmp_path / "b"), qemu_version="8.2.0")
    said = compare(one, other, "--figure", tmp_path / "drawn")
    assert said.exit_code == 4
    assert (tmp_path / "drawn" / "against.png").is_file()
    timed = state(campaign(tmp_path / "c", tier=Tier.KVM), qemu_version="7.2.0")
    refused = compare(one, timed, "--figure", tmp_path / "tiers")
    assert refused.exit_code == 4
    assert not (tmp_path / "tiers").exists()
    loaded = [load(Campaign(path=path)) for path in (one, other)]
    figure = against(agreement.compare(loaded, found=()), note="qemu_version")
    (words,) = (text.get_text().replace("\n", " ") for text in figure.texts)
    assert "campaigns that must not be pooled (qemu_version)" in words
    assert "Shown: 1 overheads" in words


KERNEL = {"measurer": "a" * 64, "kernel": "c" * 64, "command_line": "quiet", "cpu": "Haswell"}


@pytest.mark.parametrize(
    ("fact", "before", "after", "label", "line"),
    [
        ("commit", "1234567", "89abcde", "commit", "commit: 1234567 | 89abcde"),
        ("command", ["testbed", "run"], ["testbed", "run", "x"], "command", "command: testbed, run | testbed, run, x"),
        ("made_by", {"commit": "1"}, {"commit": "2"}, "commit", "commit: 1 | 2"),
        ("made_by", {}, {"commit": "2"}, "commit", "commit: not stated | 2"),
        ("images", {"tools": "x"}, {"tools": "y"}, "image tools", "image tools: x | y"),
        *(
            ("kernels", {"debian-6.12": KERNEL}, {"debian-6.12": KERNEL | change}, label, f"{label} (debian-6.12): ")
            for label, change in (
                ("measurer", {"measurer": "b" * 64}),
                ("kernel", {"kernel": "b" * 64}),
                ("kernel command line", {"command_line": "debug"}),
                ("CPU model", {"cpu": "Skylake"}),
            )
        ),
    ],
)
def test_every_other_difference_is_named_beside_the_ratio(
    tmp_path: Path, *, fact: str, before: object, after: object, label: str, line: str
) -> None:
    workloads = {"tools": 0.4}
    one = state(campaign(tmp_path / "a", workloads=workloads), **{fact: before})
    said = compare(one, state(campaign(tmp_path / "b", workloads=workloads), **{fact: after}))
    assert said.exit_code == 0, said.output
    assert [row[-1] for row in rows(said)] == [label]
    assert f"- {line}" in said.output
    assert "b" * 64 not in said.output


def test_a_difference_stands_only_beside_the_cells_that_it_concerns(tmp_path: Path) -> None:
    workloads, kernels = {"start-warm": 0.4, "python-start": 0.3}, ("debian-6.1", "debian-6.12")
    facts: dict[str, Any] = {"images": {"python": "x"}, "kernels": dict.fromkeys(kernels, KERNEL)}
    other = {"images": {"python": "y"}, "kernels": facts["kernels"] | {"debian-6.1": KERNEL | {"measurer": "b" * 64}}}
    one = state(campaign(tmp_path / "a", workloads=workloads, kernels=kernels), **facts)
    said = compare(one, state(campaign(tmp_path / "b", workloads=workloads, kernels=kernels), **other))
    assert [(row[0], row[-1]) for row in rows(said)] == [
        ("`python-start` (debian-6.1)", "image python, measurer"),
        ("`start-warm` (debian-6.1)", "measurer"),
        ("`python-start` (debian-6.12)", "image python"),
        ("`start-warm` (debian-6.12)", ""),
    ]


def test_a_cell_of_other_inputs_is_said_to_be_one(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b")
    plan = two / "plan.json"
    plan.write_text(plan.read_text().replace("0" * 64, "1" * 64))
    ids = {old.id: replace(old, inputs="1" * 64).id for old in _cells(one)}
    for record in two.glob("runs/*/record.json"):
        raw = json.loads(record.read_text())
        record.write_text(json.dumps(raw | {"cell_id": ids[raw["cell_id"]]}))
    assert [row[-1] for row in rows(compare(one, two))] == ["another input of the cell"]


def _cells(path: Path) -> list[Cell]:
    return [Cell(**cell) for cell in json.loads((path / "plan.json").read_text())["cells"]]


def _dearer(axis: str, name: str, factor: float) -> fake_campaign.Change:
    def change(cell: Cell, record: Record) -> Record:
        if getattr(cell, axis) != name:
            return record
        return replace(record, samples=tuple(replace(one, value=factor * one.value) for one in record.samples))

    return change


@pytest.mark.parametrize(
    ("axis", "first", "other", "options"),
    [
        ("kernel", "debian-6.1", "debian-6.12", {"kernels": ("debian-6.1", "debian-6.12")}),
        ("runtime", "crun", "runc", {"runtimes": ("crun", "runc")}),
        ("workload", "tools", "hello", {"workloads": {"tools": 0.4, "hello": 0.4}}),
    ],
)
def test_across_an_axis_b_over_a(tmp_path: Path, axis: str, first: str, other: str, options: dict[str, Any]) -> None:
    path = campaign(tmp_path, change=_dearer(axis, other, 1.5), **options)
    said = compare("--across", axis, path)
    assert said.exit_code == 0, said.output
    assert [row[:3] for row in rows(said)] == [
        [f"`{arm}`", f"`{first}`", f"`{other}`"] for arm in ("none", "none2", "container-file")
    ]
    for row in rows(said):
        low, high = (float(end) for end in row[3].split("[")[1].rstrip("]").split(","))
        assert low <= 50 <= high or abs(low - 50) < 0.5
        assert row[4] == "6"
    assert ("rank sum" in said.output) == (axis == "kernel")


def test_across_measurers_is_each_over_the_first(tmp_path: Path) -> None:
    said = compare("--across", "measurer", campaign(tmp_path))
    assert [row[:2] for row in rows(said)] == [["`none`", "`none2`"], ["`none`", "`container-file`"]]
    assert rows(said)[1][2].startswith("+61.9")


def test_blocks_of_two_kernels_are_no_pairs(tmp_path: Path) -> None:
    """What two boots differ by is in the interval between kernels, and cancels between runtimes."""
    both: dict[str, Any] = {
        "kernels": ("debian-6.1", "debian-6.12"),
        "runtimes": ("crun", "runc"),
        "drift": 0.05,
        "noise": 1e-5,
    }
    path = campaign(tmp_path, **both)
    widths = {}
    for axis in ("kernel", "runtime"):
        ends = rows(compare("--across", axis, path))[0][-2].split("[")[1].rstrip("]").replace("\N{MINUS SIGN}", "-")
        low, high = (float(end) for end in ends.split(","))
        widths[axis] = high - low
    assert widths["kernel"] > 1
    assert widths["runtime"] < 0.1


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        (("kernel",), {}, "expected good runs with two or more values of kernel, got debian-6.12"),
        (("kernel",), {"tier": Tier.TCG}, "tier tcg measures nothing"),
        (("attack",), {}, "Invalid value for '--across'"),
    ],
)
def test_across_what_is_not_there_is_refused(
    tmp_path: Path, words: tuple[str], options: dict[str, Any], says: str
) -> None:
    said = compare("--across", *words, campaign(tmp_path, **options))
    assert said.exit_code == 2
    assert says in said.stderr


def test_across_is_within_one_campaign(tmp_path: Path) -> None:
    said = compare("--across", "runtime", campaign(tmp_path / "a"), campaign(tmp_path / "b"))
    assert said.exit_code == 2
    assert "expected one campaign, got 2" in said.stderr

"""Whether campaigns agree: what is allowed, what is said, and what must not be compared."""

from __future__ import annotations

import json
from pathlib import Path

import fake_campaign
from click.testing import CliRunner, Result

from testbed import cli

ARMS = {"none": 0.0, "none2": 0.0, "container-file": 0.62}


def compare(*paths: Path) -> Result:
    return CliRunner().invoke(cli.main, ["compare", *map(str, paths)])


def campaign(at: Path, *, cost: float = 0.62, noise: float = 0.0001, seed: int = 1) -> Path:
    return fake_campaign.build(at, arms=ARMS | {"container-file": cost}, noise=noise, seed=seed).path


def test_two_runs_of_the_same_agree(tmp_path: Path) -> None:
    said = compare(campaign(tmp_path / "a"), campaign(tmp_path / "b", seed=2))
    assert said.exit_code == 0, said.output
    assert "Largest difference, one process at a time: 0.0" in said.output
    assert "A/A: 2 of 2 intervals" in said.output


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
    assert "nothing to compare" in said.output


def test_other_images_are_other_numbers(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "a"), campaign(tmp_path / "b")
    facts = json.loads((two / "campaign.json").read_text())
    (two / "campaign.json").write_text(json.dumps(facts | {"images": {"tools": "sha256:00"}}))
    said = compare(one, two)
    assert said.exit_code == 4
    assert "images is" in said.output

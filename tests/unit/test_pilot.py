"""``testbed pilot``: how many blocks a small campaign, or a CSV file, asks for."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_campaign import build

from testbed import cli
from testbed.record import Tier

ARMS = {"none": 0.0, "none2": 0.0, "ima-exec": 0.02}


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["pilot", *map(str, words)])


def blocks(said: Result) -> int:
    assert said.exit_code == 0, said.output
    found = re.search(r"Blocks needed for every row: (\d+)\.", said.output)
    assert found, said.output
    return int(found[1])


def csv(path: Path, noise: float, *, iterations: int = 1, cooling: float = 0.0) -> Path:
    dice = random.Random(5)
    lines = ["block,measurer,value"]
    for block in range(8):
        for arm in ("plain", "again", "mine"):
            for number in range(iterations):
                value = math.exp(dice.gauss(0, noise) - cooling * number)
                lines.append(f"{block},{arm},{value}")
    path.write_text("\n".join(lines) + "\n")
    return path


NAMES = ("--baseline", "plain", "--duplicate", "again")


def test_a_campaign_is_asked_with_its_own_margin(tmp_path: Path) -> None:
    said = ask(build(tmp_path, arms=ARMS, noise=0.002).path)
    assert blocks(said) >= 6
    assert "| `tools` (debian-6.12, crun) | `ima-exec` | 6 |" in said.output
    assert "δ = ±0.5 %" in said.output
    assert "needs two timed iterations" in said.output


def test_more_noise_and_smaller_effects_need_more_blocks(tmp_path: Path) -> None:
    quiet, noisy = (
        build(tmp_path / "a", arms=ARMS, noise=0.001).path,
        build(tmp_path / "b", arms=ARMS, noise=0.004).path,
    )
    assert blocks(ask(quiet)) < blocks(ask(noisy)) < blocks(ask(noisy, "--effect", 0.002))
    assert blocks(ask(noisy, "--delta", 0.01)) < blocks(ask(noisy))


def test_few_blocks_are_said_to_be_few(tmp_path: Path) -> None:
    assert "spreads are of 3 blocks" in ask(build(tmp_path / "a", arms=ARMS, blocks=3).path).output
    said = ask(build(tmp_path / "b", arms=ARMS, blocks=1).path)
    assert "unknown" in said.output
    assert "Blocks needed" not in said.output


def test_a_csv_file_is_asked_alike(tmp_path: Path) -> None:
    said = ask(csv(tmp_path / "mine.csv", 0.01), *NAMES)
    assert blocks(said) >= 6
    assert "| `mine` | `mine` | 8 |" in said.output
    assert "δ = ±2 %" in said.output


def test_arms_that_are_not_warm_are_named(tmp_path: Path) -> None:
    warm = ask(csv(tmp_path / "warm.csv", 0.01, iterations=5), *NAMES)
    assert "they are warm" in warm.output
    cold = ask(csv(tmp_path / "cold.csv", 0.01, iterations=5, cooling=0.02), *NAMES)
    assert "raise `warmups`" in cold.output
    assert "- mine on cold: tau -" in cold.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("block,value\n1,2\n", "no measurer"),
        ("block,measurer,value\n1,none,2\n1,mine,x\n", "line 3: value: expected a number above 0"),
        ("block,measurer,value\n1,none,2\n1,mine,-1\n", "line 3: value: expected a number above 0"),
        ("block,measurer,value\n1,a,2\n1,b,3\n", "expected blocks with none and another measurer"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_pilot_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    said = ask(tmp_path / "bad.csv")
    assert said.exit_code == 2
    assert says in said.stderr


def test_a_tier_that_measures_nothing_is_no_pilot(tmp_path: Path) -> None:
    said = ask(build(tmp_path, arms=ARMS, tier=Tier.TCG).path)
    assert said.exit_code == 2
    assert "tcg measures nothing" in said.stderr

"""The self-test's own judgement: it passes where nothing and the control are found, and on nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import fake_campaign
import pytest

from testbed.analysis import selftest
from testbed.errors import SpecError
from testbed.rundir import load

GOOD = {"none": 0.0, "none2": 0.0, "none3": 0.0, "control": 0.01}


def test_nothing_is_nothing_and_the_control_is_found(tmp_path: Path) -> None:
    outcome = selftest.judge(load(fake_campaign.build(tmp_path, arms=GOOD)))
    assert outcome.ok
    assert len(outcome.lines) == 2
    assert all(line.startswith("self-test ok: ") for line in outcome.lines)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"none3": 0.01}, "none3 on tools: .*expected NO DETECTABLE OVERHEAD"),
        ({"none3": 0.001}, "none3 on tools: .*expected NO DETECTABLE OVERHEAD"),
        ({"control": 0.0}, "control on tools: .*expected OVERHEAD"),
        ({"control": 0.02}, "expected 1 % within 15 %"),
        ({"control": 0.008}, "expected 1 % within 15 %"),
    ],
)
def test_anything_else_fails(tmp_path: Path, change: dict[str, float], says: str) -> None:
    outcome = selftest.judge(load(fake_campaign.build(tmp_path, arms=GOOD | change, noise=0.00002)))
    assert not outcome.ok
    (bad,) = [line for line in outcome.lines if line.startswith("self-test FAILED")]
    assert re.search(says, bad)


def test_a_campaign_without_both_is_no_self_test(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="none3"):
        selftest.judge(load(fake_campaign.build(tmp_path)))

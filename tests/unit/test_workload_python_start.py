"""What starts of Python print, captured from a run of the image; the program's results are computed by this Python."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, python_start

ROOT = Path(__file__).parents[2]
OUTPUT = (ROOT / "tests/golden/workloads/python_start.txt").read_text()


def test_each_start_counts() -> None:
    assert python_start.parse(OUTPUT).operations == 2


def test_the_program_prints_what_is_expected() -> None:
    program = ROOT / "images/containers/python/srv/start.py"
    done = subprocess.run([sys.executable, "-I", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == python_start.EXPECTED


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("ada", "bob"),
        ('"verifies": true', '"verifies": false'),
        ("2656779670", "0"),
        (OUTPUT.splitlines()[0] + "\n", ""),
    ],
)
def test_a_start_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in OUTPUT
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        python_start.parse(OUTPUT.replace(was, said, 1))

"""What the shell script prints, captured from a run of the image; its sums are computed again."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, shell_script

ROOT = Path(__file__).parents[2]
OUTPUT = (ROOT / "tests/golden/workloads/shell_script.txt").read_text()


def generator() -> Callable[[int], int]:
    seed = 1

    def random(below: int) -> int:
        nonlocal seed
        seed = (seed * 1103515245 + 12345) % 2**31
        return seed // 65536 % below

    return random


def log() -> Iterator[tuple[str, str, int, int]]:
    random = generator()
    for _ in range(400):
        yield f"user{random(7)}", {0: "404", 1: "500"}.get(random(10), "200"), random(5), random(9000) + 100


def test_the_sums_are_those_of_the_log() -> None:
    lines = list(log())
    states = Counter(status for _, status, _, _ in lines)
    size = sum(size for *_, size in lines)
    assert f"lines 400 good {states['200']} bad {400 - states['200']} bytes {size}" in shell_script.EXPECTED
    for user, count in Counter(user for user, *_ in lines).items():
        assert f"{user} has {count}" in shell_script.EXPECTED
    for status in states:
        total = sum(size for _, said, _, size in lines if said == status)
        assert f"{status} {total}" in shell_script.EXPECTED
    assert f"{len(list(itertools.groupby(status for _, status, *_ in lines)))} runs" in shell_script.EXPECTED
    for page in range(5):
        first = next(n for n, (_, status, at, _) in enumerate(lines) if status == "500" and at == page)
        assert f"page {page} failed first at {first}" in shell_script.EXPECTED


def test_a_run_is_one_script() -> None:
    assert shell_script.parse(OUTPUT).operations == 1


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("bytes 1652684", "bytes 1652685"),
        ("\n141 runs", ""),
        ("user6 has 50", "user6 has 5"),
        ("kept\n", "kept\nlog\n"),
    ],
)
def test_a_run_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in OUTPUT
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        shell_script.parse(OUTPUT.replace(was, said, 1))


def test_the_script_is_started_by_its_first_line_and_has_no_pipe() -> None:
    script = ROOT / "images/containers/script" / shell_script.SCRIPT.lstrip("/")
    assert script.stat().st_mode & 0o111 == 0o111
    code = [line for line in script.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert script.read_text().startswith("#!/bin/sh\n")
    assert [line for line in code if " | " in line or "$(" in line.replace("$((", "") or "<<" in line] == []

"""What is read from the program that makes system calls, and what the report says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.analysis.tables import metrics
from testbed.record import Tier
from testbed.workloads import WorkloadFailed, calls

GOLDEN = (Path(__file__).parents[1] / "golden/workloads/calls.txt").read_text()


def test_each_kind_has_a_metric_of_what_one_call_takes() -> None:
    values = {value.metric: value for value in calls.parse(GOLDEN).values}
    took = {line.split()[0]: int(line.split()[3]) for line in GOLDEN.splitlines()}
    assert set(values) == {calls.metric(kind) for kind in calls.TIMES} == set(metrics.SINGLE)
    for kind, times in calls.TIMES.items():
        value = values[calls.metric(kind)]
        assert value.unit == "s"
        assert value.value == pytest.approx(took[kind] / 1e6 / times)


@pytest.mark.parametrize("metric", metrics.SINGLE)
def test_a_single_call_is_not_shared_out_again(metric: str) -> None:
    for tier, unit in ((Tier.ICOUNT, "instructions"), (Tier.KVM, "s")):
        reading = metrics.reading(metric, tier)
        assert reading is not None
        assert (reading.unit, reading.each, reading.inverse) == (unit, False, False)
        assert metrics.SINGLE[metric] in reading.label


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("fork 500 took", "fork 499 took"),
        ("stat 15000", "status 15000"),
        ("us\nmmap", "ms\nmmap"),
        ("execve 250 took", "execve 250 took -"),
    ],
)
def test_a_line_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in GOLDEN
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        calls.parse(GOLDEN.replace(was, said))


def test_a_line_more_or_less_fails() -> None:
    for text in (GOLDEN + "fork 500 took 1 us\n", GOLDEN.rsplit("execve")[0], ""):
        with pytest.raises(WorkloadFailed, match="expected 6 lines, got"):
            calls.parse(text)


def test_no_time_at_all_fails() -> None:
    kind, times = next(iter(calls.TIMES.items()))
    line = GOLDEN.splitlines()[0]
    with pytest.raises(WorkloadFailed, match=r"took 0 us"):
        calls.parse(GOLDEN.replace(line, f"{kind} {times} took 0 us"))


def test_the_program_makes_as_many_calls_as_are_expected() -> None:
    source = (Path(__file__).parents[2] / "images/containers/calls/usr/src/calls.c").read_text()
    for kind, times in calls.TIMES.items():
        assert f'{{ "{kind}", {times}, ' in source

"""Starts of containers: one line from each, and nothing else."""

from __future__ import annotations

import pytest

from testbed import plugins
from testbed.workloads import Output, WorkloadFailed


@pytest.mark.parametrize("name", ["start-warm", "start-cold"])
def test_a_start_is_one_operation_and_prints_one_line(name: str) -> None:
    workload = plugins.workload(name)
    assert workload.parse("started\n") == Output(operations=1)
    for output in ("", "start\n", "started\nstarted\n", "warning\nstarted\n"):
        with pytest.raises(WorkloadFailed, match="expected"):
            workload.parse(output)


def test_a_cold_start_is_one_of_an_image_that_is_more_than_what_runs() -> None:
    cold, warm = plugins.workload("start-cold"), plugins.workload("start-warm")
    assert (cold.cold, cold.starts) == (True, 1)
    assert (warm.cold, warm.starts) == (False, 16)
    assert cold.image != warm.image

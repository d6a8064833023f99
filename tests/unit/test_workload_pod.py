"""What is read from the containers of a pod, captured from a run of the image."""

from pathlib import Path

import pytest

from testbed.workloads import Output, WorkloadFailed, pod

GOLDEN = Path(__file__).parents[1] / "golden/workloads"


def test_each_container_of_a_pod_says_its_line() -> None:
    for role, who in zip(pod.WORKLOAD.roles, ("server", "client", "sidecar"), strict=True):
        said = (GOLDEN / f"pod-{who}.txt").read_text()
        assert role.parse(said) == Output()
        for wrong in ("", said + "more\n", said.replace("200", "199"), said.replace(" on ab", " on z")):
            with pytest.raises(WorkloadFailed, match="expected"):
                role.parse(wrong)


def test_it_needs_loopback_and_a_wide_floor() -> None:
    assert pod.WORKLOAD.pod
    assert not pod.WORKLOAD.steady

"""What is read from what redis and its clients print, captured from a run of the image."""

from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, redis

GOLDEN = Path(__file__).parents[1] / "golden/workloads"
REDIS = (GOLDEN / "redis.txt").read_text()
RUNNING = int(REDIS.split("running took ")[1].split()[0])
CALLS = "cmdstat_get:calls=1500,"


def test_redis_tells_both_commands_and_the_worse_latency() -> None:
    output = redis.parse(REDIS)
    assert output.operations == 3000
    both = 2 / (1 / 45454.55 + 1 / 46875.00)
    expected = {
        ("cpu_running", "s"): RUNNING / 1e6,
        ("throughput", "1/s"): both,
        ("latency_p50", "s"): 55e-6,
        ("latency_p99", "s"): 167e-6,
    }
    assert {(value.metric, value.unit): value.value for value in output.values} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("was", "said"),
    [
        (CALLS, "cmdstat_get:calls=1499,"),
        (CALLS, "cmdstat_del:calls=1500,"),
        ("failed_calls=0", "failed_calls=1"),
        ('"GET",', '"DEL",'),
        ('"46875.00"', '"nan"'),
        (f"took {RUNNING} us", "took 0 us"),
        ("benchmark ended with 0", "benchmark ended with 1"),
        ("redis ended with 0\n", ""),
        ("redis ended with 0\n", "redis ended with 137\n"),
    ],
)
def test_a_report_of_redis_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in REDIS
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        redis.parse(REDIS.replace(was, said))


def test_it_needs_loopback_and_a_wide_floor() -> None:
    assert redis.WORKLOAD.pod
    assert not redis.WORKLOAD.steady

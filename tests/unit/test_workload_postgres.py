"""What is read from what PostgreSQL and pgbench print, captured from a run of the image."""

from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, postgres

GOLDEN = Path(__file__).parents[1] / "golden/workloads"
POSTGRES = (GOLDEN / "postgres.txt").read_text()
RUNNING = int(POSTGRES.split("running took ")[1].split()[0])


def test_pgbench_tells_throughput_and_its_log_latency() -> None:
    output = postgres.parse(POSTGRES)
    assert output.operations == 100
    times = sorted(int(line.split()[2]) for line in POSTGRES.splitlines() if line.startswith("0 "))
    expected = {
        ("cpu_running", "s"): RUNNING / 1e6,
        ("throughput", "1/s"): 171.564549,
        ("latency_p50", "s"): times[49] / 1e6,
        ("latency_p99", "s"): times[98] / 1e6,
    }
    assert {(value.metric, value.unit): value.value for value in output.values} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("processed: 100/100", "processed: 99/100"),
        ("transactions: 0 (0.000%)", "transactions: 1 (1.000%)"),
        (f"took {RUNNING} us", "took 0 us"),
        ("pgbench ended with 0", "pgbench: error: FATAL\npgbench ended with 2"),
        ("check ended with 0", "check ended with 2"),
        ("postgres ended with 0", "postgres ended with 1"),
        ("\n0 100 ", "\n1 100 "),
        ("\n0 1 ", "\n0 0 1 0 1 1\n0 1 "),
        ("tps = ", "tps = nan"),
    ],
)
def test_a_report_of_pgbench_that_is_not_right_fails(was: str, said: str) -> None:
    assert POSTGRES.count(was) == 1
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        postgres.parse(POSTGRES.replace(was, said))


def test_a_time_that_is_missing_fails() -> None:
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        postgres.parse(POSTGRES[: POSTGRES.rindex("0 100 ")])


def test_it_needs_no_network_and_a_wide_floor() -> None:
    assert not postgres.WORKLOAD.pod
    assert not postgres.WORKLOAD.steady

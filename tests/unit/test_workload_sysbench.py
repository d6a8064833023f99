"""What is read from sysbench's reports, captured from runs of the image."""

from pathlib import Path

import pytest

from testbed.workloads import Value, Workload, WorkloadFailed, sysbench_cpu, sysbench_io

GOLDEN = Path(__file__).parents[1] / "golden/workloads"
CPU = (GOLDEN / "sysbench_cpu.txt").read_text()
IO = (GOLDEN / "sysbench_io.txt").read_text()
PRIMES = sysbench_cpu.WORKLOAD
RUNNING = int(CPU.split()[-2])


def test_primes_are_counted_by_events() -> None:
    output = PRIMES.parse(CPU)
    assert output.operations == 100
    assert output.values == (
        Value(metric="cpu_running", unit="s", value=RUNNING / 1e6),
        Value(metric="throughput", unit="1/s", value=989.94),
    )


def test_requests_are_counted_and_their_rate_is_told() -> None:
    output = sysbench_io.parse(IO)
    assert output.operations == 4000
    (rate,) = output.values
    assert (rate.metric, rate.unit) == ("throughput", "1/s")
    assert rate.value == pytest.approx(1651.58 + 1100.82)


@pytest.mark.parametrize(
    ("workload", "text", "was", "said"),
    [
        (PRIMES, CPU, "number of events:              100", "number of events:              99"),
        (PRIMES, CPU, "100.0000/0.00", "99.0000/0.00"),
        (PRIMES, CPU, "limit: 10000", "limit: 20000"),
        (PRIMES, CPU, "seed (1)", "current time"),
        (PRIMES, CPU, "threads: 1", "threads: 2"),
        (PRIMES, CPU, "989.94", "0.00"),
        (PRIMES, CPU, f"took {RUNNING} us", "took 0 us"),
        (PRIMES, CPU, f"running took {RUNNING} us\n", ""),
        (sysbench_io.WORKLOAD, IO, "number of events:              4000", "number of events:              3999"),
        (sysbench_io.WORKLOAD, IO, "4194304 bytes", "2097152 bytes"),
        (sysbench_io.WORKLOAD, IO, "Removing test files...\n", ""),
        (sysbench_io.WORKLOAD, IO, "Threads started!", "FATAL: Failed to read file!\n\nThreads started!"),
        (sysbench_io.WORKLOAD, IO, "reads/s:      ", "reads/s:      1"),
        (sysbench_io.WORKLOAD, IO, "writes/s:      ", "writes/s:      9"),
    ],
)
def test_a_report_that_is_not_right_fails(workload: Workload, text: str, was: str, said: str) -> None:
    assert was in text
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        workload.parse(text.replace(was, said, 1))

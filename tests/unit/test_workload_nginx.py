"""What is read from what nginx and wrk print, captured from a run of the image."""

from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, nginx

GOLDEN = Path(__file__).parents[1] / "golden/workloads"
NGINX = (GOLDEN / "nginx.txt").read_text()
RUNNING = int(NGINX.split("running took ")[1].split()[0])


def test_wrk_tells_requests_throughput_and_latency() -> None:
    output = nginx.parse(NGINX)
    assert output.operations == 2000
    expected = {
        ("cpu_running", "s"): RUNNING / 1e6,
        ("throughput", "1/s"): 58604.62,
        ("latency_p50", "s"): 64e-6,
        ("latency_p99", "s"): 109e-6,
    }
    assert {(value.metric, value.unit): value.value for value in output.values} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("2000 requests", "1999 requests"),
        ("2000 requests", "2001 requests"),
        ("Requests/sec:", "  Non-2xx or 3xx responses: 1\nRequests/sec:"),
        ("Requests/sec:", "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec:"),
        ("wrk ended with 0", "wrk ended with 1"),
        (f"took {RUNNING} us", "took 0 us"),
        ("nginx ended with 0\n", ""),
        ("     99%", "     98%"),
    ],
)
def test_a_report_of_wrk_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in NGINX
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        nginx.parse(NGINX.replace(was, said))


def test_it_needs_loopback_and_a_wide_floor() -> None:
    assert nginx.WORKLOAD.pod
    assert not nginx.WORKLOAD.steady

"""sysbench counts primes: once it is started nothing is executed that was not, so a measurer has nothing to do.

Two of them, as a start maps sixteen megabytes of libraries: what the long one costs beyond the short one is the work
alone. The throughput that sysbench prints begins after the start, too.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed

_PROGRAM = "/usr/bin/sysbench"
_LIMIT = 10_000
_REPORT = r"""sysbench 1\.[^\n]+

Running the test with following options:
Number of threads: 1
Initializing random number generator from seed \(1\)\.


Prime numbers limit: {limit}

Initializing worker threads\.\.\.

Threads started!

CPU speed:
    events per second: +(?P<rate>\d+\.\d+)

General statistics:
    total time: +\d+\.\d+s
    total number of events: +{events}

Latency \(ms\):
(?:         (?:min|avg|max|sum|95th percentile): +\d+\.\d+
)+
Threads fairness:
    events \(avg/stddev\): +{events}\.0000/0\.00
    execution time \(avg/stddev\): +\d+\.\d+/0\.00

"""


def read(output: str, events: int) -> Output:
    """Read sysbench's report of ``events`` events."""
    report = re.fullmatch(_REPORT.format(limit=_LIMIT, events=events), output)
    if report is None or not float(report["rate"]) > 0:
        raise WorkloadFailed(f"expected a report of {events} events up to {_LIMIT}, got {output!r}")
    return Output(operations=events, values=(Value(metric="throughput", unit="1/s", value=float(report["rate"])),))


def _workload(name: str, events: int, summary: str) -> Workload:
    words = f"cpu --threads=1 --time=0 --events={events} --cpu-max-prime={_LIMIT} --rand-seed=1 run"
    return Workload(
        name=name,
        summary=summary,
        image="sysbench",
        argv=(_PROGRAM, *words.split()),
        executes=(PurePosixPath(_PROGRAM),),
        parse=lambda output: read(output, events),
        operation="event",
    )


WORKLOADS = (
    _workload("sysbench-cpu", 100, "sysbench counts the primes up to 10000 a hundred times"),
    _workload("sysbench-cpu-start", 1, "sysbench counts the primes up to 10000 once: its start is nearly all of it"),
)

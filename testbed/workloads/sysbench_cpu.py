"""sysbench counts primes: after its start nothing new is executed, so a measurer has nothing to do.

A start maps sixteen megabytes of libraries, so sysbench is started twice: the second start costs only the work.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed, _running

_PROGRAM = "/usr/bin/sysbench"
_LIMIT = 10_000
EVENTS = 100
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


def parse(output: str) -> Output:
    """Read the second sysbench's report, and its CPU time."""
    report = re.fullmatch(_REPORT.format(limit=_LIMIT, events=EVENTS) + _running.LINE, output)
    if report is None or not float(report["rate"]) > 0:
        raise WorkloadFailed(f"expected a report of {EVENTS} events up to {_LIMIT}, got {output!r}")
    rate = Value(metric="throughput", unit="1/s", value=float(report["rate"]))
    return Output(operations=EVENTS, values=(_running.value(report["running"]), rate))


def _command(events: int) -> str:
    return f"sysbench cpu --threads=1 --time=0 --events={events} --cpu-max-prime={_LIMIT} --rand-seed=1 run"


WORKLOAD = Workload(
    name="sysbench-cpu",
    summary=f"sysbench counts the primes up to {_LIMIT} {EVENTS} times",
    image="sysbench",
    argv=("/usr/bin/sh", "-ec", f"{_command(1)} > /dev/null\n{_running.BEGIN}\n{_command(EVENTS)}\n{_running.END}"),
    executes=(PurePosixPath("/usr/bin/sh"), PurePosixPath(_PROGRAM)),
    parse=parse,
    operation="event",
)

"""One program makes system calls of six kinds, each many times: what lmbench asks, and what it gives as a time.

Each kind has a metric of its own: what one call took, by the account of the container's cgroup. The start of the
container is not in these.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed

# As the program has them: how often each kind is made, by the name that it prints.
TIMES = {
    "open/close": 8000,
    "stat": 15000,
    "create/unlink": 1500,
    "mmap": 2500,
    "fork": 500,
    "execve": 250,
}
_PROGRAM, _STARTED = (PurePosixPath("/calls") / name for name in ("calls", "nothing"))
_LINE = re.compile(r"(?P<kind>[a-z/]+) (?P<times>\d+) took (?P<microseconds>\d+) us")


def metric(kind: str) -> str:
    """Return the metric of a kind: ``cpu_open_close`` of ``open/close``."""
    return f"cpu_{kind.replace('/', '_')}"


def parse(output: str) -> Output:
    """Expect a line for each kind, in order, with as many calls as were asked for."""
    lines = output.splitlines()
    values = [_value(line, kind, times) for line, (kind, times) in zip(lines, TIMES.items(), strict=False)]
    if len(lines) != len(TIMES):
        raise WorkloadFailed(f"expected {len(TIMES)} lines, got {len(lines)}")
    return Output(values=tuple(values))


def _value(line: str, kind: str, times: int) -> Value:
    match = _LINE.fullmatch(line)
    if match is None or (match["kind"], int(match["times"])) != (kind, times) or int(match["microseconds"]) <= 0:
        raise WorkloadFailed(f"expected {f'{kind} {times} took N us'!r}, got {line!r}")
    return Value(metric=metric(kind), unit="s", value=int(match["microseconds"]) / 1e6 / times)


WORKLOAD = Workload(
    name="calls",
    summary=f"one program makes system calls: {', '.join(TIMES)}",
    image="calls",
    argv=(str(_PROGRAM),),
    executes=(_PROGRAM, _STARTED),
    parse=parse,
)

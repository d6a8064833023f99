"""redis answers a fixed number of commands of redis-benchmark, over loopback, in one container."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed, _running

REQUESTS = 1500
COMMANDS = ("set", "get")
# One connection: with more, redis-benchmark spins for as long as fewer requests are left than connections, and what the
# server finds ready at once differs from run to run (together an eighth of all with four).
_BENCHMARK = f"redis-benchmark -c 1 -t {','.join(COMMANDS)} -d 64 -r 1000 --seed 1 --csv"
# The server's messages come through a pipe, as in workload nginx. redis-benchmark checks no answer, so the
# server's own counts are read.
SCRIPT = f"""
{{ redis-server /etc/redis.conf 2>&1; echo "redis ended with $?"; }} | {{
  while read -r line; do
    last=$line
    case $line in *'Ready to accept connections'*) break ;; esac
  done
  {_BENCHMARK} -n 1 > /dev/null 2>&1
  redis-cli config resetstat > /dev/null
  {_running.BEGIN}
  {_BENCHMARK} -n {REQUESTS} 2>&1
  echo "benchmark ended with $?"
  {_running.END}
  redis-cli info commandstats 2>&1
  redis-cli shutdown nosave 2>&1
  while read -r line; do last=$line; done
  echo "$last"
}}
""".strip()
_NUMBER = r'"(\d+\.\d+)"'
_ROWS = re.compile(
    r'"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",'
    r'"max_latency_ms"\n'
    + "".join(rf'"{command.upper()}",{",".join([_NUMBER] * 7)}\n' for command in COMMANDS)
    + r"benchmark ended with 0\n"
    + _running.LINE
    + r"(?P<counted>(?s:.*))redis ended with 0\n"
)
_COLUMNS = ("rps", "avg", "min", "p50", "p95", "p99", "max")
_DONE = re.compile(r"cmdstat_(\w+):calls=(\d+),.*,rejected_calls=0,failed_calls=0\r?")


def parse(output: str) -> Output:
    """Read redis-benchmark's row of each command, and the server's count of it."""
    report = _ROWS.fullmatch(output)
    if report is None:
        raise WorkloadFailed(f"expected rows of {', '.join(COMMANDS)} and two exit statuses 0, got {output[-400:]!r}")
    counts = {match[1]: match[2] for match in map(_DONE.fullmatch, report["counted"].splitlines()) if match}
    wrong = {command: counts.get(command) for command in COMMANDS if counts.get(command) != str(REQUESTS)}
    if wrong:
        raise WorkloadFailed(f"expected {REQUESTS} calls of each command without a failure, got {wrong}")
    numbers = [float(text) for text in report.groups()[: len(COMMANDS) * len(_COLUMNS)]]
    starts = range(0, len(numbers), len(_COLUMNS))
    rows = [dict(zip(_COLUMNS, numbers[start : start + len(_COLUMNS)], strict=True)) for start in starts]
    # Both commands are asked equally often; the worse of the two percentiles is reported.
    values = (
        _running.value(report["running"]),
        Value(metric="throughput", unit="1/s", value=len(rows) / sum(1 / row["rps"] for row in rows)),
        Value(metric="latency_p50", unit="s", value=max(row["p50"] for row in rows) / 1000),
        Value(metric="latency_p99", unit="s", value=max(row["p99"] for row in rows) / 1000),
    )
    return Output(operations=len(COMMANDS) * REQUESTS, values=values)


WORKLOAD = Workload(
    name="redis",
    summary=f"redis does {REQUESTS} SET and {REQUESTS} GET for redis-benchmark",
    image="redis",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=(*(PurePosixPath("/usr/bin") / name for name in ("sh", "redis-server", "redis-benchmark", "redis-cli")),),
    parse=parse,
    network=True,
    operation="request",
    steady=False,
)

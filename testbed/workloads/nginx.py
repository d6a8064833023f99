"""nginx answers a fixed number of requests of wrk, over loopback, in one container."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed, _running

REQUESTS = 2000
# With more than one, the set of connections that are ready together differs from run to run (0.4 % with four).
CONNECTIONS = 1
_WRK = f"wrk -t 1 -c {CONNECTIONS} -d 60s --latency -s /srv/count.lua http://127.0.0.1:80/index.html --"
# The server's messages come through a pipe: the reader wakes up when the server is ready, and sees the end of the pipe
# when the server has ended, so no polling is needed. Nothing is written into that pipe while requests are answered.
SCRIPT = f"""
{{ nginx -g 'daemon off;' 2>&1; echo "nginx ended with $?"; }} | {{
  while read -r line; do
    last=$line
    case $line in *'start worker process '*) break ;; esac
  done
  {_WRK} 10 > /dev/null
  {_running.BEGIN}
  {_WRK} {REQUESTS} 2>&1
  echo "wrk ended with $?"
  {_running.END}
  read -r pid < /run/nginx.pid
  kill -QUIT "$pid"
  while read -r line; do last=$line; done
  echo "$last"
}}
""".strip()
_REPORT = re.compile(
    r"Running 1m test @ http://127\.0\.0\.1:80/index\.html\n"
    rf"  1 threads and {CONNECTIONS} connections\n"
    r"(?:  [^\n]*\n)*?"
    r"  Latency Distribution\n"
    r"     50%\s+(?P<p50>[\d.]+)(?P<unit50>us|ms|s)\n(?:     [^\n]*\n)*?"
    r"     99%\s+(?P<p99>[\d.]+)(?P<unit99>us|ms|s)\n"
    r"  (?P<requests>\d+) requests in [^\n]+ read\n"
    r"Requests/sec:\s+(?P<rate>[\d.]+)\n"
    r"Transfer/sec:[^\n]+\n"
    r"wrk ended with 0\n" + _running.LINE + r"nginx ended with 0\n"
)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def parse(output: str) -> Output:
    """Read wrk's report, which has an additional line if a request failed, and the exit statuses of both programs."""
    report = _REPORT.fullmatch(output)
    if report is None:
        raise WorkloadFailed(f"expected wrk's report without errors and two exit statuses 0, got {output[-400:]!r}")
    requests = int(report["requests"])
    if requests != REQUESTS:
        raise WorkloadFailed(f"expected {REQUESTS} requests, got {requests}")
    values = (
        _running.value(report["running"]),
        Value(metric="throughput", unit="1/s", value=float(report["rate"])),
        Value(metric="latency_p50", unit="s", value=float(report["p50"]) * _SECONDS[report["unit50"]]),
        Value(metric="latency_p99", unit="s", value=float(report["p99"]) * _SECONDS[report["unit99"]]),
    )
    return Output(operations=requests, values=values)


WORKLOAD = Workload(
    name="nginx",
    summary=f"nginx serves a page of 4 KiB {REQUESTS} times, asked by wrk",
    image="nginx",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=tuple(map(PurePosixPath, ("/usr/bin/sh", "/usr/sbin/nginx", "/usr/bin/wrk"))),
    parse=parse,
    network=True,
    operation="request",
    steady=False,
)

"""PostgreSQL does a fixed number of transactions for pgbench, over a unix socket, in one container."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed, _running

TRANSACTIONS = 100
_BIN = PurePosixPath("/usr/lib/postgresql/17/bin")
# The server's messages come through a pipe, as in workload nginx. It refuses to run as root. A second pgbench checks
# that the tables contain all transactions; the first one's own log has the time of each.
SCRIPT = f"""
PATH={_BIN}:$PATH
{{
  setpriv --reuid=100 --regid=100 --clear-groups \\
    postgres -D /var/lib/postgresql/data -c config_file=/etc/postgresql.conf 2>&1
  echo "postgres ended with $?"
}} | {{
  while read -r line; do
    last=$line
    case $line in *'ready to accept connections'*) break ;; esac
  done
  export PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres
  pgbench -n -c 1 -t 1 --random-seed=1 -f /opt/transaction.sql > /dev/null 2>&1
  {_running.BEGIN}
  pgbench -n -c 1 -t {TRANSACTIONS} --random-seed=1 -f /opt/transaction.sql --log --log-prefix=/tmp/log 2>&1
  echo "pgbench ended with $?"
  {_running.END}
  pgbench -n -c 1 -t 1 -D transactions={TRANSACTIONS + 1} -f /opt/check.sql > /tmp/check 2>&1
  echo "check ended with $?"
  read -r pid < /var/lib/postgresql/data/postmaster.pid
  kill -INT "$pid"
  while read -r line; do last=$line; done
  echo "$last"
  cat /tmp/log.*
}}
""".strip()
_REPORT = re.compile(
    r"pgbench: setting random seed to 1\npgbench \(17[^\n]*\)\n"
    r"transaction type: /opt/transaction\.sql\nscaling factor: 1\nquery mode: simple\n"
    r"number of clients: 1\nnumber of threads: 1\nmaximum number of tries: 1\n"
    rf"number of transactions per client: {TRANSACTIONS}\n"
    rf"number of transactions actually processed: {TRANSACTIONS}/{TRANSACTIONS}\n"
    r"number of failed transactions: 0 \(0\.000%\)\n"
    r"latency average = [\d.]+ ms\ninitial connection time = [\d.]+ ms\n"
    r"tps = (?P<rate>\d+\.\d+) \(without initial connection time\)\n"
    r"pgbench ended with 0\n" + _running.LINE + r"check ended with 0\npostgres ended with 0\n"
    rf"(?P<log>(?:0 \d+ \d+ 0 \d+ \d+\n){{{TRANSACTIONS}}})"
)
_MICROSECOND = 1e-6


def parse(output: str) -> Output:
    """Read pgbench's report, all exit statuses, and the time of each transaction."""
    report = _REPORT.fullmatch(output)
    if report is None:
        raise WorkloadFailed(
            f"expected {TRANSACTIONS} transactions, a time of each, and three exit statuses 0, got {output[-600:]!r}"
        )
    times = sorted(int(line.split()[2]) * _MICROSECOND for line in report["log"].splitlines())
    values = (
        _running.value(report["running"]),
        Value(metric="throughput", unit="1/s", value=float(report["rate"])),
        Value(metric="latency_p50", unit="s", value=_percentile(times, 50)),
        Value(metric="latency_p99", unit="s", value=_percentile(times, 99)),
    )
    return Output(operations=TRANSACTIONS, values=values)


def _percentile(ordered: list[float], percent: int) -> float:
    """Return the smallest value that this percentage of all values does not exceed."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


WORKLOAD = Workload(
    name="postgres",
    summary=f"PostgreSQL does {TRANSACTIONS} transactions for pgbench",
    image="postgres",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=(
        *map(PurePosixPath, ("/usr/bin/sh", "/usr/bin/setpriv", "/usr/bin/cat")),
        *(_BIN / name for name in ("postgres", "pgbench")),
    ),
    parse=parse,
    operation="transaction",
    steady=False,
)

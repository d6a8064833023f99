"""sysbench reads and writes blocks of small files in random order, from a fixed seed."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed

REQUESTS = 4000
# The files are in the container's overlay. The options determine the order of reads, writes and syncs.
SCRIPT = f"""
set -eu
cd /tmp
options='fileio --threads=1 --time=0 --events={REQUESTS} --rand-seed=1
  --file-num=4 --file-total-size=4M --file-test-mode=rndrw --file-fsync-freq=100'
for step in prepare run cleanup; do sysbench $options $step; done
""".strip()
_REPORT = re.compile(
    r"sysbench 1\.[^\n]+\n\n"
    r"4 files, 1024Kb each, 4Mb total\nCreating files for the test\.\.\.\nExtra file open flags: \(none\)\n"
    + "".join(rf"Creating file test_file\.{n}\n" for n in range(4))
    + r"4194304 bytes written in \d+\.\d+ seconds \([^)\n]+\)\.\n"
    r"sysbench 1\.[^\n]+\n\n"
    r"Running the test with following options:\nNumber of threads: 1\n"
    r"Initializing random number generator from seed \(1\)\.\n\n\n"
    r"Extra file open flags: \(none\)\n4 files, 1MiB each\n4MiB total file size\nBlock size 16KiB\n"
    rf"Number of IO requests: {REQUESTS}\n"
    r"Read/Write ratio for combined random IO test: 1\.50\n"
    r"Periodic FSYNC enabled, calling fsync\(\) each 100 requests\.\n"
    r"Calling fsync\(\) at the end of test, Enabled\.\n"
    r"Using synchronous I/O mode\nDoing random r/w test\n"
    r"Initializing worker threads\.\.\.\n\nThreads started!\n\n\n"
    r"File operations:\n"
    r"    reads/s: +(?P<reads>\d+\.\d+)\n    writes/s: +(?P<writes>\d+\.\d+)\n    fsyncs/s: +(?P<syncs>\d+\.\d+)\n\n"
    r"Throughput:\n    read, MiB/s: +\d+\.\d+\n    written, MiB/s: +\d+\.\d+\n\n"
    rf"General statistics:\n    total time: +\d+\.\d+s\n    total number of events: +{REQUESTS}\n\n"
    r"Latency \(ms\):\n(?:         (?:min|avg|max|sum|95th percentile): +\d+\.\d+\n)+\n"
    rf"Threads fairness:\n    events \(avg/stddev\): +{REQUESTS}\.0000/0\.00\n"
    r"    execution time \(avg/stddev\): +\d+\.\d+/0\.00\n\n"
    r"sysbench 1\.[^\n]+\n\nRemoving test files\.\.\.\n"
)


def parse(output: str) -> Output:
    """Read the reports of the three steps; of five requests three are reads and two are writes."""
    report = _REPORT.fullmatch(output)
    if report is None:
        raise WorkloadFailed(f"expected three reports without errors of {REQUESTS} requests, got {output!r}")
    reads, writes = float(report["reads"]), float(report["writes"])
    if not reads > 0 or abs(reads / 3 - writes / 2) > 0.01 * reads:
        raise WorkloadFailed(f"expected three reads for two writes, got {reads} and {writes} a second")
    return Output(operations=REQUESTS, values=(Value(metric="throughput", unit="1/s", value=reads + writes),))


WORKLOAD = Workload(
    name="sysbench-io",
    summary=f"sysbench reads and writes {REQUESTS} blocks of four files in random order",
    image="sysbench",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=tuple(PurePosixPath("/usr/bin") / name for name in ("sh", "sysbench")),
    parse=parse,
    operation="request",
)

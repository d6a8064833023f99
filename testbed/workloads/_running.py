"""What a workload costs once it runs: its container's CPU time between two moments, printed by its own shell.

A container's start hashes whatever it executes, which a server that runs for days does only once. So the shell first
runs its client (or its program) without counting, after which all files are known. Then it reads the cgroup's CPU time,
runs the work, and reads the CPU time again.
"""

from __future__ import annotations

from testbed.workloads import Value, WorkloadFailed

METRIC = "cpu_running"
BEGIN = "read -r _ begin < /sys/fs/cgroup/cpu.stat"
END = 'read -r _ end < /sys/fs/cgroup/cpu.stat; echo "running took $((end - begin)) us"'
# As a pattern, the line that END prints.
LINE = r"running took (?P<running>\d+) us\n"


def value(microseconds: str) -> Value:
    """Return what the shell printed, as a value in seconds. Raises ``WorkloadFailed`` if no time passed."""
    if int(microseconds) <= 0:
        raise WorkloadFailed(f"expected CPU time between the two readings, got {microseconds} us")
    return Value(metric=METRIC, unit="s", value=int(microseconds) / 1e6)

"""A shell that executes one program over and over: no library, three, or nearly thirty.

The first execution of a file in a container hashes it; each later one only looks it up. This measures the look-up.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Parse, Workload, WorkloadFailed

_SHELL = "/usr/bin/busybox"
_SCRIPT = "n=0; while [ $n -lt {times} ]; do {command} || exit 1; n=$((n + 1)); done"


def parser(line: str, times: int) -> Parse:
    """Return a parser that expects a line for each execution, all equal and matching the pattern ``line``."""

    def parse(output: str) -> Output:
        lines = output.splitlines()
        for number, printed in enumerate(lines, 1):
            if not re.fullmatch(line, printed) or printed != lines[0]:
                raise WorkloadFailed(f"line {number}: expected {line!r}, the same in each line, got {printed!r}")
        if len(lines) != times:
            raise WorkloadFailed(f"expected {times} lines, got {len(lines)}")
        return Output(operations=times)

    return parse


def _workload(name: str, command: str, line: str, times: int, what: str) -> Workload:
    program = command.split(maxsplit=1)[0]
    return Workload(
        name=name,
        summary=f"a shell executes {what} {times} times in one container",
        image="exec",
        argv=(_SHELL, "sh", "-c", _SCRIPT.format(times=times, command=command)),
        executes=tuple(PurePosixPath(path) for path in sorted({_SHELL, program})),
        parse=parser(line, times),
        operation="exec",
    )


# xterm prints its version without a display. Among Debian's programs with so many libraries it is small.
WORKLOADS = (
    _workload("exec-static", f"{_SHELL} echo ran", "ran", 375, "a static program"),
    _workload("exec-3", "/usr/bin/stat -c %n /usr/bin/stat", "/usr/bin/stat", 80, "a program with three libraries"),
    _workload("exec-30", "/usr/bin/xterm -version", r"XTerm\(\d+\)", 25, "a program with 27 libraries"),
)

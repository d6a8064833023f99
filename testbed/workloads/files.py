"""One container executes many different files of 4 KiB, once each: cost against the number of files."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Parse, Workload, expect_lines

_SHELL = "/usr/lib/klibc/bin/sh"
# Each is a script whose interpreter does nothing; the shell prints the number of each script that succeeded.
_SCRIPT = "n=0; while [ $n -lt {count} ]; do /code/$n && echo $n; n=$((n + 1)); done"


def parser(count: int) -> Parse:
    """Return a parser that expects the number of each file, in order."""

    def parse(output: str) -> Output:
        expect_lines(tuple(map(str, range(count))), output)
        return Output(operations=count)

    return parse


def _workload(count: int) -> Workload:
    return Workload(
        name=f"files-{count}",
        summary=f"one container executes {count} scripts of 4 KiB, once each",
        image="files",
        argv=(_SHELL, "-c", _SCRIPT.format(count=count)),
        executes=(PurePosixPath(_SHELL), *(PurePosixPath(f"/code/{n}") for n in range(count))),
        parse=parser(count),
        operation="file",
    )


WORKLOADS = tuple(map(_workload, (1, 10, 100, 400, 1000)))

"""One container executes one file of a given size, once: cost against bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Parse, Workload, expect_lines

_SHELL = "/usr/lib/klibc/bin/sh"


def parser(size: str) -> Parse:
    """Return a parser that expects the name of the file: the shell prints it if the file's program succeeded."""

    def parse(output: str) -> Output:
        expect_lines((size,), output)
        return Output()

    return parse


def _workload(size: str) -> Workload:
    return Workload(
        name=f"bytes-{size}",
        summary=f"one container executes one script of {size}",
        image="bytes",
        argv=(_SHELL, "-c", f"/code/{size} && echo {size}"),
        executes=(PurePosixPath(_SHELL), PurePosixPath(f"/code/{size}")),
        parse=parser(size),
        operation="file",
    )


WORKLOADS = tuple(map(_workload, ("4k", "64k", "1m", "16m")))

"""Containers that do almost nothing: the cost is that of their start, from a known or a new image."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines


def parse(output: str) -> Output:
    """Expect the one line that says that the program ran."""
    expect_lines(("started",), output)
    return Output()


WORKLOADS = (
    Workload(
        name="start-warm",
        summary="sixteen fresh containers, one after the other, each of one static program that prints a line",
        image="static",
        argv=("/usr/bin/busybox", "echo", "started"),
        executes=(PurePosixPath("/usr/bin/busybox"),),
        parse=parse,
        starts=16,
        operation="start",
    ),
    Workload(
        name="start-cold",
        summary="the first container of an image after a boot, its files not in memory; bash prints a line",
        image="base",
        argv=("/usr/bin/bash", "-c", "echo started"),
        executes=(PurePosixPath("/usr/bin/bash"),),
        parse=parse,
        operation="start",
        cold=True,
    ),
)

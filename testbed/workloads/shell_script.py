"""A script that the kernel starts by its first line: a shell's loops and functions, and a dozen small programs."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines

SCRIPT = "/usr/local/bin/report"
# The script generates its log itself; the shell and mawk compute their sums from the same lines.
EXPECTED = (
    "lines 400 good 315 bad 85 bytes 1652684",
    *("200 1303880", "404 178659", "500 170145"),
    *("user0 has 53", "user1 has 70", "user2 has 62", "user3 has 60", "user4 has 42", "user5 has 63", "user6 has 50"),
    "141 runs",
    "40",
    "396 USER2 /PAGE/1 500 2339",
    "85 failed",
    "page 0 failed first at 22",
    "page 1 failed first at 36",
    "page 2 failed first at 110",
    "page 3 failed first at 39",
    "page 4 failed first at 25",
    "kept",
)
_PROGRAMS = ("cut", "grep", "ls", "mawk", "mkdir", "mv", "rm", "sed", "tail", "tr", "uniq", "wc")


def parse(output: str) -> Output:
    """Compare each line with the script's expected output."""
    expect_lines(EXPECTED, output)
    return Output()


WORKLOAD = Workload(
    name="shell-script",
    summary=f"a shell script with loops, files and {len(_PROGRAMS)} programs; three fresh containers an iteration",
    image="script",
    argv=(SCRIPT,),
    executes=(PurePosixPath(SCRIPT), *(PurePosixPath("/usr/bin") / name for name in _PROGRAMS)),
    parse=parse,
    starts=3,
    operation="script",
)

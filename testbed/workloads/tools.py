"""A shell that runs a handful of dynamic binaries with libraries, in a few fresh containers."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines

# The output shows each program's work; ``sha256sum`` links libcrypto, ``grep`` libpcre2, ``sed`` libselinux and libacl,
# ``ls`` libselinux. No pipes: the scheduler decides which end runs first, so the cost would vary. Several rounds: a
# container executes most files more than once.
ROUNDS = 5
SCRIPT = f"""
set -eu
printf 'one\\ntwo\\nthree\\n' > /words
for round in {" ".join(map(str, range(ROUNDS)))}; do
  basename /a/b/testbed
  ls /usr/bin/bash
  seq 3 4
  grep -c t /words
  sed -n s/one/1/p /words
  sha256sum /words
  sort -r /words
  head -n 1 /words
  cut -c 1-2 /words
done
""".strip()
EXPECTED = ROUNDS * (
    *("testbed", "/usr/bin/bash", "3", "4", "2", "1"),
    "b6285c57e8797db5d4c51c80d6f11938afda9b11c6a003549709189e9b4b92a2  /words",
    *("two", "three", "one"),
    "one",
    *("on", "tw", "th"),
)
_BINARIES = ("bash", "basename", "ls", "seq", "grep", "sed", "sha256sum", "sort", "head", "cut")


def parse(output: str) -> Output:
    """Compare each line with the programs' expected output."""
    expect_lines(EXPECTED, output)
    return Output()


WORKLOAD = Workload(
    name="tools",
    summary="bash runs ten small dynamic programs with libraries, five times; three fresh containers an iteration",
    image="tools",
    argv=("/usr/bin/bash", "-c", SCRIPT),
    executes=tuple(PurePosixPath("/usr/bin") / name for name in _BINARIES),
    parse=parse,
    starts=3,
)

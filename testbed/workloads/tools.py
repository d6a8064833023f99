"""A shell that runs a handful of dynamic binaries with libraries, in a few fresh containers."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Workload, WorkloadFailed

# One line a program, so that each one's work shows in the output; ``sha256sum`` links libcrypto, ``grep`` libpcre2,
# ``sed`` libselinux and libacl, ``ls`` libselinux. Several rounds: a container executes most files more than once.
ROUNDS = 4
SCRIPT = f"""
set -eu
for round in $(seq {ROUNDS}); do
  echo "begin $(basename /a/b/testbed)"
  ls /usr/bin/bash
  seq 1 100 | grep -c 7
  echo one | sed s/one/two/
  seq 1 2000 | sha256sum
  sort -r /etc/passwd | head -n 1 | cut -d: -f1
  echo end
done
""".strip()
EXPECTED = ROUNDS * (
    "begin testbed",
    "/usr/bin/bash",
    "19",
    "two",
    "6251e5743b6fd6a7d606130bdf7c15077ce85ebd3a0fdee284d15a46df199e38  -",
    "www-data",
    "end",
)
_BINARIES = ("bash", "basename", "ls", "seq", "grep", "sed", "sha256sum", "sort", "head", "cut")


def check(output: str) -> None:
    """Compare each line with what the programs must print."""
    got = tuple(output.splitlines())
    if got != EXPECTED:
        pairs = zip(EXPECTED, got, strict=False)
        lines = [f"line {n}: expected {a!r}, got {b!r}" for n, (a, b) in enumerate(pairs, 1) if a != b]
        raise WorkloadFailed(lines[0] if lines else f"expected {len(EXPECTED)} lines, got {len(got)}")


WORKLOAD = Workload(
    name="tools",
    summary="bash runs ten small dynamic programs with libraries, four times; three fresh containers an iteration",
    image="tools",
    argv=("/usr/bin/bash", "-c", SCRIPT),
    executes=tuple(PurePosixPath("/usr/bin") / name for name in _BINARIES),
    check=check,
    starts=3,
)

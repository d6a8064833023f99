"""make and gcc build a small C project: the programs of a compiler are large, and each unit starts them again."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines

UNITS = ("crc", "evaluate", "main")
# What was built is not run: no image has it, so the expected digest of its execution is unknown.
# Code differs from compiler to compiler; the names that the units define, and the tables that the compiler had to
# compute for them, do not.
SCRIPT = """
set -eu
cd /srv/calc
make --no-builtin-rules --no-builtin-variables
nm --just-symbols --extern-only --defined-only crc.o evaluate.o main.o
objcopy --output-target=binary --only-section=tables calc tables
b2sum tables
""".strip()
# BLAKE2b of the tables; a test computes them independently.
DIGEST = (
    "ba7c1ef441cc59408c9601eee43dae4a6959c080fedb7b9ab96cb306f1ed1977"
    "27cbfe97772746030a7005817f92d71457c2bb79fae3f65f97d3f71164dbb4bf"
)
_STEPS = ("gcc -O1 -Wall -Wextra -S -o {0}.s {0}.c", "as -o {0}.o {0}.s")
EXPECTED = (
    *(step.format(unit) for unit in UNITS for step in _STEPS),
    "gcc -save-temps=obj -o calc crc.o evaluate.o main.o",
    *("crc", "crc_table", "classes", "evaluate", "main"),
    f"{DIGEST}  tables",
)
_BINARIES = ("sh", "make", "gcc", "as", "ld", "nm", "objcopy", "b2sum")
_INTERNAL = ("cc1", "collect2", "liblto_plugin.so")


def parse(output: str) -> Output:
    """Compare each line with the expected output of make, nm and b2sum."""
    expect_lines(EXPECTED, output)
    return Output(operations=len(UNITS))


WORKLOAD = Workload(
    name="compile",
    summary=f"make and gcc compile {len(UNITS)} units of C and link them",
    image="compile",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=(
        *(PurePosixPath("/usr/bin", name) for name in _BINARIES),
        *(PurePosixPath("/usr/libexec/gcc/x86_64-linux-gnu/14", name) for name in _INTERNAL),
    ),
    parse=parse,
    operation="translation unit",
)

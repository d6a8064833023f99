"""What is read from what make, nm and b2sum print, captured from a run of the image; the tables are computed again."""

import hashlib
import struct
from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed
from testbed.workloads import compile as build

OUTPUT = (Path(__file__).parents[1] / "golden/workloads/compile.txt").read_text()


def crc(number: int) -> int:
    for _ in range(4):
        number = number >> 1 ^ (0xEDB88320 if number & 1 else 0)
    return number


def kind(character: str) -> int:
    if character.isdigit():
        return 1
    return 2 if character in "+-" else {"\0": 0, "(": 3, ")": 4}.get(character, 5)


def test_the_tables_are_what_the_sources_say() -> None:
    tables = struct.pack("<16I", *map(crc, range(16)))
    tables += bytes(kind(chr(code)) for code in range(128))
    assert hashlib.blake2b(tables).hexdigest() == build.DIGEST


def test_a_build_is_counted_by_its_units() -> None:
    assert build.parse(OUTPUT).operations == 3


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ("-o crc.s crc.c\n", "-o crc.s crc.c\ncrc.c:4:39: warning: a doubt\n"),
        ("as -o main.o main.s\n", ""),
        ("\nmain\n", "\nmain2\n"),
        ("\nclasses\n", "\n"),
        (build.DIGEST[:8], "00000000"),
        (f"{build.DIGEST}  tables\n", ""),
    ],
)
def test_a_build_that_is_not_right_fails(was: str, said: str) -> None:
    assert was in OUTPUT
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        build.parse(OUTPUT.replace(was, said, 1))


def test_what_was_built_is_not_run() -> None:
    commands = [line.split()[0] for line in build.SCRIPT.splitlines()]
    assert commands == ["set", "cd", "make", "nm", "objcopy", "b2sum"]

"""Files that are code and nothing else: mapped many times, many of them, large ones."""

from __future__ import annotations

import pytest

from testbed import plugins
from testbed.lab.build import recipes
from testbed.workloads import Output, WorkloadFailed, mmap

# Captured.
MAPPED = "4k 4096 2000\n64k 65536 2000\n1m 1048576 2000\n"
FAMILIES = {"files": (1, 10, 100, 400, 1000), "bytes": ("4k", "64k", "1m", "16m")}
EACH = [(family, some) for family, several in FAMILIES.items() for some in several]


def printed(family: str, some: int | str) -> str:
    return "".join(f"{n}\n" for n in range(int(some))) if family == "files" else f"{some}\n"


def test_each_map_is_an_operation() -> None:
    assert mmap.parse(MAPPED) == Output(operations=6000)


@pytest.mark.parametrize(
    ("old", "new"), [("64k 65536 2000", "64k 65536 1999"), ("1048576", "1048575"), ("1m 1048576 2000\n", "")]
)
def test_a_map_that_did_not_show_its_file_is_a_failure(old: str, new: str) -> None:
    with pytest.raises(WorkloadFailed, match="expected"):
        mmap.parse(MAPPED.replace(old, new))


def test_what_is_mapped_says_its_own_name_and_is_as_large_as_it_must_be() -> None:
    found = {file.path: file for file in recipes.load_containers()["mmap"].blob_files()}
    assert {path: file.size for path, file in found.items()} == {f"code/{n}": size for n, size in mmap.SIZES.items()}
    for name in mmap.SIZES:
        assert found[f"code/{name}"].head == f"#!/usr/bin/perl -{name}\n".encode()
        assert len(found[f"code/{name}"].head) <= 24, "of which the script looks at 24 bytes"


@pytest.mark.parametrize(("family", "some"), EACH)
def test_each_file_is_an_operation(family: str, some: int | str) -> None:
    operations = some if isinstance(some, int) else 1
    assert plugins.workload(f"{family}-{some}").parse(printed(family, some)) == Output(operations=operations)


@pytest.mark.parametrize(("family", "some"), EACH)
def test_a_file_that_did_not_end_well_is_a_failure(family: str, some: int | str) -> None:
    lines = printed(family, some).splitlines(keepends=True)
    for output in ("".join(lines[:-1]), "".join([*lines, "more\n"]), "".join([*lines[:-1], "another\n"])):
        with pytest.raises(WorkloadFailed, match="expected"):
            plugins.workload(f"{family}-{some}").parse(output)


@pytest.mark.parametrize(("family", "some"), EACH)
def test_so_many_files_of_the_image_are_executed(family: str, some: int | str) -> None:
    workload = plugins.workload(f"{family}-{some}")
    sizes = {f"/{file.path}": file.size for file in recipes.load_containers()[workload.image].blob_files()}
    code = [sizes[str(path)] for path in workload.executes if str(path) != workload.argv[0]]
    if isinstance(some, int):
        assert code == [4096] * some
    else:
        number, unit = int(some[:-1]), some[-1]
        assert code == [number << {"k": 10, "m": 20}[unit]]

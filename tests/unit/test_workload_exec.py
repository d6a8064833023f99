"""A program executed many times: its line as often, always the same."""

from __future__ import annotations

import pytest

from testbed import plugins
from testbed.workloads import Output, WorkloadFailed

# Captured: a line of each, and how often it is printed.
LINES = {"exec-static": ("ran", 375), "exec-3": ("/usr/bin/stat", 80), "exec-30": ("XTerm(398)", 25)}


@pytest.mark.parametrize("name", LINES)
def test_each_execution_is_an_operation(name: str) -> None:
    line, times = LINES[name]
    assert plugins.workload(name).parse(f"{line}\n" * times) == Output(operations=times)


@pytest.mark.parametrize("name", LINES)
def test_one_line_more_or_less_or_another_one_is_a_failure(name: str) -> None:
    line, times = LINES[name]
    parse = plugins.workload(name).parse
    for count in (times - 1, times + 1):
        with pytest.raises(WorkloadFailed, match=f"expected {times} lines, got {count}"):
            parse(f"{line}\n" * count)
    with pytest.raises(WorkloadFailed, match=r"line 3: expected .*, got 'Killed'"):
        parse(f"{line}\n{line}\nKilled\n" + f"{line}\n" * (times - 3))


def test_any_version_will_do_but_one_only() -> None:
    parse = plugins.workload("exec-30").parse
    assert parse("XTerm(405)\n" * 25) == Output(operations=25)
    with pytest.raises(WorkloadFailed, match=r"line 25: .*got 'XTerm\(406\)'"):
        parse("XTerm(405)\n" * 24 + "XTerm(406)\n")


@pytest.mark.parametrize("name", LINES)
def test_the_shell_is_code_too_and_stops_where_a_program_fails(name: str) -> None:
    workload = plugins.workload(name)
    assert str(workload.executes[0]) == workload.argv[0] == "/usr/bin/busybox"
    assert "|| exit 1" in workload.argv[-1]
    assert f"-lt {LINES[name][1]} ]" in workload.argv[-1]

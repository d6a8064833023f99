"""One list says which lines of a kernel's log are complaints; nobody else has a list of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.kernel_complaints import REPORT, complaints

ROOT = Path(__file__).parents[2]
BAD = [
    "BUG: KASAN: slab-use-after-free in use_after_free",
    "WARNING: CPU: 0 PID: 7 at lib/list_debug.c:35",
    "Oops: general protection fault, probably for non-canonical address",
    "Kernel panic - not syncing: sysrq triggered crash",
    "INFO: task measurer:300 blocked for more than 120 seconds.",
    "UBSAN: array-index-out-of-bounds in kernel/bpf/x.c:1",
]


def test_a_complaint_is_a_line_about_the_kernel_itself() -> None:
    log = "\n".join(["[ 1.0] booting", *BAD, "[ 2.0] Out of memory: Killed process 7 (sh)", "Call Trace:"])
    assert complaints(log) == BAD
    assert REPORT.search("Out of memory: Killed process 7 (sh)")


@pytest.mark.parametrize("folder", ["testbed", "tests/vm", "tests/kasan"])
def test_there_is_no_second_list(folder: str) -> None:
    """A pattern with two of these words and an alternative between them is a list."""
    lists = re.compile(r'"[^"\n]*(?:BUG:|WARNING:|Oops|KASAN|Kernel panic)[^"\n]*\|[^"\n]*(?:BUG:|WARNING:|Oops|panic)')
    found = {path.name for path in (ROOT / folder).rglob("*.py") if lists.search(path.read_text())}
    assert found == ({"kernel_complaints.py"} if folder == "testbed" else set())

"""Reports of a debugging kernel: found whole, told apart, and excused only where a row says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import SpecError
from testbed.lab import splat

KNOWN = Path(__file__).parents[1] / "kasan" / "known.toml"
# Of the boot in which `make kasan` had each detector see its fault.
GOLDEN = Path(__file__).parents[1] / "golden" / "kasan"
# What it did wrong, in the order of its log.
SEEN = (
    "possible circular locking dependency detected",
    "BUG: KASAN: slab-use-after-free in use_after_free",
    "BUG: KASAN: slab-out-of-bounds in out_of_bounds",
    "BUG: KASAN: vmalloc-out-of-bounds in vmalloc_out_of_bounds",
    "BUG: sleeping function called from invalid context",
    "list_add double add",
    "lib/debugobjects.c",
)

WARNING = """\
[   10.000001] systemd[1]: Started something.
[   11.000001] ------------[ cut here ]------------
[   11.000002] list_add double add: new=ffff888, prev=ffff888, next=ffff888.
[   11.000003] WARNING: CPU: 0 PID: 7 at lib/list_debug.c:35 __list_add_valid_or_report+0xd7/0xf0
[   11.000004] Modules linked in: testbed_measurer(O)
[   11.000005]  <TASK>
[   11.000006]  other_function+0x1/0x2
[   11.000007] ---[ end trace 0000000000000000 ]---
[   12.000001] systemd[1]: Started another thing.
"""
KASAN = """\
[   20.000000] ==================================================================
[   20.000001] BUG: KASAN: slab-use-after-free in hash_file+0x5f/0x70 [testbed_measurer]
[   20.000002] Write of size 1 at addr ffff888 by task insmod/99
[   20.000003]
[   20.000004] CPU: 1 UID: 0 PID: 99 Comm: insmod Tainted: G           O       6.12.0-kasan
"""
LOCKS = """\
<4>[   30.000001][    T9] WARNING: possible circular locking dependency detected
[   30.000002] ------------------------------------------------------
[   30.000003] insmod/99 is trying to acquire lock:
[   30.000004]  #0: ffff888 (&ovl->lock){+.+.}-{3:3}, at: other_function+0x2/0x4
"""
LEAKS = """\
unreferenced object 0xffff888105e6c400 (size 512):
  comm "insmod", pid 412, jiffies 4294927296
  backtrace (crc 7c0a2f5b):
    __kmalloc_noprof+0x1e4/0x400
    other_function+0x30/0x50
unreferenced object 0xffff888105e6c600 (size 512):
  comm "crun", pid 413, jiffies 4294927297
  backtrace (crc 0):
    measure_file+0x30/0x50 [testbed_measurer]
"""


def known(**fields: str) -> splat.KnownReport:
    return splat.KnownReport(**{"head": "WARNING: CPU", "frame": "other_function", "reason": "tested"} | fields)


def test_a_real_log_has_its_reports_and_no_more() -> None:
    found = splat.in_log((GOLDEN / "console.log").read_text())
    assert len(found) == len(SEEN)
    for report, words in zip(found, SEEN, strict=True):
        assert words in report.head
        assert report.ours
        assert "[testbed_fault]" in report.text


def test_real_leaks_are_told_apart() -> None:
    found = splat.in_kmemleak((GOLDEN / "kmemleak.txt").read_text())
    assert len(found) == 8
    assert all(report.ours and " leak+0x" in report.text for report in found)


def test_a_quiet_log_has_no_report() -> None:
    assert splat.in_log("[    0.1] Linux version 6.12\n[    0.2] debug: about to lock\n\n") == []
    assert splat.in_log("") == splat.in_kmemleak("") == []


def test_a_warning_is_found_whole_with_its_words() -> None:
    (report,) = splat.in_log(WARNING)
    assert report.head.startswith("list_add double add")
    assert report.text.splitlines()[0].endswith("[ cut here ]------------")
    assert report.text.splitlines()[-1].startswith("---[ end trace")
    assert "Started" not in report.text


def test_a_warning_whose_words_are_not_known_is_found_too() -> None:
    (report,) = splat.in_log("[1.0] ------------[ cut here ]------------\n[1.0] what is this\n[1.0] more\n")
    assert report.head == "what is this"


def test_reports_that_follow_each_other_are_told_apart() -> None:
    found = splat.in_log(KASAN + LOCKS + WARNING + KASAN)
    assert [report.head.split()[1] for report in found] == ["KASAN:", "possible", "double", "KASAN:"]
    assert not any("KASAN" in report.text for report in found[1:3])


@pytest.mark.parametrize(
    "line",
    [
        "BUG: sleeping function called from invalid context at ./include/linux/sched/mm.h:321",
        "BUG: MAX_LOCKDEP_CHAINS too low!",
        "turning off the locking correctness validator.",
        "INFO: task crun:812 blocked for more than 300 seconds.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "INFO: trying to register non-static key.",
        "ODEBUG: Out of memory. ODEBUG disabled",
        "WARNING: suspicious RCU usage",
        "refcount_t: underflow; use-after-free.",
        "Oops: general protection fault, probably for non-canonical address",
        "Kernel panic - not syncing: Fatal exception",
        "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE",
        "kmemleak: Kernel memory leak detector disabled",
        "sshd: page allocation failure: order:4",
        "Out of memory: Killed process 9 (soak)",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
    ],
)
def test_each_kind_of_complaint_is_a_report(line: str) -> None:
    (report,) = splat.in_log(f"[    5.000000] quiet\n[    5.000001] {line}\n")
    assert report.head == line


def test_leaks_are_told_apart_and_whose_they_are() -> None:
    theirs, ours = splat.in_kmemleak(LEAKS)
    assert theirs.head == "unreferenced object 0xffff888105e6c400 (size 512):"
    assert "other_function" in theirs.text
    assert "measure_file" not in theirs.text
    assert (theirs.ours, ours.ours) == (False, True)


@pytest.mark.parametrize(
    ("frame", "ours"),
    [
        ("measure_file+0x30/0x50 [testbed_measurer]", True),
        ("testbed_new_seq+0x1/0x2", True),
        ("bpf_prog_0123456789abcdef_mmap_file+0x4c/0x80", True),
        ("bpf_prog_load+0x4c/0x80", False),
        ("Modules linked in: testbed_measurer(O)", False),
    ],
)
def test_whose_a_stack_is(frame: str, ours: bool) -> None:
    (report,) = splat.in_log(f"[1.0] WARNING: x\n[1.0]  {frame}\n")
    assert report.ours is ours


def test_a_row_covers_its_report_and_no_other() -> None:
    reports = [*splat.in_log(WARNING + LOCKS), *splat.in_kmemleak(LEAKS)]
    assert splat.unknown(reports, [known(head="list_add double add")]) == reports[1:]
    assert splat.unknown(reports, [known(head="circular locking")]) == [reports[0], *reports[2:]]
    assert splat.unknown(reports, [known(head="unreferenced object")]) == [*reports[:2], reports[3]]
    assert splat.unknown(reports, [known(head=".", frame="function")]) == reports
    assert splat.unknown(reports, []) == reports


def test_no_row_covers_a_report_with_our_code_in_it() -> None:
    reports = [*splat.in_log(KASAN), splat.in_kmemleak(LEAKS)[1]]
    rows = [known(head=".", frame="hash_file"), known(head=".", frame="measure_file")]
    assert splat.unknown(reports, rows) == reports


def test_the_rows_of_this_repository_can_be_read() -> None:
    assert all(row.reason for row in splat.load_known(KNOWN))


@pytest.mark.parametrize(
    "text", ["[[report]]\nhead = 'x'\n", "[[report]", "[[report]]\nhead='x'\nframe='y'\nwhy='z'\n"]
)
def test_a_wrong_row_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "known.toml").write_text(text)
    with pytest.raises(SpecError, match=r"known\.toml"):
        splat.load_known(tmp_path / "known.toml")

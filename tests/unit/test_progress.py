"""Progress: nothing for short work, nothing for a program, nothing on standard output; bars or lines otherwise."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_campaign
import pytest
from evidence import GOLDEN
from terminal import shown_on

from testbed import progress, streams
from testbed.analysis.judged.checks import Judged
from testbed.analysis.report import report
from testbed.analysis.statistics import simulate
from testbed.attest.image.tree import measure_tree, read_directory
from testbed.attest.policy.make import from_rootfs
from testbed.attest.verdict import Verdict
from testbed.attest.verify import verify
from testbed.rundir import load

PROGRAM = """
import sys, time
from testbed import progress, streams
progress.AFTER, progress.PLAIN_AFTER, progress.PLAIN_EACH, progress.LOOK = 0.2, 0.2, 0.3, 0.02
streams.settle()
kind = sys.argv[1]
if kind == "steps":
    for number in progress.each(range(8), "counting", unit="things"):
        time.sleep(0.1)
        print(f"out {number}")
elif kind == "waiting":
    with progress.waiting("boot", 0.5):
        time.sleep(1)
elif kind == "nested":
    with progress.steps("outer", 3, "runs") as outer:
        for _ in range(3):
            with progress.steps("inner", 2e6, progress.BYTES) as inner:
                time.sleep(0.15)
                inner.done = 1e6
                time.sleep(0.2)
            outer.advance()
elif kind == "short":
    for _ in progress.each(range(3), "short"):
        pass
elif kind == "closed":
    sys.stderr.close()
    with progress.waiting("boot"):
        time.sleep(0.5)
elif kind == "within":
    with progress.reporter("smoke", 2) as reporter:
        reporter.advance("one")
        with progress.waiting("build kernel", 9):
            time.sleep(0.5)
        reporter.advance("two")
elif kind == "around":
    with progress.steps("kernels", 2) as work:
        for pause in (0.0, 0.5):
            time.sleep(pause)
            with progress.reporter("smoke", 1) as reporter:
                time.sleep(0.4)
                reporter.advance("ran")
            work.advance()
        time.sleep(0.3)
streams.finish()
"""


def said(kind: str) -> tuple[str, str]:
    """Return standard output and standard error of a program that counts, without a terminal."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, kind], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def on_a_terminal(kind: str) -> tuple[str, str]:
    """Return standard output, and what a terminal got as standard error."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    argv = [sys.executable, "-c", PROGRAM, kind]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = shown_on(ours)
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0, shown
    return out, shown.decode()


def test_lines_elsewhere_have_the_count_and_what_is_left() -> None:
    out, err = said("steps")
    assert out.splitlines() == [f"out {number}" for number in range(8)]
    assert re.search(r"^counting: \d/8 things, \d+ s, about \d+ s left$", err, re.MULTILINE), err
    assert len(err.splitlines()) <= 8


def test_a_terminal_gets_a_bar_and_standard_output_its_own_lines() -> None:
    out, shown = on_a_terminal("steps")
    assert out.splitlines() == [f"out {number}" for number in range(8)]
    assert "counting" in shown
    assert re.search(r"\d/8 things", shown)
    assert "left" in shown
    # What was drawn is removed again: the cursor goes up and the line is cleared.
    assert shown.rstrip().endswith("\x1b[2K\x1b[?25h")


def test_work_that_takes_longer_than_expected_has_no_estimate_any_more() -> None:
    lines = said("waiting")[1].splitlines()
    assert lines[0].startswith("boot: about 0 s, 0 s, about 0 s left")
    assert lines[-1] == "boot: 1 s"


def test_work_within_work_is_shown_too() -> None:
    out, err = said("nested")
    assert out == ""
    assert "outer: " in err
    assert "inner: 1/2 MB" in err
    shown = on_a_terminal("nested")[1]
    assert "outer" in shown
    assert "1/2 MB" in shown


@pytest.mark.parametrize("show", [said, on_a_terminal])
def test_short_work_says_nothing(show: object) -> None:
    assert callable(show)
    assert show("short") == ("", "")


def test_a_closed_stream_stops_nothing() -> None:
    assert said("closed")[0] == ""


def test_a_reporter_shows_work_within_it_below() -> None:
    shown = on_a_terminal("within")[1]
    for word in ("smoke", "1/2", "build kernel", "about 9 s", "two"):
        assert word in shown
    err = said("within")[1]
    assert "smoke: [1/2" in err
    assert "build kernel: about 9 s" in err


def test_a_reporter_within_work_shares_the_terminal() -> None:
    shown = on_a_terminal("around")[1]
    for word in ("kernels", "1/2", "smoke", "1/1"):
        assert word in shown
    assert "Traceback" not in shown
    assert "ran" in said("around")[1]


def test_a_program_that_imports_this_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert not streams.owned()
    with progress.waiting("x", 1):
        pass
    assert list(progress.each(iter("ab"), "letters")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_what_is_left_goes_as_fast_as_what_is_done() -> None:
    work = progress.CountedWork("x", 10, "runs")
    now = work.begun + 4
    assert work.left(now) is None
    work.advance(2)
    assert work.left(now) == pytest.approx(16)
    assert work.amount(now) == "2/10 runs"
    assert progress.CountedWork("x", None, "entries").amount(now) == "0 entries"


def test_an_iterable_that_is_left_early_is_ended() -> None:
    streams._OWNED = True
    try:
        for _ in progress.each(range(3), "x"):
            break
        deadline = time.monotonic() + 5
        while progress._DISPLAY.under_way and time.monotonic() < deadline:
            time.sleep(0.01)
        assert progress._DISPLAY.under_way == []
        assert progress._DISPLAY._thread is None
    finally:
        streams._OWNED = False


def test_nothing_slow_is_imported_before_something_is_shown() -> None:
    program = "import sys; from testbed import progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, progress.CountedWork]:
    """What is counted from now on, by its title."""
    seen: dict[str, progress.CountedWork] = {}

    def shown(work: progress.CountedWork) -> Iterator[progress.CountedWork]:
        seen[work.title] = work
        yield work

    monkeypatch.setattr(progress, "_shown", shown)
    return seen


def test_verifying_counts_the_bytes_of_the_log(counted: dict[str, progress.CountedWork]) -> None:
    bundle = GOLDEN / "bundle-debian-6.12"
    nonce = json.loads((bundle / "bundle.json").read_bytes())["nonce"]
    assert verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=bytes.fromhex(nonce)).ok
    work = counted["log"]
    assert work.done == work.total == (bundle / "ima.bin").stat().st_size
    assert work.unit == progress.BYTES


def test_a_report_counts_each_of_its_parts(counted: dict[str, progress.CountedWork], tmp_path: Path) -> None:
    made = fake_campaign.build(tmp_path, blocks=6)
    report.write(load(made), judge=lambda *_: Judged(verdict=Verdict(findings=())))
    totals = {"records": 30, "verdicts": 30, "events": 30, "evidence to attack": 30, "tables": 5, "other methods": 3}
    assert {title: counted[title].total for title in totals} == totals
    assert {title: counted[title].done for title in totals} == totals
    assert "figures" in counted


def test_other_long_work_is_counted(counted: dict[str, progress.CountedWork], tmp_path: Path) -> None:
    simulate.rates(simulate.COUNTED, (0.0,), campaigns=3)
    simulate.family(simulate.COUNTED, campaigns=4)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    measure_tree(read_directory(tmp_path / "tree"))
    from_rootfs(tmp_path / "tree")
    done = {title: work.done for title, work in counted.items()}
    assert done == {"simulated": 3, "arms without an effect": 4, "image tree": 2, "hashing": 1}

"""Progress: nothing for short work, nothing for a program, nothing on standard output; bars or lines otherwise."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed import progress, streams

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
        shown = b""
        while True:
            try:
                more = os.read(ours, 1 << 16)
            except OSError:
                break
            if not more:
                break
            shown += more
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0, shown
    return out, shown.decode()


def test_lines_elsewhere_have_the_count_and_what_is_left() -> None:
    out, err = said("steps")
    assert out.splitlines() == [f"out {number}" for number in range(8)]
    assert re.search(r"^counting: \d/8 things, 0 s, about [01] s left$", err, re.MULTILINE), err
    assert len(err.splitlines()) <= 3


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

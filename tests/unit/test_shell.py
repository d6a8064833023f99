"""The one door to other programs: statuses, deadlines, nothing left behind."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from testbed import shell
from testbed.errors import CommandError, DeadlineExceeded, HostError


def test_output_and_status_come_back_apart() -> None:
    done = shell.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout=30, check=False)
    assert (done.code, done.out, done.err) == (7, b"out\n", b"err\n")
    assert done.argv[0] == "sh"


def test_a_failure_shows_what_can_be_pasted_and_the_last_lines() -> None:
    with pytest.raises(CommandError) as caught:
        shell.run(["sh", "-c", "seq 1 100; echo 'no room' >&2; exit 7"], timeout=30)
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("exit status 7: sh -c 'seq 1 100;")
    assert lines[-1] == "no room"
    assert "100" in lines
    assert "1" not in lines


def test_words_are_not_read_by_a_shell(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/made); `x` * ' \""
    assert shell.run(["printf", "%s", hostile], timeout=30).text == hostile
    assert list(tmp_path.iterdir()) == []


def test_input_is_given_and_without_it_there_is_none() -> None:
    assert shell.run(["cat"], timeout=30, input=b"\x00given").out == b"\x00given"
    assert shell.run(["cat"], timeout=30).out == b""


def test_more_output_than_a_pipe_holds_comes_back_whole() -> None:
    program = "import sys; sys.stdout.write('o' * 300000); sys.stderr.write('e' * 300000)"
    done = shell.run([sys.executable, "-c", program], timeout=60)
    assert (len(done.out), len(done.err)) == (300000, 300000)


def test_a_program_that_does_not_exist_is_the_hosts_lack() -> None:
    with pytest.raises(HostError, match="'no-such-program'") as caught:
        shell.run(["no-such-program"], timeout=30)
    assert "make setup" in caught.value.hint


def test_at_the_deadline_its_children_end_too(tmp_path: Path) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    read = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(DeadlineExceeded, match=r"did not finish within 1 s: sh -c"):
        shell.run(["sh", "-c", f"exec 3>{fifo}; sleep 600 & wait"], timeout=1)
    # The pipe is at its end when the last process that has it open is gone.
    assert select.select([read], [], [], 60)[0]
    assert os.read(read, 1) == b""
    os.close(read)


def test_only_what_the_person_needs_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"LC_ALL": "de_DE", "SECRET_TOKEN": "x", "PYTHONPATH": "/x", "https_proxy": "p:1"}.items():
        monkeypatch.setenv(key, value)
    told = shell.run(["env", "-0"], timeout=30, env={"EXTRA": "1"}).text
    seen = dict(pair.split("=", 1) for pair in told.split("\0") if pair)
    assert (seen["LC_ALL"], seen["https_proxy"], seen["EXTRA"]) == ("C.UTF-8", "p:1", "1")
    assert not {"SECRET_TOKEN", "PYTHONPATH"} & seen.keys()


def test_programs_of_administrators_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    assert shell.which("mine") == str(tmp_path / "mine")
    assert shell.which("no-such-program") is None
    assert shell.environment()["PATH"].split(":") == [str(tmp_path), "/usr/sbin", "/sbin"]


def test_the_working_directory_is_taken(tmp_path: Path) -> None:
    assert shell.run(["pwd", "-P"], timeout=30, cwd=tmp_path).text.strip() == str(tmp_path.resolve())


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert shell.run(["printf", r"a\377"], timeout=30).text == "a\\xff"

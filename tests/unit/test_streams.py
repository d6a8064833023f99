"""The standard streams: full, closed, or in a locale that cannot say what is printed. No case ends with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/golden/bundle-debian-6.12"
CLOSED = 128 + 13  # what a shell shows for SIGPIPE
LIST = ("mutate", BUNDLE, "--list")


def run(*words: str | bytes | Path, redirect: str = "", **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a shell with this redirection does."""
    script = f'"$@" {redirect}'
    argv: list[str | bytes | Path] = ["bash", "-c", script, "bash", sys.executable, "-m", "testbed.cli", *words]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(argv, capture_output=True, check=False, cwd=ROOT, env=settings | env)


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help"), LIST], ids=lambda words: words[0])
def test_output_that_cannot_be_written_is_the_hosts_fault(words: tuple[str | Path, ...]) -> None:
    done = run(*words, redirect=">/dev/full")
    assert done.returncode == 3, done.stderr
    assert b"error: standard output: the disk is full\n  hint: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("--help",), ("--version",), LIST], ids=lambda words: words[0])
def test_a_reader_that_is_gone_has_a_status_of_its_own(words: tuple[str | Path, ...]) -> None:
    done = run(*words, redirect="| true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED="1")
    assert done.returncode == CLOSED
    assert b"Traceback" not in done.stderr
    assert b"Broken pipe" not in done.stderr


def test_closed_streams_are_like_the_null_device(tmp_path: Path) -> None:
    program = (
        "import os, sys; from testbed.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    seen = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "    open(os.environ['SEEN'], 'w').write(f'{end.code} {seen}')"
    )
    argv = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", program, *map(str, LIST)]
    done = subprocess.run(argv, check=False, cwd=ROOT, env=os.environ | {"SEEN": f"{tmp_path / 'seen'}"})
    assert (tmp_path / "seen").read_text() == f"0 {['/dev/null'] * 3}"
    assert done.returncode == 0


def test_an_error_that_cannot_be_printed_keeps_its_status() -> None:
    assert run("nonesuch", redirect="2>/dev/full").returncode == 2
    assert run("policy", "from-log", BUNDLE, redirect="2>/dev/full").returncode == 3


# What each locale makes of the characters: as they are, or escaped where its encoding does not have them.
GREEK, GREEK_ESCAPED, GREEK_BYTES = "δ".encode(), b"\\u03b4", b"\\xce\\xb4"


@pytest.mark.parametrize(
    ("env", "greek"),
    [
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"}, GREEK),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}, GREEK_ESCAPED),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, GREEK_BYTES),
        ({"LC_ALL": "POSIX"}, GREEK),
        ({"LC_ALL": "", "LANG": "xx"}, GREEK),
    ],
    ids=str,
)
def test_every_name_is_printed_in_every_locale(tmp_path: Path, env: dict[str, str], greek: bytes) -> None:
    log = tmp_path / os.fsdecode("δ".encode() + b"\xff")
    log.write_bytes((BUNDLE / "ima.bin").read_bytes())
    done = run("semantics", log, **env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/" + greek + b"\\xff (binary): " in done.stdout

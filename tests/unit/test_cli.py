"""The command line's own part: where commands are found, and what becomes of an error."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner, Result

from testbed import cli, errors
from testbed.commands import _conduct
from testbed.errors import BuildError, EvidenceError, HostError, LostMachine, SpecError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SpecError("s", "h"), 2),
        (HostError("s", "h"), 3),
        (BuildError("s", "h"), 3),
        (LostMachine("s", "h"), 3),
        (EvidenceError("s", "h"), 4),
    ],
)
def test_an_error_of_ours_is_its_message_and_its_status(
    monkeypatch: pytest.MonkeyPatch, error: errors.TestbedError, status: int
) -> None:
    done = _failing(monkeypatch, error)
    assert (done.exit_code, done.stderr) == (status, "error: s\n  hint: h\n")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota of this user is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EEXIST, "it exists already"),
        (errno.EIO, "the device reports an error"),
        (errno.EMFILE, "too many files are open in this process"),
        (errno.ETXTBSY, os.strerror(errno.ETXTBSY)),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_what_the_system_says_has_a_path_and_a_remedy(monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    done = _failing(monkeypatch, OSError(number, os.strerror(number), "/somewhere/file"))
    assert done.exit_code == 3
    assert done.stderr.startswith(f"error: /somewhere/file: {said}\n  hint: ")
    assert len(done.stderr.splitlines()) == 2


def test_of_two_paths_the_written_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/source", None, b"/t\xff")
    assert _failing(monkeypatch, error).stderr.startswith("error: /t\\xff: the disk is full")


def test_places_that_can_be_changed_are_named_together() -> None:
    for number in (errno.EROFS, errno.EACCES, errno.ENOTDIR):
        hint = errors.host_error(OSError(number, "")).hint
        assert all(name in hint for name in ("--results", "TESTBED_CACHE", "TESTBED_STATE", "TMPDIR"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "no memory is left"),
        (UnicodeEncodeError("ascii", "δ", 0, 1, "ordinal not in range"), "does not fit its encoding"),
        (ModuleNotFoundError("No module named 'pandas'", name="pandas"), "the Python module pandas cannot be used"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_else_a_machine_does_not_have(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    done = _failing(monkeypatch, error)
    assert (done.exit_code, said in done.stderr, "hint: " in done.stderr) == (3, True, True), done.stderr


def test_an_interrupt_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _failing(monkeypatch, KeyboardInterrupt())
    assert done.exit_code == 130
    assert "what is complete is kept" in done.stderr


@pytest.mark.parametrize("error", [ZeroDivisionError(), EOFError(), SystemExit("text"), AssertionError()], ids=repr)
def test_a_defect_keeps_its_traceback_and_is_no_verdict(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    done = _failing(monkeypatch, error)
    assert done.exit_code == 70
    assert "Traceback" in done.stderr
    assert type(error).__name__ in done.stderr
    assert done.stderr.endswith("this is a defect of the testbed: please report these lines\n")


def test_only_wrong_arguments_end_in_clicks_own_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its status is 1, which is a verdict here.
    assert _failing(monkeypatch, click.FileError("f", "no")).exit_code == 2


def test_every_command_is_found_and_explains_itself() -> None:
    context = click.Context(cli.main)
    names = cli.main.list_commands(context)
    assert {"run", "evaluate", "verify", "report", "figures", "images", "doctor", "gc", "shell"} <= set(names)
    for name in names:
        command = cli.main.get_command(context, name)
        assert command is not None
        assert command.help, name


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(cli.main)
    for name in cli.main.list_commands(context):
        command = cli.main.get_command(context, name)
        assert command is not None
        listed = click.Command(name, help=cli.summary(name)).get_short_help_str(999)
        assert listed == command.get_short_help_str(999) != "", name
        assert command.name == name


def test_the_list_of_commands_imports_none() -> None:
    heavy = ("testbed.commands", "testbed.lab", "testbed.attest", "testbed.analysis", "pydantic", "pandas", "libvirt")
    program = f"""
import sys
from testbed.cli import main
try:
    main(["--help"])
except SystemExit as end:
    sys.exit(end.code or [name for name in sys.modules if name.startswith({heavy})] or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  image-digest +Print the digest of each image", done.stdout, re.MULTILINE)


def test_a_name_that_is_no_command_is_refused() -> None:
    for name in ("nonesuch", "_conduct", "image_digest", "../cli"):
        done = CliRunner().invoke(cli.main, [name])
        assert done.exit_code == 2
        assert f"No such command '{name}'" in done.stderr


@pytest.mark.parametrize("words", [["gc"], ["shell"], ["bench", "log"], ["run", "experiments/smoke.toml"]])
def test_a_command_that_boots_machines_says_that_libvirt_is_missing(words: list[str]) -> None:
    program = "import sys; sys.modules['libvirt'] = None; from testbed.cli import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == HostError.exit_status, done.stderr
    assert done.stderr.startswith("error: ")
    assert "libvirt" in done.stderr
    assert "hint: run `make setup`" in done.stderr


def test_a_wrong_experiment_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\nquestion = "?"\nmeasurers = ["nonesuch"]\nworkloads = ["tools"]\n')
    done = CliRunner().invoke(cli.main, ["run", str(path)])
    assert done.exit_code == 2
    assert f"{path}: key 'measurers': no measurer 'nonesuch'" in done.stderr
    assert "container-file" in done.stderr


@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_an_option_says_wrong_names_the_option(tmp_path: Path, command: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\nquestion = "?"\nmeasurers = ["none"]\nworkloads = ["tools"]\n')
    for option in ("blocks=0", 'measurers=["nonesuch"]'):
        done = CliRunner().invoke(cli.main, [command, str(path), "--set", "seed=2", "--set", option])
        assert done.exit_code == 2
        assert f"--set {option}: " in done.stderr


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(_conduct, "conduct", fail)
    return CliRunner().invoke(cli.main, ["evaluate"])

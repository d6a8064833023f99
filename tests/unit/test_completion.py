"""Completion: what is offered for each word, and that bash, zsh and fish offer it, where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import fake_campaign
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from testbed import plugins
from testbed.cli import main
from testbed.commands import shell as shell_command
from testbed.errors import HostError

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "zsh", "fish")


def offered(*words: str) -> list[str]:
    """Return what is offered for the last word."""
    *before, incomplete = words
    asked = ShellComplete(main, {}, "testbed", "_TESTBED_COMPLETE").get_completions(list(before), incomplete)
    return [f"<{item.type}>" if item.type != "plain" else item.value for item in asked]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an experiment and two campaigns, in which the test is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.toml").write_text("")
    first = fake_campaign.build(tmp_path / "results", blocks=1)
    second = tmp_path / "results" / "newer"
    shutil.copytree(first.path, second)
    os.utime(first.path / "plan.json", (1, 1))
    (tmp_path / "results" / "empty").mkdir()
    return tmp_path


def test_commands_are_offered_with_what_they_do() -> None:
    asked = ShellComplete(main, {}, "testbed", "_TESTBED_COMPLETE").get_completions([], "s")
    helps = {item.value: item.help for item in asked}
    assert {"selftest", "semantics", "shell", "simulate", "status"} <= set(helps)
    assert str(helps["simulate"]).startswith("Judge simulated campaigns")
    assert "--verbose" in offered("--v")


def test_offering_commands_imports_none() -> None:
    program = """
import os, sys
os.environ |= {"_TESTBED_COMPLETE": "bash_complete", "COMP_WORDS": "testbed s", "COMP_CWORD": "1"}
from testbed.cli import main
try:
    main(prog_name="testbed")
except SystemExit as end:
    print(end.code, [name for name in sys.modules if name.startswith(("testbed.commands", "pandas", "rich"))])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "plain,simulate" in done.stdout.splitlines()


def test_campaigns_newest_first(place: Path) -> None:
    for command in ("report", "figures", "export", "reference", "compare", "pilot"):
        assert offered(command, "") == ["results/newer", "results/fake-icount-0badcafe"], command
    assert offered("report", "results/f") == ["results/fake-icount-0badcafe"]
    assert offered("report", "elsewhere") == ["<dir>"]
    assert offered("pilot", "elsewhere") == ["<file>"]


def test_a_campaign_whose_name_cannot_be_shown_is_left_out(place: Path) -> None:
    (place / "results" / "newer").rename(place / "results" / "a\nplain,b")
    assert offered("report", "") == ["results/fake-icount-0badcafe"]


def test_experiments(place: Path) -> None:
    for command in ("run", "plan", "kernels", "selftest"):
        assert offered(command, "") == ["experiments/mine.toml"], command
    assert offered("run", "other") == ["<file>"]


def test_names() -> None:
    ours = [name for name in plugins.names("measurers") if name.startswith("container-")]
    assert offered("claim", "container-") == ours
    assert {"container-file", "container-image"} <= {*ours}
    assert offered("claim", "none", "start") == ["start-cold", "start-warm"]
    assert offered("shell", "--measurer", "") == list(plugins.names("measurers"))
    assert "debian-6.12" in offered("shell", "--kernel", "debian")
    assert "debian-6.12" in offered("bench", "measurer", "--kernel", "debian")
    assert "tools" in offered("images", "build", "to")
    assert offered("completion", "") == list(SHELLS)


def test_names_that_cannot_be_known_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> list[str]:
        raise HostError("images/kernels: not found", "clone the repository")

    monkeypatch.setattr(shell_command.command.params[0].type, "_names", nothing)
    assert offered("shell", "--kernel", "") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_that_of_the_shell(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_TESTBED_COMPLETE={shell}_complete" in done.stdout


def test_another_shell_is_refused() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


@pytest.fixture
def path(place: Path) -> dict[str, str]:
    """An environment whose PATH has a ``testbed`` that runs this tree."""
    program = place / "bin" / "testbed"
    program.parent.mkdir()
    run = "from testbed.cli import main; main(prog_name='testbed')"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{run}" "$@"\n')
    program.chmod(0o755)
    more = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(place)}
    return {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | more | {"TERM": "dumb"}


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


BASH = """
eval "$(testbed completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
"$(complete -p testbed | sed 's/.*-F \\([^ ]*\\).*/\\1/')" testbed
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def in_bash(path: dict[str, str], *words: str) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in ("testbed", *words))
    program = BASH.format(words=quoted, last=len(words))
    done = subprocess.run(
        [needs("bash"), "--norc", "-c", program], env=path, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_offers_them(path: dict[str, str]) -> None:
    assert in_bash(path, "sim") == ["simulate"]
    assert in_bash(path, "report", "results/") == ["results/newer", "results/fake-icount-0badcafe"]
    assert in_bash(path, "run", "") == ["experiments/mine.toml"]
    assert in_bash(path, "shell", "--measurer", "hooks") == ["hooks-only"]


def test_fish_offers_them(path: dict[str, str]) -> None:
    shell = needs("fish")
    for words, wanted in (
        ("sim", "simulate"),
        ("claim none start-", "start-cold"),
        ("report results/n", "results/newer"),
    ):
        program = f"testbed completion fish | source; complete -C 'testbed {words}'"
        done = subprocess.run(
            [shell, "--no-config", "-c", program], env=path, capture_output=True, text=True, check=True
        )
        assert wanted in done.stdout, done


def test_zsh_completes_the_word(path: dict[str, str]) -> None:
    """Its completion works only in an interactive shell, so one is typed into."""
    shell = needs("zsh")
    ours, theirs = pty.openpty()
    argv = [shell, "-f", "-i"]
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=path, start_new_session=True
    ) as process:
        os.close(theirs)
        typed(
            ours, 'autoload -U compinit && compinit -u -D; eval "$(testbed completion zsh)"; echo is-$((1+1))-ready\n'
        )
        wait_for(ours, "is-2-ready")
        typed(ours, "testbed simul\t")
        shown = wait_for(ours, "simulate")
        typed(ours, "\x15exit\n")
        process.wait(timeout=30)
    os.close(ours)
    assert "simulate" in shown


def typed(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def wait_for(terminal: int, text: str, seconds: float = 60) -> str:
    shown, end = "", time.monotonic() + seconds
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 1 << 12).decode(errors="replace")
    assert text in shown, shown
    return shown


def test_every_argument_says_what_completes_it() -> None:
    """An argument that names a campaign or an experiment has the type that completes it."""
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.name in {"campaign_dir", "campaigns", "experiment"}:
                assert type(parameter.type).__name__ in {"CampaignPath", "ExperimentPath"}, name

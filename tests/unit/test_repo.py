"""The repository as a whole: what its front page promises exists, and nothing in it points at one machine or mirror."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "setup",
    "evaluate",
    "selftest",
    "scaling",
    "test",
    "browser",
    "check",
    "holes",
    "kernels",
    "fuzz",
    "kasan",
    "figures",
    "paper",
    "paper-full",
    "pages",
    "quoted",
    "notebooks",
    "jupyter",
    "doctor",
    "demo",
    "shell",
    "docs",
    "clean",
    "help",
)

# In pieces, or this file would be the first to be found.
REGISTRIES = (
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "npm" + r"js\.(org|com)",
    r"(deb|security|snapshot|ftp[a-z.]*)\." + r"debian\.org",
    "(?<!emit-)index" + "-url",
    "PIP_" + "INDEX",
)
MACHINE_PATHS = (
    r"(?<![\w)}.*])/wo" + "rk/",
    r"(?<![\w)}.*])/fa" + "rm/",
    r"/var/tmp/" + "scratch",
    r"/home/" + r"[a-z0-9_]+/",
    r"/root/" + r"\.pyenv",
)


def files() -> list[Path]:
    """Return what is, or would be, committed; all files where there is no git (an unpacked archive)."""
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(argv, capture_output=True, check=False)
    found = [ROOT / os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    if not found:
        hidden = {".git", ".venv", "results", "build"}
        found = [path for path in ROOT.rglob("*") if not hidden & set(path.relative_to(ROOT).parts)]
    return [path for path in found if path.is_file()]


def places(pattern: str) -> list[str]:
    """Return each file and line in which a pattern is found; of binary files too."""
    expression = re.compile(pattern.encode())
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if expression.search(line)
    ]


@pytest.mark.parametrize("pattern", REGISTRIES)
def test_no_file_names_a_registry(pattern: str) -> None:
    assert places(pattern) == []


@pytest.mark.parametrize("pattern", MACHINE_PATHS)
def test_no_file_names_a_path_of_one_machine(pattern: str) -> None:
    assert places(pattern) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRIES[0], "https://" + "pypi" + ".org/simple"),
        (REGISTRIES[4], "--index" + "-url=x"),
        (REGISTRIES[3], "deb http://" + "deb.debian" + ".org/debian trixie main"),
        (MACHINE_PATHS[0], "/wo" + "rk/main/results"),
        (MACHINE_PATHS[3], "/home/" + "someone/testbed"),
    ],
)
def test_the_patterns_can_find_something(pattern: str, line: str) -> None:
    assert re.search(pattern, line)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # A make that runs this test would pass its own flags on.
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CI")}
    env.pop("TESTBED_FORCE_VM", None)
    return subprocess.run(["make", "-C", str(ROOT), *words], env=env, capture_output=True, text=True, check=False)


# A command that runs tests which boot, and not one that looks at their types.
RUN = re.compile(r"pytest .*tests/vm")


def helped() -> set[str]:
    return set(re.findall(r"^make ([a-z-]+) ", make("-s", "--no-print-directory", "help").stdout, re.MULTILINE))


def test_help_lists_every_target_and_each_exists() -> None:
    assert helped() == set(TARGETS)
    assert {target for target in TARGETS if make("-n", target).returncode} == set()


def test_evaluate_and_test_set_the_machine_up_first() -> None:
    for target in ("evaluate", "test"):
        lines = [line for line in make("-n", target).stdout.splitlines() if line and not line.startswith("make")]
        assert lines[0] == "bash setup/setup.sh lab"


def test_vm_tests_are_part_of_test_and_only_a_person_can_leave_them_out() -> None:
    vm_tests = "pytest tests/vm -m 'vm and not variant'"
    assert vm_tests in make("-n", "test").stdout
    left_out = make("-n", "test", "TESTBED_SKIP_VM=1").stdout
    assert vm_tests not in left_out
    assert "NOT TESTED" in left_out
    assert vm_tests in make("-n", "test", "TESTBED_SKIP_VM=1", "CI=true").stdout
    assert vm_tests in make("-n", "test", "TESTBED_SKIP_VM=1", "TESTBED_FORCE_VM=1").stdout


def test_the_browser_is_part_of_test_and_not_of_check() -> None:
    lines = make("-n", "test").stdout.splitlines()
    (browser,) = (place for place, line in enumerate(lines) if "pytest tests/browser" in line)
    assert lines[browser].startswith("TESTBED_FORCE_BROWSER=1 "), "a browser that is missing is a failure"
    order = [place for place, line in enumerate(lines) if re.search(r"pytest tests/(unit|vm)", line)]
    assert order[0] < browser < order[-1]
    assert "tests/browser" not in "".join(line for line in make("-n", "check").stdout.splitlines() if "pytest" in line)


def test_machines_run_two_at_a_time_unless_a_person_wants_another_number() -> None:
    for target in ("test-vm", "holes", "kernels"):
        for workers, words in ((2, ()), (1, ("VM_WORKERS=1",))):
            commands = [line for line in make("-n", target, *words).stdout.splitlines() if RUN.search(line)]
            assert [re.findall(r" -n (\d+)$", line) for line in commands] == [[str(workers)]]


def test_only_holes_runs_all_variants_of_the_attacks() -> None:
    (command,) = (line for line in make("-n", "holes").stdout.splitlines() if "pytest" in line)
    assert command.startswith("TESTBED_FORCE_VM=1 ")
    attacks = " ".join(
        f"tests/vm/test_{name}.py" for name in ("holes", "denial", "quiet", "second", "known", "drift", "verity")
    )
    assert f"{attacks} -m vm " in command
    for target in ("test", "kernels"):
        commands = [line for line in make("-n", target).stdout.splitlines() if RUN.search(line)]
        assert commands
        assert [line for line in commands if "-m 'vm and not variant'" not in line] == []


def test_only_kasan_runs_the_soak() -> None:
    pytest.importorskip("libvirt")
    assert "pytest tests/kasan" in make("-n", "kasan").stdout
    for target in ("test", "check", "evaluate"):
        assert "pytest tests/kasan" not in make("-n", target).stdout
    argv = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests/kasan")]
    env = {key: value for key, value in os.environ.items() if not key.startswith("TESTBED_KASAN")}
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.search(r"^\d+ skipped in ", done.stdout, re.MULTILINE), done.stdout


def test_check_has_a_floor_for_the_package_and_a_higher_one_for_the_verifier() -> None:
    """Of one run: a second one of the tests would take as long again."""
    lines = make("-n", "check").stdout.splitlines()
    (tests,) = [line for line in lines if "pytest" in line]
    assert "--cov=testbed --cov-branch" in tests
    reports = [line for line in lines if "coverage report" in line]
    floors = {"testbed/attest/" in line: int(re.findall(r"--fail-under=(\d+)", line)[0]) for line in reports}
    assert 100 > floors[True] > floors[False] > 90


def test_ci_runs_all_tests_and_forces_those_that_boot() -> None:
    script = ROOT / ".ci/run"
    if (ROOT / ".git").exists():  # the archive of a release may have no modes
        assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert re.search(r"^export CI=true TESTBED_FORCE_VM=1\nexec make test$", text, re.MULTILINE)


@pytest.mark.parametrize("script", [".ci/run", "setup/setup.sh"])
def test_a_script_is_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_starts_with_exactly_two_commands() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [line.split("#")[0].strip() for line in blocks[0].splitlines()] == ["make evaluate", "make test"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_make_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", page.read_text()))
    assert named <= helped()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


# Words that are hard to read, and what to write. Each was in a page once; CONTRIBUTING.md has the rules behind them.
# A space stands for any white space, as a line may end there.
HARD = {
    r"aught|naught|lest|thereof|therein|whence|whereof|wherein": "a modern word",
    r"anew": "again, or new",
    r"as (it|they) (had|have|has) to be": "as expected, or correct",
    r"besides": "also, or beside",
    r"by the way": "by accident",
    r"cut apart|cuts .{1,20} apart": "split",
    r"could be found": "detectable effect (80 % power)",
    r"for .{1,30} to say": "decides: name what decides",
    r"given up": "stopped, or dropped",
    r"hand(s|ed)? (in|on)": "pass",
    r"(is|are|was|were) told": "is reported",
    r"is to be said|said apart": "there is a finding, or is listed separately",
    r"(instructions|rows?|cycles|extends) an? (byte|entry|file|instruction|page|run|sample|start)": "per, not a",
    r"lend(s)? itself": "can be applied to",
    r"lets? (pass|through)": "tolerated by the policy, or accepts",
    r"mend(s|ed|ing)?": "fix",
    r"nobody's|nobody of us": "name who does not, or what is ignored",
    r"of ours": "of this project",
    r"puts? aside": "reject",
    r"stands? apart": "is reported separately",
    r"takes? no notice": "ignore",
    r"takes? the place of": "override, or replace",
    r"tells? of": "report, or describe",
    r"the person": "the user",
    r"to the last bit": "completely",
    r"what is none": "name it: missing, or not a container",
    r"whoever": "a process, or a user, that",
}
# Written by `make kernels`; the table of all attacks is made from docstrings.
GENERATED = ("kernels.md",)
GENERATED_PART = "## All attacks"
# This section has the hard words as its examples.
EXAMPLES = re.compile(r"^## Ten rules for English\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return what somebody wrote of a page; what is left out becomes empty lines, so that lines keep their numbers."""
    text = text.partition(GENERATED_PART)[0]
    for left_out in (CODE, EXAMPLES):
        text = left_out.sub(lambda match: "\n" * match[0].count("\n"), text)
    return text


def hard_words(name: str, text: str) -> list[str]:
    """Return a complaint for each hard word in a page: where, which, what to write instead."""
    written = prose(text)
    return [
        f"{name}:{written.count(chr(10), 0, match.start()) + 1}: '{' '.join(match[0].split())}'; better: {better}"
        for phrase, better in HARD.items()
        for match in re.finditer(rf"\b(?:{phrase.replace(' ', chr(92) + 's+')})\b", written, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_page_has_words_that_are_hard_to_read(page: Path) -> None:
    found = [] if page.name in GENERATED else hard_words(str(page.relative_to(ROOT)), page.read_text())
    assert not found, "\n".join(["words that are hard to read (CONTRIBUTING.md, Ten rules for English):", *found])


@pytest.mark.parametrize("source", sorted((ROOT / "bpf").rglob("*.[ch]")), ids=lambda source: source.name)
def test_no_comment_of_the_measurer_has_words_that_are_hard_to_read(source: Path) -> None:
    found = hard_words(str(source.relative_to(ROOT)), source.read_text())
    assert not found, "\n".join(["words that are hard to read (CONTRIBUTING.md, Ten rules for English):", *found])


def test_a_hard_word_is_found_at_its_line_and_not_in_output_of_a_program() -> None:
    page = (
        "# A\n\n```\nnobody's\n```\n\nWhat the policy lets\npass, and what is\nput  aside.\n\n## All attacks\n\nanew\n"
    )
    assert hard_words("a.md", page) == [
        "a.md:7: 'lets pass'; better: tolerated by the policy, or accepts",
        "a.md:9: 'put aside'; better: reject",
    ]
    assert hard_words("a.md", "Neither mendacious nor amended, nor retold.") == []


def test_a_wheel_has_every_file_of_the_package() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["testbed"]
    package = ROOT / "testbed"
    others = {
        str(path.relative_to(package)) for path in files() if path.is_relative_to(package) and path.suffix != ".py"
    }
    assert others == set(named)
    folders = {path.parent for path in files() if path.is_relative_to(package)}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []

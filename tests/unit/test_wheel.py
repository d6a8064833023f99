"""A built wheel, installed elsewhere: the desk's commands work, and the lab's say what they do not find."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/golden/bundle-debian-6.12"
# What a build reads, and nothing else: it must not find what only the repository has.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "testbed")
# An installed program has no PYTHONPATH; this one must find the wheel, and the packages of the running Python.
PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from testbed.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel without network, and install it into a directory."""
    place = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, place / "source" / name, ignore=ignore)
        else:
            (place / "source").mkdir(exist_ok=True)
            shutil.copyfile(source, place / "source" / name)
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    # A pip.conf or PIP_* of the user may send packages elsewhere, and nothing here comes from an index.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    offline = own | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    build = (*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", place, place / "source")
    done = subprocess.run(build, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("testbed-*.whl")
    install = (*pip, "install", "--no-deps", "--target", place / "site", wheel)
    done = subprocess.run(install, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr
    return place / "site"


def run(installed: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed program in a directory that is not the repository."""
    argv = [sys.executable, "-P", "-c", PROGRAM, f"{installed}", *map(str, words)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, env=env)


def test_a_wheel_has_all_files_of_the_package_and_nothing_else(installed: Path) -> None:
    (wheel,) = installed.parent.glob("testbed-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path for path in (ROOT / "testbed").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in package} == {
        name for name in names if name.startswith("testbed/")
    }
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"testbed"}


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    program = PROGRAM.partition("from testbed")[0] + "import testbed; print(testbed.__file__)"
    argv = [sys.executable, "-P", "-c", program, f"{installed}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(done.stdout.strip()) == installed / "testbed/__init__.py"


def test_an_installed_package_verifies(installed: Path, tmp_path: Path) -> None:
    nonce = json.loads((BUNDLE / "bundle.json").read_text())["nonce"]
    done = run(installed, "verify", BUNDLE, "--ak", BUNDLE / "ak.pub", "--nonce", nonce, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trusted")


def test_an_installed_package_draws_and_reports(installed: Path, tmp_path: Path) -> None:
    campaign = tmp_path / "reference"
    shutil.copytree(ROOT / "results/reference", campaign)
    drawn = run(installed, "figures", campaign, cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert "overhead.png" in drawn.stdout
    reported = run(installed, "report", campaign, cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert (campaign / "report.md").read_text().startswith("# Correctness OK")


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate",),
        ("selftest",),
        ("kernels", "--again"),
        ("images", "list"),
        ("plan", "mine.toml"),
        ("shell", "--kernel", "debian-6.12"),
        ("bench", "log"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_of_the_lab_says_that_the_repository_is_missing(
    installed: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "mine.toml").write_text('name = "x"\nquestion = "?"\nmeasurers = ["none"]\nworkloads = ["tools"]\n')
    done = run(installed, *words, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "not found; commands that build or boot need the files of the repository" in done.stderr
    assert "hint: clone the repository" in done.stderr


@pytest.mark.parametrize("command", ["run", "plan", "shell", "images", "bench", "doctor", "evaluate"])
def test_help_needs_no_repository(installed: Path, tmp_path: Path, command: str) -> None:
    done = run(installed, command, "--help", cwd=tmp_path)
    assert (done.returncode, "Usage" in done.stdout) == (0, True), done.stderr

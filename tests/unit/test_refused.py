"""What becomes of a command when the machine refuses something: a message with the path, status 3, no traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_campaign import build

from testbed import cli

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/golden/bundle-debian-6.12"
NONCE = json.loads((BUNDLE / "bundle.json").read_text())["nonce"]

# Each command that writes files, with PLACE for where it writes.
WRITING = {
    "mutate": ("mutate", f"{BUNDLE}", "--apply", "honest-quoted-again", "-o", "PLACE/out/forged"),
    "policy": ("policy", "from-log", f"{BUNDLE}", "-o", "PLACE/out/policy.json"),
    "figures": ("figures", "PLACE/campaign"),
    "report": ("report", "PLACE/campaign"),
    "reference": ("reference", f"{ROOT / 'results/reference'}", "PLACE/out/reference"),
}


def run(name: str, place: Path) -> Result:
    return CliRunner().invoke(cli.main, [word.replace("PLACE", f"{place}") for word in WRITING[name]])


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("results"), blocks=2).path


@pytest.fixture
def place(tmp_path: Path, campaign: Path) -> Path:
    """A directory with a campaign, and an empty directory for other output."""
    shutil.copytree(campaign, tmp_path / "campaign")
    (tmp_path / "out").mkdir()
    return tmp_path


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: the writes fail as at a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refuse(monkeypatch: pytest.MonkeyPatch, place: Path, number: int) -> None:
    """Let the system refuse everything that writes below a directory, as root is never refused by modes."""

    def guarded(module: Any, name: str, writes: Callable[..., bool]) -> None:
        real = getattr(module, name)

        def guard(path: Any, *args: Any, **options: Any) -> Any:
            below = isinstance(path, str | bytes | Path) and Path(os.fsdecode(path)).is_relative_to(place)
            if below and writes(*args, **options):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return real(path, *args, **options)

        monkeypatch.setattr(module, name, guard)

    guarded(os, "open", lambda flags, *_, **__: bool(flags & (os.O_WRONLY | os.O_RDWR)))
    guarded(io, "open", lambda mode="r", *_, **__: mode[0] != "r")
    for name in ("mkdir", "rename", "replace"):
        guarded(os, name, lambda *_, **__: True)


def forbid(monkeypatch: pytest.MonkeyPatch, hidden: Path) -> None:
    """Let the system refuse to show something, as it does to a user without permission."""

    def guarded(module: Any, name: str) -> None:
        real = getattr(module, name)

        def guard(path: Any = ".", *args: Any, **options: Any) -> Any:
            if isinstance(path, str | bytes | Path) and Path(os.fsdecode(path)).is_relative_to(hidden):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return real(path, *args, **options)

        monkeypatch.setattr(module, name, guard)

    for name in ("open", "stat", "lstat", "listdir", "scandir"):
        guarded(os, name)
    guarded(io, "open")


@pytest.mark.parametrize("words", [("report",), ("pilot",), ("compare", "PLACE/campaign")], ids=lambda words: words[0])
@pytest.mark.parametrize("hidden", ["plan.json", "runs/RUN", "runs/RUN/record.json"])
def test_what_may_not_be_read_is_named_and_not_taken_as_missing(
    monkeypatch: pytest.MonkeyPatch, place: Path, words: tuple[str, ...], hidden: str
) -> None:
    run = min((place / "campaign/runs").iterdir()).name
    path = place / "campaign" / hidden.replace("RUN", run)
    forbid(monkeypatch, path)
    done = CliRunner().invoke(cli.main, [word.replace("PLACE", f"{place}") for word in (*words, "PLACE/campaign")])
    assert done.exit_code == 3, done.stderr
    assert done.stderr.startswith(f"error: {path}"), done.stderr
    assert "permission denied" in done.stderr
    # Not what a damaged file gets: the runs are good.
    assert "remove" not in done.stderr


@pytest.mark.parametrize("words", [("report", "PLACE/out"), ("kernels", "--again", "--results", "PLACE/out")], ids=str)
def test_a_file_that_is_missing_is_not_called_damaged(place: Path, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli.main, [word.replace("PLACE", f"{place}") for word in words])
    assert done.exit_code == 4
    assert ": no such file\n  hint: " in done.stderr
    assert "remove" not in done.stderr


@pytest.mark.parametrize("name", WRITING)
def test_a_write_that_does_not_fit_has_its_path_and_leaves_nothing(name: str, place: Path) -> None:
    with small_files(256):
        done = run(name, place)
    assert done.exit_code == 3, done.stderr
    assert f"error: {place}" in done.stderr, done.stderr
    assert "the file is larger than this machine allows" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((place / "out").rglob("*"))
    assert not list(place.rglob(".part-*"))


@pytest.mark.parametrize("name", WRITING)
def test_a_place_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, name: str, place: Path) -> None:
    refuse(monkeypatch, place, errno.EROFS)
    done = run(name, place)
    assert done.exit_code == 3, done.stderr
    assert f"error: {place}" in done.stderr, done.stderr
    assert "the file system is read-only" in done.stderr
    assert "Traceback" not in done.stderr
    assert ".part-" not in done.stderr

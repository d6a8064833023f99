"""Which code made a record: what its digest covers, what git says, and what a command line must not tell."""

from __future__ import annotations

import getpass
import platform
import subprocess
from pathlib import Path

import pytest

from testbed import __version__
from testbed.errors import HostError
from testbed.lab import provenance, repository


def git(place: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", place, *identity, *words], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "testbed/lab").mkdir(parents=True)
    (tmp_path / "testbed/lab/a.py").write_text("a = 1\n")
    (tmp_path / "results").mkdir()
    return tmp_path


def test_the_digest_of_the_sources_follows_each_name_and_content(tree: Path) -> None:
    package = tree / "testbed"
    digests = [provenance.source_digest(package)]
    (package / "lab/__pycache__").mkdir()
    (package / "lab/__pycache__/a.pyc").write_bytes(b"compiled")
    assert provenance.source_digest(package) == digests[0]
    for change in ("content", "name", "more"):
        if change == "content":
            (package / "lab/a.py").write_text("a = 2\n")
        elif change == "name":
            (package / "lab/a.py").rename(package / "lab/b.py")
        else:
            (package / "style.txt").write_text("")
        digests.append(provenance.source_digest(package))
    assert len(set(digests)) == 4
    assert provenance.source_digest(package, tree / "results") == digests[-1], "an empty tree adds nothing"


def test_git_names_the_commit_and_whether_the_code_differs(tree: Path) -> None:
    assert provenance.git_state(tree) == (None, None)
    git(tree, "init", "-q")
    assert provenance.git_state(tree) == (None, None), "no commit yet"
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "one")
    commit, dirty = provenance.git_state(tree)
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    (tree / "results/report.md").write_text("not code")
    assert provenance.git_state(tree) == (commit, False)
    (tree / "testbed/new.py").write_text("")
    assert provenance.git_state(tree) == (commit, True)
    assert provenance.git_state(tree / "testbed") == (None, None), "a package below another repository"


def test_a_command_line_keeps_no_private_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/ada")
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(platform, "node", lambda: "engine.example.net")
    argv = [
        "/people/ada/.venv/bin/testbed",
        "run",
        "/people/ada/x.toml",
        "--results",
        "/data/ada/out",
        "--set",
        "seed=2",
    ]
    argv += ["--connect", "qemu+ssh://ada@engine.example.net/system", "/mnt/engine/adamant", "/people/adam/engines"]
    assert provenance.command(argv) == (
        *("testbed", "run", "~/x.toml", "--results", "/data/USER/out", "--set", "seed=2"),
        *("--connect", "qemu+ssh://HOST/system", "/mnt/HOST/adamant", "/people/adam/engines"),
    )
    assert provenance.command(["/x/testbed/cli.py", "gc"]) == ("testbed", "gc")


def test_what_made_a_record_is_this_version_and_this_code() -> None:
    made = provenance.made_by(["testbed", "run", "x.toml"])
    assert made.version == __version__
    assert made.command == ("testbed", "run", "x.toml")
    assert made.sources == provenance.source_digest(repository.PACKAGE, repository.BPF)
    assert made.settings == {}


def test_a_package_without_its_repository_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repository, "ROOT", tmp_path / "site-packages")
    with pytest.raises(HostError, match=r"smoke\.toml: not found") as caught:
        repository.experiment("smoke.toml")
    assert "clone the repository" in caught.value.hint
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/smoke.toml").touch()
    assert repository.experiment("smoke.toml") == Path("experiments/smoke.toml")

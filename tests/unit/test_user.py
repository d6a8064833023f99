"""An ordinary user: everything on a desk works, and what the user may not write or read is named.

Where the tests run as root, the commands run as another user.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_campaign import build

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/golden/bundle-debian-6.12"
NONCE = json.loads((BUNDLE / "bundle.json").read_text())["nonce"]
NOBODY = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user who is not root, and their home directory."""

    home: Path
    number: int | None
    python: str

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        number = self.number
        identity: dict[str, Any] = {} if number is None else {"user": number, "group": number, "extra_groups": []}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TESTBED_", "XDG_"))}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self.python, *words],
            cwd=self.home,
            env=kept | {"HOME": f"{self.home}", "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **identity,
        )
        return done

    def usable(self) -> bool:
        """Whether the user may run this Python, and read its packages and this tree."""
        try:
            return self.run("-c", "import testbed, pandas, click").returncode == 0
        except PermissionError:
            return False

    def testbed(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "testbed.cli", *words)

    def own(self, path: Path) -> Path:
        if self.number is not None:
            for one in (path, *path.rglob("*")):
                os.chown(one, self.number, self.number)
        return path


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    # Not below pytest's own directory, which nobody else may enter.
    home = Path(tempfile.mkdtemp(prefix="testbed-user-"))
    try:
        number = NOBODY if os.getuid() == 0 else None
        # The Python of .venv may be in the home directory of root.
        pythons = (User(home=home, number=number, python=python) for python in (sys.executable, "/usr/bin/python3"))
        usable = next((one for one in pythons if one.own(home) and one.usable()), None)
        if usable is None:
            pytest.skip("another user may not read this tree, or no Python that has its packages")
        yield usable
    finally:
        shutil.rmtree(home)


def test_evidence_is_verified_and_a_policy_is_made(user: User) -> None:
    done = user.testbed("verify", BUNDLE, "--ak", BUNDLE / "ak.pub", "--nonce", NONCE, "--save-state", "state.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert (user.home / "state.json").exists()
    done = user.testbed("policy", "from-log", BUNDLE, "-o", "policy.json")
    assert done.returncode == 0, done.stderr
    assert (user.home / "policy.json").exists()


def test_an_experiment_is_planned_and_a_campaign_is_read(user: User) -> None:
    campaign = user.own(build(user.home / "results", blocks=2).path)
    for words in (("plan", ROOT / "experiments/smoke.toml", "--tier", "icount"), ("pilot", campaign)):
        done = user.testbed(*words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("words", [("images", "list"), ("images", "gc"), ("gc",)], ids=" ".join)
def test_what_the_lab_keeps_is_below_the_home_directory(user: User, words: tuple[str, ...]) -> None:
    if words == ("gc",):
        pytest.importorskip("libvirt")
    done = user.testbed(*words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_what_a_user_may_not_write_is_named(user: User) -> None:
    closed = user.home / "closed"
    closed.mkdir(mode=0o555)
    done = user.testbed("policy", "from-log", BUNDLE, "-o", closed / "policy.json")
    assert done.returncode == 3
    assert f"error: {closed}/policy.json: permission denied\n  hint: " in done.stderr


def test_what_a_user_may_not_read_is_named(user: User) -> None:
    campaign = user.own(build(user.home / "hidden", blocks=1).path)
    run = min((campaign / "runs").iterdir())
    run.chmod(0)
    done = user.testbed("pilot", campaign)
    run.chmod(0o700)
    assert done.returncode == 3
    assert f"error: {run}/record.json: permission denied\n  hint: " in done.stderr

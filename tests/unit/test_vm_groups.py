"""How the tests that boot are shared out among workers: tried by pytest-xdist itself, on tests that boot nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VM = ROOT / "tests/vm"
KERNELS = ("debian-6.1", "debian-6.12")
# Each test says which worker ran it.
MODULE = f"""
import os, pathlib, pytest
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kernel", {KERNELS})
def test_it(kernel, number):
    with pathlib.Path("said").open("a") as said:
        print(__name__, kernel, os.environ.get("PYTEST_XDIST_WORKER"), file=said)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("conftest.py", "booted.py"):
        shutil.copy(VM / name, tmp_path)
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = vm\naddopts = --strict-markers\n")
    return tmp_path


def test_one_worker_runs_all_tests_of_a_machine(place: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", str(place)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(argv, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert re.search(r"^12 passed", done.stdout, re.MULTILINE), done.stdout
    workers = defaultdict(list)
    for line in (place / "said").read_text().splitlines():
        module, kernel, worker = line.split()
        workers[module, kernel].append(worker)
    assert {key: len(found) for key, found in workers.items()} == {
        (module, kernel): 3 for module in ("test_one", "test_two") for kernel in KERNELS
    }
    assert [found for found in workers.values() if len(set(found)) > 1] == []
    assert {worker for found in workers.values() for worker in found} == {"gw0", "gw1"}


def test_the_order_names_modules_that_are_there() -> None:
    (named,) = re.findall(r"^LAST = \((.*?)\)$", (VM / "conftest.py").read_text(), re.MULTILINE | re.DOTALL)
    names = re.findall(r'"(\w+)"', named)
    assert names
    assert [name for name in names if not (VM / f"{name}.py").is_file()] == []

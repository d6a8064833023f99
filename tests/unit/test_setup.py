"""``setup/setup.sh`` with programs that only note how they were called, and its lists against pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKES = {
    "dpkg-query": 'for name in "${@:4}"; do grep -qx "$name" "$LACKING" || echo "installed $name"; done',
    "id": 'echo "$FAKE_UID"',
    "sudo": "exit 1",
    "apt-get": 'echo "apt-get $*" >>"$NOTES"; case "$*" in *install*) : >"$LACKING" ;; esac',
    "python3": """echo "python $*" >>"$NOTES"
case "$*" in
  -c*) exit "${FAKE_PYTHON_STATUS:-0}" ;;
  *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *requirements*|*/dev/fd/*) cat "${@: -1}" >>"$INSTALLED" ;;
esac""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A copy of the repository's set-up on a machine that lacks ``lacking``."""

    path: Path

    def setup(self, what: str = "lab", **env: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}",
            "LACKING": str(self.path / "lacking"),
            "NOTES": str(self.path / "notes"),
            "INSTALLED": str(self.path / "installed"),
            "FAKE_UID": "0",
            "PYTHON": "python3",
        }
        script = self.path / "repo/setup/setup.sh"
        return subprocess.run(
            [script, what], env=settings | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def lack(self, *packages: str) -> None:
        (self.path / "lacking").write_text("".join(f"{name}\n" for name in packages))

    def notes(self) -> str:
        """Return, and forget, how programs were called."""
        notes = self.path / "notes"
        said = notes.read_text() if notes.exists() else ""
        notes.unlink(missing_ok=True)
        return said


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    for name, body in FAKES.items():
        fake = tmp_path / "bin" / name
        fake.write_text(f"#!/bin/bash\n{body}\n")
        fake.chmod(0o755)
    shutil.copytree(ROOT / "setup", tmp_path / "repo/setup")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "repo")
    made = Machine(path=tmp_path)
    made.lack()
    return made


def test_without_root_it_prints_one_command_and_ends_with_3(machine: Machine) -> None:
    machine.lack("swtpm", "gcc")
    done = machine.setup(FAKE_UID="1000")
    assert done.returncode == 3
    assert done.stdout.splitlines() == ["apt-get update && apt-get install --no-install-recommends swtpm gcc"]
    assert machine.notes() == ""


def test_root_installs_what_is_missing_and_no_more(machine: Machine) -> None:
    machine.lack("swtpm", "gcc")
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    apt = [line for line in machine.notes().splitlines() if line.startswith("apt-get")]
    assert apt == ["apt-get -q update", "apt-get -q -y install --no-install-recommends swtpm gcc"]


def test_a_second_run_does_nothing(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    assert "-m pip" in machine.notes()
    done = machine.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert " -m " not in machine.notes()


@pytest.mark.parametrize("name", ["setup/requirements.lock", "setup/apt-packages.txt", "pyproject.toml"])
def test_a_changed_input_is_noticed(machine: Machine, name: str) -> None:
    assert machine.setup().returncode == 0
    machine.notes()
    with (machine.path / "repo" / name).open("a") as file:
        file.write("# changed\n")
    assert machine.setup().returncode == 0
    assert "-m pip" in machine.notes()


def test_a_package_that_was_removed_is_noticed(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    machine.notes()
    machine.lack("zstd")
    assert machine.setup().returncode == 0
    assert "install --no-install-recommends zstd\n" in machine.notes()


def test_a_broken_interpreter_is_noticed(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    (machine.path / "repo/.venv/bin/python").unlink()
    machine.notes()
    assert machine.setup().returncode == 0
    assert "-m venv --clear .venv" in machine.notes()


def test_a_failed_installation_leaves_no_stamp(machine: Machine) -> None:
    apt = machine.path / "bin/apt-get"
    apt.write_text("#!/bin/bash\nexit 100\n")
    machine.lack("swtpm")
    assert machine.setup().returncode == 100
    assert not (machine.path / "repo/.venv").exists()


def test_the_desk_needs_neither_packages_nor_libvirt(machine: Machine) -> None:
    machine.lack("qemu-system-x86", "libvirt-dev")
    assert machine.setup("desk", FAKE_UID="1000").returncode == 0
    installed = (machine.path / "installed").read_text()
    assert "matplotlib==" in installed
    assert "libvirt-python==" not in installed


def test_the_lab_is_not_satisfied_by_the_desk_but_the_desk_by_the_lab(machine: Machine) -> None:
    machine.setup("desk")
    machine.notes()
    machine.setup("lab")
    assert "-m pip" in machine.notes()
    assert "libvirt-python==" in (machine.path / "installed").read_text()
    machine.setup("desk")
    assert "-m pip" not in machine.notes()


def test_without_a_usable_python_it_says_how_to_name_one(machine: Machine) -> None:
    done = machine.setup(FAKE_PYTHON_STATUS="1")
    assert done.returncode == 3
    assert "PYTHON=" in done.stderr


def test_the_packages_can_be_left_to_the_person(machine: Machine) -> None:
    machine.lack("swtpm")
    assert machine.setup(FAKE_UID="1000", TESTBED_SKIP_APT="1").returncode == 0
    assert "apt-get" not in machine.notes()


def pinned() -> dict[str, str]:
    text = (ROOT / "setup/requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The other extras are for a person to add: what has no wheel everywhere must not stop the set-up.
    locked = re.findall(r"--extra (\w+)", (ROOT / "setup/setup.sh").read_text())
    assert {"dev", "notebooks"} <= set(locked)
    wanted = [*project["dependencies"], *(word for name in locked for word in project["optional-dependencies"][name])]
    names = {re.split(r"[<>=~!\[; ]", word)[0].lower().replace("_", "-") for word in wanted}
    assert names <= pinned().keys(), "run setup/setup.sh lock"


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_pin_has_hashes_and_names_no_place(name: str) -> None:
    text = (ROOT / "setup" / name).read_text()
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert pins
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert not re.search(r"://|index|find-links", text)


def test_the_package_list_is_names_only_and_has_none_twice() -> None:
    lines = (ROOT / "setup/apt-packages.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert names
    assert [name for name in names if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", name)] == []
    assert len(names) == len(set(names))

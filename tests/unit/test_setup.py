"""``setup/setup.sh`` with programs that only note how they were called, and its lists against pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
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
env | grep '^PYTHON[PH]' >>"$NOTES"
case "$*" in
  -c*) exit "${FAKE_PYTHON_STATUS:-0}" ;;
  *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "#!$PWD/.venv/bin/python" >.venv/bin/pip ;;
  *requirements*|*/dev/fd/*) cat "${@: -1}" >>"$INSTALLED" ;;
esac""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A copy of the repository's set-up on a machine that lacks ``lacking``."""

    path: Path

    def setup(self, what: str = "lab", *, script: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}",
            "LACKING": str(self.path / "lacking"),
            "NOTES": str(self.path / "notes"),
            "INSTALLED": str(self.path / "installed"),
            "FAKE_UID": "0",
            "PYTHON": "python3",
        }
        # By bash, as make starts it: an unpacked archive may have lost the bit that lets it run by itself.
        argv = ["bash", script or f"{self.path / 'repo/setup/setup.sh'}", what]
        return subprocess.run(
            argv,
            cwd=self.path / "repo",
            env=settings | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
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


def test_the_directories_that_cd_prefers_are_not_searched(machine: Machine) -> None:
    elsewhere = machine.path / "elsewhere/setup"
    elsewhere.mkdir(parents=True)
    done = machine.setup(script="setup/setup.sh", CDPATH=f"{elsewhere.parent}")
    assert (done.returncode, done.stdout) == (0, "")
    assert (machine.path / "repo/.venv/setup-stamp").exists()


def test_packages_of_other_work_are_not_seen(machine: Machine) -> None:
    assert machine.setup(PYTHONPATH="/plugins", PYTHONHOME="/other").returncode == 0
    notes = machine.notes()
    assert "-m pip" in notes
    assert "/plugins" not in notes
    assert "/other" not in notes


def test_a_python_may_have_blanks_in_its_path(machine: Machine) -> None:
    python = machine.path / "my python"
    shutil.copy(machine.path / "bin/python3", python)
    assert machine.setup(PYTHON=f"{python}").returncode == 0
    assert machine.setup(PYTHON="no such python").returncode == 0, "there is a .venv"


def test_a_tree_that_was_moved_gets_another_venv(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    machine.notes()
    (machine.path / "repo").rename(machine.path / "moved")
    (machine.path / "repo").symlink_to("moved")
    assert machine.setup().returncode == 0
    assert "-m venv --clear .venv" in machine.notes()
    assert machine.setup().returncode == 0
    assert machine.notes().count(" -m ") == 0, "a link leads to the same tree"


def test_pip_that_installs_elsewhere_is_no_success(machine: Machine) -> None:
    python = machine.path / "bin/python3"
    python.write_text(python.read_text().replace("-c*)", '-c*"import testbed"*) exit 1 ;;\n  -c*)'))
    done = machine.setup()
    assert done.returncode == 3
    assert "pip config list" in done.stderr
    assert not (machine.path / "repo/.venv/setup-stamp").exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that pip can install without network."""
    path = tmp_path_factory.mktemp("wheel") / "nothing_at_all-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("nothing_at_all.py", "")
        info = "nothing_at_all-1.dist-info"
        out.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nothing-at-all\nVersion: 1\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")
    return path


@pytest.mark.parametrize("setting", ["user = true", "target = {}", "prefix = {}", "root = {}"])
def test_a_pip_that_is_told_to_install_elsewhere_installs_here(tmp_path: Path, wheel: Path, setting: str) -> None:
    (here,) = re.findall(r"^ *local (here=\(.*\))$", (ROOT / "setup/setup.sh").read_text(), re.MULTILINE)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (tmp_path / "pip.conf").write_text(f"[global]\n{setting.format(tmp_path / 'elsewhere')}\n")
    install = f'{here}; .venv/bin/python -m pip install "${{here[@]}}" --no-index --no-deps "$0"'
    # The pip of this Python, run by the other one, so that nothing is fetched.
    env = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": "pip.conf", "PYTHONPATH": sysconfig.get_path("purelib")}
    subprocess.run(["bash", "-c", install, wheel], cwd=tmp_path, env=env, check=True, capture_output=True)
    (found,) = tmp_path.rglob("nothing_at_all.py")
    assert found.is_relative_to(tmp_path / ".venv/lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A directory with the Makefile, a set-up that has nothing to do, and a testbed that prints its arguments."""

    path: Path

    def make(self, *words: str, **env: str) -> str:
        argv = ["make", "-s", *words]
        settings = {"PATH": os.environ["PATH"], "HOME": "/the home"}
        return subprocess.run(
            argv, cwd=self.path, env=settings | env, capture_output=True, text=True, check=True
        ).stdout.rstrip("\n")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    for directory in ("setup", ".venv/bin", "results/reference"):
        (tmp_path / directory).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "results/reference/plan.json").touch()
    (tmp_path / "setup/setup.sh").write_text("true\n")  # no bit lets it run by itself
    testbed = tmp_path / ".venv/bin/testbed"
    testbed.write_text('#!/bin/bash\nprintf "<%s>" "$@"; env | grep "^PYTHON"\ntrue\n')
    testbed.chmod(0o755)
    return Made(path=tmp_path)


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        ("a b", "a b"),
        ("a'b\"c", "a'b\"c"),
        ("a;b&c,(d)*", "a;b&c,(d)*"),
        ("~/a b", "/the home/a b"),
        ("a/~/b", "a/~/b"),
    ],
)
def test_a_path_that_make_is_given_stays_one_path(made: Made, given: str, drawn: str) -> None:
    assert made.make("figures", f"RESULTS={given}") == f"<figures><{drawn}>"
    assert made.make("figures", RESULTS=given) == f"<figures><{drawn}>"


def test_figures_are_of_the_newest_campaign_else_of_the_reference(made: Made) -> None:
    assert made.make("figures") == "<figures><results/reference>"
    for name in ("reference-paper", "reference-hosts/one"):
        (made.path / "results" / name).mkdir(parents=True)
        (made.path / "results" / name / "plan.json").touch()
    assert made.make("figures") == "<figures><results/reference>"
    (made.path / "results/a b").mkdir()
    (made.path / "results/a b/plan.json").touch()
    os.utime(made.path / "results/reference/plan.json")
    assert made.make("figures") == "<figures><results/a b>"


def test_make_runs_without_the_packages_of_other_work(made: Made) -> None:
    assert made.make("doctor", PYTHONPATH="/plugins", PYTHONHOME="/other") == "<doctor>"


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

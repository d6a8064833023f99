from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import pytest

from testbed.lab.machines import reap

DEAD = replace(reap.ourselves(), start=1)  # our number, but of a process that started at another time


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def spawned() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def spawn(called: str, argument: str) -> subprocess.Popen[bytes]:
    program = "print(flush=True); import time; time.sleep(600)"
    process = subprocess.Popen(
        [called, "-c", program, argument], executable=sys.executable, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    process.stdout.readline()  # it has its own argv now
    return process


def record(directory: Path, owner: reap.Owner = DEAD, **more: str) -> Path:
    made = reap.Holding(owner=owner, directory=directory, **more)
    path = reap.record_directory() / f"{directory.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(made), default=str))
    return path


def live_directory(tmp_path: Path, name: str = "tb-0123abcd") -> Path:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "disk.qcow2").touch()
    return directory


def never(_uri: str, _domain: str) -> bool:
    raise AssertionError("no machine of a daemon here")


def test_what_is_held_is_on_record_and_goes(tmp_path: Path) -> None:
    directory = tmp_path / reap.private_name()
    with suppress(KeyError), reap.holding(directory, uri="qemu:///embed", domain="d"):
        (path,) = reap.record_directory().glob("*.json")
        assert reap.read_record(path).directory == directory
        assert reap.alive(reap.read_record(path).owner)
        raise KeyError
    assert not directory.exists()
    assert list(reap.record_directory().iterdir()) == []


def test_what_a_living_process_holds_is_left_alone(tmp_path: Path) -> None:
    with reap.holding(tmp_path / reap.private_name()) as directory:
        assert reap.collect(never) == []
        assert directory.exists()


def test_machine_and_directory_of_a_dead_owner_go(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    directory = live_directory(tmp_path)
    spawned.append(spawn("/usr/bin/qemu-system-x86_64", f"file={directory}/disk.qcow2"))
    path = record(directory, uri="qemu:///embed?root=/tmp/x", domain="d")
    done = reap.collect(never)
    assert spawned[0].wait(30) < 0
    assert [line.split()[0] for line in done] == ["ended", "removed"]
    assert not directory.exists()
    assert not path.exists()


def test_two_may_clean_up_after_the_same_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = live_directory(tmp_path)
    (directory / "disk.qcow2").touch()
    path = record(directory)
    rmtree = shutil.rmtree

    def beaten(where: Path) -> None:
        (directory / "disk.qcow2").unlink()
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        raise FileNotFoundError(where / "disk.qcow2")

    monkeypatch.setattr(shutil, "rmtree", beaten)
    assert reap.collect(never) == [f"removed {directory}"]
    assert not directory.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    ("called", "argument"),
    [
        ("/usr/bin/vim", "{}/disk.qcow2"),  # names the directory, but is not a program of the testbed
        ("/usr/bin/qemu-system-x86_64", "/elsewhere/tb-99999999/disk.qcow2"),  # another machine
        ("/usr/bin/qemu-system-x86_64", "{}0/disk.qcow2"),  # a name that merely begins alike
    ],
)
def test_nobody_elses_process_is_signalled(
    tmp_path: Path, spawned: list[subprocess.Popen[bytes]], called: str, argument: str
) -> None:
    directory = live_directory(tmp_path)
    spawned.append(spawn(called, argument.format(directory)))
    record(directory)
    reap.collect(never)
    assert spawned[0].poll() is None


def test_a_directory_whose_name_is_not_ours_is_never_removed(tmp_path: Path) -> None:
    directory = live_directory(tmp_path, "tb-precious")
    record(directory)
    assert reap.collect(never) == []
    assert directory.exists()


@pytest.mark.parametrize("other", [replace(DEAD, host="another"), replace(DEAD, pid_namespace="pid:[1]")])
def test_what_may_live_where_we_cannot_look_is_left_alone(tmp_path: Path, other: reap.Owner) -> None:
    directory = live_directory(tmp_path)
    path = record(directory, other)
    assert reap.collect(never) == []
    assert directory.exists()
    assert path.exists()


def test_an_owner_of_an_earlier_boot_is_dead(tmp_path: Path) -> None:
    directory = live_directory(tmp_path)
    record(directory, replace(reap.ourselves(), boot_id="earlier"))
    assert reap.collect(never) == [f"removed {directory}"]


@pytest.mark.parametrize("reached", [True, False])
def test_a_daemons_machine_is_ended_through_it(tmp_path: Path, reached: bool) -> None:
    directory = live_directory(tmp_path)
    path = record(directory, uri="qemu:///system", domain="the-uuid")
    asked: list[tuple[str, str]] = []

    def destroy(uri: str, domain: str) -> bool:
        asked.append((uri, domain))
        return reached

    reap.collect(destroy)
    assert asked == [("qemu:///system", "the-uuid")]
    assert path.exists() is not reached
    assert directory.exists() is not reached


def test_a_file_that_is_no_record_is_told_and_left(state: Path) -> None:
    (state / "live").mkdir(parents=True)
    (state / "live" / "x.json").write_text("{}")
    (line,) = reap.collect(never)
    assert "is not a record" in line
    assert (state / "live" / "x.json").exists()


def test_a_program_may_have_any_bytes_as_its_name() -> None:
    argv = [sys.executable, "-c", "open('/proc/self/comm', 'wb').write(b'\\xff)'); print(flush=True); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = reap.read_process(process.pid)
        assert found is not None
        assert found.argv[0] == sys.executable
        process.communicate(b"\n")


def test_processes_that_are_hidden_belong_to_nobody_and_may_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = reap.ourselves()
    assert owner.pid in {process.pid for process in reap._processes()}

    def hidden(_pid: int) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(reap, "read_process", hidden)
    assert list(reap._processes()) == []
    assert reap.alive(owner)

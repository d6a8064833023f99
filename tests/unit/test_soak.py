"""The soak of `make kasan` without its machine: what is done, what goes on, and what is no success."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed.guest import Completed

sys.path.insert(0, str(Path(__file__).parents[1] / "kasan"))

soak, steps = importlib.import_module("soak"), importlib.import_module("steps")

SPLAT = "[    9.000000] BUG: KASAN: slab-use-after-free in hash_file+0x5f/0x70 [testbed_measurer]\n"
LEAK = 'unreferenced object 0xffff888105e6c400 (size 512):\n  comm "crun"\n  backtrace:\n    measure_file+0x1/0x2\n'


class Guest:
    """Stand in for the machine: containers do what ``soak`` prints, detectors say what a test has them say."""

    def __init__(self) -> None:
        self.files = 0
        self.measured = 1
        self.ran: list[Sequence[str]] = []
        self.says: dict[str, Any] = {"log": "", "leaks": "", "lockdep": True, "log_entries": 7, "boot": "b"}
        self.taint = 1 << 12
        self.code = 0

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        self.ran.append(tuple(argv))
        out = b""
        if argv[-1] == "look":
            out = json.dumps(self.says | {"tainted": self.taint}).encode()
        elif argv[-1] == "run":
            asked = json.loads(input)["steps"]
            self.files += self.measured * len(asked)
            one = {"code": self.code, "out": "exec-new 5\nmap-new 2\nnew 1\n", "err": "soak: why\n"}
            out = json.dumps({"seconds": 1.25, "runs": [one for _ in asked]}).encode()
        elif "counters" in argv:
            out = json.dumps(dict.fromkeys(("files", "containers", "launches"), self.files)).encode()
        return Completed(argv=tuple(argv), code=0, out=out, err=b"", seconds=0)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        pass

    def get(self, path: str) -> bytes:
        assert path == "/proc/sys/kernel/tainted"
        return str(self.taint).encode()


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def notebook(tmp_path: Path) -> Any:
    return steps.Notebook(path=tmp_path / "file-key")


def test_the_steps_of_a_soak() -> None:
    assert soak.names(2000) == ["starts", "execs-000", "execs-001", "detached"]
    assert soak.names(2001)[-2] == "execs-002"
    assert len(soak.names(20_000)) == 22


def test_all_steps_are_done_and_written_down(guest: Guest, notebook: Any) -> None:
    said: list[str] = []
    soak.run(guest, "file", soak.names(2000), notebook, said.append)
    done = notebook.steps()
    assert set(done) == {"booted", "starts", "execs-000", "execs-001", "detached"}
    assert all(step.clean for step in done.values())
    assert done["starts"].counts == {"containers": 50, "exec-new": 250, "map-new": 100, "new": 50}
    assert done["execs-000"].counted == {"files": 4, "containers": 4, "launches": 4}
    assert said[0] == "starts: 250 executions, 100 mappings in 1.2 s, no report"
    (attach,) = [argv for argv in guest.ran if "attach" in argv]
    assert attach[attach.index("--mode") + 1] == "file"
    assert guest.ran.index(attach) < next(n for n, argv in enumerate(guest.ran) if argv[-1] == "run")
    assert any("detach" in argv for argv in guest.ran)


def test_what_was_interrupted_goes_on(guest: Guest, notebook: Any) -> None:
    class Interrupted(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("execs-000"):
            raise Interrupted

    names = soak.names(3000)
    with pytest.raises(Interrupted):
        soak.run(guest, "file", names, notebook, stop)
    todo = [name for name in names if name not in notebook.steps()]
    assert todo == ["execs-001", "execs-002", "detached"]
    before = sum(argv[-1] == "run" for argv in guest.ran)
    soak.run(guest, "file", todo, notebook, lambda _: None)
    assert sum(argv[-1] == "run" for argv in guest.ran) - before == 2
    assert set(names) <= set(notebook.steps())


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ({"log": SPLAT}, "KASAN: slab-use-after-free"),
        ({"leaks": LEAK}, "unreferenced object"),
        ({"lockdep": False}, "lockdep is off"),
    ],
)
def test_a_report_ends_the_soak(guest: Guest, notebook: Any, says: dict[str, Any], text: str) -> None:
    def later(line: str) -> None:
        if line.startswith("starts"):
            guest.says |= says

    soak.run(guest, "file", soak.names(3000), notebook, later)
    done = notebook.steps()
    assert set(done) == {"booted", "starts", "execs-000"}
    assert text in "\n".join((*done["execs-000"].reports, *done["execs-000"].complaints))
    assert any("detach" in argv for argv in guest.ran)


def test_a_boot_that_has_a_report_is_not_soaked(guest: Guest, notebook: Any) -> None:
    guest.says["log"] = SPLAT
    soak.run(guest, "file", soak.names(1000), notebook, lambda _: None)
    assert set(notebook.steps()) == {"booted"}
    assert not any(argv[-1] == "run" for argv in guest.ran)


@pytest.mark.parametrize(
    ("mode", "counters"),
    [("file", ["files"]), ("image", ["files", "launches"]), ("prototype-file", ["containers"])],
)
def test_a_measurer_that_measured_nothing_is_no_success(
    guest: Guest, notebook: Any, mode: str, counters: list[str]
) -> None:
    guest.measured = 0
    soak.run(guest, mode, ["starts"], notebook, lambda _: None)
    complaints = notebook.steps()["starts"].complaints
    assert [line.split("counter ")[1] for line in complaints] == [f"{counter} grew by 0" for counter in counters]


def test_a_container_that_failed_is_no_success(guest: Guest, notebook: Any) -> None:
    guest.code = 1
    soak.run(guest, "file", ["starts"], notebook, lambda _: None)
    assert notebook.steps()["starts"].complaints[0] == "exit status 1: soak: why"


def test_a_taint_without_a_report_is_told(guest: Guest, notebook: Any) -> None:
    guest.taint |= 1 << 9
    soak.run(guest, "file", ["starts"], notebook, lambda _: None)
    assert "tainted (512)" in notebook.steps()["booted"].complaints[0]


def test_a_fault_must_be_reported_with_the_module_in_the_stack(guest: Guest) -> None:
    guest.says["log"] = SPLAT
    step = soak.provoke(guest, "use-after-free", "slab-use-after-free")
    assert step.reports == (SPLAT.split("] ", 1)[1].strip(),)
    guest.says["log"] = SPLAT.replace("[testbed_measurer]", "")
    with pytest.raises(AssertionError, match="no report says"):
        soak.provoke(guest, "use-after-free", "slab-use-after-free")

"""What the driver says of work outside of a cgroup, against the run time of every task that worked meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from booted import Booted

from testbed.lab.iterate import DRIVER

# The file is written back by kernel threads (kworker, jbd2) while this program sleeps.
LOOK = """
import glob, json, os, sys, time
sys.path.insert(0, sys.argv[1])
import drive

def tasks():
    found = {}
    for path in glob.glob("/proc/[0-9]*/task/[0-9]*/schedstat"):
        try:
            with open(path) as file, open(path.replace("schedstat", "comm")) as name:
                found[path] = int(file.read().split()[0]), name.read().strip()
        except OSError:
            pass
    return found

def look():
    return {"tasks": tasks(), "ran": drive.ran_ns(drive.TIMERS.read_text()), "now": time.monotonic_ns()}

def between(work):
    time.sleep(0.5)
    own = os.path.join("/proc", str(os.getpid()), "task", str(os.getpid()), "schedstat")
    before = look()
    work()
    after = look()
    spent = {path: value - before["tasks"].get(path, (0, ""))[0] for path, (value, _) in after["tasks"].items()}
    return {"all": sum(spent.values()), "own": spent[own], "ran": after["ran"] - before["ran"],
            "elapsed": after["now"] - before["now"]}

def write():
    with open("/var/tmp/elsewhere", "wb") as file:
        file.write(bytes(32 << 20))
    os.sync()

print(json.dumps({"idle": between(lambda: time.sleep(1)), "write": between(write)}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What passed between two looks, ns. ``all``: run time of every task that was there at the end."""

    all: int
    own: int
    ran: int
    elapsed: int


@pytest.fixture(scope="module")
def seen(booted: Booted) -> dict[str, Window]:
    said = booted.guest.run(("python3", "-", DRIVER.rpartition("/")[0]), input=LOOK.encode(), timeout=120)
    raw: dict[str, Any] = json.loads(said.out)
    return {name: Window(**values) for name, values in raw.items()}


def test_a_processor_that_sleeps_has_run_almost_nothing(seen: dict[str, Window]) -> None:
    idle = seen["idle"]
    assert idle.ran < 0.5 * idle.elapsed


def test_what_kernel_threads_run_is_counted_and_once(seen: dict[str, Window]) -> None:
    write = seen["write"]
    assert write.all > write.own, "kernel threads wrote the file back"
    # Interrupts on an idle processor and its way in and out of idleness are no task's time.
    assert 0.97 * write.all <= write.ran <= 1.2 * write.all + 30_000_000

"""Runs in the guest, by the guest's own Python: start containers one after the other and account for them.

Standard input::

    {"cgroup", "crowd", "timeout", "cold", "burn",
     "groups": [[{"files", "before", "run", "after", "cidfile", "id"}, ...], ...]}

The containers of a group are started together; a group begins when the one before has ended. ``cold``: what the page
cache has is dropped first. ``burn``: so many seconds of CPU time are wasted in the cgroup besides. ``crowd``: the
cgroup of containers that are alive all the time, of which it is said how many there are; empty for none.

Standard output: what each ``run`` printed, and the clock, CPU time, memory and log length before and after all of them.
Time is taken here, so that ssh is never in the timed part; what prepares a start and cleans up after it is not either.

With the argument ``make`` standard input is ``{"cgroup", "containers"}``: the cgroup below which all this happens, and
the one of it in which runtimes make theirs. They are made.

With the argument ``begin`` standard input is a list of steps, each of whose ``run`` leaves a container alive below a
cgroup, and with ``end`` this cgroup, in which all are killed; what else is left of them the machine takes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Below the cgroup asked for: where what starts a container runs.
START = "start"
# Before each group, for what the kernel has put off: what ended containers leave and what dropped caches free is taken
# apart after a grace period of RCU, and who allocates before that finds other pages than who does after it.
SETTLE_SECONDS = 0.2
LOG_LENGTH = pathlib.Path("/sys/kernel/security/ima/runtime_measurements_count")


def main() -> None:
    """Read the request, run it, print the account."""
    request = json.load(sys.stdin)
    if sys.argv[1:] == ["make"]:
        _make(_cgroup(request["cgroup"]), _cgroup(request["containers"]))
    elif sys.argv[1:] == ["begin"]:
        _begin(request)
    elif sys.argv[1:] == ["end"]:
        # Deleting a container by its runtime takes as long as starting it.
        (_cgroup(request) / "cgroup.kill").write_text("1")
    else:
        _iterate(request)


def _cgroup(name: str) -> pathlib.Path:
    return CGROUPS / name.lstrip("/")


def _make(cgroup: pathlib.Path, containers: pathlib.Path) -> None:
    cgroup.mkdir()
    _delegate(CGROUPS)
    _delegate(cgroup)
    (cgroup / START).mkdir()
    containers.mkdir()
    _delegate(containers)


def _delegate(cgroup: pathlib.Path) -> None:
    """Hand all controllers down, as the first container's runtime would."""
    names = (cgroup / "cgroup.controllers").read_text().split()
    (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def _begin(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        _prepare(step)
        # A pipe of ours, to us or to who asked us, would stay open as long as the container is alive.
        with tempfile.TemporaryFile() as err:
            done = subprocess.run(
                step["run"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, check=False
            )
            if done.returncode:
                sys.exit(f"{' '.join(step['run'])}: exit status {done.returncode}: {_text(err)}")


def _iterate(request: dict[str, Any]) -> None:
    cgroup = _cgroup(request["cgroup"])
    steps = [step for group in request["groups"] for step in group]
    for step in steps:
        _prepare(step)
    own = cgroup / START
    if request["cold"]:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    runs: list[dict[str, object]] = []
    spans: list[tuple[dict[str, int], dict[str, int]]] = []
    for group in request["groups"]:
        time.sleep(SETTLE_SECONDS)
        with _span(cgroup, spans):
            runs += _run(group, own, request["timeout"])
    if request["burn"]:
        with _span(cgroup, spans):
            _burn(own, request["burn"])
    before, after = spans[0][0], spans[-1][1]
    # What the groups took, not what was waited between them.
    took = sum(end["monotonic_ns"] - begin["monotonic_ns"] for begin, end in spans)
    after["monotonic_ns"] = before["monotonic_ns"] + took
    alive = _alive(_cgroup(request["crowd"])) if request["crowd"] else 0
    for run, step in zip(runs, steps, strict=True):
        run["id"] = _id(step)
    for step in reversed(steps):
        for command in step["after"]:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    json.dump({"before": before, "after": after, "runs": runs, "alive": alive}, sys.stdout)


def _prepare(step: dict[str, Any]) -> None:
    for name, text in step["files"].items():
        path = pathlib.Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for command in step["before"]:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _id(step: dict[str, Any]) -> str:
    if not step["cidfile"]:
        return str(step["id"])
    path = pathlib.Path(step["cidfile"])
    return path.read_text().strip() if path.exists() else ""


def _alive(crowd: pathlib.Path) -> int:
    return sum("populated 1" in path.read_text() for path in crowd.glob("*/cgroup.events"))


@contextlib.contextmanager
def _span(cgroup: pathlib.Path, spans: list[tuple[dict[str, int], dict[str, int]]]) -> Iterator[None]:
    begin = _account(cgroup)
    yield
    spans.append((begin, _account(cgroup)))


def _account(cgroup: pathlib.Path) -> dict[str, int]:
    lines = (line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    stat = {name: int(value) for name, value in lines}
    ticks = [int(figure) for figure in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    memory = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    return {
        "monotonic_ns": time.monotonic_ns(),
        "log_entries": int(LOG_LENGTH.read_text()),
        "slab_kib": int(memory["Slab"].split()[0]),
        "cached_kib": int(memory["Cached"].split()[0]),
        "ticks": sum(ticks),
        "steal_ticks": ticks[7],
        # Not user_usec and system_usec: the kernel splits the sum by where its ticks fell, too coarse for a short run.
        "usage_usec": stat["usage_usec"],
    }


def _run(group: list[dict[str, Any]], cgroup: pathlib.Path, timeout: float) -> list[dict[str, object]]:
    # Only what is started enters the cgroup: of a task that runs, and reads its own account, the kernel has not counted
    # what it did since its last tick (0.1 % of a start). And it writes into files: a reader at the other end of a pipe
    # would work more or less often as it is scheduled.
    # Whether one who is woken preempts who woke him is for the scheduler to say by nanoseconds, and what comes together
    # afterwards depends on it: servers differed by 0.3 %. Under this policy (sched(7)) he waits.
    # It is set first: a change of policy has the kernel count what a task ran till then, a change of cgroup does not.
    # What Python did since its last tick, up to 3 ms, went to the old cgroup or to the new one, as it happened.
    def enter() -> None:
        file = os.open(cgroup / "cgroup.procs", os.O_WRONLY)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.write(file, b"0")
        os.close(file)

    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as files:
        begun = []
        for step in group:
            out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(
                step["run"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=enter,  # noqa: PLW1509 - there are no threads here
            )
            begun.append((process, out, err))
        return [{"code": _code(process, deadline), "out": _text(out), "err": _text(err)} for process, out, err in begun]


def _code(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _burn(cgroup: pathlib.Path, seconds: float) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    # Inside only while it burns: that a process of this size begins and ends would be counted too.
    (cgroup / "cgroup.procs").write_text("0")
    until = time.process_time_ns() + int(seconds * 1e9)
    while time.process_time_ns() < until:
        pass
    (CGROUPS / "cgroup.procs").write_text("0")
    os._exit(0)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


if __name__ == "__main__":
    main()

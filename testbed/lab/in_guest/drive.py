"""Runs in the guest, with the guest's Python: start containers one after the other and measure them.

Standard input::

    {"cgroup", "crowd", "timeout", "cold", "burn",
     "groups": [[{"files", "before", "run", "after", "cidfile", "id"}, ...], ...]}

The containers of a group are started together; a group begins when the one before has ended. ``cold``: the page cache
is dropped first. ``burn``: seconds of CPU time that are also wasted in the cgroup. ``crowd``: the cgroup of containers
that are alive all the time, which are counted for the output; empty if there are none.

Standard output: what each ``run`` printed, and the clock, CPU time, memory and log length before and after all of them.
Time is measured here, so that ssh is never in the timed part. Preparation and clean-up of a start are not in it either.
``elsewhere_ns``: what the processors ran in the meantime outside of the cgroup and of this driver (``_elsewhere``).

With the argument ``make`` standard input is ``{"cgroup", "containers"}``: the cgroup for all of this, and the cgroup
below it in which runtimes make theirs. The driver makes both.

With the argument ``begin`` standard input is a list of steps; the ``run`` of each step leaves a container alive below a
cgroup. With ``end`` standard input is this cgroup, and all processes in it are killed. Their remaining files disappear
with the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Below the requested cgroup: for the programs that start a container.
START = "start"
# Wait before each group for the kernel's deferred work: it frees the memory of ended containers and dropped caches
# after a grace period of RCU. An allocation before that gets other pages than one after it.
SETTLE_SECONDS = 0.2
LOG_LENGTH = pathlib.Path("/sys/kernel/security/ima/runtime_measurements_count")
TIMERS = pathlib.Path("/proc/timer_list")
_NOW = re.compile(r"^now at (\d+) nsecs$", re.MULTILINE)
_TICKLESS = re.compile(r"^ *\.(tick_stopped|idle_entrytime|idle_sleeptime|iowait_sleeptime) *: (\d+)", re.MULTILINE)


def main() -> None:
    """Read the request, run it, print the result."""
    request = json.load(sys.stdin)
    if sys.argv[1:] == ["make"]:
        _make(_cgroup(request["cgroup"]), _cgroup(request["containers"]))
    elif sys.argv[1:] == ["begin"]:
        _begin(request)
    elif sys.argv[1:] == ["end"]:
        # Kill directly: deleting a container by its runtime takes as long as starting it.
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
    """Enable all controllers for child cgroups, as the first container's runtime would."""
    names = (cgroup / "cgroup.controllers").read_text().split()
    (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def _begin(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        _prepare(step)
        # No pipe: a pipe to this driver or to its caller would stay open as long as the container is alive.
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
    # Outside of all spans, with a wait between: to read it takes longer than to read the rest, and leaves more behind.
    outside = _elsewhere(cgroup)
    for group in request["groups"]:
        time.sleep(SETTLE_SECONDS)
        with _span(cgroup, spans):
            runs += _run(group, own, request["timeout"])
    if request["burn"]:
        with _span(cgroup, spans):
            _burn(own, request["burn"])
    time.sleep(SETTLE_SECONDS)
    at_the_end = _elsewhere(cgroup)
    elsewhere = None if outside is None or at_the_end is None else at_the_end - outside
    before, after = spans[0][0], spans[-1][1]
    # The time of the groups, without the waits between them.
    took = sum(end["monotonic_ns"] - begin["monotonic_ns"] for begin, end in spans)
    after["monotonic_ns"] = before["monotonic_ns"] + took
    alive = _alive(_cgroup(request["crowd"])) if request["crowd"] else 0
    for run, step in zip(runs, steps, strict=True):
        run["id"] = _id(step)
    for step in reversed(steps):
        for command in step["after"]:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    answer = {"before": before, "after": after, "runs": runs, "alive": alive, "elsewhere_ns": elsewhere}
    json.dump(answer, sys.stdout)


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


def _elsewhere(cgroup: pathlib.Path) -> int | None:
    """Return what the processors have run outside of the cgroup and of this driver, ns; ``None`` if it is not known."""
    ran = ran_ns(TIMERS.read_text())
    return None if ran is None else ran - 1000 * _usage_usec(cgroup) - time.process_time_ns()


def ran_ns(timers: str) -> int | None:
    """Return how long the processors were not idle since the boot, ns, from what ``/proc/timer_list`` says.

    Idle time is not sampled by ticks: the kernel reads its clock whenever a processor becomes idle, is interrupted or
    goes on (``tick_nohz_start_idle`` and ``tick_nohz_stop_idle`` in kernel/time/tick-sched.c). The time of one that is
    idle at this moment, without a tick, is added. Handlers of interrupts count as work, also on an idle processor.

    Not ``rq_cpu_time`` of ``/proc/schedstat``: when a task is preempted after it has said that it will sleep,
    ``sched_info_depart`` sets no time of queueing, so ``sched_info_arrive`` keeps the old time of arrival, and the next
    departure counts the task's earlier run once more, and all that ran in the meantime (kernel/sched/stats.h).
    """
    now = _NOW.search(timers)
    processors: list[dict[str, int]] = []
    for name, value in _TICKLESS.findall(timers):
        if name == "tick_stopped":
            processors.append({})
        if processors:
            processors[-1][name] = int(value)
    if now is None or not all(len(processor) == 4 for processor in processors) or not processors:
        return None
    at = int(now[1])
    idle = 0
    for processor in processors:
        idle += processor["idle_sleeptime"] + processor["iowait_sleeptime"]
        if processor["tick_stopped"]:
            idle += at - processor["idle_entrytime"]
    return at * len(processors) - idle


def _usage_usec(cgroup: pathlib.Path) -> int:
    lines = (line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return next(int(value) for name, value in lines if name == "usage_usec")


def _account(cgroup: pathlib.Path) -> dict[str, int]:
    # Not user_usec and system_usec: the kernel splits the sum by where its ticks fell, which is too coarse for a short
    # run.
    usage = _usage_usec(cgroup)
    ticks = [int(figure) for figure in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    memory = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    return {
        "monotonic_ns": time.monotonic_ns(),
        "log_entries": int(LOG_LENGTH.read_text()),
        "slab_kib": int(memory["Slab"].split()[0]),
        "cached_kib": int(memory["Cached"].split()[0]),
        "ticks": sum(ticks),
        "steal_ticks": ticks[7],
        "usage_usec": usage,
    }


def _run(group: list[dict[str, Any]], cgroup: pathlib.Path, timeout: float) -> list[dict[str, object]]:
    # Only the started program enters the cgroup. If the driver ran in it and read its own CPU time, the time since the
    # last tick would be missing (0.1 % of a start). The program writes into files, because a reader at the other end of
    # a pipe would be scheduled more or less often. Whether a woken task preempts the task that woke it depends on
    # nanoseconds in the scheduler, and later events depend on that: servers differed by 0.3 %. Under this policy
    # (sched(7)) the woken task waits. The policy is set first: on a change of policy the kernel accounts for the task's
    # run time so far, on a change of cgroup it does not. Otherwise up to 3 ms of Python since its last tick would count
    # for the old cgroup or for the new one, at random.
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
    # In the cgroup only while it burns: otherwise the start and end of a process of this size would be counted too.
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

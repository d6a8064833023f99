"""Runs in the guest, by the guest's own Python: start containers one after the other and account for them.

Standard input: ``{"cgroup", "timeout", "steps": [{"files", "before", "run", "after", "cidfile", "id"}, ...]}``.
Standard output: what each ``run`` printed, and the clock, CPU time and log length before and after all of them. Time is
taken here, so that ssh is never in the timed part; what prepares a start and cleans up after it is not in it either.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, BinaryIO

CGROUPS = pathlib.Path("/sys/fs/cgroup")
LOG_LENGTH = pathlib.Path("/sys/kernel/security/ima/runtime_measurements_count")


def main() -> None:
    """Read the request, run it, print the account."""
    request = json.load(sys.stdin)
    cgroup = CGROUPS / request["cgroup"].lstrip("/")
    for step in request["steps"]:
        _prepare(step)
    own = cgroup / "start"
    own.mkdir(parents=True, exist_ok=True)
    before = _account(cgroup)
    runs = [_run(step["run"], own, request["timeout"]) for step in request["steps"]]
    after = _account(cgroup)
    for run, step in zip(runs, request["steps"], strict=True):
        run["id"] = _id(step)
        for command in step["after"]:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    json.dump({"before": before, "after": after, "runs": runs}, sys.stdout)


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


def _account(cgroup: pathlib.Path) -> dict[str, int]:
    lines = (line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    stat = {name: int(value) for name, value in lines}
    return {
        "monotonic_ns": time.monotonic_ns(),
        "log_entries": int(LOG_LENGTH.read_text()),
        # Not user_usec and system_usec: the kernel splits the sum by where its ticks fell, too coarse for a short run.
        "usage_usec": stat["usage_usec"],
    }


def _run(command: list[str], cgroup: pathlib.Path, timeout: float) -> dict[str, object]:
    # Only what is started enters the cgroup: of a task that runs, and reads its own account, the kernel has not counted
    # what it did since its last tick (0.1 % of a start). And it writes into files: a reader at the other end of a pipe
    # would work more or less often as it is scheduled.
    def enter() -> None:
        (cgroup / "cgroup.procs").write_text("0")

    quiet, code = subprocess.DEVNULL, None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = subprocess.run(
                command, stdin=quiet, stdout=out, stderr=err, timeout=timeout, preexec_fn=enter, check=False
            ).returncode
        return {"code": code, "out": _text(out), "err": _text(err)}


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


if __name__ == "__main__":
    main()

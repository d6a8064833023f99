"""Runs in the guest, by the guest's own Python: start commands one after the other and account for them.

Standard input: ``{"cgroup": "/testbed", "commands": [[...], ...], "cidfiles": [...], "timeout": seconds}``.
Standard output: what each command printed, and the clock, CPU time and log length before and after all of them. Time is
taken here, so that ssh is never in the timed part.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
LOG_LENGTH = pathlib.Path("/sys/kernel/security/ima/runtime_measurements_count")


def main() -> None:
    """Read the request, run it, print the account."""
    request = json.load(sys.stdin)
    cgroup = CGROUPS / request["cgroup"].lstrip("/")
    _enter(cgroup / "driver")
    before = _account(cgroup)
    runs = [_run(command, request["timeout"]) for command in request["commands"]]
    after = _account(cgroup)
    for run, cidfile in zip(runs, request["cidfiles"], strict=True):
        path = pathlib.Path(cidfile)
        run["id"] = path.read_text().strip() if path.exists() else ""
    json.dump({"before": before, "after": after, "runs": runs}, sys.stdout)


def _enter(cgroup: pathlib.Path) -> None:
    # A leaf of its own: a cgroup with children that have controllers may hold no process itself.
    cgroup.mkdir(parents=True, exist_ok=True)
    (cgroup / "cgroup.procs").write_text("0")


def _account(cgroup: pathlib.Path) -> dict[str, int]:
    lines = (line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    stat = {name: int(value) for name, value in lines}
    return {
        "monotonic_ns": time.monotonic_ns(),
        "log_entries": int(LOG_LENGTH.read_text()),
        **{name: stat[name] for name in ("usage_usec", "user_usec", "system_usec")},
    }


def _run(command: list[str], timeout: float) -> dict[str, object]:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        return {"code": None, "out": _text(error.stdout), "err": _text(error.stderr)}
    return {"code": done.returncode, "out": _text(done.stdout), "err": _text(done.stderr)}


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="backslashreplace")


if __name__ == "__main__":
    main()

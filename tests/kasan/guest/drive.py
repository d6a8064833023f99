"""Runs in the guest, by the guest's own Python: start containers all at once; have the kernel's detectors look.

``drive.py run``: standard input is ``{"timeout", "steps": [{"files", "before", "run", "after"}, ...]}``, standard
output ``{"seconds", "runs": [{"code", "out", "err"}, ...]}``. ``drive.py look``: what the detectors have found, and
whether they are still on.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

KMEMLEAK = pathlib.Path("/sys/kernel/debug/kmemleak")
# An object younger than this is not taken for leaked (mm/kmemleak.c, MSECS_MIN_AGE).
YOUNG = 6.0


def run() -> dict[str, Any]:
    """Start what is asked for, wait for all of it, clean up."""
    request = json.load(sys.stdin)
    for step in request["steps"]:
        for name, text in step["files"].items():
            path = pathlib.Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for command in step["before"]:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    runs = _at_once([step["run"] for step in request["steps"]], request["timeout"])
    seconds = time.monotonic() - begun
    for step in request["steps"]:
        for command in step["after"]:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": seconds, "runs": runs}


def _at_once(commands: list[list[str]], timeout: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        started = []
        for command in commands:
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            started.append((process, out, err))
        runs = []
        for process, out, err in started:
            code = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(max(0.0, deadline - time.monotonic()))
            for file in (out, err):
                file.seek(0)
            texts = {"out": out.read().decode("utf-8", "replace"), "err": err.read().decode("utf-8", "replace")}
            runs.append({"code": code} | texts)
        return runs


def look() -> dict[str, Any]:
    """Scan for leaks, twice, as one look may take a pointer on its way for none; then tell all that was reported."""
    for _ in range(2):
        time.sleep(YOUNG)
        KMEMLEAK.write_text("scan")
    lockdep = pathlib.Path("/proc/lockdep_stats").read_text()
    return {
        "leaks": KMEMLEAK.read_text(),
        "lockdep": any(line.split() == ["debug_locks:", "1"] for line in lockdep.splitlines()),
        "tainted": int(pathlib.Path("/proc/sys/kernel/tainted").read_text()),
        "log_entries": int(pathlib.Path("/sys/kernel/security/ima/runtime_measurements_count").read_text()),
        "boot": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        # Last, as a look can cause a report; read and cleared in one, so that none is lost or told twice.
        "log": subprocess.run(["dmesg", "--read-clear"], check=True, capture_output=True).stdout.decode(
            "utf-8", "replace"
        ),
    }


if __name__ == "__main__":
    json.dump({"run": run, "look": look}[sys.argv[1]](), sys.stdout)

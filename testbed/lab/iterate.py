"""One iteration of a workload in a guest: start its containers, check what they printed, read the account."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed.errors import LabError
from testbed.guest import Guest
from testbed.record import Sample, Started
from testbed.runtimes import Runtime, Start
from testbed.workloads import Workload, WorkloadFailed

DRIVER = "/opt/testbed/drive.py"
CGROUP = "/testbed"
_SOURCE = Path(__file__).with_name("drive.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """What one iteration gave. ``failure`` says what a container printed or returned that it should not have."""

    samples: tuple[Sample, ...]
    started: tuple[Started, ...]
    failure: str = ""


def deploy(guest: Guest) -> None:
    """Bring the driver into the guest."""
    guest.put(_SOURCE.read_bytes(), DRIVER)


def source_digest() -> str:
    """Return SHA-256 over the driver and what asks it: a change of either can change what is measured."""
    return hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def request(workload: Workload, runtime: Runtime, image: str, number: int) -> dict[str, Any]:
    """Return what the driver is asked: the steps of ``workload.starts`` containers, each with an id of its own."""
    steps = []
    for start in range(workload.starts):
        # Of the form that engines use. The same in every arm: its length and its hashes are part of the work.
        name = hashlib.sha256(f"{workload.name}/{number}/{start}".encode()).hexdigest()
        wish = Start(id=name, image=image, argv=workload.argv, cgroup=f"{CGROUP}/containers")
        steps.append(asdict(runtime.steps(wish)) | {"id": name})
    return {"cgroup": CGROUP, "steps": steps, "timeout": workload.timeout}


def iterate(guest: Guest, workload: Workload, runtime: Runtime, image: str, number: int, *, warmup: bool) -> Iteration:
    """Run one iteration. ``image`` is what the runtime calls it (``Runtime.locate``)."""
    asked = json.dumps(request(workload, runtime, image, number)).encode()
    # The driver keeps the deadline of each start; ours only catches a guest that stopped answering.
    deadline = workload.timeout * workload.starts + 60
    said = guest.run(("env", "PYTHONHASHSEED=0", "python3", DRIVER), input=asked, timeout=deadline)
    try:
        account = json.loads(said.out)
    except ValueError as error:
        raise LabError(
            f"the driver in the guest printed no account: {said.text[:200]!r}", "look at console.log"
        ) from error
    return Iteration(
        samples=tuple(_samples(account["before"], account["after"], number, warmup=warmup)),
        started=tuple(
            Started(id=run["id"], image=workload.image, workload=workload.name, exit_status=_status(run["code"]))
            for run in account["runs"]
        ),
        failure=next((why for run in account["runs"] if (why := _why(workload, run))), ""),
    )


def _samples(before: dict[str, int], after: dict[str, int], number: int, *, warmup: bool) -> list[Sample]:
    def sample(metric: str, unit: str, key: str, scale: float) -> Sample:
        value = (after[key] - before[key]) * scale
        return Sample(metric=metric, unit=unit, value=value, iteration=number, warmup=warmup)

    return [
        sample("cpu", "s", "usage_usec", 1e-6),
        sample("elapsed", "s", "monotonic_ns", 1e-9),
        sample("log_entries", "1", "log_entries", 1),
    ]


def _status(code: int | None) -> int:
    return -1 if code is None else code


def _why(workload: Workload, run: dict[str, Any]) -> str:
    if run["code"] != 0:
        end = "no end in time" if run["code"] is None else f"exit status {run['code']}"
        return f"workload {workload.name}: {end}: {run['err'].strip()[-400:]}"
    try:
        workload.check(run["out"])
    except WorkloadFailed as failure:
        return f"workload {workload.name}: {failure}"
    return ""

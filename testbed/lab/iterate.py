"""One iteration of a workload in a guest: start its containers, check what they printed, read the measured values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from testbed.errors import LabError
from testbed.guest import Guest
from testbed.record import Sample, Started
from testbed.runtimes import Runtime, Start
from testbed.workloads import Output, Workload, WorkloadFailed

DRIVER = "/opt/testbed/drive.py"
CGROUP = "/testbed"
_CONTAINERS = f"{CGROUP}/containers"
# Beside it: the crowd's work is not part of any iteration.
CROWD = "/testbed-crowd"
_CROWD_SECONDS = 900.0
_SOURCE = Path(__file__).parent / "in_guest" / "drive.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """The result of one iteration. ``failure``: unexpected output or exit status of a container."""

    samples: tuple[Sample, ...]
    started: tuple[Started, ...]
    failure: str = ""


def deploy(guest: Guest) -> None:
    """Copy the driver into the guest, and make its cgroups.

    Before the save, so that all machines restored from this guest have the same cgroups: where a cgroup's memory lies
    depends on the cgroups before it. When the first container made them, 5 of 23 restored machines needed 0.2 % less
    for each later start.
    """
    guest.put(_SOURCE.read_bytes(), DRIVER)
    asked = json.dumps({"cgroup": CGROUP, "containers": _CONTAINERS}).encode()
    guest.run(("python3", DRIVER, "make"), input=asked)


def source_digest() -> str:
    """Return SHA-256 over the driver and this module: a change of either can change what is measured."""
    return hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationRequest:
    """What an iteration runs. ``image``: the runtime's name or path of the image (``Runtime.locate``).

    ``burn``: seconds of CPU time to waste beside the workload, for a positive control.
    """

    workload: Workload
    runtime: Runtime
    image: str
    burn: float = 0.0


def request(job: IterationRequest, number: int) -> dict[str, Any]:
    """Return the request to the driver: the steps of each start, each container with its own id."""
    workload = job.workload
    return {
        "cgroup": CGROUP,
        "crowd": CROWD if workload.crowd else "",
        "timeout": workload.timeout,
        "cold": workload.cold,
        "burn": job.burn,
        "groups": [list(_group(job, number, start)) for start in range(workload.starts)],
    }


def _group(job: IterationRequest, number: int, start: int) -> Iterator[dict[str, Any]]:
    # Names of the form that engines use. The same in every arm, because its length and its hashes are part of the work.
    pod = _name(job, number, start, "pod") if job.workload.pod else ""
    for role, role_of in enumerate(job.workload.together):
        name = _name(job, number, start, role) if role else _name(job, number, start)
        wish = Start(
            id=name,
            image=job.image,
            argv=role_of.argv,
            cgroup=_CONTAINERS,
            pod=pod,
            leads=bool(pod) and not role,
        )
        yield asdict(job.runtime.steps(wish)) | {"id": name}


def _name(job: IterationRequest, *numbers: object) -> str:
    return hashlib.sha256("/".join((job.workload.name, *map(str, numbers))).encode()).hexdigest()


def iterate(guest: Guest, job: IterationRequest, number: int, *, warmup: bool) -> Iteration:
    """Run one iteration. Raises ``LabError`` if the driver in the guest prints no result."""
    workload = job.workload
    asked = json.dumps(request(job, number)).encode()
    # The driver enforces the deadline of each start; this one only detects a guest that stopped answering.
    deadline = workload.timeout * workload.starts + 60
    said = guest.run(("env", "PYTHONHASHSEED=0", "python3", DRIVER), input=asked, timeout=deadline)
    try:
        account = json.loads(said.out)
    except ValueError as error:
        raise LabError(
            f"the driver in the guest printed no result: {said.text[:200]!r}", "look at console.log"
        ) from error
    roles = list(range(len(workload.together))) * workload.starts
    started = tuple(
        Started(id=run["id"], image=workload.image, workload=workload.name, exit_status=_status(run["code"]), role=role)
        for run, role in zip(account["runs"], roles, strict=True)
    )
    results = [_told(workload, role, run) for run, role in zip(account["runs"], roles, strict=True)]
    failure = next((result for result in results if isinstance(result, str)), "") or _missed(workload, account["alive"])
    outputs = [result for result, role in zip(results, roles, strict=True) if not role and isinstance(result, Output)]
    samples = [*_samples(account["before"], account["after"], outputs), *_outside(account["elsewhere_ns"])]
    return Iteration(
        samples=tuple(replace(sample, iteration=number, warmup=warmup) for sample in samples),
        started=started,
        failure=failure,
    )


@contextmanager
def crowd(guest: Guest, job: IterationRequest) -> Iterator[tuple[Started, ...]]:
    """Keep the workload's crowd of containers alive; it may be empty. Raises ``DeployError``.

    They are ended unless an error occurs: then the guest itself is ended soon.
    """
    wanted = job.workload.crowd
    if wanted is None:
        yield ()
        return
    if job.runtime.detached is None:
        raise LabError(f"runtime {job.runtime.name} cannot start containers that stay alive", "use crun or runc")
    names = [_name(job, "crowd", number) for number in range(wanted.size)]
    starts = (Start(id=name, image=job.image, argv=wanted.argv, cgroup=CROWD) for name in names)
    steps = json.dumps([asdict(job.runtime.detached(start)) for start in starts]).encode()
    guest.run(("python3", DRIVER, "begin"), input=steps, timeout=_CROWD_SECONDS)
    role = len(job.workload.together)
    workload = job.workload
    yield tuple(
        Started(id=name, image=workload.image, workload=workload.name, exit_status=0, role=role) for name in names
    )
    guest.run(("python3", DRIVER, "end"), input=json.dumps(CROWD).encode())


def _missed(workload: Workload, alive: int) -> str:
    wanted = workload.crowd.size if workload.crowd else 0
    return (
        "" if alive == wanted else f"workload {workload.name}: {alive} of the {wanted} containers beside it were alive"
    )


def _samples(before: dict[str, int], after: dict[str, int], outputs: list[Output]) -> Iterator[Sample]:
    for metric, unit, key, scale in (
        ("cpu", "s", "usage_usec", 1e-6),
        ("elapsed", "s", "monotonic_ns", 1e-9),
        ("log_entries", "1", "log_entries", 1),
        ("slab", "B", "slab_kib", 1024),
        ("page_cache", "B", "cached_kib", 1024),
    ):
        yield Sample(metric=metric, unit=unit, value=(after[key] - before[key]) * scale, iteration=0)
    stolen = (after["steal_ticks"] - before["steal_ticks"]) / max(1, after["ticks"] - before["ticks"])
    yield Sample(metric="guest_steal", unit="1", value=stolen, iteration=0)
    yield Sample(metric="log_before", unit="1", value=before["log_entries"], iteration=0)
    yield Sample(metric="operations", unit="1", value=sum(output.operations for output in outputs), iteration=0)
    for values in zip(*(output.values for output in outputs), strict=True):
        middle = median(value.value for value in values)
        yield Sample(metric=values[0].metric, unit=values[0].unit, value=middle, iteration=0)


def _outside(elsewhere: int | None) -> Iterator[Sample]:
    """Yield what ran outside of the cgroup; nothing where the guest's kernel does not say it."""
    if elsewhere is not None:
        yield Sample(metric="elsewhere", unit="s", value=elsewhere * 1e-9, iteration=0)


def _status(code: int | None) -> int:
    return -1 if code is None else code


def _told(workload: Workload, role: int, run: dict[str, Any]) -> Output | str:
    """Return the parsed output of a container, or why it is not that of a successful run."""
    if run["code"] != 0:
        end = "did not finish in time" if run["code"] is None else f"exit status {run['code']}"
        return f"workload {workload.name}: {end}: {run['err'].strip()[-400:]}"
    try:
        return workload.roles[role].parse(run["out"])
    except WorkloadFailed as failure:
        return f"workload {workload.name}: {failure}"

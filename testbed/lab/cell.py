"""One run: a machine restored from its block's save, one measurer, one workload, one quote; ends in a record."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import measurers, plugins
from testbed.errors import DeadlineExceeded, LostMachine
from testbed.guest import Guest
from testbed.lab import attestation, facts, health
from testbed.lab.block import Ready, deploy_products
from testbed.lab.build.measurer import Products
from testbed.lab.health import HostCounters
from testbed.lab.iterate import Iteration, IterationRequest, crowd, iterate
from testbed.measurers._policy import ImaPolicy
from testbed.plan import Cell
from testbed.record import Evidence, MadeBy, Record, Sample, Started, Status, Tier
from testbed.rundir import Events
from testbed.spec import Limits

if TYPE_CHECKING:  # it imports libvirt, which a desk does not have
    from testbed.lab.machines.machine import Machine

PCRS = (10, 11)
_PATIENCE = 60.0
_MEASURER_LOG = "measurer.log"
_BPF_STATS = Path(__file__).parent / "in_guest" / "bpf_stats.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The request for one run. ``images``: the reference by digest of each container image.

    ``products``: the built files of its measurer, if that is a foreign one.
    """

    cell: Cell
    block: int
    position: int
    previous: str | None
    attempt: int
    warmups: int
    iterations: int
    tier: Tier
    limits: Limits
    images: dict[str, str]
    bpf_stats: bool
    facts: dict[str, Any]
    products: Products | None = None
    made_by: MadeBy | None = None
    ima_policies: tuple[ImaPolicy, ...] = ()


@dataclass(slots=True, kw_only=True)
class _PartialRecord:
    """What is known so far: a lost machine still leaves a record of what happened before."""

    status: Status = Status.OK
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    containers: list[Started] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    bundle: str | None = None
    dmesg: str | None = None
    measurer_log: str | None = None


Start = Callable[[Path], AbstractContextManager[Ready]]


def run_cell(start: Start, request: RunRequest, directory: Path) -> Record:
    """Run one cell in the machine that ``start`` holds, writing evidence below ``directory``; return how it ended.

    A lost machine, a deadline and a failed workload are statuses of the record. Raises ``DeployError`` where the guest
    rejects what was copied into it: every other cell would fail in the same way.
    """
    partial = _PartialRecord(facts=dict(request.facts))
    events = Events(directory / "events.jsonl")
    started_utc = _now()
    begun = time.monotonic()
    with _fates(partial, events), start(directory) as ready:
        machine = ready.machine
        (directory / "ak.pub").write_bytes(ready.ak)
        events.add("ready", clone=machine.clone_id, seconds=machine.ready_seconds)
        partial.facts |= {"boot_seconds": machine.boot_seconds, "ready_seconds": machine.ready_seconds}
        _measure(machine, request, partial, events, directory)
    return Record(
        cell_id=request.cell.id,
        block=request.block,
        position=request.position,
        previous=request.previous,
        status=partial.status,
        reason=partial.reason,
        attempt=request.attempt,
        started_utc=started_utc,
        seconds=time.monotonic() - begun,
        facts=partial.facts,
        samples=tuple(partial.samples),
        containers=tuple(partial.containers),
        counters=partial.counters,
        evidence=Evidence(
            bundle=partial.bundle,
            ak=_existing(directory, "ak.pub"),
            console=_existing(directory, "console.log"),
            domain=_existing(directory, "domain.xml"),
            dmesg=partial.dmesg,
            measurer_log=partial.measurer_log,
        ),
        made_by=request.made_by,
    )


def lost(request: RunRequest, reason: str) -> Record:
    """Return the record of a run that never had a machine."""
    return Record(
        cell_id=request.cell.id,
        block=request.block,
        position=request.position,
        previous=request.previous,
        status=Status.MACHINE_LOST,
        reason=reason,
        attempt=request.attempt,
        started_utc=_now(),
        seconds=0.0,
        facts=request.facts,
        made_by=request.made_by,
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


@contextmanager
def _fates(partial: _PartialRecord, events: Events) -> Iterator[None]:
    try:
        yield
    except LostMachine as error:
        partial.status, partial.reason = Status.MACHINE_LOST, str(error)
    except DeadlineExceeded as error:
        partial.status, partial.reason = Status.TIMED_OUT, str(error)
    events.add("ended", status=partial.status, reason=partial.reason)


def _measure(machine: Machine, request: RunRequest, partial: _PartialRecord, events: Events, directory: Path) -> None:
    guest, cell = machine.guest, request.cell
    measurer = plugins.measurer(cell.measurer, request.ima_policies)
    if request.bpf_stats:
        guest.run(("sysctl", "-qw", "kernel.bpf_stats_enabled=1"))
    partial.facts |= facts.guest(guest) | {"clone_id": machine.clone_id}
    if request.products is not None:
        deploy_products(guest, measurer, request.products)
    with measurer.attach(measurer, guest):
        events.add("attached", measurer=cell.measurer)
        before = HostCounters.now()
        _work(guest, request, partial, events)
        partial.facts |= HostCounters.now().since(before)
        plugins.attack(cell.attack).strike(guest)
        measurers.beat(measurer, guest)
        challenge = secrets.token_bytes(32)
        bundle = attestation.collect(guest, PCRS, challenge, machine.clone_id, directory / "evidence")
        partial.bundle = "evidence"
        partial.facts |= {"nonce": bundle.nonce.hex(), "challenge": challenge.hex()}
        events.add("quoted", nonce=bundle.nonce.hex())
        if measurer.read_log is not None:
            (directory / _MEASURER_LOG).write_bytes(measurer.read_log(guest))
            partial.measurer_log = _MEASURER_LOG
        partial.counters = measurer.count(measurer, guest)
        if request.bpf_stats:
            partial.counters |= json.loads(guest.run(("python3", "-"), input=_BPF_STATS.read_bytes()).out)
    dmesg = guest.run(("dmesg",), timeout=_PATIENCE)
    (directory / "dmesg.txt").write_bytes(dmesg.out)
    partial.dmesg = "dmesg.txt"
    partial.facts |= facts.aftermath(guest)
    if partial.status is Status.OK:
        reason = health.rejection(
            request.tier,
            request.limits,
            facts=partial.facts,
            samples=partial.samples,
            counters=partial.counters,
            dmesg=dmesg.text,
        )
        if reason:
            partial.status, partial.reason = Status.REJECTED, reason


def _work(guest: Guest, request: RunRequest, partial: _PartialRecord, events: Events) -> None:
    workload, runtime = plugins.workload(request.cell.workload), plugins.runtime(request.cell.runtime)
    job = IterationRequest(
        workload=workload, runtime=runtime, image=runtime.locate(guest, request.images[workload.image])
    )
    warmups, iterations = (0, 1) if workload.cold else (request.warmups, request.iterations)
    share = plugins.measurer(request.cell.measurer).burn.get(request.tier, 0.0)
    partial.facts["timed_seconds"] = 0.0
    with crowd(guest, job) as alive:
        partial.containers += alive
        for number in range(warmups + iterations):
            begun = time.monotonic()
            done: Iteration = iterate(guest, job, number, warmup=number < warmups)
            partial.facts["timed_seconds"] += time.monotonic() - begun
            partial.samples += done.samples
            partial.containers += done.started
            events.add("iterated", number=number, failure=done.failure)
            if done.failure:
                partial.status, partial.reason = Status.WORKLOAD_FAILED, done.failure
                return
            if number < warmups:
                # A share of the CPU time that this machine has just needed.
                job = replace(job, burn=share * next(sample.value for sample in done.samples if sample.metric == "cpu"))


def _existing(directory: Path, name: str) -> str | None:
    return name if (directory / name).exists() else None

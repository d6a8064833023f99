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
from typing import Any

from testbed import measurers, plugins
from testbed.errors import DeadlineExceeded, LostMachine
from testbed.guest import Guest
from testbed.lab import attestation, facts, health
from testbed.lab.block import Ready
from testbed.lab.health import Host
from testbed.lab.iterate import Iteration, Job, crowd, iterate
from testbed.lab.machines.machine import Machine
from testbed.plan import Cell
from testbed.record import Evidence, Record, Sample, Started, Status, Tier
from testbed.rundir import Events
from testbed.spec import Limits

PCRS = (10, 11)
_PATIENCE = 60.0
_BPF_STATS = Path(__file__).parent / "in_guest" / "bpf_stats.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one run is asked to do. ``images``: the reference by digest of each container image."""

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


@dataclass(slots=True, kw_only=True)
class _Account:
    """What is known so far: a lost machine still leaves a record of what went before."""

    status: Status = Status.OK
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    containers: list[Started] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    bundle: str | None = None
    dmesg: str | None = None


Start = Callable[[Path], AbstractContextManager[Ready]]


def run_cell(start: Start, errand: Errand, directory: Path) -> Record:
    """Run one cell in the machine that ``start`` holds, writing evidence below ``directory``; return how it ended.

    A lost machine, a deadline and a failed workload are statuses of the record. Raises ``DeployError`` where the guest
    refuses what was brought to it: every other cell would fail alike.
    """
    account = _Account(facts=dict(errand.facts))
    events = Events(directory / "events.jsonl")
    started_utc = _now()
    begun = time.monotonic()
    with _fates(account, events), start(directory) as ready:
        machine = ready.machine
        (directory / "ak.pub").write_bytes(ready.ak)
        events.add("ready", clone=machine.clone_id, seconds=machine.ready_seconds)
        account.facts |= {"boot_seconds": machine.boot_seconds, "ready_seconds": machine.ready_seconds}
        _measure(machine, errand, account, events, directory)
    return Record(
        cell_id=errand.cell.id,
        block=errand.block,
        position=errand.position,
        previous=errand.previous,
        status=account.status,
        reason=account.reason,
        attempt=errand.attempt,
        started_utc=started_utc,
        seconds=time.monotonic() - begun,
        facts=account.facts,
        samples=tuple(account.samples),
        containers=tuple(account.containers),
        counters=account.counters,
        evidence=Evidence(
            bundle=account.bundle,
            ak=_existing(directory, "ak.pub"),
            console=_existing(directory, "console.log"),
            domain=_existing(directory, "domain.xml"),
            dmesg=account.dmesg,
        ),
    )


def lost(errand: Errand, reason: str) -> Record:
    """Return the record of a run that never had a machine."""
    return Record(
        cell_id=errand.cell.id,
        block=errand.block,
        position=errand.position,
        previous=errand.previous,
        status=Status.MACHINE_LOST,
        reason=reason,
        attempt=errand.attempt,
        started_utc=_now(),
        seconds=0.0,
        facts=errand.facts,
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


@contextmanager
def _fates(account: _Account, events: Events) -> Iterator[None]:
    try:
        yield
    except LostMachine as error:
        account.status, account.reason = Status.MACHINE_LOST, str(error)
    except DeadlineExceeded as error:
        account.status, account.reason = Status.TIMED_OUT, str(error)
    events.add("ended", status=account.status, reason=account.reason)


def _measure(machine: Machine, errand: Errand, account: _Account, events: Events, directory: Path) -> None:
    guest, cell = machine.guest, errand.cell
    measurer = plugins.measurer(cell.measurer)
    if errand.bpf_stats:
        guest.run(("sysctl", "-qw", "kernel.bpf_stats_enabled=1"))
    account.facts |= facts.guest(guest) | {"clone_id": machine.clone_id}
    with measurer.attach(measurer, guest):
        events.add("attached", measurer=cell.measurer)
        before = Host.now()
        _work(guest, errand, account, events)
        account.facts |= Host.now().since(before)
        plugins.attack(cell.attack).strike(guest)
        measurers.beat(measurer, guest)
        challenge = secrets.token_bytes(32)
        bundle = attestation.collect(guest, PCRS, challenge, machine.clone_id, directory / "evidence")
        account.bundle = "evidence"
        account.facts |= {"nonce": bundle.nonce.hex(), "challenge": challenge.hex()}
        events.add("quoted", nonce=bundle.nonce.hex())
        account.counters = measurers.counters(measurer, guest)
        if errand.bpf_stats:
            account.counters |= json.loads(guest.run(("python3", "-"), input=_BPF_STATS.read_bytes()).out)
    dmesg = guest.run(("dmesg",), timeout=_PATIENCE)
    (directory / "dmesg.txt").write_bytes(dmesg.out)
    account.dmesg = "dmesg.txt"
    account.facts |= facts.aftermath(guest)
    if account.status is Status.OK:
        reason = health.rejection(
            errand.tier,
            errand.limits,
            facts=account.facts,
            samples=account.samples,
            counters=account.counters,
            dmesg=dmesg.text,
        )
        if reason:
            account.status, account.reason = Status.REJECTED, reason


def _work(guest: Guest, errand: Errand, account: _Account, events: Events) -> None:
    workload, runtime = plugins.workload(errand.cell.workload), plugins.runtime(errand.cell.runtime)
    job = Job(workload=workload, runtime=runtime, image=runtime.locate(guest, errand.images[workload.image]))
    warmups, iterations = (0, 1) if workload.cold else (errand.warmups, errand.iterations)
    share = plugins.measurer(errand.cell.measurer).burn.get(errand.tier, 0.0)
    account.facts["timed_seconds"] = 0.0
    with crowd(guest, job) as alive:
        account.containers += alive
        for number in range(warmups + iterations):
            begun = time.monotonic()
            done: Iteration = iterate(guest, job, number, warmup=number < warmups)
            account.facts["timed_seconds"] += time.monotonic() - begun
            account.samples += done.samples
            account.containers += done.started
            events.add("iterated", number=number, failure=done.failure)
            if done.failure:
                account.status, account.reason = Status.WORKLOAD_FAILED, done.failure
                return
            if number < warmups:
                # A share of what this machine was just seen to need.
                job = replace(job, burn=share * next(one.value for one in done.samples if one.metric == "cpu"))


def _existing(directory: Path, name: str) -> str | None:
    return name if (directory / name).exists() else None

"""The order of a campaign: boot and save each block, then restore it for each cell and collect the evidence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import rundir
from testbed.errors import DeadlineExceeded, DeployError, LostMachine
from testbed.lab.block import Parts, boot, prepare, reference, restore, settings
from testbed.lab.cell import RunRequest, Start, lost, run_cell
from testbed.lab.machines.save import Saved
from testbed.plan import Block, Cell, Plan
from testbed.progress import Reporter
from testbed.record import MadeBy, Record, Status
from testbed.spec import Experiment

if TYPE_CHECKING:  # it imports libvirt, which a desk does not have
    from testbed.lab.machines.lab import Lab

# A run that ended like this says nothing about its cell: the next `testbed run` tries it again.
_AGAIN = frozenset({Status.MACHINE_LOST, Status.TIMED_OUT})


Refused = Callable[[Cell, DeployError], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCampaign:
    """A campaign under way.

    ``saves``: where the saved machines of unfinished blocks are kept, so that it can resume. ``facts``: what every
    record says of host and images. ``refused``: called when a guest rejects a measurer; then only that run ends.
    Without it the whole campaign ends. ``wanted``: of the planned cells, which are run. ``made_by``: the code that
    makes the records, without what a kernel's machines are set to.
    """

    experiment: Experiment
    plan: Plan
    campaign: rundir.Campaign
    parts: Mapping[str, Parts]
    saves: Path
    facts: Mapping[str, Any]
    refused: Refused | None = None
    wanted: Callable[[Cell], bool] = lambda _: True
    made_by: MadeBy | None = None

    def complete(self, block: Block, position: int) -> bool:
        """Whether that run of the block needs no further try."""
        record = self.campaign.record_of(block.cells[position], block)
        return record is not None and record.status not in _AGAIN

    def missing(self, block: Block) -> tuple[int, ...]:
        """Return the positions of a block that have no complete run yet."""
        return tuple(n for n, cell in enumerate(block.cells) if self.wanted(cell) and not self.complete(block, n))

    def disturbed(self, block: Block) -> tuple[int, ...]:
        """Return the positions of the groups in which a run was rejected and that may be tried again.

        The whole group: its arms are compared with each other, so they are repeated together.
        """
        return tuple(position for group in block.groups if self._retry(block, group) for position in group)

    def _retry(self, block: Block, group: tuple[int, ...]) -> bool:
        records = [self.campaign.record_of(block.cells[n], block) for n in group]
        tried = max((record.attempt for record in records if record is not None), default=0)
        rejected = any(record is not None and record.status is Status.REJECTED for record in records)
        return rejected and tried < self.experiment.limits.tries and all(self.wanted(block.cells[n]) for n in group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the blocks that run at the same time share. ``stop``: set when no further run may begin or be written."""

    lab: Lab
    job: RunningCampaign
    reporter: Reporter
    stop: threading.Event


def run(lab: Lab, job: RunningCampaign, reporter: Reporter, machines: int) -> None:
    """Run every block with a missing run, with up to ``machines`` machines at a time.

    A lost machine or a deadline ends in a record and the next cell runs. Raises what no other run would survive
    (``DeployError``, ``HostError``, ``BuildError``), and ``KeyboardInterrupt``, after every machine was ended.
    """
    shared = _Shared(lab=lab, job=job, reporter=reporter, stop=threading.Event())
    rundir.sweep(job.campaign)
    with ThreadPoolExecutor(max_workers=machines, thread_name_prefix="block") as pool:
        todo = [block for block in job.plan.blocks if job.missing(block) or job.disturbed(block)]
        futures = [pool.submit(_run_block, shared, block) for block in todo]
        try:
            _first_failure(futures)
        except BaseException:
            shared.stop.set()
            for future in futures:
                future.cancel()
            lab.destroy_all()
            raise


def _first_failure(futures: Sequence[Future[None]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _run_block(shared: _Shared, block: Block) -> None:
    job = shared.job
    if shared.stop.is_set():
        return
    saved = None if job.experiment.start == "boot" else _saved(shared, block)
    while todo := job.missing(block) or job.disturbed(block):
        before = _tries(job, block)
        for position in todo:
            if shared.stop.is_set():
                return
            if saved is None and job.experiment.start != "boot":
                _write_lost(shared, block, position)
            else:
                _try_one(shared, _starter(shared, saved, block, position), block, position)
        if job.missing(block) or _tries(job, block) == before:
            # A lost machine is tried again by the next `testbed run`, not now.
            break
    if saved is not None and all(job.complete(block, position) for position in range(len(block.cells))):
        saved.remove()


def _tries(job: RunningCampaign, block: Block) -> int:
    records = (job.campaign.record_of(cell, block) for cell in block.cells)
    return sum(record.attempt for record in records if record is not None)


def _starter(shared: _Shared, saved: Saved | None, block: Block, position: int) -> Start:
    """Return how a run gets its machine: a clone of the block's saved one, or a boot of its own."""
    if saved is None:
        parts, cells = shared.job.parts[block.kernel].of(block.build), (block.cells[position],)
        return lambda directory: boot(shared.lab, parts, cells, directory)
    ak = (shared.job.campaign.block_path(block) / "ak.pub").read_bytes()
    return lambda directory: restore(shared.lab, saved, ak, directory)


def _saved(shared: _Shared, block: Block) -> Saved | None:
    """Return the block's saved machine, made now if there is none; ``None`` if its boot failed."""
    job = shared.job
    where = job.saves / f"{block.kernel}-{block.index}"
    saved = Saved.load(where)
    if saved is not None and (job.campaign.block_path(block) / "facts.json").exists():
        shared.reporter.say(f"{_title(block)}: resuming from its saved machine")
        return saved
    if saved is not None:
        saved.remove()
    # Runs of another boot are no pairs of the runs to come: they stay, as an earlier attempt.
    for cell in block.cells:
        rundir.retire(job.campaign.run_path(cell, block))
    shared.reporter.say(f"{_title(block)}: booting")
    try:
        return prepare(shared.lab, job.parts[block.kernel].of(block.build), block, where, job.campaign)
    except (LostMachine, DeadlineExceeded) as error:
        if shared.stop.is_set():
            raise
        shared.reporter.say(f"{_title(block)}: its boot failed: {error}")
        return None


def _try_one(shared: _Shared, start: Start, block: Block, position: int) -> None:
    try:
        _run_one(shared, start, block, position)
    except DeployError as error:
        if shared.job.refused is None:
            raise
        cell = block.cells[position]
        shared.job.refused(cell, error)
        shared.reporter.advance(f"{_title(block)}: {cell.measurer}, {cell.workload}: rejected by the guest")


def _run_one(shared: _Shared, start: Start, block: Block, position: int) -> None:
    job = shared.job
    request = _request(job, block, position)
    with rundir.new_run(job.campaign, request.cell, block) as directory:
        record = run_cell(start, request, directory)
        if shared.stop.is_set():
            # The run lost its machine because the lab ended it: that says nothing about its cell.
            raise LostMachine("interrupted")
        rundir.write_record(directory, record)
    shared.reporter.advance(f"{_title(block)}: {request.cell.measurer}, {request.cell.workload}: {_line(record)}")


def _write_lost(shared: _Shared, block: Block, position: int) -> None:
    request = _request(shared.job, block, position)
    with rundir.new_run(shared.job.campaign, request.cell, block) as directory:
        rundir.write_record(directory, lost(request, "its block's machine did not boot"))
    shared.reporter.advance(f"{_title(block)}: {request.cell.measurer}, {request.cell.workload}: no machine")


def _request(job: RunningCampaign, block: Block, position: int) -> RunRequest:
    cell = block.cells[position]
    earlier = rundir.retire(job.campaign.run_path(cell, block))
    parts = job.parts[block.kernel]
    return RunRequest(
        cell=cell,
        block=block.index,
        position=position,
        previous=block.cells[position - 1].id if position else None,
        attempt=earlier + 1,
        warmups=job.experiment.warmups,
        iterations=job.experiment.iterations,
        tier=job.plan.tier,
        limits=job.experiment.limits,
        images={image.name: reference(image) for image in parts.images},
        bpf_stats=job.experiment.bpf_stats,
        facts=dict(job.facts) | {"start": job.experiment.start, "build": block.build},
        products=parts.products.get(cell.measurer),
        made_by=_made_by(job, parts),
        ima_policies=job.experiment.ima_policies,
    )


def _made_by(job: RunningCampaign, parts: Parts) -> MadeBy | None:
    if job.made_by is None:
        return None
    return replace(job.made_by, settings={setting.name: setting.value for setting in settings(parts.machine)})


def _title(block: Block) -> str:
    return f"block {block.index} ({block.kernel})"


def _line(record: Record) -> str:
    if record.status is not Status.OK:
        return f"{record.status}: {record.reason.splitlines()[0] if record.reason else ''}"
    cpu = [sample.value for sample in record.samples if sample.metric == "cpu" and not sample.warmup]
    return f"ok, {sum(cpu) / len(cpu):.4f} s of CPU time" if cpu else "ok"

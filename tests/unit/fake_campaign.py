"""Build a synthetic campaign directory: records as the lab would write them, values from a seeded generator."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from testbed import rundir
from testbed.plan import Block, Cell, Plan
from testbed.record import Evidence, Record, Sample, Started, Status, Tier

# True relative cost of each arm: from "nothing" over "hardly visible" to "several times".
ARMS: Mapping[str, float] = {
    "none": 0.0,
    "none2": 0.0,
    "ima-exec": 0.018,
    "hooks-only": 0.0011,
    "container-file": 0.62,
}
FACTS = {
    "tier": "icount",
    "qemu_version": "7.2.0",
    "cpu_model": "Haswell-noTSX",
    "kernel_release": "6.12.117-cloud-amd64",
    "images": {"tools": "sha256:" + "ab" * 32},
    "nonce": "00" * 32,
}
COUNTERS = {"files": 120, "cache_hits": 14, "unmeasured_mprotect": 0, "unmeasured_no_file": 0}
Change = Callable[[Cell, Record], Record | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one iteration of a workload does, from which the cost of each arm follows by ``PRICES``.

    ``base``: instructions of the baseline; ``files``, ``bytes``, ``lookups``: of one start; ``image_files`` and
    ``image_bytes``: of its image's tree.
    """

    base: float = 2e8
    starts: int = 1
    files: int = 5
    bytes: int = 2_000_000
    lookups: int = 10
    image_files: int = 100
    image_bytes: int = 8_000_000
    operations: int = 1
    cold: bool = False


# Instructions an event: the truth that the cost model must find.
PRICES = {
    "hook": 200.0,
    "lookup": 1_400.0,
    "file": 90_000.0,
    "extend": 30_000.0,
    "byte": 31.0,
    "ima_file": 60_000.0,
    "ima_byte": 55.0,
    "launch": 600_000.0,
    "walked": 20_600.0,
    "image_file": 150_000.0,
    "image_byte": 32.0,
}
RUNGS = ("none", "none2", "ima-exec", "hooks-only", "container-file", "container-image")
# Twelve workloads, as different in their events as those of the real campaign.
WORKLOADS: Mapping[str, Shape] = {
    "archive": Shape(base=3.1e8, files=14, bytes=5_200_000, lookups=40, image_bytes=9_000_000),
    "compile": Shape(base=4.4e8, files=31, bytes=38_000_000, lookups=400, image_files=900, image_bytes=60_000_000),
    "exec-30": Shape(base=1.9e8, files=33, bytes=4_100_000, lookups=3200, operations=100),
    "exec-static": Shape(base=1.2e8, files=2, bytes=900_000, lookups=2000, operations=1000),
    "mmap": Shape(base=0.9e8, files=12, bytes=17_000_000, lookups=900),
    "nginx": Shape(base=2.2e8, files=17, bytes=8_800_000, lookups=60, operations=2000),
    "postgres": Shape(base=4.8e8, files=44, bytes=24_000_000, lookups=350, image_files=700, operations=500),
    "python-start": Shape(base=2.6e8, starts=3, files=26, bytes=9_700_000, lookups=90, image_files=1200),
    "redis": Shape(base=2.4e8, files=11, bytes=6_900_000, lookups=30, operations=3000),
    "start-cold": Shape(base=0.4e8, files=3, bytes=1_900_000, lookups=5, cold=True),
    "start-warm": Shape(base=0.9e8, starts=5, files=3, bytes=1_900_000, lookups=5, operations=5),
    "sysbench-cpu": Shape(base=3.3e8, files=8, bytes=4_000_000, lookups=14),
}


def keep(_: Cell, record: Record) -> Record:
    return record


def build(
    root: Path,
    *,
    arms: Mapping[str, float] | tuple[str, ...] = ARMS,
    workloads: Mapping[str, float | Shape] | None = None,
    blocks: int = 6,
    tier: Tier = Tier.ICOUNT,
    noise: float = 0.0001,
    drift: float = 0.001,
    seed: int = 1,
    runtimes: tuple[str, ...] = ("crun",),
    kernels: tuple[str, ...] = ("debian-6.12",),
    builds: int = 1,
    change: Change = keep,
) -> rundir.Campaign:
    """Write a campaign below ``root``.

    ``workloads``: CPU seconds an iteration by name, or a shape from which costs and counters follow; ``noise``:
    standard deviation of an arm's logarithm, ``drift``: that of a whole block (a boot), which must cancel. ``builds``:
    of the disks, which the blocks take in turns. ``change`` may alter a record, or return ``None``: no record.
    """
    workloads = workloads or {"tools": 0.42}
    random_ = random.Random(seed)
    cells = tuple(
        Cell(kernel=kernel, runtime=runtime, measurer=arm, workload=workload, attack="none", inputs="0" * 64)
        for kernel in kernels
        for runtime in runtimes
        for workload in workloads
        for arm in arms
    )
    plan = Plan(
        campaign=f"fake-{tier}-0badcafe",
        tier=tier,
        seed=seed,
        cells=cells,
        blocks=tuple(
            Block(index=index, kernel=kernel, cells=tuple(random_.sample(mine, len(mine))), build=index % builds)
            for kernel in kernels
            for mine in ([cell for cell in cells if cell.kernel == kernel],)
            for index in range(blocks)
        ),
    )
    campaign = rundir.Campaign(path=root / plan.campaign)
    rundir.write_plan(campaign, plan)
    rundir.write_json(campaign.facts_file, {"experiment": {"delta": 0.005}, "host": {"cpu": "a fake one", "cores": 2}})
    for block in plan.blocks:
        boot = random_.gauss(0, drift)
        previous = None
        for position, cell in enumerate(block.cells):
            shape = workloads[cell.workload]
            costs = _costs(shape, cell.measurer, arms)
            values = [cost * math.exp(boot + random_.gauss(0, noise)) for cost in costs]
            record = _record(cell, (block.index, position, previous), tier, values)
            if isinstance(shape, Shape):
                record = _counted(record, cell, shape)
            previous = cell.measurer
            changed = change(cell, record)
            if changed is not None:
                with rundir.new_run(campaign, cell, block) as spare:
                    rundir.write_record(spare, changed)
    return campaign


def _costs(shape: float | Shape, arm: str, arms: Mapping[str, float] | tuple[str, ...]) -> list[float]:
    """Return the CPU seconds of the first and of the second iteration."""
    if isinstance(shape, Shape):
        first, later = shape.base * 1.01 + added(shape, arm, first=True), shape.base + added(shape, arm)
        return [first * 1e-9] if shape.cold else [first * 1e-9, later * 1e-9]
    assert isinstance(arms, Mapping)
    cost = (1 + arms[arm]) * shape
    return [cost * 1.2, cost]


def added(shape: Shape, arm: str, *, first: bool = False) -> float:
    """Return the true added instructions of an iteration."""
    prices = PRICES
    if arm == "ima-exec":
        return shape.starts * (prices["ima_byte"] * shape.bytes + prices["ima_file"] * shape.files)
    if arm.startswith("none"):
        return 0.0
    cost = prices["hook"] * (shape.lookups + shape.files)
    if arm.startswith("container"):
        cost += prices["lookup"] * shape.lookups + prices["byte"] * shape.bytes + prices["file"] * shape.files
        cost += prices["extend"] * (shape.files + 1)
    if arm == "container-image" and not first:
        cost += prices["launch"] + prices["walked"] * shape.image_files
    total = cost * shape.starts
    if arm == "container-image" and first:
        total += shape.starts * prices["launch"] + (shape.starts - 1) * prices["walked"] * shape.image_files
        total += prices["image_file"] * shape.image_files + prices["image_byte"] * shape.image_bytes
    return total


def _counted(record: Record, cell: Cell, shape: Shape) -> Record:
    """Add what the measurer counted, which containers ran, and the samples of the log."""
    ours, image = cell.measurer.startswith("container"), cell.measurer == "container-image"
    iterations = sorted({sample.iteration for sample in record.samples})
    starts = shape.starts * len(iterations)
    counters = {
        "files": shape.files * starts,
        "bytes_hashed": shape.bytes * starts + shape.image_bytes * image,
        "cache_hits": shape.lookups * starts,
        "containers": starts,
        "images": int(image),
        "images_known": (starts - 1) * image,
        "launches": starts * image,
        "unmeasured_no_file": 0,
    }
    extends = shape.starts * (shape.files + 1 + image)
    samples = [
        Sample(metric=metric, unit=unit, value=value, iteration=number, warmup=number == 0 and not shape.cold)
        for number in iterations
        for metric, unit, value in (
            ("operations", "1", float(shape.operations)),
            ("log_entries", "1", float(extends + image * (number == 0) if ours else 0)),
            ("log_before", "1", 1.0),
            ("slab", "B", 4096.0 * extends * ours),
            ("page_cache", "B", 8192.0),
        )
    ]
    timed = tuple(replace(one, warmup=False) if shape.cold else one for one in record.samples)
    one = Started(id="0" * 64, image=cell.workload, workload=cell.workload, exit_status=0)
    return replace(
        record,
        samples=(*timed, *samples),
        containers=tuple(replace(one, id=f"{number:064x}") for number in range(starts)),
        counters=counters if ours else {},
    )


def _record(cell: Cell, place: tuple[int, int, str | None], tier: Tier, values: list[float]) -> Record:
    block, position, previous = place
    return Record(
        cell_id=cell.id,
        block=block,
        position=position,
        previous=previous,
        status=Status.OK,
        started_utc="2024-01-01T00:00:00Z",
        seconds=12.5,
        facts={**FACTS, "tier": str(tier), "boot_id": f"boot-{block}", "clone_id": f"clone-{block}-{position}"},
        samples=tuple(_samples(values, cell.measurer)),
        counters=COUNTERS if cell.measurer.startswith("container") else {},
        evidence=Evidence(console="console.log"),
    )


def _samples(values: list[float], arm: str) -> Iterator[Sample]:
    for number, value in enumerate(values):
        for metric, share in (("cpu", 1.0), ("elapsed", 1.5)):
            yield Sample(metric=metric, unit="s", value=share * value, iteration=number, warmup=number == 0)
    yield Sample(metric="ima_entries", unit="1", value=1 + 90 * (arm == "ima-exec"), iteration=0)
    yield Sample(metric="ima_log_bytes", unit="B", value=8000.0, iteration=0)


def failed(record: Record, status: Status, reason: str) -> Record:
    return replace(record, status=status, reason=reason, samples=())

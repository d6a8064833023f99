"""Build a synthetic campaign directory: records as the lab would write them, values from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from testbed import rundir
from testbed.plan import Block, Cell, Plan
from testbed.record import Evidence, Record, Sample, Status, Tier

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


def keep(_: Cell, record: Record) -> Record:
    return record


def build(
    root: Path,
    *,
    arms: Mapping[str, float] = ARMS,
    workloads: Mapping[str, float] | None = None,
    blocks: int = 6,
    tier: Tier = Tier.ICOUNT,
    noise: float = 0.0001,
    drift: float = 0.001,
    seed: int = 1,
    change: Change = keep,
) -> rundir.Campaign:
    """Write a campaign below ``root``.

    ``workloads``: CPU seconds an iteration by name; ``noise``: standard deviation of an arm's logarithm, ``drift``:
    that of a whole block (a boot), which must cancel. ``change`` may alter a record, or return ``None``: no record.
    """
    workloads = workloads or {"tools": 0.42}
    random_ = random.Random(seed)
    cells = tuple(
        Cell(kernel="debian-6.12", runtime="crun", measurer=arm, workload=workload, attack="none", inputs="0" * 64)
        for workload in workloads
        for arm in arms
    )
    plan = Plan(
        campaign=f"fake-{tier}-0badcafe",
        tier=tier,
        seed=seed,
        cells=cells,
        blocks=tuple(
            Block(index=index, kernel="debian-6.12", cells=tuple(random_.sample(cells, len(cells))))
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
            cost = (1 + arms[cell.measurer]) * workloads[cell.workload]
            values = [cost * 2.718281828 ** (boot + random_.gauss(0, noise)) for _ in range(2)]
            record = _record(cell, (block.index, position, previous), tier, values)
            previous = cell.measurer
            changed = change(cell, record)
            if changed is not None:
                with rundir.new_run(campaign, cell, block) as spare:
                    rundir.write_record(spare, changed)
    return campaign


def _record(cell: Cell, place: tuple[int, int, str | None], tier: Tier, values: list[float]) -> Record:
    block, position, previous = place
    samples = [
        Sample(metric=metric, unit="s", value=share * value, iteration=number, warmup=number == 0)
        for number, value in enumerate([values[0] * 1.2, values[1]])
        for metric, share in (("cpu", 1.0), ("elapsed", 1.5))
    ]
    samples += [
        Sample(metric="ima_entries", unit="1", value=1 + 90 * (cell.measurer == "ima-exec"), iteration=0),
        Sample(metric="ima_log_bytes", unit="B", value=8000.0, iteration=0),
    ]
    return Record(
        cell_id=cell.id,
        block=block,
        position=position,
        previous=previous,
        status=Status.OK,
        started_utc="2024-01-01T00:00:00Z",
        seconds=12.5,
        facts={**FACTS, "tier": str(tier), "boot_id": f"boot-{block}", "clone_id": f"clone-{block}-{position}"},
        samples=tuple(samples),
        counters=COUNTERS if cell.measurer.startswith("container") else {},
        evidence=Evidence(console="console.log"),
    )


def failed(record: Record, status: Status, reason: str) -> Record:
    return replace(record, status=status, reason=reason, samples=())

"""From a wish to a decision: the cells, and the order in which they run. Pure; written down before the first boot."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed import plugins
from testbed.errors import SpecError
from testbed.record import Tier
from testbed.spec import Exclude, Experiment

_AXES = ("kernel", "runtime", "measurer", "workload", "attack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of the product of the axes. ``inputs``: digest of everything else that can change the result."""

    kernel: str
    runtime: str
    measurer: str
    workload: str
    attack: str
    inputs: str

    @property
    def id(self) -> str:
        """Short SHA-256 of all that can change the result."""
        return digest(asdict(self))[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One boot: every cell of one kernel once, each restored from that boot's saved machine, in this order."""

    index: int
    kernel: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision. ``campaign`` names the directory below ``results/``; the same inputs give the same name."""

    campaign: str
    tier: Tier
    seed: int
    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...]


def resolve(experiment: Experiment, *, tier: Tier, kernels: Mapping[str, str], inputs: Mapping[str, str]) -> Plan:
    """Resolve an experiment into cells and blocks.

    ``kernels``: the digest of what is booted and deployed, by name of the kernel; ``inputs``: digests that all cells
    share (container images, emulator). Raises ``SpecError`` for a name that does not exist and for an empty product.
    """
    check_names(experiment, kernels)
    shared = {
        "inputs": dict(inputs),
        "tier": tier,
        "machine": experiment.machine.model_dump(),
        "warmups": experiment.warmups,
        "iterations": experiment.iterations,
    }
    axes = (experiment.kernels, experiment.runtimes, experiment.measurers, experiment.workloads, experiment.attacks)
    cells = tuple(
        Cell(
            kernel=kernel,
            runtime=runtime,
            measurer=measurer,
            workload=workload,
            attack=attack,
            inputs=digest(
                shared
                | {
                    "kernel": kernels[kernel],
                    "runtime": plugins.source_digest("runtimes", runtime),
                    "measurer": plugins.source_digest("measurers", measurer),
                    "workload": plugins.source_digest("workloads", workload),
                    "attack": plugins.source_digest("attacks", attack),
                }
            ),
        )
        for kernel, runtime, measurer, workload, attack in itertools.product(*axes)
        if not _excluded(experiment.exclude, (kernel, runtime, measurer, workload, attack))
    )
    if not cells:
        raise SpecError(f"{experiment.name}: the excludes leave no cell", "remove an exclude")
    blocks = tuple(_blocks(experiment, cells))
    identity = digest({"cells": [c.id for c in cells], "seed": experiment.seed, "blocks": experiment.blocks})
    name = f"{experiment.name}-{tier}-{identity[:8]}"
    return Plan(campaign=name, tier=tier, seed=experiment.seed, cells=cells, blocks=blocks)


def digest(value: Any) -> str:
    """Return SHA-256 in hex of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_names(experiment: Experiment, kernels: Iterable[str]) -> None:
    """Raise ``SpecError`` naming key, name and those that exist, for the first name that does not."""
    for axis in ("kernels", "runtimes", "measurers", "workloads", "attacks"):
        known = sorted(kernels) if axis == "kernels" else plugins.names(axis)
        for name in getattr(experiment, axis):
            if name not in known:
                raise SpecError(f"key {axis!r}: no {axis[:-1]} {name!r}", f"there are: {', '.join(known)}")


def _excluded(excludes: Iterable[Exclude], point: tuple[str, ...]) -> bool:
    values = dict(zip(_AXES, point, strict=True))
    wishes = ({k: v for k, v in e.model_dump().items() if v is not None} for e in excludes)
    return any(wish and wish.items() <= values.items() for wish in wishes)


def _blocks(experiment: Experiment, cells: tuple[Cell, ...]) -> Iterable[Block]:
    """Shuffle the cells of each block by the recorded seed, so that drift and position are not tied to an arm."""
    for index, kernel in itertools.product(range(experiment.blocks), experiment.kernels):
        order = [cell for cell in cells if cell.kernel == kernel]
        random.Random(f"{experiment.seed}/{kernel}/{index}").shuffle(order)  # noqa: S311 - an order, not a secret
        if order:
            yield Block(index=index, kernel=kernel, cells=tuple(order))

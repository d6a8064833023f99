"""From an experiment to a plan: the cells, and their order. Pure; the plan is written before the first boot."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from testbed import plugins
from testbed.errors import SpecError
from testbed.record import Tier
from testbed.spec import TUNED, Exclude, Experiment, Shape

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
    """One boot: every cell of one kernel once, each restored from that boot's saved machine, in this order.

    ``build``: which build of the machine's disks it boots, from 0.
    """

    index: int
    kernel: str
    cells: tuple[Cell, ...]
    build: int = 0

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The positions of the arms of each workload: what is compared with each other, and run one after the other."""
        keyed = itertools.groupby(range(len(self.cells)), key=lambda n: _stratum(self.cells[n]))
        return tuple(tuple(positions) for _, positions in keyed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan. ``campaign`` names the directory below ``results/``; the same inputs give the same name.

    ``order``: how the arms of a block were put in order, ``williams`` or ``shuffled``.
    """

    campaign: str
    tier: Tier
    seed: int
    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...]
    order: str = "williams"


def resolve(
    experiment: Experiment,
    *,
    tier: Tier,
    kernels: Mapping[str, str],
    inputs: Mapping[str, str],
    products: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Plan:
    """Resolve an experiment into cells and blocks.

    ``kernels``: the digest of what is booted and deployed, by name of the kernel; ``inputs``: digests that all cells
    share (container images, emulator). ``products``: the digest of what a foreign measurer is on a kernel, by (kernel,
    measurer); it is in the ids of that measurer's cells alone. Raises ``SpecError`` for a name that does not exist, for
    a machine that the tier does not have, and for an empty product.
    """
    check_names(experiment, kernels)
    _check_machine(experiment, tier)
    shared = {
        "inputs": dict(inputs),
        "tier": tier,
        "machine": _machine(experiment.machine),
        "warmups": experiment.warmups,
        "iterations": experiment.iterations,
        "start": experiment.start,
        "bpf_stats": experiment.bpf_stats,
        "limits": experiment.limits.model_dump(),
    } | ({} if experiment.store == "plain" else {"store": experiment.store})
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
                    "measurer": _measurer_digest(experiment, measurer),
                    "workload": plugins.source_digest("workloads", workload),
                    "attack": plugins.source_digest("attacks", attack),
                }
                | ({"products": products[kernel, measurer]} if (kernel, measurer) in products else {})
            ),
        )
        for kernel, runtime, measurer, workload, attack in itertools.product(*axes)
        if not _excluded(experiment.exclude, (kernel, runtime, measurer, workload, attack))
    )
    if not cells:
        raise SpecError(f"{experiment.name}: the excludes remove every cell", "remove an exclude")
    blocks = tuple(_blocks(experiment, cells))
    order: dict[str, Any] = {"seed": experiment.seed, "blocks": experiment.blocks, "order": "williams"}
    if experiment.builds > 1:
        order["builds"] = experiment.builds
    identity = digest({"cells": [c.id for c in cells]} | order)
    name = f"{experiment.name}-{tier}-{identity[:8]}"
    return Plan(campaign=name, tier=tier, seed=experiment.seed, cells=cells, blocks=blocks)


def _machine(shape: Shape) -> dict[str, Any]:
    """Return what of the machine is in a cell's id. What came later is in it only where it is not as it was before."""
    return {name: value for name, value in shape.model_dump().items() if (name, value) != ("command_line", TUNED)}


def digest(value: Any) -> str:
    """Return SHA-256 in hex of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _measurer_digest(experiment: Experiment, name: str) -> str:
    """Return the digest of a measurer's source; of a user's policy, the digest of its lines and of what loads them."""
    for policy in experiment.ima_policies:
        if policy.name == name:
            return digest({"lines": policy.lines, "loaded like": plugins.source_digest("measurers", "none")})
    return plugins.source_digest("measurers", name)


def check_names(experiment: Experiment, kernels: Iterable[str]) -> None:
    """Raise ``SpecError`` for the first name that does not exist; it names the key, and the names that exist."""
    for axis in ("kernels", "runtimes", "measurers", "workloads", "attacks"):
        known = sorted(kernels) if axis == "kernels" else plugins.names(axis)
        if axis == "measurers":
            known = (*known, *(policy.name for policy in experiment.ima_policies))
        for name in getattr(experiment, axis):
            if name not in known:
                raise SpecError(f"key {axis!r}: no {axis[:-1]} {name!r}", f"there are: {', '.join(known)}")
    _check_pairs(experiment)


def _check_machine(experiment: Experiment, tier: Tier) -> None:
    # The clock of that tier counts what all processors execute together, so it would be right for none of them.
    count = experiment.machine.vcpus
    if tier is Tier.ICOUNT and count > 1:
        raise SpecError(
            f"key 'machine.vcpus': the tier icount has one virtual CPU, got {count}",
            "--tier kvm if `testbed doctor` says that it works, or --tier tcg, which shows correctness only",
        )


def _check_pairs(experiment: Experiment) -> None:
    """Raise ``SpecError`` for two names that cannot be combined."""
    for name in experiment.runtimes if experiment.store != "plain" else ():
        if not plugins.runtime(name).unpacked:
            others = ", ".join(other for other in plugins.names("runtimes") if plugins.runtime(other).unpacked)
            problem = f"key 'store': runtime {name!r} loads images into a store of its own, which has no fs-verity"
            raise SpecError(problem, f"use one of these: {others}")
    for runtime, workload, measurer in itertools.product(
        experiment.runtimes, experiment.workloads, experiment.measurers
    ):
        wanted, starter = plugins.workload(workload), plugins.runtime(runtime)
        problem = ""
        if wanted.pod and not starter.pods:
            problem = f"workload {workload!r} is a pod, and runtime {runtime!r} does not start pods"
        if wanted.crowd and not starter.detached:
            problem = (
                f"workload {workload!r} needs containers that stay alive, and runtime {runtime!r} cannot start them"
            )
        if problem:
            hint = f'add [[exclude]] with runtime = "{runtime}" and workload = "{workload}"'
            if not any(e.runtime in (None, runtime) and e.workload in (None, workload) for e in experiment.exclude):
                raise SpecError(problem, hint)
        if plugins.measurer(measurer).burn and (wanted.cold or not experiment.warmups):
            raise SpecError(
                f"measurer {measurer!r} wastes a share of what the warm-up of {workload!r} took, but it has no warm-up",
                "set warmups = 1, and exclude cold workloads",
            )


def selection(wishes: Iterable[str]) -> Callable[[Cell], bool]:
    """Return a function that tells whether a cell matches every ``AXIS=NAME,NAME``. Raises ``SpecError``."""
    wanted: dict[str, set[str]] = {}
    for wish in wishes:
        axis, _, names = wish.partition("=")
        if axis not in _AXES or not names:
            raise SpecError(f"--only {wish!r}: expected AXIS=NAME[,NAME]", f"axes: {', '.join(_AXES)}")
        wanted.setdefault(axis, set()).update(names.split(","))
    return lambda cell: all(getattr(cell, axis) in names for axis, names in wanted.items())


def _excluded(excludes: Iterable[Exclude], point: tuple[str, ...]) -> bool:
    values = dict(zip(_AXES, point, strict=True))
    wishes = ({k: v for k, v in e.model_dump().items() if v is not None} for e in excludes)
    return any(wish and wish.items() <= values.items() for wish in wishes)


def _blocks(experiment: Experiment, cells: tuple[Cell, ...]) -> Iterable[Block]:
    """Put the cells in order: workloads shuffled in each block, their arms by a Williams square over the blocks."""
    for kernel in experiment.kernels:
        groups: dict[tuple[str, ...], list[Cell]] = {}
        for cell in cells:
            if cell.kernel == kernel:
                groups.setdefault(_stratum(cell), []).append(cell)
        squares = {key: _square(experiment.seed, key, len(arms)) for key, arms in groups.items()}
        for index in range(experiment.blocks if groups else 0):
            keys = list(groups)
            random.Random(f"{experiment.seed}/{kernel}/{index}").shuffle(keys)  # noqa: S311 - an order, not a secret
            rows = ((groups[key], squares[key][index % len(squares[key])]) for key in keys)
            cells_in_order = tuple(arms[n] for arms, row in rows for n in row)
            yield Block(index=index, kernel=kernel, cells=cells_in_order, build=_build(experiment, index))


def _build(experiment: Experiment, index: int) -> int:
    """Return the build of a block: they take turns, and begin with the next one once all orders of the arms came.

    Otherwise each of two builds would always have the same half of the orders.
    """
    whole = math.lcm(len(williams(len(experiment.measurers))), experiment.builds)
    return (index + index // whole) % experiment.builds


def _stratum(cell: Cell) -> tuple[str, ...]:
    """Return all but the measurer: cells that share it are each other's arms."""
    return cell.kernel, cell.runtime, cell.workload, cell.attack


def _square(seed: int, key: tuple[str, ...], arms: int) -> list[tuple[int, ...]]:
    """Return the rows of a Williams square, shuffled by the seed, as is which arm is which number."""
    dice = random.Random("/".join((str(seed), *key)))  # noqa: S311
    names = dice.sample(range(arms), arms)
    rows = [tuple(names[n] for n in row) for row in williams(arms)]
    dice.shuffle(rows)
    return rows


def williams(arms: int) -> tuple[tuple[int, ...], ...]:
    """Return orders of ``arms`` numbers in which each stands at each place, and after each other, equally often.

    As many rows as arms, twice as many if that is odd (Williams, Australian Journal of Scientific Research 2, 1949).
    """
    zigzag = [(n + 1) // 2 if n % 2 else (arms - n // 2) % arms for n in range(arms)]
    rows = [tuple((step + shift) % arms for step in zigzag) for shift in range(arms)]
    return tuple(rows) if arms % 2 == 0 else tuple(rows + [row[::-1] for row in rows])

"""A workload: what containers run, their expected output, and which files of their image run as code.

To add one, write ``workloads/NAME.py`` with a module-level ``WORKLOAD``, or ``WORKLOADS`` where one file holds several
that differ in a number (``NAME-3``, ``NAME-30``); test ``parse`` on a captured output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath


class WorkloadFailed(Exception):
    """The workload's output is not that of a successful run: where, expected, got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One number that a workload prints about itself, by the guest's clock: a throughput, a percentile of latency.

    ``unit``: a base unit, ``1/s`` or ``s``. It means something only where the guest's clock is time (tier ``kvm``).
    """

    metric: str
    unit: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The output of a successful run. ``operations``: how many of ``Workload.operation`` it did."""

    operations: int = 1
    values: tuple[Value, ...] = ()


Parse = Callable[[str], Output]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One container of a start: what it runs, what it executes, its expected output.

    ``executes``: every file of the image from which the command gets code (programs, scripts, what is opened by
    ``dlopen``; the ELF interpreter and the libraries that a file names are computed from the image). ``parse`` gets the
    standard output and raises ``WorkloadFailed`` if it is not that of a successful run; its result is used for the
    first role only.
    """

    argv: tuple[str, ...]
    executes: tuple[PurePosixPath, ...]
    parse: Parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Containers that are alive while a workload runs: ``size`` of its image, started before it and ended after it.

    ``argv`` must wait until it is killed; ``executes``: see ``Role``.
    """

    size: int
    argv: tuple[str, ...]
    executes: tuple[PurePosixPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One iteration starts ``starts`` times, one after the other, a container of ``image`` that runs ``argv``.

    ``argv``, ``executes``, ``parse``: see ``Role``. ``beside``: further containers, started together with the first as
    one pod (they share network, IPC and UTS namespaces); the start ends when all of them have ended. ``crowd``: further
    containers that are alive before the first iteration and until after the last. ``operation``: what
    ``Output.operations`` counts; the report gives the cost of one. ``cold``: the page cache is dropped before the timed
    iteration, and there is no warm-up: the cost is that of the first start after a boot. ``network``: loopback is up,
    as in a pod; a single container is then started as a pod of one. ``timeout``: seconds for one start. ``steady``:
    whether equal runs have equal numbers of instructions (one process works at a time). Servers with several processes
    do not, and have a wider floor.
    """

    name: str
    summary: str
    image: str
    argv: tuple[str, ...]
    executes: tuple[PurePosixPath, ...]
    parse: Parse
    beside: tuple[Role, ...] = ()
    network: bool = False
    crowd: Crowd | None = None
    starts: int = 1
    operation: str = "iteration"
    cold: bool = False
    steady: bool = True
    timeout: float = 120

    @property
    def together(self) -> tuple[Role, ...]:
        """The containers of one start, in the order in which they are started."""
        return (Role(argv=self.argv, executes=self.executes, parse=self.parse), *self.beside)

    @property
    def roles(self) -> tuple[Role, ...]:
        """All roles of this workload's containers, by number: those of a start, then the crowd's."""
        if self.crowd is None:
            return self.together
        return (*self.together, Role(argv=self.crowd.argv, executes=self.crowd.executes, parse=lambda _: Output()))

    @property
    def pod(self) -> bool:
        """Whether a start is a pod, which not every runtime can make (``Runtime.pods``)."""
        return self.network or bool(self.beside)


def expect_lines(expected: tuple[str, ...], output: str) -> None:
    """Raise ``WorkloadFailed`` naming the first line of ``output`` that is not the expected one."""
    lines_printed = tuple(output.splitlines())
    if lines_printed != expected:
        pairs = zip(expected, lines_printed, strict=False)
        lines = [f"line {n}: expected {a!r}, got {b!r}" for n, (a, b) in enumerate(pairs, 1) if a != b]
        raise WorkloadFailed(lines[0] if lines else f"expected {len(expected)} lines, got {len(lines_printed)}")

"""The record of one run: the values that the lab writes and the desk reads."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 2
"""Of ``record.json``. A record of schema 1 does not say which code made it."""


class Tier(enum.StrEnum):
    """How a machine's clock is to be read. A checked fact: results of different tiers are never pooled."""

    KVM = "kvm"
    ICOUNT = "icount"
    TCG = "tcg"


class Status(enum.StrEnum):
    """How a run ended. A record is written in every case."""

    OK = "ok"
    WORKLOAD_FAILED = "workload-failed"
    MACHINE_LOST = "machine-lost"
    TIMED_OUT = "timed-out"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured value. ``unit`` is a base unit: ``s``, ``B``, ``1`` (a count), ``instructions``."""

    metric: str
    unit: str
    value: float
    iteration: int
    warmup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """One container that the harness started: the runtime's own id, the image's name, the exit status.

    ``role``: which of the workload's containers it is, counted from 0 (``Workload.roles``).
    """

    id: str
    image: str
    workload: str
    exit_status: int
    role: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Paths relative to the run's directory; ``None`` where the run did not get so far."""

    bundle: str | None = None
    ak: str | None = None
    console: str | None = None
    domain: str | None = None
    dmesg: str | None = None
    measurer_log: str | None = None


def unmeasured(counters: Mapping[str, int]) -> dict[str, int]:
    """Return the counters of what could not be measured (docs/measurer.md), by name, without those that are 0."""
    return {name: int(value) for name, value in counters.items() if name.startswith("unmeasured_") and value}


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBy:
    """Which code made a record, and how it was asked to.

    ``sources``: SHA-256 over the sources of the package and of ``bpf/``. ``commit``: of the git repository, ``None``
    where there is none; ``dirty``: whether files in ``testbed/``, ``bpf/`` or ``images/`` differ from that commit.
    ``command``: the words of the command line, without names of a user, a host or a home directory. ``settings``: what
    the lab set in the guest before it saved it, by name.
    """

    version: str
    sources: str
    commit: str | None = None
    dirty: bool | None = None
    command: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run: one cell in one block. ``facts`` are values that a comparison must agree on or that explain it.

    ``made_by``: ``None`` in a record of schema 1.
    """

    cell_id: str
    block: int
    position: int
    previous: str | None
    status: Status
    reason: str = ""
    attempt: int = 1
    started_utc: str
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    containers: tuple[Started, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)
    evidence: Evidence = Evidence()
    made_by: MadeBy | None = None
    schema: int = SCHEMA

    @property
    def with_verity(self) -> bool:
        """Whether the files of the store's images had fs-verity (``Experiment.store``)."""
        return self.facts.get("store") == "verity"

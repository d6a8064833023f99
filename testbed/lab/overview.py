"""What is there and what runs: campaigns, machines, the cache. It only looks: it removes nothing and locks nothing."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from testbed import progress
from testbed.errors import EvidenceError, TestbedError
from testbed.lab import probe
from testbed.lab.build import cache
from testbed.lab.machines import reap
from testbed.record import Status
from testbed.rundir import LOCK, Campaign, read_facts, read_plan, read_record, retired

_LOST = (Status.MACHINE_LOST, Status.TIMED_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignState:
    """How far a campaign is, in runs.

    ``complete``: those of the ``planned`` that have a record; ``lost``, ``failed``, ``rejected``: how many of these
    ended so. ``age``: seconds since the last of them began, ``None`` if none did. ``runner``: the process that runs it
    now. ``problem``: why nothing else is known.
    """

    path: Path
    name: str = ""
    tier: str = ""
    question: str = ""
    planned: int = 0
    complete: int = 0
    lost: int = 0
    failed: int = 0
    rejected: int = 0
    age: float | None = None
    runner: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """A machine by its record. ``state``: ``running``, ``left`` (its owner is gone: `testbed gc`), ``elsewhere``.

    ``owner``: the number of the process that holds it, ``command`` its words; ``age`` in seconds.
    """

    machine: str
    directory: Path
    state: str
    owner: int
    command: str = ""
    age: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """The cache: bytes by kind of entry. ``saves``: bytes of saved machines of unfinished campaigns."""

    path: Path
    kinds: dict[str, int] = field(default_factory=dict)
    saves: int = 0

    @property
    def size(self) -> int:
        return sum(self.kinds.values()) + self.saves


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything that ``testbed status`` shows. ``missing``: what ``testbed doctor`` would report as missing."""

    results: Path
    campaigns: tuple[CampaignState, ...]
    machines: tuple[MachineState, ...]
    cache: CacheState
    missing: tuple[str, ...]


def look(results: Path) -> Overview:
    """Look at everything; some seconds. What cannot be read is a ``problem`` of its row."""
    with progress.waiting("looking at the cache"):
        stored = cache_state()
    missing = tuple(found.name for found in probe.capabilities(needed_only=True) if not found.ok)
    return Overview(
        results=results,
        campaigns=tuple(sorted(campaigns(results), key=_newest_first)),
        machines=tuple(machines()),
        cache=stored,
        missing=missing,
    )


def campaigns(results: Path) -> Iterator[CampaignState]:
    """Yield the state of each campaign below ``results``."""
    held = _held()
    for plan in progress.each(sorted(results.glob("*/plan.json")), "campaigns"):
        yield _campaign(Campaign(path=plan.parent), held)


def machines() -> Iterator[MachineState]:
    """Yield what the records of machines say."""
    for path in sorted(reap.record_directory().glob("[!.]*.json")):
        try:
            record, written = reap.read_record(path), path.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):  # its owner removed it meanwhile, or it is no record
            continue
        if not record.domain:
            continue
        away = reap.elsewhere(record.owner)
        state = "elsewhere" if away else "running" if reap.alive(record.owner) else "left"
        yield MachineState(
            machine=record.domain,
            directory=record.directory,
            state=state,
            owner=record.owner.pid,
            command=_command(record.owner.pid) if state == "running" else "",
            age=max(0.0, time.time() - written),
        )


def cache_state() -> CacheState:
    """Return how large the cache is."""
    kinds: Counter[str] = Counter()
    for entry in cache.entries():
        kinds[entry.kind] += entry.size
    return CacheState(path=cache.root(), kinds=dict(sorted(kinds.items())), saves=cache.used(cache.root() / "saves"))


def _campaign(campaign: Campaign, held: dict[tuple[int, int], int]) -> CampaignState:
    try:
        plan = read_plan(campaign)
        question = str((read_facts(campaign).get("experiment") or {}).get("question", ""))
        planned = {campaign.run_path(cell, block).name for block in plan.blocks for cell in block.cells}
        ended, last = _ended(campaign, planned)
    except (TestbedError, OSError) as error:
        return CampaignState(path=campaign.path, name=campaign.path.name, problem=f"{error}".splitlines()[0])
    return CampaignState(
        path=campaign.path,
        name=plan.campaign,
        tier=str(plan.tier),
        question=question,
        planned=len(planned),
        complete=sum(ended.values()),
        lost=sum(ended[status] for status in _LOST),
        failed=ended[Status.WORKLOAD_FAILED],
        rejected=ended[Status.REJECTED],
        age=None if last is None else max(0.0, time.time() - last),
        runner=_runner(campaign, held),
    )


def _ended(campaign: Campaign, planned: set[str]) -> tuple[Counter[Status], float | None]:
    """Return how the planned runs ended, and when the last of them began (seconds since 1970)."""
    ended: Counter[Status] = Counter()
    last: float | None = None
    runs = campaign.path / "runs"
    for name in sorted(os.listdir(runs)) if runs.is_dir() else ():  # noqa: PTH208 - names are all that is needed
        path = runs / name / "record.json"
        if name not in planned or retired(path.parent) or not path.exists():
            continue
        record = read_record(path)
        ended[record.status] += 1
        began = _seconds(path, record.started_utc)
        last = began if last is None else max(last, began)
    return ended, last


def _seconds(path: Path, started: str) -> float:
    try:
        return dt.datetime.fromisoformat(started).timestamp()
    except ValueError as error:
        raise EvidenceError(f"{path}: started_utc: expected a time, got {started!r}", "remove that run") from error


def _held() -> dict[tuple[int, int], int]:
    """Return who holds a lock of a file (``flock``), by device and inode, as far as this process may see it.

    The file is not locked to find that out: a campaign that starts at that moment would think that another runs it.
    """
    held = {}
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        _, kind, _, _, owner, place, *_ = line.replace("->", "").split()
        if kind == "FLOCK" and int(owner) > 0:
            major, minor, inode = place.split(":")
            held[os.makedev(int(major, 16), int(minor, 16)), int(inode)] = int(owner)
    return held


def _runner(campaign: Campaign, held: dict[tuple[int, int], int]) -> int | None:
    try:
        status = (campaign.path / LOCK).stat()
    except OSError:
        return None
    return held.get((status.st_dev, status.st_ino))


def _command(pid: int) -> str:
    try:
        process = reap.read_process(pid)
    except PermissionError:
        return ""
    words = () if process is None else process.argv
    # The interpreter and its path say nothing.
    return " ".join(Path(word).name if number < 2 else word for number, word in enumerate(words))


def _newest_first(state: CampaignState) -> tuple[bool, float, str]:
    return state.runner is None, float("inf") if state.age is None else state.age, state.name

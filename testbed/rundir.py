"""The run directory: the only connection between the lab, which writes it, and the desk, which reads it.

::

    results/<campaign>/campaign.json plan.json          written before the first boot
                       images/NAME.oci.tar              the container images, for the ground truth
                       blocks/<kernel>-<block>/         one boot: facts.json ak.pub console.log domain.xml
                       runs/<cell>-<block>/record.json  raw, never edited; exists = complete
                                           evidence/ console.log dmesg.txt domain.xml events.jsonl
                       rows.parquet checks.parquet figures/ report.md report/    derived, can be deleted
    results/<survey>.json                               which kernels were tried: a campaign each (``surveys``)
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from testbed import files, progress
from testbed.errors import EvidenceError, HostError
from testbed.plan import Block, Cell, Plan
from testbed.record import SCHEMA as RECORD_SCHEMA
from testbed.record import Evidence, MadeBy, Record, Sample, Started, Status, Tier

SCHEMA = 1
"""Of ``plan.json``, ``campaign.json`` and of a survey's file. ``record.json`` has a number of its own."""

_RETIRED = "~"
_NAME_MAX = 256
LOCK = ".lock"
"""The file of a campaign that the process holds that runs it (``flock``)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign's directory."""

    path: Path

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def facts_file(self) -> Path:
        return self.path / "campaign.json"

    def run_path(self, cell: Cell, block: Block) -> Path:
        """Where one run's record and evidence are."""
        return self.path / "runs" / f"{cell.id}-{block.index}"

    def block_path(self, block: Block) -> Path:
        """Where what one boot left is."""
        return self.path / "blocks" / f"{block.kernel}-{block.index}"

    def image_path(self, name: str) -> Path:
        """Where a container image's OCI archive is."""
        return self.path / "images" / f"{name}.oci.tar"

    def record_of(self, cell: Cell, block: Block) -> Record | None:
        """Return that run's record; ``None`` if there is none. A run is renamed into place, so it is never partial."""
        path = self.run_path(cell, block) / "record.json"
        return read_record(path) if _exists(path) else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedCampaign:
    """A campaign as ``load`` read it, once: what the desk hands down instead of reading files again.

    ``facts``: ``campaign.json``. ``records``: each complete run's directory and record, by name, with earlier attempts.
    """

    campaign: Campaign
    plan: Plan
    facts: Mapping[str, Any]
    records: tuple[tuple[Path, Record], ...]

    @property
    def current(self) -> tuple[tuple[Path, Record], ...]:
        """The runs without earlier attempts, which may be of another boot."""
        return tuple((path, record) for path, record in self.records if not retired(path))

    @property
    def cells(self) -> dict[str, Cell]:
        """The planned cells by their id."""
        return {cell.id: cell for cell in self.plan.cells}


@contextmanager
def new_run(campaign: Campaign, cell: Cell, block: Block) -> Iterator[Path]:
    """Yield an empty directory beside the run's; on a normal end it takes the run's place, else it goes."""
    final = campaign.run_path(cell, block)
    final.parent.mkdir(parents=True, exist_ok=True)
    with files.naming(final):
        spare = Path(tempfile.mkdtemp(prefix=f"{files.SPARE}{final.name}-", dir=final.parent))
        try:
            yield spare
            spare.chmod(0o755)
            spare.rename(final)
        finally:
            shutil.rmtree(spare, ignore_errors=True)


def bundle_of(path: Path, record: Record) -> Path | None:
    """Return the directory of a run's evidence, ``None`` if it is not here. ``path``: the run's directory."""
    name = record.evidence.bundle
    return path / name if name and (path / name).is_dir() else None


def retire(path: Path) -> int:
    """Rename what is at ``path`` to an earlier attempt (``path~1``, ``path~2``, ...); return how many there are."""
    number = 1
    while (aside := path.with_name(f"{path.name}{_RETIRED}{number}")).exists():
        number += 1
    if not path.exists():
        return number - 1
    path.rename(aside)
    return number


def retired(path: Path) -> bool:
    """Whether a run's directory is that of an earlier attempt (``NAME~1``, see ``retire``)."""
    return _RETIRED in path.name


@contextmanager
def alone(campaign: Campaign) -> Iterator[None]:
    """Own the campaign: no other process may run it meanwhile. Raises ``HostError`` if another does."""
    campaign.path.mkdir(parents=True, exist_ok=True)
    with (campaign.path / LOCK).open("wb") as file:
        try:
            # The kernel lets go of it when we end, however that happens.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                f"{campaign.path}: another process runs this campaign", "wait for it, or name another --results"
            ) from error
        yield


def sweep(campaign: Campaign) -> None:
    """Remove what a killed process left beside the runs. Only for the process that owns the campaign."""
    for spare in campaign.path.glob(f"runs/{files.SPARE}*"):
        shutil.rmtree(spare, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write beside, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_plain(path, json.dumps(value, indent=1, sort_keys=True, default=str).encode() + b"\n")


def write_plan(campaign: Campaign, plan: Plan) -> None:
    """Write ``plan.json``."""
    write_json(campaign.plan_file, {"schema": SCHEMA} | dataclasses.asdict(plan))


def read_plan(campaign: Campaign) -> Plan:
    """Read ``plan.json``. Raises ``EvidenceError``."""
    raw = read_object(campaign.plan_file)
    with shaped(campaign.plan_file):
        if any(type(block["index"]) is not int for block in raw["blocks"]):
            raise ValueError("a block's index is no number")
        return Plan(
            campaign=raw["campaign"],
            tier=Tier(raw["tier"]),
            seed=raw["seed"],
            cells=_cells(raw["cells"]),
            blocks=tuple(
                # A plan from before there were several builds names none.
                Block(index=b["index"], kernel=b["kernel"], build=b.get("build", 0), cells=_cells(b["cells"]))
                for b in raw["blocks"]
            ),
            order=raw.get("order", "shuffled"),
        )


def _cells(raw: list[dict[str, Any]]) -> tuple[Cell, ...]:
    return tuple(Cell(**cell) for cell in raw)


def read_facts(campaign: Campaign) -> dict[str, Any]:
    """Read ``campaign.json``. Raises ``EvidenceError``."""
    return read_object(campaign.facts_file)


def write_record(directory: Path, record: Record) -> None:
    """Write one run's ``record.json``."""
    write_json(directory / "record.json", dataclasses.asdict(record))


def read_record(path: Path) -> Record:
    """Read a ``record.json``. Raises ``EvidenceError`` naming the file and what is wrong with it."""
    raw = read_object(path, range(1, RECORD_SCHEMA + 1))
    with shaped(path):
        _check_types(raw)
        return Record(
            **raw
            | {
                "made_by": _made_by(raw),
                "status": Status(raw["status"]),
                "samples": tuple(Sample(**sample) for sample in raw["samples"]),
                "containers": tuple(Started(**started) for started in raw["containers"]),
                "evidence": Evidence(**raw["evidence"]),
            }
        )


def _check_types(raw: Mapping[str, Any]) -> None:
    """Raise what a record's wrong types cause: it may come from somebody else. ``dataclasses`` check none."""
    wrong = [
        name
        for name, kind in (
            *(("seconds", int | float), ("started_utc", str), ("cell_id", str), ("block", int), ("facts", dict)),
            *(("counters", dict), ("evidence", dict)),
        )
        if name in raw and not isinstance(raw[name], kind)
    ]
    if wrong:
        raise ValueError(f"wrong {', '.join(wrong)}")
    wrong += [f"counters.{name}" for name, value in raw.get("counters", {}).items() if type(value) is not int]
    wrong += [f"evidence.{name}" for name, value in raw["evidence"].items() if not _inside(value)]
    wrong += ["containers" for one in raw["containers"] if not isinstance(one["id"], str)]
    wrong += ["samples" for one in raw["samples"] if not isinstance(one["value"], int | float)]
    if wrong:
        raise ValueError(f"wrong {', '.join(wrong)}"[:200])
    f"{raw.get('reason', '')}{raw['cell_id']}".encode()  # half of a surrogate pair is no text


def _inside(value: object) -> bool:
    """Whether this names a file in the run's own directory, or none."""
    if value is None:
        return True
    return isinstance(value, str) and len(value) < _NAME_MAX and not _leaves(PurePosixPath(value))


def _leaves(path: PurePosixPath) -> bool:
    return path.is_absolute() or ".." in path.parts


def records(campaign: Campaign) -> Iterator[tuple[Path, Record]]:
    """Yield every complete run's directory and record, by name; earlier attempts (``NAME~1``) among them."""
    runs = campaign.path / "runs"
    # Not by a pattern: that leaves out what this user may not read, and then these runs would count as missing.
    paths = sorted(runs.iterdir()) if _exists(runs) else []
    for path in progress.each(paths, "records", unit="runs"):
        if not path.name.startswith(files.SPARE) and _exists(path / "record.json"):
            yield path, read_record(path / "record.json")


def load(campaign: Campaign) -> LoadedCampaign:
    """Read a campaign's plan, facts and records, each file once. Raises ``EvidenceError``."""
    plan, facts = read_plan(campaign), read_facts(campaign)
    return LoadedCampaign(campaign=campaign, plan=plan, facts=facts, records=tuple(records(campaign)))


def _made_by(raw: dict[str, Any]) -> MadeBy | None:
    made = raw.get("made_by")
    return None if made is None else MadeBy(**made | {"command": tuple(made["command"])})


def _exists(path: Path) -> bool:
    """Whether there is such a path. Raises ``OSError`` where this user may not know."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


_MISSING = "give the directory of a campaign: `testbed run` makes one below `results`"


def read_object(path: Path, known: Sequence[int] = (SCHEMA,), *, missing: str = _MISSING) -> dict[str, Any]:
    """Read a JSON object. Raises ``EvidenceError``, and ``OSError`` for a file that exists and cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvidenceError(f"{path}: no such file", missing) from error
    except (ValueError, RecursionError) as error:
        raise EvidenceError(
            f"{path}: expected JSON, got: {error}", "remove that run's directory and run the campaign again"
        ) from error
    if not isinstance(value, dict) or value.get("schema", SCHEMA) not in known:
        schema = value.get("schema") if isinstance(value, dict) else type(value).__name__
        wanted = " or ".join(map(str, known))
        raise EvidenceError(
            f"{path}: expected an object of schema {wanted}, got {schema}", "use the version that wrote it"
        )
    return value


@contextmanager
def shaped(path: Path) -> Iterator[None]:
    """Raise ``EvidenceError`` naming the file if what was read from it does not have the expected shape."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{path}: not of the expected shape: {error!r}", "remove that run and run again") from error


class Events:
    """``events.jsonl``: what happened in one run, a line each, on disk as soon as it happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, event: str, **what: Any) -> None:
        """Append one event with the time (UTC) at which it happened."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"utc": now, "event": event} | what, default=str) + "\n")

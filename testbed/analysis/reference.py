"""A reference data set: a campaign's tables and records, and one evidence bundle for each measurer.

It is small enough for a repository. Every table, every figure and the report can be made again from it. The verdicts
of runs whose evidence was left out cannot, nor can the events that only the images contain. Both are kept as they were
computed from the whole campaign (``checks.parquet``, ``events.parquet``). ``reference.json`` lists the runs whose
evidence is here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import files, progress
from testbed.analysis.tables import events, frames, stored, worst_check
from testbed.analysis.tables.ladder import climb
from testbed.errors import SpecError
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign, bundle_of, write_json

# Bytes, by the sizes of files, because git keeps them forever.
LARGEST = 20_000_000
_DERIVED = (frames.FILE, worst_check.FILE, events.FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceData:
    """A reference data set at ``path``: its size in bytes, its records, and the runs whose evidence it has."""

    path: Path
    size: int
    records: int
    evidence: tuple[str, ...]


def make(loaded: LoadedCampaign, target: Path) -> ReferenceData:
    """Write the reference data set of a campaign at ``target``, beside it first.

    An older reference data set there is replaced. Raises ``SpecError`` if ``target`` is anything else, if the campaign
    has no tables yet, or if it is larger than 20 MB.
    """
    campaign = loaded.campaign
    missing = [name for name in _DERIVED if not (campaign.path / name).exists()]
    if missing:
        raise SpecError(
            f"{campaign.path}: expected tables, and {', '.join(missing)} is missing",
            f"run `testbed report {campaign.path}` first",
        )
    if target.exists() and not stored.is_reference(target):
        raise SpecError(f"{target}: exists and is not a reference data set", "give another directory, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{files.SPARE}reference-"
    with files.naming(target), tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as spare:
        made = _fill(loaded, Path(spare) / "whole")
        if made.size > LARGEST:
            hint = "use a smaller campaign: fewer workloads or fewer blocks"
            raise SpecError(f"{campaign.path}: {made.size:,} bytes, expected at most {LARGEST:,}", hint)
        if target.exists():
            shutil.rmtree(target)
        made.path.rename(target)
    return ReferenceData(path=target, size=made.size, records=made.records, evidence=made.evidence)


def _fill(loaded: LoadedCampaign, whole: Path) -> ReferenceData:
    campaign = loaded.campaign
    (whole / "runs").mkdir(parents=True)
    for name in ("plan.json", "campaign.json", *_DERIVED):
        shutil.copyfile(campaign.path / name, whole / name)
    for facts in sorted(campaign.path.glob("blocks/*/facts.json")):
        kept = whole / "blocks" / facts.parent.name
        kept.mkdir(parents=True)
        shutil.copyfile(facts, kept / facts.name)
    for path, _ in progress.each(loaded.records, "records", unit="runs"):
        (whole / "runs" / path.name).mkdir()
        _pack(path / "record.json", whole / "runs" / path.name / "record.json")
    chosen = sorted(_chosen(loaded), key=lambda run: run[0].name)
    for path, record in chosen:
        _keep_evidence(path, record, whole / "runs" / path.name)
    names = tuple(path.name for path, _ in chosen)
    write_json(whole / stored.MARK, {"schema": 1, "campaign": loaded.plan.campaign, "evidence": list(names)})
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    return ReferenceData(path=whole, size=size, records=len(loaded.records), evidence=names)


def _pack(source: Path, target: Path) -> None:
    """Copy a record without its indentation, which is a third of the bytes; nothing else of it changes."""
    record: Any = json.loads(source.read_text(encoding="utf-8"))
    target.write_text(json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


def _chosen(loaded: LoadedCampaign) -> Iterator[tuple[Path, Record]]:
    """Yield one run of each measurer: of the good ones, by name, the one with the least evidence."""
    runs = frames.runs(loaded)
    good = runs[(runs["status"] == str(Status.OK)) & (runs["attack"] == "none")]
    for _, group in sorted(good.groupby("measurer"), key=lambda pair: climb(str(pair[0]))):
        sized = [
            (sum(file.stat().st_size for file in directory.iterdir()), path.name, record)
            for path, record in zip(group["path"], group["record"], strict=True)
            if (directory := bundle_of(path, record)) is not None
        ]
        if sized:
            _, name, record = min(sized, key=lambda run: run[:2])
            yield loaded.campaign.path / "runs" / name, record


def _keep_evidence(source: Path, record: Record, target: Path) -> None:
    bundle, ak = record.evidence.bundle, record.evidence.ak
    assert bundle, "only runs with a bundle are chosen"
    shutil.copytree(source / bundle, target / bundle)
    # The log of a measurer that has its own is evidence too, though no PCR vouches for it.
    for name in (ak, record.evidence.measurer_log):
        if name:
            shutil.copyfile(source / name, target / name)

"""Does the plan follow from its cells, are all planned runs there, and does each record belong to it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from testbed import files
from testbed.analysis.recheck.step import RecheckStep
from testbed.analysis.tables import frames
from testbed.plan import Plan, digest
from testbed.record import Status
from testbed.rundir import Campaign, LoadedCampaign, retired


def plan(loaded: LoadedCampaign) -> RecheckStep:
    """Check that the campaign's name, and the cells of each block, follow from the plan's cells."""
    known, problems = {cell.id for cell in loaded.plan.cells}, []
    for block in loaded.plan.blocks:
        wanted = sorted(cell.id for cell in loaded.plan.cells if cell.kernel == block.kernel)
        if sorted(cell.id for cell in block.cells) != wanted:
            problems.append(f"block {block.kernel}-{block.index}: expected each cell of that kernel once")
    named = _identity(loaded.plan)
    unchecked = []
    if named is None:
        unchecked.append(f"the campaign's name: plans of order {loaded.plan.order!r} are named by another rule")
    elif not loaded.plan.campaign.endswith(f"-{loaded.plan.tier}-{named}"):
        problems.append(
            f"plan.json: campaign {loaded.plan.campaign!r}: expected a name that ends in {loaded.plan.tier}-{named}, "
            "which is what its cells, seed and blocks give"
        )
    said = f"{len(known)} cells in {len(loaded.plan.blocks)} blocks; the name has a digest over them"
    return RecheckStep(name="plan", said=said, problems=tuple(problems), unchecked=tuple(unchecked))


def complete(loaded: LoadedCampaign) -> RecheckStep:
    """Check that each planned run has a record, and that it ended well."""
    runs = frames.runs(loaded)
    status = runs["status"].fillna("missing").astype(str)
    problems = [
        f"runs/{row['path'].name}: {word}: {row['measurer']} on {row['workload']}, {row['reason'] or 'no reason given'}"
        for row, word in zip(runs.to_dict("records"), status, strict=True)
        if word != str(Status.OK)
    ]
    counts = Counter(status)
    found = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return RecheckStep(name="complete", said=f"{len(runs)} planned runs: {found}", problems=tuple(problems))


def records(loaded: LoadedCampaign) -> RecheckStep:
    """Check that each record is of a planned run, in the directory of that run, with facts that may be pooled.

    Raises ``EvidenceError`` for a record of no planned cell and ``IncompatibleRuns`` for facts that must not be pooled.
    """
    frames.rows(loaded)
    cells = loaded.cells
    planned = {f"{cell.id}-{block.index}" for block in loaded.plan.blocks for cell in block.cells}
    problems: list[str] = []
    for path, record in loaded.records:
        name = path.name.partition("~")[0]
        expected = f"{record.cell_id}-{record.block}"
        if name != expected or name not in planned:
            problems.append(f"runs/{path.name}: its record is of {expected}")
        if record.cell_id in cells and record.position >= len(cells):
            problems.append(f"runs/{path.name}: position {record.position}, expected below {len(cells)}")
    problems += _strays(loaded.campaign)
    again = sum(retired(path) for path, _ in loaded.records)
    said = f"{len(loaded.records)} records, {again} of earlier attempts; no two differ in a fact that is checked"
    return RecheckStep(name="records", said=said, problems=tuple(problems))


def _identity(known: Plan) -> str | None:
    """Return the digest in a campaign's name, computed from its plan; ``None`` for plans of another order."""
    if known.order != "williams":
        return None
    blocks = len({block.index for block in known.blocks})
    order = {"seed": known.seed, "blocks": blocks, "order": known.order}
    return digest({"cells": [cell.id for cell in known.cells]} | order)[:8]


def _strays(campaign: Campaign) -> Iterator[str]:
    directory: Path = campaign.path / "runs"
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name.startswith(files.SPARE):
            yield f"runs/{path.name}: left by a process that was killed"
        elif not (path / "record.json").is_file():
            yield f"runs/{path.name}: expected record.json, got none"

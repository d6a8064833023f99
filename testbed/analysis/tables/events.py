"""What a measurer did in each iteration: files, extends, bytes hashed; counted by it, and known from what ran.

Two sources that share no code. The measurer's counters are read once, after all iterations of a run; every iteration
starts the same containers, so each has its share. The ground truth is computed from the image archives (``attest``).
Where both exist they must agree, and ``disagreements`` lists where they do not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from testbed import plugins, progress
from testbed.analysis.tables import iterations, stored
from testbed.attest.image import ground_truth
from testbed.attest.image.archive import open_image
from testbed.attest.image.tree import measure_tree
from testbed.errors import TestbedError
from testbed.measurers import BEATING, DRIFTING, LAUNCHING
from testbed.plan import Cell
from testbed.record import Record, Started, Status
from testbed.rundir import Campaign, LoadedCampaign

FILE = "events.parquet"
_AXES = ("kernel", "runtime", "measurer", "workload", "attack")
# Files and bytes: measured in containers as code. Lookups: what was known already, or is the image's own where that has
# no entry. Decisions: both. Extends: entries that the log grew by. Walked: files of an image whose names were looked up
# again at a later start of it. Runtimes: the runtime's own program, hashed at the first start in a machine. Runs: of
# the measurer's BPF programs, known only where the kernel counted them.
COUNTS = ("starts", "files", "bytes", "lookups", "decisions", "extends", "launches", "walked")
LATER = ("runtimes", "runs")
TREE = ("image_files", "image_bytes")
_WHOLE = ("counted_files", "counted_bytes", "true_files", "true_bytes")
# A table that an earlier version wrote has these, and no ``LATER``.
FIRST_COLUMNS = (*("cell", "run", *_AXES, "block", "iteration", "warmup"), *COUNTS, *TREE, *_WHOLE)
COLUMNS = (*FIRST_COLUMNS, *LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """So many files with so many bytes."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the images say. ``code``: of one container, what it executes; ``tree``: of an image, all that it holds.

    ``beside``: of what a container executes, that which is not its image's own. Each returns ``None`` where there is no
    archive, or where it does not say.
    """

    code: Callable[[Started], Sum | None]
    tree: Callable[[str], Sum | None]
    beside: Callable[[Started], Sum | None] = lambda _: None


def nothing() -> Truth:
    """Return a truth that knows nothing: for results without images."""
    return Truth(code=lambda _: None, tree=lambda _: None)


def truth_of(campaign: Campaign) -> Truth:
    """Return the truth by the archives beside the runs; each image is read once."""

    @functools.cache
    def code(image: str, workload: str, role: int, *, beside: bool) -> Sum | None:
        try:
            programs = plugins.workload(workload).roles[role].executes
            ran = ground_truth.executed(campaign.image_path(image), "", programs)
        except (TestbedError, IndexError):
            return None
        # A file that is reached by two routes is hashed once.
        sizes = {file.path: file.size for file in ran if not (beside and file.of_image)}
        return Sum(files=len(sizes), bytes=sum(sizes.values()))

    @functools.cache
    def tree(image: str) -> Sum | None:
        try:
            with open_image(campaign.image_path(image)) as opened:
                whole = measure_tree(opened.nodes)
        except TestbedError:
            return None
        return Sum(files=len(whole.nodes), bytes=whole.size)

    return Truth(
        code=lambda started: code(started.image, started.workload, started.role, beside=False),
        tree=tree,
        beside=lambda started: code(started.image, started.workload, started.role, beside=True),
    )


def events(loaded: LoadedCampaign, truth: Truth) -> pd.DataFrame:
    """Return one row per (good run, iteration): what was measured in it. Unknown numbers are missing.

    ``counted_files counted_bytes`` (of code in containers, by the measurer) and ``true_files true_bytes`` (by the
    images) are of the whole run; the other counts are of the iteration, by the measurer where it counts, else true.
    Where neither is known for an arm, ``files bytes`` are those of another arm on the same workload: it ran the same;
    so are always ``lookups decisions``, which say how often the programs of an arm without counters were called.
    """
    cells = loaded.cells
    listed = [
        row
        for path, record in progress.each(loaded.current, "events", unit="runs")
        if record.status is Status.OK and record.cell_id in cells
        for row in _rows(cells[record.cell_id], path, record, truth)
    ]
    table = pd.DataFrame(listed, columns=list(COLUMNS))
    numbers = [*COUNTS, *TREE, *_WHOLE, *LATER]
    return _filled(table.astype({**dict.fromkeys(numbers, "float64"), "warmup": "boolean"}))


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    """Fill what an arm does not know of a workload from the arms that do: each iteration is the same in all arms."""
    same = table.groupby(["kernel", "runtime", "workload", "attack", "iteration"])
    known = {name: same[name].transform("max") for name in ("files", "bytes", "lookups", "decisions")}
    return table.assign(**{name: table[name].fillna(values) for name, values in known.items()})


def read(loaded: LoadedCampaign) -> pd.DataFrame:
    """Return ``events.parquet`` if ``testbed report`` wrote it, else the events by the measurers' counters alone.

    Raises ``EvidenceError`` as ``stored.read`` does.
    """
    written = written_table(loaded)
    return events(loaded, nothing()) if written is None else written


def written_table(loaded: LoadedCampaign) -> pd.DataFrame | None:
    """Return ``events.parquet``, ``None`` if it is not there; what an earlier version did not write is added.

    Raises ``EvidenceError`` as ``stored.read`` does.
    """
    table = stored.read(loaded.campaign.path, FILE, FIRST_COLUMNS)
    if table is None or set(LATER) <= set(table):
        return table
    first = (table["launches"] > 0) & (table["iteration"] == 0)
    counts = {path.name: iterations.runs_of(record) for path, record in loaded.current}
    shares = table["run"].map(counts).astype(float) / table.groupby("run")["iteration"].transform("size")
    return table.assign(runtimes=first.astype(float), runs=shares)


def with_runs(table: pd.DataFrame, other: LoadedCampaign) -> pd.DataFrame:
    """Return the events with ``runs`` as another campaign counted them, where this one did not.

    Counting costs instructions of its own, so a campaign that counts runs prices nothing else. A measurer runs equally
    often on a workload with and without that.
    """
    key = ["kernel", "runtime", "measurer", "workload"]
    counted = [
        {
            **{axis: getattr(other.cells[record.cell_id], axis) for axis in key},
            "other": iterations.runs_of(record) / count,
        }
        for _, record in other.current
        if record.cell_id in other.cells and (count := len({sample.iteration for sample in record.samples}))
    ]
    medians = pd.DataFrame(counted, columns=[*key, "other"]).groupby(key)["other"].median().reset_index()
    joined = table.merge(medians, on=key, how="left")
    return joined.assign(runs=joined["runs"].fillna(joined["other"])).drop(columns="other")


def disagreements(table: pd.DataFrame) -> list[str]:
    """Return in words where a measurer counted other files or bytes than the images say, once per arm and workload."""
    counts: dict[str, int] = {}
    for _, group in table.groupby("run", sort=True):
        row = group.iloc[0]
        for what in ("files", "bytes"):
            counted, true = row[f"counted_{what}"], row[f"true_{what}"]
            if not (pd.isna(counted) or pd.isna(true) or counted == true):
                who = f"`{row['measurer']}` on `{row['workload']}`"
                words = f"{who} counted {counted:,.0f} {what}, the images say {true:,.0f}"
                counts[words] = counts.get(words, 0) + 1
    return [f"{words} ({count} runs)" for words, count in counts.items()]


def agreed(table: pd.DataFrame) -> int:
    """Return of how many runs both sources know the files, and agree on all that both know."""
    both = table.drop_duplicates("run").dropna(subset=["counted_files", "true_files"])
    same = both["counted_bytes"].isna() | (both["counted_bytes"] == both["true_bytes"])
    return int((same & (both["counted_files"] == both["true_files"])).sum())


def _rows(cell: Cell, path: Path, record: Record, truth: Truth) -> Iterator[dict[str, Any]]:
    flags = {sample.iteration: sample.warmup for sample in record.samples}
    grown = {growth.iteration: growth.value for growth in record.samples if growth.metric == "log_entries"}
    run = _of_run(cell, record, truth)
    share = 1 / max(1, len(flags))
    launching = plugins.measurer(cell.measurer).mode in LAUNCHING
    share_hashed = iterations.hashed(record, run, len(flags))
    for number, warmup in sorted(flags.items()):
        starts = len(record.containers) * share
        # The first start of an image digests its tree, each later one looks its names up again.
        again = starts - 1 if number == min(flags) else starts
        first = again != starts
        yield {
            "cell": cell.id,
            "run": path.name,
            "block": record.block,
            "iteration": number,
            "warmup": warmup,
            **{axis: getattr(cell, axis) for axis in _AXES},
            **{name: value * share for name, value in run.items() if name in COUNTS},
            "bytes": run["bytes"] * share_hashed[first],
            "starts": starts,
            "extends": grown.get(number),
            "launches": starts * launching,
            "walked": again * run["tree_files"] * iterations.walking(record) if launching else 0.0,
            "image_files": run["tree_files"] * first if launching else 0.0,
            "image_bytes": run["tree_bytes"] * first if launching else 0.0,
            "runtimes": float(launching and first),
            "runs": iterations.runs_of(record) * share,
            **{name: run[name] for name in _WHOLE},
        }


def _of_run(cell: Cell, record: Record, truth: Truth) -> dict[str, float]:
    """Return the totals of a run: counted, true, and the better known of both."""
    measurer, nan = plugins.measurer(cell.measurer), float("nan")
    entered = truth.beside if measurer.mode in DRIFTING else truth.code
    code = [entered(started) for started in record.containers] if measurer.promises else []
    known = [total for total in code if total is not None]
    complete = bool(known) and len(known) == len(code)
    true_files = float(sum(total.files for total in known)) if complete else nan
    # fs-verity has the digest of each file of such a store, and nothing is read for it.
    read = not (record.with_verity and measurer.mode in BEATING)
    true_bytes = float(sum(total.bytes * read for total in known)) if complete else nan
    tree = _tree(record, truth) if measurer.mode in LAUNCHING else Sum(files=0, bytes=0)
    counts = record.counters if measurer.pcr is not None and "bytes_hashed" in record.counters else {}
    counted_files = float(counts.get("files", nan))
    # With images, their trees and the runtime's own program are in the same counter: no number of the code's bytes.
    hashed = float(counts.get("bytes_hashed", nan)) if measurer.mode not in LAUNCHING else nan
    files = true_files if pd.isna(counted_files) else counted_files
    lookups = float(counts.get("cache_hits", nan)) + float(counts.get("image_code", 0))
    measures = measurer.pcr is not None
    return {
        "files": files if measures else 0.0,
        "bytes": (true_bytes if pd.isna(hashed) else hashed) if measures else 0.0,
        "counts_bytes": not pd.isna(hashed),
        "lookups": lookups,
        "decisions": lookups + files,
        "counted_files": counted_files,
        # What was recalled was not hashed again: the images say nothing about how much that is.
        "counted_bytes": nan if record.counters.get("recalled") else hashed,
        "true_files": true_files,
        "true_bytes": true_bytes,
        "tree_files": float(tree.files) if tree else nan,
        "tree_bytes": float(tree.bytes) if tree else nan,
    }


def _tree(record: Record, truth: Truth) -> Sum | None:
    """Return the sum over the images that the run's containers were started from."""
    trees = [truth.tree(image) for image in sorted({started.image for started in record.containers})]
    known = [total for total in trees if total is not None]
    if not known or len(known) < len(trees):
        return None
    return Sum(files=sum(total.files for total in known), bytes=sum(total.bytes for total in known))

"""What of a run's counters belongs to which iteration: they are read once, after all iterations.

Every iteration starts the same containers. A measurer that remembers does its work in the first one.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from testbed.record import Record

# Begins the counters that say how often each BPF program ran (``bpf_stats`` of an experiment).
RUNS = "bpf_runs_"


def runs_of(record: Record) -> float:
    """Return how often BPF programs ran in a run, all iterations together; NaN where the kernel did not count it.

    An arm without programs has none.
    """
    counted = [value for name, value in record.counters.items() if name.startswith(RUNS)]
    return float(sum(counted)) if counted else float("nan")


def walking(record: Record) -> float:
    """Return which share of the later starts walked over the names of their image.

    A measurer that knows an image by its layers counts the starts without a walk.
    """
    spared, images = record.counters.get("images_recalled"), record.counters.get("images", 1)
    again = len(record.containers) - images
    return 1.0 if spared is None or again <= 0 else min(1.0, max(0.0, (again - spared) / again))


def hashed(record: Record, run: Mapping[str, float], iterations: int) -> dict[bool, float]:
    """Return which share of a run's bytes was hashed in its first iteration (``True``), and in each other one.

    A measurer that remembers contents (it counts ``recalled`` entries) hashes a content when it first sees it. Every
    iteration starts the same containers, so what was hashed at all was hashed in the first one, as far as the first
    one had so many entries.
    """
    recalled, files = record.counters.get("recalled"), run["files"]
    if recalled is None or pd.isna(files) or not files:
        return dict.fromkeys((True, False), 1 / max(1, iterations))
    new, each = max(0.0, files - recalled), files / max(1, iterations)
    first = min(new, each)
    # Bytes that the measurer counted are those of the new entries; those of the images are of all entries.
    whole = new if run["counts_bytes"] else files
    if not whole:
        return {True: 0.0, False: 0.0}
    return {True: first / whole, False: (new - first) / max(1, iterations - 1) / whole}

"""Tables for curves: the starts of containers, and workloads whose names differ in a number."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import STRATUM, Question

# Workloads that do nothing but start containers: of these a start is the operation.
_STARTING = ("start", "pod")
_NUMBERED = re.compile(r"(?P<family>.+)-(?P<number>\d+)(?P<prefix>[km]?)")
_PREFIXES = {"": 1, "k": 1024, "m": 1024**2}
SCALING = (
    *("kernel", "runtime", "family", "number", "label", "workload", "treatment"),
    *("value", "low", "high", "base", "noise", "n", "unit"),
)


def starts(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per timed iteration of a workload that only starts containers: ``value`` of one start.

    Columns: ``STRATUM measurer block iteration value starts``; ``starts`` in the iteration, of which ``value`` is the
    mean. In the unit of the tier's primary metric; empty where that means nothing.
    """
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    columns = [*STRATUM, "measurer", "block", "iteration", "value", "starts"]
    good = frames.counted(rows[(rows["attack"] == "none") & (rows["metric"] == metrics.PRIMARY)])
    timed = good[~good["warmup"].fillna(value=False).astype(bool)]
    mine = timed[timed["workload"].map(is_start).astype(bool)]
    if reading is None or mine.empty:
        return pd.DataFrame(columns=columns)
    starts = mine["operations"].astype(float)
    return mine.assign(value=reading.scale * mine["value"] / starts, starts=starts)[columns].reset_index(drop=True)


def is_start(workload: object) -> bool:
    """Whether a workload does nothing but start containers."""
    return str(workload).startswith(_STARTING)


def scaling(ladder: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (kernel, runtime, family, number, treatment): the absolute cost of an operation.

    ``ladder`` of ``ladder.ladder``. A family is workloads of one name with different numbers at its end (``files-10``,
    ``bytes-64k``), at least three of them. ``noise``: how far the A/A reaches, absolute.
    """
    listed: list[dict[str, Any]] = []
    for row in ladder.to_dict("records"):
        match = _NUMBERED.fullmatch(str(row["workload"]))
        if match is None:
            continue
        reach = max(abs(row["floor_low"] - 1), abs(row["floor_high"] - 1))
        listed.append(
            {name: row[name] for name in ("kernel", "runtime", "workload", "treatment", "base", "n", "unit")}
            | {"family": match["family"], "number": int(match["number"]) * _PREFIXES[match["prefix"]]}
            | {"label": match["number"] + match["prefix"]}
            | {"value": row["cost"], "low": row["cost_low"], "high": row["cost_high"], "noise": row["base"] * reach}
        )
    table = pd.DataFrame(listed, columns=list(SCALING))
    if table.empty:
        return table
    sizes = table.groupby(["kernel", "runtime", "family"])["number"].transform("nunique")
    return table[sizes >= 3].sort_values(["kernel", "runtime", "family", "treatment", "number"]).reset_index(drop=True)

"""Each program executed once, its cost against its size: what workload ``sizes`` counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.statistics import effect, regression
from testbed.analysis.statistics.effect import EffectEstimate
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import Question, climb
from testbed.workloads import sizes as programs

_STRATUM = ["kernel", "runtime"]
SIZES = (*_STRATUM, "treatment", "program", "bytes", "value", "again", "base", "n", "unit")
LINES = (
    *(*_STRATUM, "treatment", "byte", "byte_low", "byte_high", "file", "file_low", "file_high"),
    *("explained", "programs", "n", "unit"),
)
# Weighted by size, so that a percent of a small program counts as much as one of a large program; never by cost, which
# has the noise. A page more: a file of a few bytes is read as one.
_PAGE = 4096.0
_FORM = regression.Form(events=("bytes",), cost="added", constant=True, weight="weight")
# Of two points every line is straight.
_FEWEST = 3


def sizes(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, treatment, program), columns ``SIZES``.

    ``value``: what the arm adds to the first execution in the median of ``n`` blocks, ``again``: to the second one;
    ``base``: the first one without it; in the unit of the tier's primary metric. The baseline's duplicate is a
    treatment here: its points show the noise. Empty if no programs were counted.
    """
    listed = [
        dict(zip((*_STRATUM, "treatment", "program"), key, strict=True))
        | {"bytes": float(group["bytes"].median()), "value": float(group["added"].median())}
        | {"again": float(group["again"].median()), "base": float(group["base"].median())}
        | {"n": len(group), "unit": group["unit"].iloc[0]}
        for key, group in _blocks(rows, question).groupby([*_STRATUM, "treatment", "program"])
    ]
    table = pd.DataFrame(listed, columns=list(SIZES))
    order = table["treatment"].map(lambda arm: str(climb(str(arm)))) if len(table) else table["treatment"]
    return table.assign(order=order).sort_values([*_STRATUM, "order", "bytes", "program"])[list(SIZES)]


def lines(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, treatment): cost = file + byte x bytes, fitted over the programs.

    Columns ``LINES``: each block is fitted by itself, the programs weighted by 1/(bytes + 4096). ``byte`` and ``file``:
    the Hodges-Lehmann estimates over the blocks with their 95 % intervals. ``explained``: the share of the programs'
    variance that a straight line explains (r²), in the median of the blocks. The baseline's duplicate has no line.
    """
    blocks = _blocks(rows, question)
    return pd.DataFrame(list(_lines(blocks[blocks["treatment"] != question.duplicate])), columns=list(LINES))


def _lines(blocks: pd.DataFrame) -> Iterator[dict[str, Any]]:
    groups = [(tuple(map(str, key)), group) for key, group in blocks.groupby([*_STRATUM, "treatment"])]
    for key, group in sorted(groups, key=lambda pair: (pair[0][:2], climb(pair[0][2]))):
        count = int(group.groupby("block")["program"].nunique().min())
        if count < _FEWEST or group["bytes"].nunique() < _FEWEST:
            continue
        found = regression.fit(group.assign(weight=1 / (group["bytes"] + _PAGE)), _FORM)
        explained = [_explained(block) for _, block in group.groupby("block")]
        yield (
            dict(zip((*_STRATUM, "treatment"), key, strict=True))
            | _ends("byte", found.coefficients["bytes"])
            | _ends("file", found.coefficients[regression.CONSTANT])
            | {"explained": effect.arm_value(explained), "programs": count}
            | {"n": len(found.blocks), "unit": group["unit"].iloc[0]}
        )


def _ends(name: str, found: EffectEstimate) -> dict[str, float]:
    low, high = (-np.inf, np.inf) if found.interval is None else (found.interval.low, found.interval.high)
    return {name: found.center, f"{name}_low": low, f"{name}_high": high}


def _explained(block: pd.DataFrame) -> float:
    if not float(block["added"].std()) > 0:
        return 0.0
    return float(np.corrcoef(block["bytes"], block["added"])[0, 1] ** 2)


def _blocks(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, block, treatment, program): ``bytes added again base unit``."""
    columns = [*_STRATUM, "block", "treatment", "program", "bytes", "added", "again", "base", "unit"]
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    counted = _counted(rows)
    if reading is None or counted.empty:
        return pd.DataFrame(columns=columns)
    first, again, size = (_wide(counted, prefix) for prefix in (programs.FIRST, programs.AGAIN, programs.BYTES))
    bases = [arm for arm in (question.baseline, question.duplicate) if arm in first]
    if question.baseline not in bases:
        return pd.DataFrame(columns=columns)
    parts = [
        _added(first, arm, [base for base in bases if base != arm], reading.scale).assign(
            again=_added(again, arm, [base for base in bases if base != arm], reading.scale)["added"],
            bytes=size[arm],
            treatment=arm,
            unit=reading.unit,
        )
        for arm in map(str, first)
        if arm != question.baseline
    ]
    return (
        pd.concat([part.dropna().reset_index() for part in parts])[columns] if parts else pd.DataFrame(columns=columns)
    )


def _added(values: pd.DataFrame, arm: str, bases: list[str], scale: float) -> pd.DataFrame:
    base = scale * values[bases].mean(axis=1, skipna=False)
    return pd.DataFrame({"added": scale * values[arm] - base, "base": base})


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    prefixes = (programs.BYTES, programs.FIRST, programs.AGAIN)
    mine = rows[(rows["attack"] == "none") & rows["metric"].fillna("").str.startswith(prefixes)]
    good = frames.counted(mine)
    timed = good[~good["warmup"].fillna(value=False).astype(bool)]
    parts = timed["metric"].str.split("/", n=1, expand=True)
    return timed.assign(prefix=parts[0] + "/", program=parts[1]) if len(timed) else timed


def _wide(counted: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Return the values of one kind, a row per program and block, a column per measurer."""
    mine = counted[counted["prefix"] == prefix]
    return mine.pivot_table(index=[*_STRATUM, "block", "program"], columns="measurer", values="value", aggfunc="median")

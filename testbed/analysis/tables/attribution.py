"""Where the added instructions go: the ladder's differences, in measured and fitted parts.

The parts of hooks and of images are measured: each is the difference of two arms. What the programs add for files is
one difference, which the prices of events (``costmodel``) divide: lookups of known files, hashed bytes, and entries
(template, log, extend). What the prices do not explain is a part of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from testbed.analysis.statistics import effect
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM

# In the order in which they are stacked. ``how``: measured as a difference of arms, or by fitted prices.
PARTS: Mapping[str, str] = {
    "hooks": "hooks that decide nothing",
    "lookups": "lookups of known files",
    "hash": "SHA-256 of bytes",
    "entries": "new files: template, log, extend",
    "launches": "images: launches, names (at a first start the whole tree)",
    "rest": "files: not explained by prices",
}
_TERMS = {"hash": ("bytes",), "entries": ("files", "extends"), "lookups": ("lookups",)}
COLUMNS = (*STRATUM, "part", "value", "low", "high", "base", "share", "how", "unit")


def parts(observed: Mapping[str, pd.DataFrame], fits: Sequence[Fit], unit: str) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, part): what it adds in one timed iteration.

    ``value`` with its 95 % interval ``low high`` (of fitted parts that of the price), ``base`` the baseline's
    iteration, ``share`` of all that was added. ``observed`` of ``holdout.observe``, ``fits`` of ``holdout.fits`` on all
    workloads, ``unit`` what they count in. Without prices what files add is one part; empty without that step.
    """
    files = observed.get("file")
    fitted = {fit.kernel: fit for fit in fits if fit.step.name == "file"}
    listed: list[dict[str, Any]] = []
    for key, group in files.groupby(list(STRATUM)) if files is not None else ():
        stratum = dict(zip(STRATUM, map(str, key), strict=True))
        rows = _of_workload(stratum, group, fitted.get(stratum["kernel"]), observed)
        listed += [row | {"unit": unit} for row in rows]
    return pd.DataFrame(listed, columns=list(COLUMNS))


def _of_workload(
    stratum: dict[str, str], files: pd.DataFrame, fit: Fit | None, observed: Mapping[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    fitted = _fitted(files, fit) if fit else []
    rows: list[dict[str, Any]] = [{"part": part, "how": "fitted"} | amounts for part, amounts in fitted]
    explained = sum(row["value"] for row in rows)
    seen = _measured(files)
    rest = {name: seen[name] - explained for name in ("value", "low", "high")}
    rows.append({"part": "rest", "how": "measured less fitted"} | rest)
    base = float(files["below"].median())
    for part, step in (("hooks", "hook"), ("launches", "launch")):
        mine = observed.get(step, pd.DataFrame(columns=[*STRATUM]))
        for name, value in stratum.items():
            mine = mine[mine[name] == value]
        if len(mine):
            rows.append({"part": part, "how": "measured"} | _measured(mine))
            base = float(mine["below"].median()) if step == "hook" else base
    whole = sum(row["value"] for row in rows)
    order = list(PARTS)
    rows.sort(key=lambda row: order.index(row["part"]))
    return [stratum | row | {"base": base, "share": row["value"] / whole} for row in rows]


def _fitted(files: pd.DataFrame, fit: Fit) -> list[tuple[str, dict[str, float]]]:
    """Return the parts that have prices. A term without a price is in another part, or in the rest."""
    amounts_of_parts = []
    for part, terms in _TERMS.items():
        priced = [(fit.prices[term], float(files[term].mean())) for term in terms if term in fit.prices]
        if priced:
            bounds = [price.interval or effect.Interval(low=float("-inf"), high=float("inf")) for price, _ in priced]
            amounts = {
                "value": sum(price.center * count for price, count in priced),
                "low": sum(bound.low * count for bound, (_, count) in zip(bounds, priced, strict=True)),
                "high": sum(bound.high * count for bound, (_, count) in zip(bounds, priced, strict=True)),
            }
            amounts_of_parts.append((part, amounts))
    return amounts_of_parts


def _measured(table: pd.DataFrame) -> dict[str, float]:
    seen = effect.estimate(table["added"])
    bounds = seen.interval or effect.Interval(low=float("-inf"), high=float("inf"))
    return {"value": seen.center, "low": bounds.low, "high": bounds.high}

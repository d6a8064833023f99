"""Where the added instructions go: the ladder's differences, in measured and fitted parts.

The parts of hooks and of images are measured: each is the difference of two arms. What the programs add for files is
one difference, which the prices of events (``costmodel``) divide: lookups of known files, hashed bytes, and entries
(template, log, extend). What the prices do not explain is a part of its own. At the first start of an image the bytes
of its tree are divided off in the same way: they are hashed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import EffectEstimate
from testbed.analysis.tables import costmodel
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM

# In the order in which they are stacked. ``how``: measured as a difference of arms, or by fitted prices.
PARTS: Mapping[str, str] = {
    "hooks": "hooks that decide nothing",
    "lookups": "lookups of known files",
    "hash": "SHA-256 of files' bytes",
    "tree": "SHA-256 of an image's bytes",
    "entries": "new files: template, log, extend",
    "launches": "images: launches, names of files",
    "elsewhere": "outside of the containers' cgroup",
    "rest": "files: not explained by prices",
}
# Not in what the containers' cgroup used, so not in the sum of the other parts.
OUTSIDE = "elsewhere"
# The arm whose chain has all of these parts.
_LAST = "container-image"
_TERMS = {"hash": ("bytes",), "entries": ("files", "extends"), "lookups": ("lookups",)}
# Parts that are hashing of bytes.
HASHING = ("hash", "tree")
COLUMNS = (*STRATUM, "part", "value", "low", "high", "base", "share", "how", "unit")


def parts(observed: Mapping[str, pd.DataFrame], fits: Sequence[Fit], unit: str) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, part): what it adds in one timed iteration.

    ``value`` with its 95 % interval ``low high`` (of fitted parts that of the price), ``base`` the baseline's
    iteration, ``share`` of all that was added. ``observed`` of ``holdout.observe``, ``fits`` of ``holdout.fits`` on all
    workloads, ``unit`` what they count in. Without prices what files add is one part; empty without that step.
    """
    files = observed.get("file")
    listed: list[dict[str, Any]] = []
    for key, group in files.groupby(list(STRATUM)) if files is not None else ():
        stratum = dict(zip(STRATUM, map(str, key), strict=True))
        prices = costmodel.priced(fits, _LAST, stratum["kernel"])
        listed += [row | {"unit": unit} for row in _of_workload(stratum, group, prices, observed)]
    return pd.DataFrame(listed, columns=list(COLUMNS))


def with_outside(parts: pd.DataFrame, ladder: pd.DataFrame, lengths: pd.DataFrame) -> pd.DataFrame:
    """Add what the last arm of the ladder adds outside of the containers' cgroup, where that was recorded.

    ``ladder``: of the primary metric; its column ``elsewhere`` is of one operation. ``lengths`` of ``runlength``.
    ``share``: relative to the sum of the other parts, in which it is not.
    """
    if parts.empty or OUTSIDE not in ladder:
        return parts
    key = [*STRATUM, "treatment"]
    mine = ladder[(ladder["treatment"] == _LAST) & ladder[OUTSIDE].notna()]
    joined = mine.merge(lengths[[*key, "operations"]], on=key)
    known = parts.drop_duplicates(list(STRATUM)).set_index(list(STRATUM))
    whole = parts.groupby(list(STRATUM))["value"].sum()
    listed: list[dict[str, Any]] = []
    for row in joined.to_dict("records"):
        stratum = tuple(row[name] for name in STRATUM)
        if stratum not in known.index:
            continue
        value, low, high = (row[name] * row["operations"] for name in (OUTSIDE, f"{OUTSIDE}_low", f"{OUTSIDE}_high"))
        first = known.loc[[stratum]].iloc[0]
        listed.append(
            dict(zip(STRATUM, stratum, strict=True))
            | {"part": OUTSIDE, "value": value, "low": low, "high": high, "base": first["base"], "unit": first["unit"]}
            | {"share": value / float(whole.loc[[stratum]].iloc[0]), "how": "measured"}
        )
    more = pd.DataFrame(listed, columns=list(COLUMNS))
    return pd.concat([parts, more], ignore_index=True).sort_values(list(STRATUM), kind="stable") if listed else parts


def _of_workload(
    stratum: dict[str, str],
    files: pd.DataFrame,
    prices: Mapping[str, EffectEstimate],
    observed: Mapping[str, pd.DataFrame],
) -> list[dict[str, Any]]:
    fitted = _fitted(files, prices)
    rows: list[dict[str, Any]] = [{"part": part, "how": "fitted"} | amounts for part, amounts in fitted]
    explained = sum(row["value"] for row in rows)
    seen = _measured(files)
    rest = {name: seen[name] - explained for name in ("value", "low", "high")}
    rows.append({"part": "rest", "how": "measured less fitted"} | rest)
    base = float(files["below"].median())
    for part, step in (("hooks", "hook"), ("launches", "launch")):
        mine = _of(observed.get(step, pd.DataFrame(columns=[*STRATUM])), stratum)
        if len(mine):
            rows.append({"part": part, "how": "measured"} | _measured(mine))
            base = float(mine["below"].median()) if step == "hook" else base
    rows += _tree(rows, stratum, prices, observed)
    whole = sum(row["value"] for row in rows)
    order = list(PARTS)
    rows.sort(key=lambda row: order.index(row["part"]))
    return [stratum | row | {"base": base, "share": row["value"] / whole} for row in rows]


def _tree(
    rows: list[dict[str, Any]],
    stratum: Mapping[str, str],
    prices: Mapping[str, EffectEstimate],
    observed: Mapping[str, pd.DataFrame],
) -> list[dict[str, Any]]:
    """Return the part of an image's bytes, and take it from that of launches: where an image is started first."""
    first = _of(observed.get("image", pd.DataFrame(columns=[*STRATUM])), stratum)
    launches = next((row for row in rows if row["part"] == "launches"), None)
    if first.empty or launches is None or "image_bytes" not in prices or not first["cold"].all():
        return []
    amounts = _amounts([(prices["image_bytes"], float(first["image_bytes"].mean()))])
    launches |= {name: launches[name] - amounts["value"] for name in amounts} | {"how": "measured less fitted"}
    return [{"part": "tree", "how": "fitted"} | amounts]


def _of(table: pd.DataFrame, stratum: Mapping[str, str]) -> pd.DataFrame:
    for name, value in stratum.items():
        table = table[table[name] == value]
    return table


def _fitted(files: pd.DataFrame, prices: Mapping[str, EffectEstimate]) -> list[tuple[str, dict[str, float]]]:
    """Return the parts that have prices. A term without a price is in another part, or in the rest."""
    amounts_of_parts = []
    for part, terms in _TERMS.items():
        priced = [(prices[term], float(files[term].mean())) for term in terms if term in prices]
        if priced:
            amounts_of_parts.append((part, _amounts(priced)))
    return amounts_of_parts


def _amounts(priced: Sequence[tuple[EffectEstimate, float]]) -> dict[str, float]:
    """Return the sum of prices times counts, with the interval of the prices."""
    bounds = [price.interval or effect.Interval(low=float("-inf"), high=float("inf")) for price, _ in priced]
    return {
        "value": sum(price.center * count for price, count in priced),
        "low": sum(bound.low * count for bound, (_, count) in zip(bounds, priced, strict=True)),
        "high": sum(bound.high * count for bound, (_, count) in zip(bounds, priced, strict=True)),
    }


def _measured(table: pd.DataFrame) -> dict[str, float]:
    seen = effect.estimate(table["added"])
    bounds = seen.interval or effect.Interval(low=float("-inf"), high=float("inf"))
    return {"value": seen.center, "low": bounds.low, "high": bounds.high}

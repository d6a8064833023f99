"""A time model: what the counted work would take on a host. No measurement of time.

    time = hashed bytes / the host's SHA-256 rate + other instructions x cycles an instruction / clock + extends x TPM

Bytes, instructions and extends were counted in the emulated guest. The rate was measured on the host, natively. The
cycles that an instruction takes, and the TPM's latency, are the reader's assumptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from testbed.analysis.hosthash import HostHash
from testbed.analysis.models import byteprice
from testbed.analysis.tables import costmodel
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM
from testbed.analysis.tables.tables import Tables

COLUMNS = (
    *(*STRATUM, "treatment", "hash_s", "rest_least_s", "rest_most_s", "tpm_s"),
    *("added_least_s", "added_most_s", "base_least_s", "base_most_s", "least", "most"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the model is told. ``cpi``: cycles an instruction takes, from and to; ``tpm_s``: seconds an extend waits."""

    host: HostHash
    cpi: tuple[float, float]
    tpm_s: float = 0.0


def times(known: Tables, assumed: Assumptions) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, treatment): seconds of one operation, and the overhead as shares.

    Columns ``*_least_s *_most_s``: at the ends of ``cpi``; ``least most``: the smaller and the larger overhead. Arms
    that hash bytes without a price are left out; so is a tier whose clock is time. A step that does not hash with the
    kernel's fastest SHA-256 (``Step.native``) keeps its instructions: they are what it runs.
    """
    ladder, happened = known.ladder, known.events
    if costmodel.unit_of(known.question.tier) != "instructions" or ladder.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    number = known.lengths.set_index([*STRATUM, "treatment"])["operations"].to_dict()
    counted = byteprice.hashed(happened).merge(_extends(happened), on=[*STRATUM, "measurer"], how="left")
    table = ladder.merge(counted.rename(columns={"measurer": "treatment"}), on=[*STRATUM, "treatment"], how="inner")
    listed = [
        made
        for row in table.to_dict("records")
        if (made := _row(row, number.get(tuple(row[n] for n in (*STRATUM, "treatment")), 1.0), known.fits, assumed))
    ]
    return pd.DataFrame(listed, columns=list(COLUMNS))


def _extends(events: pd.DataFrame) -> pd.DataFrame:
    clean = events[(events["attack"] == "none") & ~events["warmup"].fillna(value=False).astype(bool)]
    return clean.groupby([*STRATUM, "measurer"])["extends"].median().reset_index()


def _row(row: Mapping[Any, Any], operations: float, fits: Sequence[Fit], assumed: Assumptions) -> dict[str, Any] | None:
    known = costmodel.priced(fits, row["treatment"], row["kernel"])
    native = all(step.native for cold in (False, True) for step in costmodel.chain(row["treatment"], cold=cold))
    counts = {name: row[name] / operations for name in byteprice.HASHED if row[name] > 0 and native}
    if not counts.keys() <= known.keys():
        return None
    paid = sum(known[name].center * count for name, count in counts.items())
    hash_s = sum(counts.values()) / assumed.host.rate
    tpm_s = assumed.tpm_s * (0.0 if pd.isna(row["extends"]) else row["extends"] / operations)
    second = [cpi / (assumed.host.mhz * 1e6) for cpi in assumed.cpi]
    rest, base = ([amount * each for each in second] for amount in (row["cost"] - paid, row["base"]))
    added = [hash_s + part + tpm_s for part in rest]
    shares = sorted(one / of for one, of in zip(added, base, strict=True))
    return {
        **{name: row[name] for name in (*STRATUM, "treatment")},
        "hash_s": hash_s,
        "rest_least_s": rest[0],
        "rest_most_s": rest[1],
        "tpm_s": tpm_s,
        "added_least_s": added[0],
        "added_most_s": added[1],
        "base_least_s": base[0],
        "base_most_s": base[1],
        "least": shares[0],
        "most": shares[1],
    }

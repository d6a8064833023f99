"""Overhead if a hashed byte had another price: what is not hashing stays as it was measured.

The emulated processor hashes with AVX2, at about 32 instructions a byte. A processor with its own instructions for
SHA-256 needs fewer. How many a reader's has is not known here, so the overhead is given for several prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from testbed.analysis.tables import costmodel
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM, Question

# Instructions a byte, beside the one that was measured.
PRICES = (32.0, 8.0, 4.0, 1.0)
HASHED = ("bytes", "image_bytes")
COLUMNS = (*STRATUM, "treatment", "hashed", "fitted", "price", "cost", "base", "overhead", "measured", "unit")


def hashed(events: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, measurer): bytes hashed in one timed iteration, by what for.

    Columns: ``STRATUM measurer`` and ``HASHED``, medians over the blocks.
    """
    clean = events[(events["attack"] == "none") & ~events["warmup"].fillna(value=False).astype(bool)]
    return clean.groupby([*STRATUM, "measurer"])[list(HASHED)].median().reset_index()


def prices(
    ladder: pd.DataFrame, lengths: pd.DataFrame, events: pd.DataFrame, fits: Sequence[Fit], question: Question
) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, treatment, price): the overhead at that price of a byte.

    ``ladder``: of the primary metric; ``lengths`` of ``runlength.lengths``. ``hashed``: bytes an operation; ``fitted``:
    the price that was fitted; ``cost base``: of one operation; ``overhead measured``: shares. Arms whose bytes have no
    price are left out, and so is a tier whose clock is time.
    """
    listed: list[dict[str, Any]] = []
    if costmodel.unit_of(question.tier) != "instructions" or ladder.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    number = lengths.set_index([*STRATUM, "treatment"])["operations"].to_dict()
    table = hashed(events).rename(columns={"measurer": "treatment"})
    for row in ladder.merge(table, on=[*STRATUM, "treatment"], how="inner").to_dict("records"):
        known = costmodel.priced(fits, row["treatment"], row["kernel"])
        operations = number.get(tuple(row[name] for name in (*STRATUM, "treatment")), 1.0)
        counts = {name: row[name] / operations for name in HASHED if row[name] > 0}
        if not counts or not counts.keys() <= known.keys():
            continue
        bytes_, paid = sum(counts.values()), sum(known[name].center * count for name, count in counts.items())
        for price in PRICES:
            cost = row["cost"] - paid + price * bytes_
            listed.append(
                {name: row[name] for name in (*STRATUM, "treatment", "base", "unit")}
                | {"hashed": bytes_, "fitted": paid / bytes_, "price": price, "cost": cost}
                | {"overhead": cost / row["base"], "measured": row["cost"] / row["base"]}
            )
    return pd.DataFrame(listed, columns=list(COLUMNS))

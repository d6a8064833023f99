"""The report's parts on another price of a byte, and on time. Both are models of what was counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.models import timemodel
from testbed.analysis.models.timemodel import Assumptions
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables

_BYTES = (
    "The emulated processor computes SHA-256 with AVX2. A processor with its own instructions for SHA-256 needs fewer. "
    "This **model** takes the hashed bytes at their fitted price out of the measured cost, and puts the same bytes in "
    "at another price. Everything else stays as it was measured."
)
_SENTENCE = (
    "The time model is the counted work at assumed speeds; it is no measurement of time, because it knows no caches, "
    "no disk, no other processor and no other load."
)
_MORE = (
    "`testbed report --cpi 0.5-2` adds a *time model*: the counted bytes at this host's own SHA-256, the other "
    "instructions at a range of cycles an instruction, and with `--tpm-ms` the extends at the latency of your TPM."
)


def of_bytes(tables: Tables, figures: Mapping[str, str]) -> list[str]:
    """Return the lines on the price of a byte; none where no measurer hashes in a timed iteration."""
    table = tables.byte_prices
    if table.empty:
        return []
    lines = ["## Another price of a hashed byte", "", _BYTES, ""]
    lines += markdown.picture(figures, "byte-price", "overhead against the price of a byte")
    prices = sorted(set(table["price"]), reverse=True)
    header = ("workload", "measurer", "hashed, an operation", "measured", *(f"at {price:g} instr." for price in prices))
    return [*lines, *markdown.table(header, _byte_rows(table, prices)), ""]


def _byte_rows(table: pd.DataFrame, prices: list[float]) -> Iterator[tuple[str, ...]]:
    groups = sorted(table.groupby([*STRATUM, "treatment"]), key=lambda pair: (pair[0][:3], climb(str(pair[0][3]))))
    for key, group in groups:
        first = group.iloc[0]
        at = dict(zip(group["price"], group["overhead"], strict=True))
        yield (
            f"`{key[2]}`",
            f"`{key[3]}`",
            words.size(first["hashed"], "B"),
            _share(first["measured"]),
            *(_share(at[price]) for price in prices),
        )


def of_time(tables: Tables, assumed: Assumptions | None) -> list[str]:
    """Return the lines of the time model; a hint where its assumptions were not given."""
    if tables.ladder.empty or tables.byte_prices.empty:
        return []
    lines = ["## Time, as a model", ""]
    if assumed is None:
        return [*lines, _MORE]
    table = timemodel.times(tables, assumed)
    header = ("workload", "measurer", "hashing", "rest", "extends", "without measurement", "overhead")
    return [*lines, _SENTENCE, "", *_assumed(assumed), "", *markdown.table(header, _time_rows(table))]


def _assumed(assumed: Assumptions) -> list[str]:
    host, (low, high) = assumed.host, assumed.cpi
    own = "with" if host.sha_ni else "without"
    extends = f"{1e3 * assumed.tpm_s:g} ms (`--tpm-ms`)" if assumed.tpm_s else "0, as no `--tpm-ms` was given"
    hashing = (
        f"Hashing: {host.rate / 1e6:,.0f} MB/s, SHA-256 in memory on {markdown.code(host.cpu)} ({own} instructions of "
        f"its own for it): the fastest of {host.n} hashes of 4 MiB, as other load only slows them (the slowest: "
        f"{host.least / 1e6:,.0f} MB/s). This was measured natively, in CPU time. At {host.mhz:,.0f} MHz it is "
        f"{host.cycles:.2g} cycles a byte."
    )
    rest = f"Rest: every other instruction takes {low:g} to {high:g} cycles (`--cpi`), with and without a measurer."
    waits = f"Extends: each waits {extends}, one after the other."
    generic = "A measurer that hashes with generic code keeps its instructions: that is what would run."
    return markdown.bullets((hashing, rest, waits, generic))


def _time_rows(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for row in sorted(rows, key=lambda row: (*(row[name] for name in STRATUM), climb(str(row["treatment"])))):
        yield (
            f"`{row['workload']}`",
            f"`{row['treatment']}`",
            words.size(row["hash_s"], "s"),
            _range(row["rest_least_s"], row["rest_most_s"]),
            words.size(row["tpm_s"], "s"),
            _range(row["base_least_s"], row["base_most_s"]),
            _ends(_share(row["least"]), _share(row["most"])),
        )


def _range(low: float, high: float) -> str:
    return _ends(words.size(low, "s"), words.size(high, "s"))


def _ends(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _share(share: float) -> str:
    value = 100 * share
    return f"{words.signed(value, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)} %"

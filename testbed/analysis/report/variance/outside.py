"""What arms add outside of the containers' cgroup: instructions that the overhead does not count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.tables import elsewhere

_HEADER = ("workload", "measurer", "elsewhere, 95 % interval", "A/A", "of the baseline's operation", "beyond the A/A")


def section(table: pd.DataFrame) -> list[str]:
    """Return the lines on what runs elsewhere; ``table`` of ``ladder.ladder``. Nothing where it was not recorded."""
    known = table[table[elsewhere.METRIC].notna()]
    if known.empty:
        return []
    rows = known.to_dict("records")
    beyond = sum(map(elsewhere.beyond_noise, rows))
    said = (
        "*Elsewhere* is what the guest's processor ran outside of the containers' cgroup from the first start of an "
        "iteration until a wait after the last: kernel threads, RCU, work queues, interrupts, other processes. It is "
        f"not in the overhead. {beyond} of {len(rows)} arms add or save there more than the baseline's two runs differ."
    )
    shown = markdown.table(_HEADER, map(_row, rows))
    return [said, "", *markdown.folded("What each arm adds elsewhere, one operation", [*shown, ""])]


def _row(row: Mapping[Any, Any]) -> tuple[object, ...]:
    low, high, unit = row["elsewhere_floor_low"], row["elsewhere_floor_high"], row["unit"]
    return (
        f"`{row['workload']}` ({row['kernel']}, {row['runtime']})",
        f"`{row['treatment']}`",
        words.amount(row["elsewhere"], row["elsewhere_low"], row["elsewhere_high"], unit),
        words.amount((low + high) / 2, low, high, unit) if math.isfinite(low) else words.NO_INTERVAL,
        f"{words.signed(100 * row['elsewhere'] / row['base'], 2)} %",
        "yes" if elsewhere.beyond_noise(row) else "",
    )

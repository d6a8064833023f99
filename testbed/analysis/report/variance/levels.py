"""What the report's intervals are conditional on: the builds of the machine's disks, which are a level above blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.tables import builds
from testbed.analysis.tables.tables import Tables

_HEADER = ("workload", "measurer", "boots of one build, sd", "builds beyond that, sd", "95 % over builds")


def section(tables: Tables) -> list[str]:
    """Return the lines that say on how many builds the overheads stand; nothing where there is no overhead."""
    if tables.ladder.empty:
        return []
    count = builds.count(tables.plan)
    if count == 1:
        return ["All blocks booted one build of the disks: the intervals are over its boots, not over builds."]
    said = f"The blocks booted {count} builds of the disks in turns: the same files, laid out otherwise. The intervals"
    said += f" are over boots of these {count} builds, not over builds."
    table = tables.builds
    if table.empty:
        return [said]
    worst = max(table.to_dict("records"), key=lambda row: float(row["apart"]))
    said += f" Builds differ most for `{worst['treatment']}` on {_stratum(worst)}:"
    said += f" by {100 * math.expm1(worst['apart']):.3f} %. The spread between builds is larger than that between boots"
    said += f" for {int((table['between'] > table['within']).sum())} of {len(table)} overheads."
    return [said, "", *markdown.folded("Each overhead with builds as the unit", _by_build(table))]


def _by_build(table: pd.DataFrame) -> list[str]:
    rows = (
        (
            _stratum(row),
            f"`{row['treatment']}`",
            "" if math.isnan(row["within"]) else f"{100 * row['within']:.3f} %",
            f"{100 * row['between']:.3f} %",
            words.bounds(row["low"], row["high"]),
        )
        for row in table.to_dict("records")
    )
    return list(markdown.table(_HEADER, rows))


def _stratum(row: Mapping[Any, Any]) -> str:
    return f"`{row['workload']}` ({row['kernel']}, {row['runtime']})"

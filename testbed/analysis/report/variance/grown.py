"""How the log and the kernel's memory grew: costs that no clock shows."""

from __future__ import annotations

import pandas as pd

from testbed.analysis import markdown
from testbed.analysis.tables import frames
from testbed.analysis.tables.ladder import climb

# What grows: the log in every campaign, memory where the campaign recorded it.
_GROWN = {
    "log_entries": ("IMA log, entries per iteration", 1.0),
    "ima_log_bytes": ("IMA log, bytes in total", 1.0),
    "slab": ("kernel memory (slab), KiB per iteration", 1 / 1024),
    "page_cache": ("page cache, KiB per iteration", 1 / 1024),
}


def lines(rows: pd.DataFrame) -> list[str]:
    """Return the lines that say it, none if nothing was recorded."""
    good = frames.counted(rows)
    timed = good[~good["warmup"].fillna(value=False).astype(bool)]
    lines: list[str] = []
    for metric, (name, scale) in _GROWN.items():
        mine = timed[timed["metric"] == metric]
        if mine.empty:
            continue
        medians = (scale * mine["value"]).groupby([mine["workload"], mine["attack"], mine["measurer"]]).median()
        wide = medians.unstack("measurer")  # noqa: PD010 - grouped already
        arms = sorted(map(str, wide.columns), key=climb)
        cells = [
            [f"`{workload}`" + (f", attack `{attack}`" if attack != "none" else ""), *map(_plain, wide.loc[key, arms])]
            for key in wide.index
            for workload, attack in (key,)
        ]
        lines += [f"{name}, median over timed iterations:", ""]
        lines += [*markdown.table(("workload", *(f"`{arm}`" for arm in arms)), cells), ""]
    return lines


def _plain(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.6g}"

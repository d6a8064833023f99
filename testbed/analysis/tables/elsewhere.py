"""What an arm adds outside of the containers' cgroup: kernel threads, work queues, RCU, other processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import Interval

METRIC = "elsewhere"
COLUMNS = (METRIC, *(f"{METRIC}_{end}" for end in ("low", "high", "base", "floor_low", "floor_high")))


def added(values: pd.DataFrame, treatment: str, bases: Sequence[str]) -> dict[str, Any]:
    """Return what ``treatment`` adds elsewhere to one operation; NaN where it was not recorded.

    ``values``: of ``ladder.arm_values``, for this metric. Differences, not ratios: what runs elsewhere without a
    measurer is mostly no work for the workload. The floor is that of the baseline's two runs, as a difference too.
    """
    wanted = [*bases, treatment]
    if not set(wanted) <= {str(arm) for arm in values} or values[wanted].dropna().empty:
        return dict.fromkeys(COLUMNS, math.nan)
    both = values[wanted].dropna()
    base = both[list(bases)].mean(axis=1)
    seen = effect.estimate((both[treatment] - base).to_numpy(dtype=float))
    same = effect.estimate((both[bases[-1]] - both[bases[0]]).to_numpy(dtype=float)) if len(bases) > 1 else None
    low, high = _ends(seen.interval)
    floor_low, floor_high = _ends(same.interval if same else None)
    numbers = (seen.center, low, high, float(np.median(base)), floor_low, floor_high)
    return dict(zip(COLUMNS, numbers, strict=True))


def beyond_noise(row: Mapping[Any, Any]) -> bool:
    """Whether what an arm adds elsewhere is bounded away from 0, and more than the baseline's two runs differ by."""
    reach = max(abs(row["elsewhere_floor_low"]), abs(row["elsewhere_floor_high"]))
    apart = row["elsewhere_low"] > 0 or row["elsewhere_high"] < 0
    return bool(apart and math.isfinite(reach) and abs(row[METRIC]) > reach)


def _ends(interval: Interval | None) -> tuple[float, float]:
    return (-math.inf, math.inf) if interval is None else (interval.low, interval.high)

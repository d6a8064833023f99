"""Contrasts by the build of the disks: what an interval over blocks is conditional on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from testbed.analysis.statistics import nested
from testbed.analysis.tables.ladder import STRATUM, Contrast
from testbed.plan import Plan

COLUMNS = (*STRATUM, "treatment", "builds", "n", "within", "between", "apart", "low", "high")


def of_blocks(plan: Plan) -> dict[tuple[str, int], int]:
    """Return the build of each block, by (kernel, index)."""
    return {(block.kernel, block.index): block.build for block in plan.blocks}


def count(plan: Plan) -> int:
    """Return how many builds of the disks a campaign was planned with."""
    return len({block.build for block in plan.blocks})


def builds(contrasts: Sequence[Contrast], plan: Plan) -> pd.DataFrame:
    """Return one row per contrast whose blocks are of several builds; see ``nested.Levels``.

    ``within between apart`` are logarithms; ``low high``: the ratio's 95 % interval if builds are the unit.
    """
    known = of_blocks(plan)
    listed: list[dict[str, Any]] = []
    for contrast in contrasts:
        kernel = str(contrast.stratum["kernel"])
        logs = pd.Series(contrast.logs, index=contrast.arms.index)
        groups = [group for _, group in logs.groupby([known[kernel, int(block)] for block in logs.index])]
        if len(groups) < 2:
            continue
        seen = nested.levels([group.to_numpy() for group in groups])
        listed.append(
            contrast.stratum
            | {"treatment": contrast.treatment, "builds": len(groups), "n": len(logs)}
            | {"within": seen.within, "between": seen.between, "apart": seen.apart}
            | {"low": _ratio(seen.interval.low), "high": _ratio(seen.interval.high)}
        )
    return pd.DataFrame(listed, columns=list(COLUMNS))


def _ratio(logarithm: float) -> float:
    # The interval of two builds that differ reaches further than a float does.
    return math.exp(logarithm) if logarithm < 700 else math.inf

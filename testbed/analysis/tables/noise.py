"""The noise of each arm: how far two runs of the same arm differ in a block (A/A)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from testbed import plugins
from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import EffectEstimate, Floor
from testbed.errors import SpecError


def first_of(measurer: str) -> str | None:
    """Return the measurer that this one is once more; ``None`` for others, and for one that is not known here."""
    try:
        return plugins.measurer(measurer).again
    except SpecError:
        return None


def pairs(values: pd.DataFrame, baseline: str, duplicate: str) -> dict[str, str]:
    """Return the second run of each arm that ran twice, by the arm's name. ``values``: a column per measurer."""
    arms = [str(arm) for arm in values]
    found = {first: arm for arm in arms if (first := first_of(arm)) is not None and first in arms}
    return found | ({baseline: duplicate} if {baseline, duplicate} <= {*arms} else {})


def differences(values: pd.DataFrame, twins: Mapping[str, str]) -> dict[str, EffectEstimate]:
    """Return the A/A of each arm that ran twice, ln(second / first), by the arm's name."""
    return {
        first: effect.estimate(effect.log_ratio(both[second], both[first]))
        for first, second in twins.items()
        if len(both := values[[first, second]].dropna())
    }


def floor_of(
    arm: str, seen: Mapping[str, EffectEstimate], *, baseline: str, resolution: float
) -> tuple[Floor | None, str]:
    """Return the floor under the effect of ``arm``, and which arm's A/A it is; ``None`` without one of the baseline.

    An effect is a difference of two arms, so it is known no better than the noisier of them: the floor is the wider of
    the arm's own A/A and the baseline's. An arm that did not run twice gets the widest of all that there are. Either
    its own A/A or the baseline's can show that the experiment is biased; that of another arm cannot.
    """
    if baseline not in seen:
        return None, ""
    own = {name: seen[name] for name in (arm, baseline) if name in seen}
    widest = max(own if arm in seen else seen, key=lambda name: _reach(seen[name]))
    return Floor(estimate=seen[widest], resolution=resolution, suspects=tuple(own.values())), widest


def _reach(estimate: EffectEstimate) -> float:
    bounds = estimate.interval
    return math.inf if bounds is None else max(abs(bounds.low), abs(bounds.high))

"""Does the experiment see what is there, and nothing else? Judged of a campaign with a null and a positive control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed import plugins
from testbed.analysis import words
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import frames, metrics, tables
from testbed.analysis.tables.ladder import Question
from testbed.errors import SpecError
from testbed.record import Tier
from testbed.rundir import LoadedCampaign

NULL, CONTROL = "none3", "control"
# The control wastes a share of what the warm-up took, which takes a little more than the iteration that is timed.
_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestOutcome:
    """What came of it, a line a treatment; ``ok`` if nothing was found where nothing was, and the control was."""

    lines: tuple[str, ...]
    ok: bool


def judge(loaded: LoadedCampaign) -> SelftestOutcome:
    """Judge every null and every control of a campaign. Raises ``SpecError`` if it has not both."""
    tier = loaded.plan.tier
    ladders = tables.ladders(frames.rows(loaded), Question.of(tier, loaded.facts))
    rows = ladders[metrics.PRIMARY].to_dict("records") if metrics.PRIMARY in ladders else []
    treated = [row for row in rows if row["treatment"] in (NULL, CONTROL)]
    if {row["treatment"] for row in treated} != {NULL, CONTROL}:
        raise SpecError(f"{loaded.campaign.path}: no overhead of both {NULL} and {CONTROL} is known on tier {tier}")
    judged = [_one(row, tier) for row in treated]
    return SelftestOutcome(lines=tuple(line for line, _ in judged), ok=all(good for _, good in judged))


def _one(row: Mapping[Any, Any], tier: Tier) -> tuple[str, bool]:
    faults = list(_null(row) if row["treatment"] == NULL else _control(row, tier))
    said = f"{row['treatment']} on {row['workload']}: {words.overhead(row['ratio'], row['low'], row['high'])}, "
    said += words.conclusion(row["verdict"], row["delta"])
    return f"self-test {'FAILED' if faults else 'ok'}: {'; '.join([said, *faults])}", not faults


def _null(row: Mapping[Any, Any]) -> Iterator[str]:
    if row["verdict"] != Conclusion.NO_DETECTABLE_OVERHEAD:
        yield f"expected {Conclusion.NO_DETECTABLE_OVERHEAD}, as nothing was done"


def _control(row: Mapping[Any, Any], tier: Tier) -> Iterator[str]:
    share = plugins.measurer(CONTROL).burn[tier]
    if row["verdict"] != Conclusion.OVERHEAD:
        yield f"expected {Conclusion.OVERHEAD}, as {100 * share:g} % was wasted"
    # Where time is noisy the interval is wide: it must then hold the share, no more.
    if not row["low"] - share * _TOLERANCE <= 1 + share <= row["high"] + share * _TOLERANCE:
        yield f"expected {100 * share:g} % within {100 * _TOLERANCE:g} % of that"

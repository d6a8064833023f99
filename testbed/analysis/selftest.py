"""Whether a campaign with a null arm and a positive control finds the control, and nothing else."""

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
# The control wastes a share of the warm-up's time, and the warm-up takes a little longer than the timed iteration.
_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestOutcome:
    """The result, one line for each treatment; ``ok`` if the null shows no effect and the control shows its share."""

    lines: tuple[str, ...]
    ok: bool


def judge(loaded: LoadedCampaign) -> SelftestOutcome:
    """Judge every null and every control of a campaign. Raises ``SpecError`` if one of the two is missing."""
    tier = loaded.plan.tier
    ladders = tables.ladders(frames.rows(loaded), Question.of(tier, loaded.facts))
    rows = ladders[metrics.PRIMARY].to_dict("records") if metrics.PRIMARY in ladders else []
    treated = [row for row in rows if row["treatment"] in (NULL, CONTROL)]
    if {row["treatment"] for row in treated} != {NULL, CONTROL}:
        raise SpecError(
            f"{loaded.campaign.path}: expected overheads of {NULL} and {CONTROL} on tier {tier}, and one is missing"
        )
    judged = [_one(row, tier) for row in treated]
    return SelftestOutcome(lines=tuple(line for line, _ in judged), ok=all(good for _, good in judged))


def _one(row: Mapping[Any, Any], tier: Tier) -> tuple[str, bool]:
    faults = list(_null(row) if row["treatment"] == NULL else _control(row, tier))
    said = f"{row['treatment']} on {row['workload']}: {words.overhead(row['ratio'], row['low'], row['high'])}, "
    said += words.conclusion(row["verdict"], row["delta"])
    return f"self-test {'FAILED' if faults else 'ok'}: {'; '.join([said, *faults])}", not faults


def _null(row: Mapping[Any, Any]) -> Iterator[str]:
    if row["verdict"] != Conclusion.NO_DETECTABLE_OVERHEAD:
        yield f"expected {Conclusion.NO_DETECTABLE_OVERHEAD}, because this arm does nothing"


def _control(row: Mapping[Any, Any], tier: Tier) -> Iterator[str]:
    share = plugins.measurer(CONTROL).burn[tier]
    if row["verdict"] != Conclusion.OVERHEAD:
        yield f"expected {Conclusion.OVERHEAD}, because this arm wastes {100 * share:g} %"
    # Noisy time gives a wide interval, which must only contain the share.
    if not row["low"] - share * _TOLERANCE <= 1 + share <= row["high"] + share * _TOLERANCE:
        yield f"expected {100 * share:g} % within {100 * _TOLERANCE:g} % of that"

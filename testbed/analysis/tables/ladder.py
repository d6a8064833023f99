"""From rows to the ladder: what each measurer costs over the baseline, for each workload, kernel and runtime."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed import plugins
from testbed.analysis.statistics import effect
from testbed.analysis.tables import elsewhere, frames, metrics, noise
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.errors import EvidenceError, SpecError
from testbed.record import Status, Tier
from testbed.spec import TUNED

STRATUM = ("kernel", "runtime", "workload")
_FAILED = (Status.WORKLOAD_FAILED, Status.MACHINE_LOST, Status.TIMED_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is compared with what: the arms' names, the tier, and the margin below which arms count as equal.

    ``command_line``: how the guests' kernel was set (``spec.Shape``).
    """

    tier: Tier
    baseline: str = "none"
    duplicate: str = "none2"
    delta: float = 0.005
    command_line: str = TUNED

    @classmethod
    def of(cls, tier: Tier, facts: Mapping[str, Any]) -> Question:
        """Take the names and the margin from ``campaign.json``'s experiment where it has them."""
        wish = facts.get("experiment") or {}
        return cls(
            tier=tier,
            baseline=wish.get("baseline", "none"),
            duplicate=wish.get("duplicate", "none2"),
            delta=wish.get("delta") or metrics.DELTA[tier],
            command_line=(wish.get("machine") or {}).get("command_line", TUNED),
        )


def climb(measurer: str) -> tuple[int, str]:
    """Sort key of a measurer: by its rung; measurers without a rung, or that no longer exist, come last, by name."""
    rung = rung_of(measurer)
    return (sys.maxsize if rung is None else rung), measurer


def rung_of(measurer: str) -> int | None:
    """Return the place on the ladder that a measurer's own file states; ``None`` if it has none."""
    try:
        return plugins.measurer(measurer).rung
    except SpecError:
        return None


def ladder(rows: pd.DataFrame, question: Question, metric: str = metrics.PRIMARY) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, treatment): an ``Overhead``, its absolute cost, and the A/A.

    Columns: ``STRATUM``, the fields of ``effect.Overhead``, ``cost cost_low cost_high`` (absolute, an operation) and
    ``base`` (median of the baseline) in ``unit``, ``floor floor_low floor_high floor_n`` (ratio of the baseline's A/A),
    ``noise_of noise_low noise_high`` (the A/A that the verdict uses: ``noise.floor_of``), and ``elsewhere.COLUMNS``.
    Empty on a tier where the metric's overhead means nothing. Attacks are left out: they price nothing.
    """
    reading = metrics.reading(metric, question.tier)
    listed: list[dict[str, Any]] = []
    for contrast in contrasts(rows, question, metric):
        assert reading is not None, "there is a contrast only of a metric that means something on its tier"
        result = effect.overhead(
            effect.estimate(contrast.logs),
            contrast.floor,
            metric=metric,
            baseline=question.baseline,
            treatment=contrast.treatment,
            delta=question.delta,
            losses=contrast.losses,
        )
        listed.append(
            contrast.stratum
            | asdict(result)
            | _cost(contrast, reading)
            | _aa(contrast.same)
            | {"delta": question.delta}
            | _noise(contrast)
            | elsewhere.added(contrast.outside, contrast.treatment, contrast.bases)
        )
    columns = [*STRATUM, *effect.Overhead.__slots__, *_COST, *_FLOOR, *_NOISE, *elsewhere.COLUMNS]
    return pd.DataFrame(listed, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One treatment and the baseline in one stratum: ``arms`` has the blocks that have them all, a column per arm.

    ``bases``: the baseline's columns; ``same``: the baseline's A/A, ``None`` without a duplicate. ``floor``: what the
    effect must exceed, and ``noise_of`` the arm whose A/A that is. ``outside``: the arms' values outside of the
    containers' cgroup, without columns where they were not recorded.
    """

    stratum: dict[str, Any]
    treatment: str
    bases: list[str]
    arms: pd.DataFrame
    same: effect.EffectEstimate | None
    floor: effect.Floor | None
    noise_of: str
    losses: effect.Losses
    outside: pd.DataFrame

    @property
    def logs(self) -> NDArray[np.float64]:
        """The blocks' effects, ln of the ratio to the baseline."""
        return effect.log_ratio(self.arms[self.treatment], *(self.arms[base] for base in self.bases))


def contrasts(rows: pd.DataFrame, question: Question, metric: str = metrics.PRIMARY) -> Iterator[Contrast]:
    """Yield each stratum's contrasts by rung; none on a tier where the metric's overhead means nothing."""
    reading = metrics.reading(metric, question.tier)
    if reading is None:
        return
    clean = rows[(rows["attack"] == "none") & rows["current"].astype(bool)]
    for key, group in clean.groupby(list(STRATUM)):
        yield from _of_stratum(dict(zip(STRATUM, key, strict=True)), group, question, metric, reading)


def _of_stratum(
    stratum: dict[str, Any], group: pd.DataFrame, question: Question, metric: str, reading: metrics.Reading
) -> Iterator[Contrast]:
    values = arm_values(group, metric, reading)
    bases = [arm for arm in (question.baseline, question.duplicate) if arm in values]
    if question.baseline not in values:
        return
    outside = arm_values(group, elsewhere.METRIC, reading) if metric == metrics.PRIMARY else values.iloc[:, :0]
    twins = noise.pairs(values, question.baseline, question.duplicate)
    seen = noise.differences(values, twins)
    repeated = {question.baseline, question.duplicate, *twins.values()}
    for treatment in sorted({str(arm) for arm in values} - repeated, key=climb):
        complete = values[[*bases, treatment]].dropna()
        floor, whose = noise.floor_of(
            treatment, seen, baseline=question.baseline, resolution=metrics.RESOLUTION[question.tier]
        )
        if len(complete):
            yield Contrast(
                stratum=stratum,
                treatment=treatment,
                bases=bases,
                arms=complete,
                same=seen.get(question.baseline),
                floor=floor,
                noise_of=whose,
                losses=_losses(group, {*bases, treatment}),
                outside=outside,
            )


def noise_table(rows: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, arm that ran twice): the A/A of the primary metric."""
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    clean = rows[(rows["attack"] == "none") & rows["current"].astype(bool)]
    listed: list[dict[str, Any]] = []
    for key, group in clean.groupby(list(STRATUM)) if reading else ():
        assert reading is not None
        values = arm_values(group, metrics.PRIMARY, reading)
        twins = noise.pairs(values, question.baseline, question.duplicate)
        for arm, same in sorted(noise.differences(values, twins).items(), key=lambda item: climb(item[0])):
            bounds = same.interval or effect.Interval(low=-math.inf, high=math.inf)
            listed.append(
                dict(zip(STRATUM, key, strict=True))
                | {"arm": arm, "again": twins[arm], "ratio": math.exp(same.center), "n": same.n, "spread": same.spread}
                | {"low": math.exp(bounds.low), "high": math.exp(bounds.high)}
            )
    return pd.DataFrame(listed, columns=[*STRATUM, "arm", "again", "ratio", "low", "high", "n", "spread"])


_COST = ("cost", "cost_low", "cost_high", "base", "unit")
_FLOOR = ("floor", "floor_low", "floor_high", "floor_n", "delta")
_NOISE = ("noise_of", "noise_low", "noise_high")


def arm_values(rows: pd.DataFrame, metric: str, reading: metrics.Reading, *, warmup: bool = False) -> pd.DataFrame:
    """Return each arm's value in one stratum, in the unit of ``reading``: a row per block, a column per measurer.

    It is the median of the timed iterations of runs that count (``frames.counted``), of an operation where ``reading``
    says so; with ``warmup`` the value of the first iteration in the machine.
    """
    good = frames.counted(rows[rows["metric"] == metric])
    timed = good[good["iteration"] == 0] if warmup else good[~good["warmup"].fillna(value=False).astype(bool)]
    bad = timed[~((timed["value"] > 0) & (timed["operations"] > 0))]
    if len(bad):
        run = bad.iloc[0]
        raise EvidenceError(
            f"cell {run['cell']} block {run['block']}: {metric} is {run['value']} in {run['operations']} operations, "
            "expected more than 0",
            "look at that run's record.json; a ratio with this value means nothing",
        )
    each = timed["value"] / timed["operations"] if reading.each else timed["value"]
    shown = reading.scale * (1 / each if reading.inverse else each)
    values = shown.groupby([timed["block"], timed["measurer"]]).agg(lambda v: effect.arm_value(list(v)))
    return values.unstack("measurer")  # noqa: PD010 - a pivot of what is grouped already


def _aa(same: effect.EffectEstimate | None) -> dict[str, Any]:
    if same is None:
        return {"floor": math.nan, "floor_low": -math.inf, "floor_high": math.inf, "floor_n": 0}
    bounds = same.interval or effect.Interval(low=-math.inf, high=math.inf)
    return {
        "floor": math.exp(same.center),
        "floor_low": math.exp(bounds.low),
        "floor_high": math.exp(bounds.high),
        "floor_n": same.n,
    }


def _noise(contrast: Contrast) -> dict[str, Any]:
    interval = contrast.floor.estimate.interval if contrast.floor else None
    bounds = interval or effect.Interval(low=-math.inf, high=math.inf)
    ends = {"noise_low": math.exp(bounds.low), "noise_high": math.exp(bounds.high)}
    return {"noise_of": contrast.noise_of} | ends


def _cost(contrast: Contrast, reading: metrics.Reading) -> dict[str, Any]:
    """Return the absolute cost of one operation: a percentage of 20 ms and of 60 s mean different things."""
    base = baseline_of(contrast.arms, contrast.bases)
    cost = effect.estimate(contrast.arms[contrast.treatment].to_numpy(dtype=float) - base)
    bounds = cost.interval or effect.Interval(low=-math.inf, high=math.inf)
    return {
        "cost": cost.center,
        "cost_low": bounds.low,
        "cost_high": bounds.high,
        "base": float(np.median(base)),
        "unit": reading.unit,
    }


def baseline_of(values: pd.DataFrame, bases: list[str]) -> NDArray[np.float64]:
    """Return the geometric mean of the baseline's arms, a value per block. ``values``: of ``arm_values``."""
    mean: NDArray[np.float64] = np.exp(np.log(values[bases].to_numpy(dtype=float)).mean(axis=1))
    return mean


def _losses(group: pd.DataFrame, arms: set[str]) -> effect.Losses:
    """Return which share of the recorded blocks lost one of these arms, by failure or by rejection.

    A run that the oracle did not judge ``ok`` counts as failed: its numbers are of another measurer.
    """
    of_arms = group[group["measurer"].isin(arms)]
    blocks = of_arms["block"].nunique()
    wrong = of_arms["oracle"].notna() & (of_arms["oracle"] != str(CheckVerdict.OK))
    bad = of_arms["status"].isin([str(status) for status in _FAILED])
    good = of_arms["status"] == str(Status.OK)
    failed = of_arms.loc[bad | (good & wrong), "block"].nunique()
    rejected = of_arms.loc[of_arms["status"] == str(Status.REJECTED), "block"].nunique()
    return effect.Losses(failed=failed / blocks, rejected=rejected / blocks)

"""What one axis of a campaign changes: the ratio of B over A, all other axes being equal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.statistics import effect, shift
from testbed.analysis.statistics.effect import EffectEstimate
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import STRATUM, Question, arm_values, climb
from testbed.errors import SpecError
from testbed.record import Tier
from testbed.rundir import LoadedCampaign

AXES = (*STRATUM, "measurer")
# Blocks of two kernels are two boots. On the other axes A and B are clones of one boot, and so are pairs.
_UNPAIRED = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRatio:
    """``other`` over ``first`` on one axis: ``effect`` is the logarithm. ``rest``: the names on the other axes."""

    rest: Mapping[str, str]
    first: str
    other: str
    effect: EffectEstimate


def across(loaded: LoadedCampaign, axis: str) -> list[AxisRatio]:
    """Return the ratios of each name on ``axis`` over the first one in the plan.

    Raises ``SpecError`` if the tier has no number to compare, or if nothing was measured with two names.
    """
    tier = loaded.plan.tier
    if metrics.reading(metrics.PRIMARY, tier) is None:
        raise SpecError(f"{loaded.campaign.path}: tier {tier} measures nothing", "compare a campaign of kvm or icount")
    names = list(dict.fromkeys(getattr(cell, axis) for cell in loaded.plan.cells))
    listed = list(_ratios(_values(loaded), axis, names))
    if not listed:
        raise SpecError(
            f"{loaded.campaign.path}: expected good runs with two or more values of {axis}, got {', '.join(names)}",
            f"choose another axis than {axis}, or wait for the campaign to end",
        )
    return listed


def _values(loaded: LoadedCampaign) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, measurer, block): the value of one operation."""
    reading = metrics.reading(metrics.PRIMARY, loaded.plan.tier)
    assert reading is not None, "checked before"
    rows = frames.rows(loaded)
    listed = [pd.DataFrame(columns=[*AXES, "block", "value"])]
    for key, group in rows[rows["attack"] == "none"].groupby(list(STRATUM)):
        long = arm_values(group, metrics.PRIMARY, reading).reset_index().melt("block", var_name="measurer")
        listed.append(long.assign(kernel=str(key[0]), runtime=str(key[1]), workload=str(key[2])))
    return pd.concat(listed[1:] or listed, ignore_index=True).dropna(subset=["value"])


def _ratios(values: pd.DataFrame, axis: str, names: list[str]) -> Iterator[AxisRatio]:
    rest = [name for name in AXES if name != axis]
    groups = sorted(values.groupby(rest), key=lambda pair: (*map(str, pair[0][:-1]), _place(rest[-1], pair[0][-1])))
    for key, group in groups:
        logs = {
            name: mine.set_index("block")["value"].astype(float).map(math.log) for name, mine in group.groupby(axis)
        }
        first, *others = [name for name in names if name in logs] or [""]
        for other in others:
            found = _effect(logs[other], logs[first], paired=axis != _UNPAIRED)
            if found is not None:
                named = {name: str(value) for name, value in zip(rest, key, strict=True)}
                yield AxisRatio(rest=named, first=first, other=other, effect=found)


def _place(axis: str, name: object) -> tuple[int, str]:
    return climb(str(name)) if axis == "measurer" else (0, str(name))


def _effect(other: pd.Series[float], first: pd.Series[float], *, paired: bool) -> EffectEstimate | None:
    if not paired:
        return shift.shift(other, first)
    both = (other - first).dropna()
    return effect.estimate(both) if len(both) else None


def text(ratios: Iterable[AxisRatio], axis: str, question: Question) -> Iterator[str]:
    """Yield the lines of a page: a table with one row per ratio, and what it means."""
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    assert reading is not None, "there is a ratio only of a metric that means something on its tier"
    listed = list(ratios)
    rest = [name for name in AXES if name != axis and len({one.rest[name] for one in listed}) > 1]
    cells = (
        (*(f"`{one.rest[name]}`" for name in rest), f"`{one.first}`", f"`{one.other}`", _overhead(one), one.effect.n)
        for one in listed
    )
    yield from markdown.table((*rest, "A", "B", "B over A, 95 % interval", "n"), cells)
    yield ""
    same = ", ".join(f"{name} `{listed[0].rest[name]}`" for name in AXES if name != axis and name not in rest)
    yield f"B less A in percent of A: {reading.label}, one operation{'; ' + same if same else ''}."
    if axis == _UNPAIRED:
        yield "Two kernels are two boots: the interval contains the differences between boots (rank sum)."
    else:
        yield "A and B of one block start from one saved machine: the ratio is taken in each block (signed rank)."
    if question.tier is Tier.ICOUNT:
        yield metrics.MEANING[question.tier]


def _overhead(one: AxisRatio) -> str:
    bounds = one.effect.interval or effect.Interval(low=-math.inf, high=math.inf)
    return words.overhead(math.exp(one.effect.center), math.exp(bounds.low), math.exp(bounds.high))

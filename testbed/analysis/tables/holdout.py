"""A test of the cost model on workloads that were not fitted, by a rule that was fixed beforehand.

Rule: of the names of the workloads in alphabetical order, the first, third, fifth, ... are fitted and the others held
out. Then the halves are swapped, so that every workload is predicted by a fit without it. Workloads that begin with an
empty page cache are in neither half: they read from a disk, and no term of the model is about that. They are predicted
by the fit on all others, with the first start of an image instead of a later one.

Beside each prediction stands that of the *null model*, which knows hashed bytes alone and is fitted on the same
workloads. A model that predicts no better than that has not shown that its other prices mean anything.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from testbed.analysis.statistics import effect, regression
from testbed.analysis.statistics.regression import Form
from testbed.analysis.tables import costmodel
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.ladder import STRATUM, Question
from testbed.measurers import BASELINE, Step

# A prediction counts as right within this share of what was observed.
MARGIN = 0.10
_FEWEST = 4
COLUMNS = (
    *("kernel", "runtime", "workload", "arm", "role"),
    *("observed", "low", "high", "predicted", "ratio", "within", "null", "null_ratio", "null_within"),
    *("unit", "fitted_on"),
)
# What the null model counts: each is a byte that the arm hashes.
_HASHED = ("bytes", "image_bytes")


class HoldoutRole(enum.StrEnum):
    """The role of a workload in the test. In all three it is predicted by a fit without it."""

    HELD_OUT = "held out"
    SWAPPED = "held out after the swap"
    OUTSIDE = "outside the model"


def split(workloads: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the workloads that are fitted and those that are held out, by the rule above."""
    names = sorted(set(workloads))
    return tuple(names[0::2]), tuple(names[1::2])


def observe(rows: pd.DataFrame, events: pd.DataFrame, question: Question) -> dict[str, pd.DataFrame]:
    """Return ``costmodel.observations`` of each step by its name; steps of which nothing was run are left out."""
    observed = {step.name: costmodel.observations(rows, events, question, step) for step in costmodel.steps()}
    return {name: table for name, table in observed.items() if len(table)}


def fits(observed: Mapping[str, pd.DataFrame], question: Question, only: Sequence[str] | None = None) -> list[Fit]:
    """Fit each step on each kernel, on the workloads of ``only`` (all that are not cold if ``None``)."""
    all_fits: list[Fit] = []
    for step in costmodel.steps():
        table = observed.get(step.name, pd.DataFrame())
        if table.empty:
            continue
        # The first start of an image reads it from disk in every workload, so that step knows no other.
        kept = table if step.first else table[~table["cold"].astype(bool)]
        kept = kept if only is None else kept[kept["workload"].isin(only)]
        for kernel, group in kept.groupby("kernel"):
            known = costmodel.priced(all_fits, step.arm, str(kernel))
            fitted = costmodel.fit(group, step, str(kernel), costmodel.unit_of(question.tier), known)
            all_fits += [fitted] if fitted else []
    return all_fits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """The workloads of which ``fits`` are, as a role names them. ``workloads``: those that are fitted."""

    role: HoldoutRole
    workloads: tuple[str, ...]
    fits: Sequence[Fit]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Total:
    """What an arm adds over the baseline: ``added`` has a row per block; ``counts``: one row of events for each step.

    ``hashed``: bytes that the arm hashes in the iteration.
    """

    stratum: Mapping[str, Any]
    added: pd.DataFrame
    counts: Mapping[str, pd.DataFrame]

    @property
    def hashed(self) -> float:
        events: dict[str, float] = {}
        for table in self.counts.values():
            events |= {name: float(table[name].iloc[0]) for name in _HASHED if name in table}
        return sum(events.values())


def predictions(rows: pd.DataFrame, observed: Mapping[str, pd.DataFrame], question: Question) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, arm): what the arm adds in one iteration, observed and predicted.

    ``low high``: the observation's 95 % interval. Empty if fewer than four workloads can be fitted.
    """
    names = sorted({str(name) for table in observed.values() for name in table.loc[~table["cold"], "workload"]})
    if len(names) < _FEWEST:
        return pd.DataFrame(columns=list(COLUMNS))
    first, second = split(names)
    by = {
        **dict.fromkeys(
            second, _Half(role=HoldoutRole.HELD_OUT, workloads=first, fits=fits(observed, question, first))
        ),
        **dict.fromkeys(
            first, _Half(role=HoldoutRole.SWAPPED, workloads=second, fits=fits(observed, question, second))
        ),
    }
    every = _Half(role=HoldoutRole.OUTSIDE, workloads=tuple(names), fits=fits(observed, question, names))
    listed: list[dict[str, Any]] = []
    for arm in _predictable():
        totals = list(_totals(rows, observed, question, arm))
        for total in totals:
            half = by.get(str(total.stratum["workload"]), every)
            listed += _predicted(arm, total, half, _null(totals, half, str(total.stratum["kernel"])))
    return pd.DataFrame(listed, columns=list(COLUMNS))


def _totals(rows: pd.DataFrame, observed: Mapping[str, pd.DataFrame], question: Question, arm: str) -> Iterator[_Total]:
    last = costmodel.chain(arm)[-1]
    if last.name not in observed:
        return
    whole = costmodel.observations(rows, _any_events(rows), question, _over_base(last))
    for key, group in whole.groupby(list(STRATUM)):
        stratum = dict(zip(STRATUM, key, strict=True))
        cold = costmodel.is_cold(str(stratum["workload"]))
        chain = [step.name for step in costmodel.chain(arm, cold=cold) if step.name in observed]
        counts = {name: _of(observed[name], stratum).mean(numeric_only=True).to_frame().T for name in chain}
        if all(len(_of(observed[name], stratum)) for name in chain):
            yield _Total(stratum=stratum, added=group, counts=counts)


def _null(totals: Sequence[_Total], half: _Half, kernel: str) -> float:
    """Return the price of a byte by the null model, fitted as the others are; NaN where nothing is hashed."""
    fitted = [
        total.added.assign(hashed=total.hashed, weight=1 / total.added["below"])
        for total in totals
        if total.stratum["kernel"] == kernel and total.stratum["workload"] in half.workloads
    ]
    if not fitted or not any(table["hashed"].iloc[0] > 0 for table in fitted):
        return float("nan")
    form = Form(events=("hashed",), cost="added", weight="weight")
    return regression.fit(pd.concat(fitted, ignore_index=True), form).coefficients["hashed"].center


def _predictable() -> list[str]:
    """Return the arms that are predicted, as the ladder climbs: not those whose own step may be too small to price."""
    chains = (costmodel.chain(arm) for arm in dict.fromkeys(step.arm for step in costmodel.steps()))
    return [steps[-1].arm for steps in chains if steps and not steps[-1].slight]


def _over_base(step: Step) -> Step:
    return replace(step, over=(BASELINE,), terms=())


def _any_events(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table of events without counts, for observations without terms."""
    return rows[[*STRATUM, "measurer", "attack", "block", "iteration", "warmup"]].drop_duplicates()


def _of(table: pd.DataFrame, stratum: Mapping[str, Any]) -> pd.DataFrame:
    mine = table["workload"].notna()
    for name, value in stratum.items():
        mine &= table[name] == value
    return table[mine]


def _predicted(arm: str, total: _Total, half: _Half, null: float) -> Iterator[dict[str, Any]]:
    mine = {fit.step.name: fit for fit in half.fits if fit.kernel == total.stratum["kernel"]}
    slight = {step.name for step in costmodel.steps() if step.slight}
    needed = [name for name in total.counts if name in mine or name not in slight]
    if not needed or any(name not in mine for name in needed):
        return
    predicted = sum(float(mine[name].predict(total.counts[name])[0]) for name in needed)
    seen = effect.estimate(total.added["added"])
    bounds = seen.interval or effect.Interval(low=float("-inf"), high=float("inf"))
    ratio, by_null = (
        value / seen.center if seen.center else float("nan") for value in (predicted, null * total.hashed)
    )
    yield {
        **total.stratum,
        "arm": arm,
        "role": str(half.role),
        "observed": seen.center,
        "low": bounds.low,
        "high": bounds.high,
        "predicted": predicted,
        "ratio": ratio,
        "within": abs(ratio - 1) <= MARGIN,
        "null": null * total.hashed,
        "null_ratio": by_null,
        "null_within": abs(by_null - 1) <= MARGIN,
        "unit": mine[needed[0]].unit,
        "fitted_on": ", ".join(mine[needed[-1]].workloads),
    }

"""What one event costs: T = a files + b extends + c bytes + d lookups, fitted by least squares on what arms add.

Each measurer states its priced steps (``Measurer.steps``): what it adds over the arm below it, as a sum over events.
A step is fitted block by block (``regression``), and each workload weighs by its relative error. Terms that cannot be
separated are dropped, the last one first, and the report says so: where the events of the workloads grow together
(condition number over 30), or where a price would be below 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed import plugins
from testbed.analysis.statistics import regression
from testbed.analysis.statistics.effect import EffectEstimate
from testbed.analysis.statistics.regression import Form, Model
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, Question, arm_values, baseline_of, climb
from testbed.errors import SpecError
from testbed.measurers import BASELINE, Step
from testbed.record import Tier

MAX_CONDITION = 30.0
# Fewer workloads than this would attribute all that they add to one event.
FEWEST = 3
# Workloads that add almost nothing have large relative errors and must not dominate the fit: none weighs more than ten
# times as much as the median.
_HEAVIEST = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The prices of a step on one kernel. ``prices``: an event's, in ``unit``; ``given_up``: why a term has no price.

    ``workloads``: those that were fitted.
    """

    step: Step
    kernel: str
    prices: Mapping[str, EffectEstimate]
    given_up: Mapping[str, str]
    workloads: tuple[str, ...]
    unit: str

    def predict(self, counts: pd.DataFrame) -> NDArray[np.float64]:
        """Return the predicted addition of an iteration, in ``unit``, for each row of event counts."""
        total: NDArray[np.float64] = np.zeros(len(counts))
        for name, price in self.prices.items():
            total = total + price.center * counts[name].to_numpy(dtype=float)
        return total


def steps() -> tuple[Step, ...]:
    """Return the steps of all measurers, as the ladder climbs. Raises ``SpecError`` for two of one name."""
    found: dict[str, Step] = {}
    for name in sorted(plugins.names("measurers"), key=climb):
        for step in plugins.measurer(name).steps:
            other = found.setdefault(step.name, step)
            if other is not step:
                raise SpecError(f"{name}: step {step.name!r} is also a step of {other.arm}", "give it another name")
    return tuple(found.values())


def chain(arm: str, *, cold: bool = False) -> tuple[Step, ...]:
    """Return the steps whose sum is what an arm adds over the baseline in a timed iteration; none if it has no step.

    ``cold``: the iteration is the first in its machine, so where an arm has a step for that, it replaces its
    other one.
    """
    own = [step for step in steps() if step.arm == arm]
    last = next((step for step in own if cold and step.first), next((step for step in own if not step.first), None))
    if last is None:
        return ()
    return (*chain(last.over[0], cold=cold), last)


def unit_of(tier: Tier) -> str:
    """Return the unit in which events are priced: ``instructions``, or ``ns`` where the clock is time."""
    return "instructions" if tier is Tier.ICOUNT else "ns"


def observations(rows: pd.DataFrame, events: pd.DataFrame, question: Question, step: Step) -> pd.DataFrame:
    """Return one row per (kernel, runtime, workload, block): what the step added in one iteration, and its events.

    Columns: ``STRATUM``, ``block``, ``over``, ``added`` and ``below`` (the arm below) in ``unit_of`` the tier,
    ``cold``, the step's terms. Rows of which an event count is unknown are left out. Attacks price nothing.
    """
    listed: list[pd.DataFrame] = []
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    if reading is None:
        return pd.DataFrame(columns=[*STRATUM, "block", "over", "added", "below", "cold", *step.terms])
    whole = replace(reading, each=False, scale=1e9)
    clean = rows[(rows["attack"] == "none") & (rows["metric"] == metrics.PRIMARY)]
    for key, group in clean.groupby(list(STRATUM)):
        values = arm_values(group, metrics.PRIMARY, whole, warmup=step.first)
        pair = _below(values, question, step)
        if pair is None:
            continue
        over, below = pair
        table = pd.DataFrame({"over": over, "added": values[step.arm] - below, "below": below}).dropna()
        kernel, runtime, workload = map(str, key)
        named = table.reset_index().assign(kernel=kernel, runtime=runtime, workload=workload)
        listed.append(named.assign(cold=is_cold(workload)))
    counts = _counts(events, step)
    added = pd.concat(listed, ignore_index=True) if listed else pd.DataFrame(columns=[*STRATUM, "block", "added"])
    joined = added.merge(counts, on=[*STRATUM, "block"], how="inner")
    return joined.dropna(subset=list(step.terms)).reset_index(drop=True)


def is_cold(workload: str) -> bool:
    """Whether a workload's timed iteration begins with an empty page cache: reading a disk is not one of our events."""
    known = plugins.known_workload(workload)
    return known.cold if known else workload.endswith("-cold")


def fit(seen: pd.DataFrame, step: Step, kernel: str, unit: str) -> Fit | None:
    """Fit a step on rows of ``observations``; ``None`` if there are too few."""
    terms, given_up = list(step.terms), {}
    workloads = tuple(sorted(set(seen["workload"].astype(str))))
    mean = seen.groupby(list(STRATUM))[["added", *step.terms]].mean()
    if len(mean) < FEWEST:
        return None
    for term in step.terms:
        if not (mean[term] > 0).any():
            terms.remove(term)
            given_up[term] = "did not occur"
    while terms:
        solved = _solved(seen, terms, len(mean))
        prices = {} if isinstance(solved, str) else dict(solved.coefficients)
        below = [term for term, price in prices.items() if price.center < 0]
        if prices and not below:
            return Fit(step=step, kernel=kernel, prices=prices, given_up=given_up, workloads=workloads, unit=unit)
        lost = below[-1] if below else terms[-1]
        terms.remove(lost)
        given_up[lost] = solved if isinstance(solved, str) else "its price would be below 0"
    return None


def _below(values: pd.DataFrame, question: Question, step: Step) -> tuple[str, pd.Series[float]] | None:
    """Return the arm below and its values."""
    bases = [arm for arm in (question.baseline, question.duplicate) if arm in values]
    if step.arm not in values:
        return None
    for over in step.over:
        if over == BASELINE and question.baseline in bases:
            return question.baseline, pd.Series(baseline_of(values, bases), index=values.index)
        if over in values:
            return over, values[over].astype(float)
    return None


def _counts(events: pd.DataFrame, step: Step) -> pd.DataFrame:
    mine = events[(events["measurer"] == step.arm) & (events["attack"] == "none")]
    timed = mine[mine["iteration"] == 0] if step.first else mine[~mine["warmup"].fillna(value=False).astype(bool)]
    return timed.groupby([*STRATUM, "block"])[list(step.terms)].median().reset_index()


def _solved(seen: pd.DataFrame, terms: Sequence[str], workloads: int) -> Model | str:
    """Return the fit of these terms, or why these workloads cannot separate them."""
    # One workload more than prices, or no observation could contradict the fit.
    if len(terms) > 1 and workloads <= len(terms):
        return f"{workloads} workloads are too few for {len(terms)} prices"
    weights = seen.groupby("block")["added"].transform(_weights)
    form = Form(events=tuple(terms), cost="added", weight="weight")
    try:
        model = regression.fit(seen.assign(weight=weights), form)
    except ValueError:
        return "grows together with the others in every block"
    if len(terms) > 1 and model.condition > MAX_CONDITION:
        return f"grows together with the others: condition number {model.condition:.0f}, limit {MAX_CONDITION:.0f}"
    return model


def _weights(added: pd.Series[float]) -> pd.Series[float]:
    return 1 / added.abs().clip(lower=max(float(added.abs().median()) / _HEAVIEST, 1e-9))

"""What one event costs: T = a files + b extends + c bytes + d lookups, fitted by least squares on what arms add.

Each measurer states its priced steps (``Measurer.steps``): what it adds over the arm below it, as a sum over events.
A step is fitted block by block (``regression``). A workload weighs by the arm below, whose noise is proportional to it,
and never by what was added: that is the noisy answer. One event has one price in a chain of steps: what a step finds
priced is subtracted before it is fitted. Terms are dropped, the last one first, and the report says so: where the
events of the workloads grow together (condition number over 30), or where a price is below 0 or cannot be told from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
# Where a campaign has not counted an event, this one stands for it.
STAND_INS = {"runs": "decisions"}
# What is hashed by the same code in every arm of the module, so that chains that share no step share these prices.
_ONE_CODE = frozenset({"bytes", "image_bytes", "image_files", "runtimes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The prices of a step on one kernel. ``prices``: an event's, in ``unit``; ``given_up``: why a term has no price.

    ``taken``: prices of this step's events that other steps of its chain have found. ``workloads``: those that were
    fitted.
    """

    step: Step
    kernel: str
    prices: Mapping[str, EffectEstimate]
    taken: Mapping[str, EffectEstimate]
    given_up: Mapping[str, str]
    workloads: tuple[str, ...]
    unit: str

    def predict(self, counts: pd.DataFrame) -> NDArray[np.float64]:
        """Return the predicted addition of an iteration, in ``unit``, for each row of event counts."""
        total: NDArray[np.float64] = np.zeros(len(counts))
        for name, price in {**self.taken, **self.prices}.items():
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
    ``cold``, the step's terms (or what stands for them). Rows of which an event count is unknown are left out. Attacks
    price nothing.
    """
    terms = _counted(events, step)
    listed: list[pd.DataFrame] = []
    reading = metrics.reading(metrics.PRIMARY, question.tier)
    if reading is None:
        return pd.DataFrame(columns=[*STRATUM, "block", "over", "added", "below", "cold", *terms])
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
    counts = _counts(events, step, terms)
    added = pd.concat(listed, ignore_index=True) if listed else pd.DataFrame(columns=[*STRATUM, "block", "added"])
    joined = added.merge(counts, on=[*STRATUM, "block"], how="inner")
    return joined.dropna(subset=list(terms)).reset_index(drop=True)


def is_cold(workload: str) -> bool:
    """Whether a workload's timed iteration begins with an empty page cache: reading a disk is not one of our events."""
    known = plugins.known_workload(workload)
    return known.cold if known else workload.endswith("-cold")


def fit(
    seen: pd.DataFrame, step: Step, kernel: str, unit: str, known: Mapping[str, EffectEstimate] | None = None
) -> Fit | None:
    """Fit a step on rows of ``observations``; ``None`` if there are too few.

    ``known``: prices of events that other steps of the chain have found. They are subtracted, and not fitted again.
    """
    workloads = tuple(sorted(set(seen["workload"].astype(str))))
    mean = seen.groupby(list(STRATUM)).mean(numeric_only=True)
    if len(mean) < FEWEST:
        return None
    own = [term if term in seen else STAND_INS[term] for term in step.terms]
    taken = {term: price for term, price in (known or {}).items() if term in own}
    given_up = {term: "did not occur" for term in own if term not in taken and not (mean[term] > 0).any()}
    rest = seen.assign(added=seen["added"] - sum(price.center * seen[term] for term, price in taken.items()))
    prices = _prices(rest, [term for term in own if term not in {**taken, **given_up}], given_up, len(mean))
    if not prices and not taken:
        return None
    return Fit(step=step, kernel=kernel, prices=prices, taken=taken, given_up=given_up, workloads=workloads, unit=unit)


def _prices(
    seen: pd.DataFrame, terms: list[str], given_up: dict[str, str], workloads: int
) -> dict[str, EffectEstimate]:
    """Return the prices of terms; of those that cannot have one, add to ``given_up`` why."""
    while terms:
        solved = _solved(seen, terms, workloads)
        prices = {} if isinstance(solved, str) else dict(solved.coefficients)
        doubtful = [(term, why) for term, price in prices.items() if (why := _doubt(price))]
        if prices and not doubtful:
            return prices
        lost, why = doubtful[-1] if doubtful else (terms[-1], str(solved))
        terms.remove(lost)
        given_up[lost] = why
    return {}


def _doubt(price: EffectEstimate) -> str:
    """Return why this is no price; empty if it is one."""
    if price.center < 0:
        return "its price would be below 0"
    return "its interval contains 0" if price.interval and price.interval.low <= 0 else ""


def priced(fits: Iterable[Fit], arm: str, kernel: str) -> dict[str, EffectEstimate]:
    """Return the price of each event that an arm's chain has on a kernel, first starts included.

    Prices of hashing are those of any arm whose code hashes in the same way, if this arm hashes at all.
    """
    own = [step for cold in (False, True) for step in chain(arm, cold=cold)]
    hashing = any(_ONE_CODE.intersection(step.terms) for step in own)
    arms, native = {step.arm for step in own}, hashing and all(step.native for step in own)
    found: dict[str, EffectEstimate] = {}
    for fit in (fit for fit in fits if fit.kernel == kernel):
        alike = native and fit.step.native
        for term, price in fit.prices.items():
            if fit.step.arm in arms or (alike and term in _ONE_CODE):
                found.setdefault(term, price)
    return found


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


def _counted(events: pd.DataFrame, step: Step) -> list[str]:
    """Return the columns of a step's events: what stands for an event where no run has counted it."""
    mine = events[events["measurer"] == step.arm]
    known = {term for term in step.terms if term in mine and mine[term].notna().any()}
    return [term if term in known or term not in STAND_INS else STAND_INS[term] for term in step.terms]


def _counts(events: pd.DataFrame, step: Step, terms: Sequence[str]) -> pd.DataFrame:
    mine = events[(events["measurer"] == step.arm) & (events["attack"] == "none")]
    timed = mine[mine["iteration"] == 0] if step.first else mine[~mine["warmup"].fillna(value=False).astype(bool)]
    return timed.groupby([*STRATUM, "block"])[list(terms)].median().reset_index()


def _solved(seen: pd.DataFrame, terms: Sequence[str], workloads: int) -> Model | str:
    """Return the fit of these terms, or why these workloads cannot separate them."""
    # One workload more than prices, or no observation could contradict the fit.
    if len(terms) > 1 and workloads <= len(terms):
        return f"{workloads} workloads are too few for {len(terms)} prices"
    form = Form(events=tuple(terms), cost="added", weight="weight")
    try:
        model = regression.fit(seen.assign(weight=1 / seen["below"]), form)
    except ValueError:
        return "grows together with the others in every block"
    if len(terms) > 1 and model.condition > MAX_CONDITION:
        return f"grows together with the others: condition number {model.condition:.0f}, limit {MAX_CONDITION:.0f}"
    return model

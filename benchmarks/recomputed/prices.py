"""The prices of events, the parts of the added instructions, and the predictions (docs/statistics.md)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recomputed.estimates import Number, hodges_lehmann
from recomputed.samples import Samples, geometric

MAX_CONDITION = 30
FEWEST = 3
# A workload that adds almost nothing weighs at most ten times as much as the median one.
HEAVIEST = 10
MARGIN = 0.10


@dataclass(frozen=True)
class Step:
    """A step of the ladder: the arm, the arms below it (the first that the campaign has), and its events."""

    name: str
    arm: str
    below: tuple[str, ...]
    events: tuple[str, ...]
    first: bool = False


BASE = "baseline"
STEPS = (
    Step("ima", "ima-exec", (BASE,), ("bytes", "files", "lookups")),
    Step("hook", "hooks-only", (BASE,), ("decisions",)),
    Step("file", "container-file", ("hooks-only", BASE), ("bytes", "files", "lookups", "extends")),
    Step("launch", "container-image", ("container-file",), ("walked", "launches")),
    Step("image", "container-image", ("container-file",), ("image_bytes", "image_files", "walked", "launches"), True),
)
# The steps whose sum is what an arm adds over the baseline in a timed iteration.
CHAINS = {
    "ima-exec": ("ima",),
    "container-file": ("hook", "file"),
    "container-image": ("hook", "file", "launch"),
}
PARTS = {"hash": ("bytes",), "entries": ("files", "extends"), "lookups": ("lookups",)}


@dataclass(frozen=True)
class Fit:
    """Prices of a step's events by name, in instructions, and the workloads that were fitted."""

    prices: dict[str, Number]
    workloads: tuple[str, ...]
    blocks: int


def cold(workload: str) -> bool:
    """Whether a workload begins with an empty page cache."""
    return workload.partition(" ")[0].endswith("-cold")


class Prices:
    """The cost model of one campaign."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.steps = {step.name: step for step in STEPS if step.arm in samples.arms}

    @functools.cache  # noqa: B019 - one campaign, and the program ends
    def seen(self, name: str) -> pd.DataFrame:
        """Return what a step added in an iteration, with its events: a row per (workload, block)."""
        step = self.steps[name]
        tables = []
        for workload in self.samples.workloads:
            values = self.samples.values("cpu", workload, each=False, first=step.first)
            below = self._below(values, step)
            if below is not None and step.arm in values:
                table = pd.DataFrame({"added": values[step.arm] - below, "below": below}).dropna()
                tables.append(table.assign(label=workload).reset_index())
        if not tables:
            return pd.DataFrame(columns=["label", "block", "added", "below", *step.events])
        counts = self.samples.counts(step.arm, list(step.events), first=step.first).reset_index()
        return pd.concat(tables).merge(counts, on=["label", "block"]).dropna(subset=list(step.events))

    def _below(self, values: pd.DataFrame, step: Step) -> pd.Series[float] | None:
        bases = [name for name in (self.samples.baseline, self.samples.duplicate) if name in values]
        for arm in step.below:
            if arm in values:
                return values[arm]
            if arm == BASE and bases:
                return geometric(values[bases])
        return None

    @functools.cache  # noqa: B019
    def fit(self, name: str, only: tuple[str, ...] | None = None) -> Fit | None:
        """Return a step's prices, from all workloads that it may be fitted on or from those of ``only``."""
        step = self.steps.get(name)
        if step is None:
            return None
        table = self.seen(name)
        keep = [w for w in set(table["label"]) if (step.first or not cold(w)) and (only is None or w in only)]
        table = table[table["label"].isin(keep)]
        if len(keep) < FEWEST:
            return None
        terms = [event for event in step.events if (table.groupby("label")[event].mean() > 0).any()]
        while terms:
            prices = _solve(table, terms, len(keep))
            negative = [term for term in terms if prices is not None and prices[term].value < 0]
            if prices is not None and not negative:
                return Fit(prices=prices, workloads=tuple(sorted(keep)), blocks=table["block"].nunique())
            terms.remove(negative[-1] if negative else terms[-1])
        return None

    @functools.cache  # noqa: B019
    def shares(self, workload: str) -> dict[str, float]:
        """Return each part's share of what the whole ladder adds to a workload, in percent."""
        files, fit = self.seen("file"), self.fit("file")
        mine = files[files["label"] == workload]
        parts = {}
        for part, terms in PARTS.items():
            if fit is not None and any(term in fit.prices for term in terms):
                parts[part] = sum(fit.prices[t].value * mine[t].mean() for t in terms if t in fit.prices)
        parts["rest"] = hodges_lehmann(mine["added"]).value - sum(parts.values())
        for part, step in (("hooks", "hook"), ("launches", "launch")):
            if step in self.steps and (own := self.seen(step))["label"].eq(workload).any():
                parts[part] = hodges_lehmann(own.loc[own["label"] == workload, "added"]).value
        whole = sum(parts.values())
        return {part: 100 * value / whole for part, value in parts.items()}

    @functools.cache  # noqa: B019
    def predictions(self, arm: str) -> dict[str, float]:
        """Return predicted / observed of each workload, from a fit on the half of the names without it."""
        names = sorted({w for step in self.steps for w in self.seen(step)["label"] if not cold(w)})
        halves = tuple(names[0::2]), tuple(names[1::2])
        ratios = {}
        for half, other in (halves, halves[::-1]):
            fits = {step: self.fit(step, half) for step in CHAINS[arm] if step in self.steps}
            for workload in other:
                known = {step: fit for step, fit in fits.items() if fit is not None or step != "hook"}
                if all(fit is not None for fit in known.values()):
                    predicted = sum(self._predicted(step, fit, workload) for step, fit in known.items() if fit)
                    ratios[workload] = predicted / self._observed(arm, workload)
        return ratios

    def _predicted(self, step: str, fit: Fit, workload: str) -> float:
        table = self.seen(step)
        mine = table[table["label"] == workload]
        return float(sum(price.value * mine[term].mean() for term, price in fit.prices.items()))

    def _observed(self, arm: str, workload: str) -> float:
        values = self.samples.values("cpu", workload, each=False)
        bases = [name for name in (self.samples.baseline, self.samples.duplicate) if name in values]
        complete = values[[*bases, arm]].dropna()
        return hodges_lehmann(complete[arm] - geometric(complete[bases])).value


def _solve(table: pd.DataFrame, terms: list[str], workloads: int) -> dict[str, Number] | None:
    """Fit each block by itself; ``None`` if these workloads cannot separate the terms."""
    if len(terms) > 1 and workloads <= len(terms):
        return None
    fits = []
    for _, rows in table.groupby("block"):
        added = rows["added"].to_numpy(dtype=float)
        weight = 1 / np.maximum(np.abs(added), np.median(np.abs(added)) / HEAVIEST)
        design = rows[terms].to_numpy(dtype=float) * weight[:, None]
        length = np.linalg.norm(design, axis=0)
        scaled = design / np.where(length > 0, length, 1)
        if np.linalg.matrix_rank(scaled) < len(terms):
            continue
        if len(terms) > 1 and np.linalg.cond(scaled) > MAX_CONDITION:
            return None
        fits.append(_least_squares(scaled, added * weight) / length)
    if not fits:
        return None
    return {term: hodges_lehmann([fit[n] for fit in fits]) for n, term in enumerate(terms)}


def _least_squares(design: npt.NDArray[np.float64], cost: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    solved, *_ = np.linalg.lstsq(design, cost, rcond=None)
    return np.asarray(solved, dtype=float)

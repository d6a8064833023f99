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
MARGIN = 0.10


@dataclass(frozen=True)
class Step:
    """A step of the ladder: the arm, the arms below it (the first that the campaign has), and its events.

    ``first``: it is of the first iteration in a machine, else of the timed ones. ``slight``: it may be too small for a
    price.
    """

    name: str
    arm: str
    below: tuple[str, ...]
    events: tuple[str, ...]
    first: bool = False
    slight: bool = False


BASE = "baseline"
_FILES = ("bytes", "files", "lookups", "extends")
STEPS = (
    Step("ima", "ima-exec", (BASE,), ("bytes", "files", "lookups")),
    Step("hook", "hooks-only", (BASE,), ("runs",), slight=True),
    Step("file", "container-file", ("hooks-only", BASE), _FILES),
    Step("content", "container-file", ("hooks-only", BASE), _FILES, first=True),
    Step("launch", "container-image", ("container-file",), ("walked", "launches")),
    Step(
        "image",
        "container-image",
        ("container-file",),
        ("image_bytes", "image_files", "runtimes", "walked", "launches"),
        first=True,
    ),
)
# The steps whose sum is what an arm adds over the baseline in a timed iteration.
CHAINS = {
    "ima-exec": ("ima",),
    "container-file": ("hook", "file"),
    "container-image": ("hook", "file", "launch"),
}
# Steps of the same chain, first starts included, that come before a step. Their prices are subtracted, not fitted
# again.
EARLIER = {"file": ("hook",), "content": ("hook", "file"), "launch": ("hook", "file", "content")}
EARLIER["image"] = (*EARLIER["launch"], "launch")
# Where a campaign has not counted an event, this one stands for it.
STAND_INS = {"runs": "decisions"}
PARTS = {"hash": ("bytes",), "entries": ("files", "extends"), "lookups": ("lookups",)}


@dataclass(frozen=True)
class Fit:
    """Prices of a step's events by name, in instructions, and the workloads that were fitted.

    ``taken``: prices of its events that earlier steps of the chain have found.
    """

    prices: dict[str, Number]
    taken: dict[str, Number]
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
        events = self._events(step)
        if not tables:
            return pd.DataFrame(columns=["label", "block", "added", "below", *events])
        counts = self.samples.counts(step.arm, events, first=step.first).reset_index()
        return pd.concat(tables).merge(counts, on=["label", "block"]).dropna(subset=events)

    def _events(self, step: Step) -> list[str]:
        """Return the names of a step's events, with what stands for those that the campaign has not counted."""
        mine = self.samples.events[self.samples.events["measurer"] == step.arm]
        known = {event for event in step.events if mine[event].notna().any()}
        return [event if event in known else STAND_INS.get(event, event) for event in step.events]

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
        events = self._events(step)
        known = {e: p for e, p in self._known(EARLIER.get(name, ()), only).items() if e in events}
        rest = table.assign(added=table["added"] - sum(price.value * table[event] for event, price in known.items()))
        occurred = [e for e in events if e not in known and (table.groupby("label")[e].mean() > 0).any()]
        prices = _prices(rest, occurred, len(keep))
        if not prices and not known:
            return None
        return Fit(prices=prices, taken=known, workloads=tuple(sorted(keep)), blocks=table["block"].nunique())

    def _known(self, steps: tuple[str, ...], only: tuple[str, ...] | None = None) -> dict[str, Number]:
        """Return the price of each event that these steps have found."""
        fits = [fit for step in steps if (fit := self.fit(step, only)) is not None]
        return {event: price for fit in fits for event, price in fit.prices.items()}

    def of_arm(self, arm: str) -> dict[str, Number]:
        """Return the price of each event that the steps of an arm's chain have found, first starts included."""
        own = [step.name for step in STEPS if step.arm == arm]
        return self._known((*EARLIER.get(own[-1], ()), own[-1])) if own else {}

    @functools.cache  # noqa: B019
    def shares(self, workload: str) -> dict[str, float]:
        """Return each part's share of what the whole ladder adds to a workload, in percent."""
        files, prices = self.seen("file"), self._known((*EARLIER["image"], "image"))
        mine = files[files["label"] == workload]
        parts = {}
        for part, terms in PARTS.items():
            if any(term in prices for term in terms):
                parts[part] = sum(prices[term].value * mine[term].mean() for term in terms if term in prices)
        parts["rest"] = hodges_lehmann(mine["added"]).value - sum(parts.values())
        for part, step in (("hooks", "hook"), ("launches", "launch")):
            if step in self.steps and (own := self.seen(step))["label"].eq(workload).any():
                parts[part] = hodges_lehmann(own.loc[own["label"] == workload, "added"]).value
        if cold(workload) and "launches" in parts and "image_bytes" in prices:
            first = self.seen("image")
            parts["tree"] = prices["image_bytes"].value * first.loc[first["label"] == workload, "image_bytes"].mean()
            parts["launches"] -= parts["tree"]
        whole = sum(parts.values())
        return {part: 100 * value / whole for part, value in parts.items()}

    @functools.cache  # noqa: B019
    def predictions(self, arm: str) -> dict[str, float]:
        """Return predicted / observed of each workload, from a fit on the half of the names without it."""
        return {workload: ratio for workload, (ratio, _) in self._predictions(arm).items()}

    def nulls(self, arm: str) -> dict[str, float]:
        """Return the same of the null model, which knows hashed bytes alone."""
        return {workload: ratio for workload, (_, ratio) in self._predictions(arm).items()}

    @functools.cache  # noqa: B019
    def _predictions(self, arm: str) -> dict[str, tuple[float, float]]:
        names = sorted({w for step in self.steps for w in self.seen(step)["label"] if not cold(w)})
        halves = tuple(names[0::2]), tuple(names[1::2])
        chain = [step for step in CHAINS[arm] if step in self.steps]
        ratios = {}
        for half, other in (halves, halves[::-1]):
            fits = {step: self.fit(step, half) for step in chain}
            known = {step: fit for step, fit in fits.items() if fit is not None or not self.steps[step].slight}
            byte = self._null(arm, half)
            for workload in other:
                if all(fit is not None for fit in known.values()):
                    predicted = sum(self._predicted(step, fit, workload) for step, fit in known.items() if fit)
                    observed = hodges_lehmann(self._added(arm, workload)["added"]).value
                    ratios[workload] = predicted / observed, byte * self._hashed(arm, workload) / observed
        return ratios

    def _null(self, arm: str, half: tuple[str, ...]) -> float:
        """Return the price of a byte if nothing else had one."""
        tables = [self._added(arm, w).assign(hashed=self._hashed(arm, w)) for w in half if self._hashed(arm, w) > 0]
        prices = _solve(pd.concat([table.reset_index() for table in tables]), ["hashed"], len(half)) if tables else None
        return prices["hashed"].value if prices else float("nan")

    def _hashed(self, arm: str, workload: str) -> float:
        tables = [self.seen(step) for step in CHAINS[arm] if step in self.steps]
        means = [t.loc[t["label"] == workload, "bytes"].mean() for t in tables if "bytes" in t]
        return float(means[-1]) if means else 0.0

    def _predicted(self, step: str, fit: Fit, workload: str) -> float:
        table = self.seen(step)
        mine = table[table["label"] == workload]
        return float(sum(price.value * mine[term].mean() for term, price in {**fit.taken, **fit.prices}.items()))

    @functools.cache  # noqa: B019
    def _added(self, arm: str, workload: str) -> pd.DataFrame:
        """Return what an arm adds to an iteration over the baseline, and the baseline: a row per block."""
        values = self.samples.values("cpu", workload, each=False)
        bases = [name for name in (self.samples.baseline, self.samples.duplicate) if name in values]
        complete = values[[*bases, arm]].dropna()
        below = geometric(complete[bases])
        return pd.DataFrame({"added": complete[arm] - below, "below": below})


def _prices(table: pd.DataFrame, terms: list[str], workloads: int) -> dict[str, Number]:
    """Return the prices of events; those that cannot have one are dropped, the last one first."""
    while terms:
        prices = _solve(table, terms, workloads)
        doubtful = [t for t in terms if prices is not None and (prices[t].value < 0 or _touches_zero(prices[t]))]
        if prices is not None and not doubtful:
            return prices
        terms = [term for term in terms if term != (doubtful[-1] if doubtful else terms[-1])]
    return {}


def _touches_zero(price: Number) -> bool:
    return -np.inf < price.low <= 0


def _solve(table: pd.DataFrame, terms: list[str], workloads: int) -> dict[str, Number] | None:
    """Fit each block by itself; ``None`` if these workloads cannot separate the terms."""
    if len(terms) > 1 and workloads <= len(terms):
        return None
    fits = []
    for _, rows in table.groupby("block"):
        added, weight = rows["added"].to_numpy(dtype=float), 1 / rows["below"].to_numpy(dtype=float)
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

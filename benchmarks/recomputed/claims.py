"""What an item of a page's comment means: ``overhead cpu container-file start-warm`` is a number of the campaign.

An item is a quantity with its arguments. Instead of a name, an argument can be a list (``redis,nginx``), all (``*``),
or all but some (``*-start-cold``). Then a word before the quantity says what is shown of the values:

- ``least``, ``most``: the lowest and the highest of them
- ``low``, ``high``: the lowest and the highest end of their intervals, without the sign
- ``count``: how many they are; ``within LIMIT``: how many of them lie within ±LIMIT
- ``bound``: not one lies outside ± the number shown
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from recomputed import estimates
from recomputed.estimates import Number
from recomputed.page import Shown
from recomputed.prices import MARGIN, Prices
from recomputed.samples import Samples, geometric

# Arms in which no program of the measurer runs: docs/measurer.md.
_WITHOUT_PROGRAMS = ("none", "none2", "ima", "ima-exec")
_HOW = ("least", "most", "low", "high", "count", "within", "bound")


class UnknownItem(Exception):
    """An item that means nothing in this campaign; the message says what was expected."""


@dataclass(frozen=True)
class Claims:
    """The quantities of a campaign by name, each a function of its arguments. ``hosts``: two campaigns of two hosts."""

    samples: Samples
    prices: Prices
    hosts: tuple[Samples, ...] = ()

    def quantities(self) -> dict[str, Callable[..., Number | None]]:
        """Return the functions; arguments are names of metrics, arms, workloads, steps, events."""
        return {
            "overhead": self._overhead,
            "cost": lambda metric, arm, workload: estimates.cost(self.samples, metric, arm, workload),
            "base": lambda metric, workload: Number(estimates.base(self.samples, metric, workload)),
            "aa": self._aa,
            "mean": lambda metric, arm: estimates.mean(self.samples, metric, arm),
            "price": self._price,
            "share": self._share,
            "event": self._event,
            "predicted-by-bytes": lambda arm, workload: _of(self.prices.nulls(arm), workload),
            "predicted": lambda arm, workload: _of(self.prices.predictions(arm), workload),
            "predictions": lambda arm: Number(len(self.prices.predictions(arm))),
            "missed": self._missed,
            "predicted-well": lambda arm: Number(
                sum(abs(ratio - 1) <= MARGIN for ratio in self.prices.predictions(arm).values())
            ),
            "host-count": self.host_count,
            "host-ratio": self.host_ratio,
            "host-spread": lambda arm, workload: max(self.spreads(arm, workload), key=lambda one: one.value),
            "host-blocks": lambda name: Number(self._host(name).rows["block"].nunique()),
            "predicted-well-by-bytes": lambda arm: Number(
                sum(abs(ratio - 1) <= MARGIN for ratio in self.prices.nulls(arm).values())
            ),
            "runs": lambda: Number(self.samples.rows["run"].nunique()),
            "correct": lambda: Number(int((self.samples.checks["verdict"] == "ok").sum())),
            "blocks": lambda: Number(self.samples.rows["block"].nunique()),
            "workloads": lambda: Number(len(self.samples.workloads)),
            "arms": lambda: Number(len(self.samples.arms)),
        }

    def computed(self, item: str, shown: Shown) -> tuple[bool, tuple[float, ...]]:
        """Return whether a number is what its item says, and what it must be. Raises ``UnknownItem``."""
        words = item.split()
        limit = float(words.pop(1)) if words[0] == "within" else 0.0
        how = words.pop(0) if words[0] in _HOW else ""
        values = [number for _, number in self._values(words)]
        if not values:
            raise UnknownItem(f"{item!r} names nothing that this campaign has")
        if not how and len(values) > 1:
            raise UnknownItem(f"{item!r} is {len(values)} numbers; expected one of {', '.join(_HOW)} before it")
        if how == "bound":
            worst = max(_farthest(number) for number in values)
            # As it is shown: what lies within ±0.1 does not lie beyond ±0.1 by less than its last digit shows.
            return worst <= abs(shown.value or 0.0) + shown.step / 2, (math.ceil(worst / shown.step) * shown.step,)
        ends = _ends(how, values, limit, shown)
        return shown.fits(*ends), ends

    def _values(self, words: list[str]) -> Iterator[tuple[tuple[str, ...], Number]]:
        name, *arguments = words
        known = self.quantities()
        if name not in known:
            raise UnknownItem(f"{name!r} is no quantity; expected one of {', '.join(sorted(known))}")
        try:
            for chosen in itertools.product(*(self._names(argument) for argument in arguments)):
                number = known[name](*chosen)
                if number is not None:
                    yield chosen, number
        except (KeyError, TypeError) as error:
            raise UnknownItem(f"{' '.join(words)!r}: {error}") from error

    def _names(self, argument: str) -> list[str]:
        every, star, but = argument.partition("*")
        if star and not every:
            left_out = set(but.removeprefix("-").split(",")) if but else set()
            unknown = left_out - set(self.samples.workloads)
            if unknown:
                raise UnknownItem(f"{argument!r}: no workload {', '.join(sorted(unknown))}")
            return [name for name in self.samples.workloads if name not in left_out]
        return argument.split(",")

    def _overhead(self, metric: str, arm: str, workload: str) -> Number | None:
        found = estimates.contrast(self.samples, metric, arm, workload)
        return None if found is None else estimates.percent(estimates.hodges_lehmann(found.logs))

    def _aa(self, metric: str, workload: str) -> Number | None:
        same = estimates.same(self.samples, metric, workload)
        return estimates.percent(estimates.hodges_lehmann(same)) if len(same) else None

    def _price(self, step: str, event: str) -> Number | None:
        fit = self.prices.fit(step)
        return None if fit is None else fit.prices.get(event)

    def host_count(self, arm: str, workload: str) -> Number | None:
        """Return by how many percent the count on the second host differs: medians over the boots."""
        values = self.counts(arm, workload)
        return Number(100 * (values[1].value / values[0].value - 1)) if len(values) == 2 else None

    def host_ratio(self, arm: str, workload: str) -> Number | None:
        """Return the same of the ratio to the baseline: the median of the boots' ratios."""
        ratios = []
        for samples in self.hosts:
            known = self._values_of(samples, arm, workload)
            table = samples.values("cpu", workload)
            bases = [name for name in (samples.baseline, samples.duplicate) if name in table]
            if known is not None:
                ratios.append(float((known / geometric(table[bases])).median()))
        return Number(100 * (ratios[1] / ratios[0] - 1)) if len(ratios) == 2 else None

    def spreads(self, arm: str, workload: str) -> list[Number]:
        """Return by how many percent the boots of each host differ."""
        values = [self._values_of(samples, arm, workload) for samples in self.hosts]
        return [Number(100 * (one.max() / one.min() - 1)) for one in values if one is not None]

    def counts(self, arm: str, workload: str) -> list[Number]:
        """Return the count of an operation on each host."""
        values = [self._values_of(samples, arm, workload) for samples in self.hosts]
        return [Number(float(one.median())) for one in values if one is not None]

    def same_measurer(self, arm: str) -> bool:
        """Whether an arm has no programs of the measurer, or both hosts ran the same."""
        digests = {str(kernel["measurer"]) for one in self.hosts for kernel in one.facts["kernels"].values()}
        return len(digests) == 1 or arm in _WITHOUT_PROGRAMS

    def _host(self, name: str) -> Samples:
        found = [samples for samples in self.hosts if samples.directory.name == name]
        if not found:
            raise KeyError(f"no host {name}")
        return found[0]

    @staticmethod
    def _values_of(samples: Samples, arm: str, workload: str) -> pd.Series[float] | None:
        table = samples.values("cpu", workload)
        known = table[arm].dropna() if arm in table else pd.Series(dtype=float)
        return known if len(known) else None

    def _missed(self, arm: str, workload: str) -> Number | None:
        """Return by how many percent a prediction misses what was observed."""
        ratio = self.prices.predictions(arm).get(workload)
        return None if ratio is None else Number(100 * (ratio - 1))

    def _share(self, part: str, workload: str) -> Number | None:
        return _of(self.prices.shares(workload), part)

    def _event(self, column: str, arm: str, workload: str) -> Number | None:
        counts = self.samples.counts(arm, [column]).reset_index()
        mine = counts.loc[counts["label"] == workload, column]
        return Number(float(mine.median())) if len(mine) else None


def _of(numbers: dict[str, float], name: str) -> Number | None:
    return Number(numbers[name]) if name in numbers else None


def _ends(how: str, values: list[Number], limit: float, shown: Shown) -> tuple[float, ...]:
    if how in ("count", "within"):
        return (sum(how == "count" or _farthest(number) <= limit for number in values),)
    if how in ("low", "high"):
        return (abs(min(n.low for n in values) if how == "low" else max(n.high for n in values)),)
    choose = min if how == "least" else max
    best = choose(values, key=lambda number: number.value)
    interval = () if shown.low is None else (best.low, best.high)
    return interval if shown.value is None else (best.value, *interval)


def _farthest(number: Number) -> float:
    """Return the end of the interval that is farthest from 0; of a number without one, the number."""
    return abs(number.value) if math.isnan(number.low) else max(abs(number.low), abs(number.high))

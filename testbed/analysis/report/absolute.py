"""What one operation costs: instructions first, with the interval, the baseline beside it, then the percentage.

A percentage of an arbitrary loop says nothing about another one. A start, an exec, a request and a byte are events that
a reader can count in a workload of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.analysis import markdown, words
from testbed.analysis.models.runlength import RUNNING
from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import Conclusion, EffectEstimate
from testbed.analysis.tables import costmodel, metrics
from testbed.analysis.tables.curves import is_start
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables

# What a reader asks for, by the term of the cost model that prices it.
PRICED: Mapping[str, tuple[str, str]] = {
    "bytes": ("A byte of a new file", "hashed before its code runs; fitted price"),
    "lookups": ("An exec or mapping of a known file", "one lookup: the file was hashed before; fitted price"),
}
REMARKS = {
    Conclusion.NO_DETECTABLE_OVERHEAD: "none detectable",
    Conclusion.OVERHEAD_BELOW_DELTA: "below \u03b4",
    Conclusion.SPEED_UP: "speed-up",
    Conclusion.SPEED_UP_BELOW_DELTA: "speed-up, below \u03b4",
    Conclusion.INCONCLUSIVE: "inconclusive",
    Conclusion.INVALID: "INVALID",
}
_UNIT = " instructions"
_WHAT = (
    "**What one operation costs**, in {unit}: what each measurer adds to it, with the 95 % interval and the percentage "
    "that this is of the baseline."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCost:
    """One kind of operation. ``base``: what it takes without measurement, in words; ``costs``: by arm, in words.

    ``order``: starts first, then execs, requests, prices of events, other operations.
    """

    order: int
    what: str
    how: str
    base: str
    costs: Mapping[str, str]


def operations(tables: Tables) -> list[OperationCost]:
    """Return what each operation of a campaign costs, what is asked for most first."""
    made = [*_measured(tables, metrics.PRIMARY), *_measured(tables, RUNNING), *_priced(tables)]
    return sorted(made, key=lambda one: one.order)


def lines(tables: Tables) -> list[str]:
    """Return the table of absolute costs, as Markdown; nothing where no overhead is claimed."""
    known = operations(tables)
    if not known:
        return []
    arms = sorted(set(tables.ladder["treatment"]), key=climb)
    rows = [(f"{one.what} ({one.how})", one.base, *(one.costs.get(arm, "") for arm in arms)) for one in known]
    reading = metrics.reading(metrics.PRIMARY, tables.question.tier)
    assert reading is not None, "an operation has a cost only where the metric means something"
    return [
        _WHAT.format(unit=reading.label),
        "",
        *markdown.table(("operation", f"`{tables.question.baseline}`", *(f"`{arm}`" for arm in arms)), rows),
        "",
    ]


def _measured(tables: Tables, metric: str) -> Iterator[OperationCost]:
    table = tables.ladders.get(metric)
    if table is None or table.empty:
        return
    for key, group in table.groupby(list(STRATUM)):
        kernel, runtime, workload = map(str, key)
        extra = [value for name, value in (("kernel", kernel), ("runtime", runtime)) if len(set(table[name])) > 1]
        order, what, how = _kind(workload, metric)
        how = ", ".join([how, *extra])
        base = group.iloc[0]
        yield OperationCost(
            order=order,
            what=what[0].upper() + what[1:],
            how=how,
            base=_plain(words.size(base["base"], base["unit"])),
            costs={str(row["treatment"]): cost(row) for row in group.to_dict("records")},
        )


def _kind(workload: str, metric: str) -> tuple[int, str, str]:
    """Return the order, the operation and how it was found."""
    each = words.one(metrics.operation_of(workload))
    if metric == RUNNING:
        return 2, f"{each} of `{workload}`, once it runs", "without the start"
    if is_start(workload):
        cold = costmodel.is_cold(workload)
        return (
            (1, "the first start of an image", f"`{workload}`")
            if cold
            else (0, f"{each} of a known image", f"`{workload}`")
        )
    order = 2 if metrics.operation_of(workload) == "exec" else 4
    return order, f"{each} of `{workload}`", "with its share of the start"


def _priced(tables: Tables) -> Iterator[OperationCost]:
    arms = sorted(set(tables.ladder["treatment"]), key=climb)
    kernels = sorted({fit.kernel for fit in tables.fits})
    unit = costmodel.unit_of(tables.question.tier)
    for kernel in kernels:
        known = {arm: costmodel.priced(tables.fits, arm, kernel) for arm in arms}
        for term, (what, how) in PRICED.items():
            costs = {arm: price(prices[term], unit) for arm, prices in known.items() if term in prices}
            if costs:
                where = f"{how}; {kernel}" if len(kernels) > 1 else how
                yield OperationCost(order=3, what=what, how=where, base="", costs=costs)


def cost(row: Mapping[Any, Any]) -> str:
    """Return what an arm adds to one operation, in words: ``+64.34 [+64.29, +64.40] M (+474.4 %)``."""
    share = words.overhead(row["ratio"], row["low"], row["high"]).split(" [", maxsplit=1)[0].split(" (", maxsplit=1)[0]
    remark = "; ".join(filter(None, (share, REMARKS.get(row["verdict"], ""))))
    amount = words.amount(row["cost"], row["cost_low"], row["cost_high"], row["unit"])
    return f"{_plain(amount)} ({remark})"


def price(known: EffectEstimate, unit: str) -> str:
    """Return the price of an event in words."""
    bounds = known.interval or effect.Interval(low=float("-inf"), high=float("inf"))
    return _plain(words.amount(known.center, bounds.low, bounds.high, unit))


def _plain(text: str) -> str:
    """Leave out the unit that the table's head says."""
    return text.replace(_UNIT, "")

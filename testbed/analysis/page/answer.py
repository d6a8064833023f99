"""The answer in one screen: what a start, an exec, a byte and a request cost under each measurer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from testbed.analysis import words
from testbed.analysis.page.numbers import divide
from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import costmodel, metrics
from testbed.analysis.tables.curves import is_start
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.tables import Tables

# Without a start, a price or a request in a campaign, so many rows of its ladder are the answer.
_FEW = 6
# What a reader asks for, by the term of the cost model that prices it.
_EVENTS = {
    "lookups": ("An exec or mapping of a known file", "one lookup: the file was hashed before"),
    "bytes": ("A byte of a new file", "hashed before its code runs"),
    "decisions": ("A decision of the hooks", "an exec, or a mapping of code, in a container"),
}
_RUNNING = "cpu_running"
_UNIT = " instructions"
# Short words for what is no clear overhead; nothing for one that is.
_REMARKS = {
    Conclusion.NO_DETECTABLE_OVERHEAD: "none detectable",
    Conclusion.OVERHEAD_BELOW_DELTA: "below \u03b4",
    Conclusion.SPEED_UP: "speed-up",
    Conclusion.SPEED_UP_BELOW_DELTA: "speed-up, below \u03b4",
    Conclusion.INCONCLUSIVE: "inconclusive",
    Conclusion.INVALID: "INVALID",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One number of the answer: ``value`` with its unit, ``interval``, and a ``remark`` that a reader needs."""

    value: str
    interval: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One line of the answer: what costs something, how it was found, and the cost under each arm (or ``None``).

    ``first``: of an image that is started for the first time.
    """

    what: str
    how: str
    costs: tuple[Cost | None, ...]
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``arms``: the columns, as the ladder climbs. Without ``lines`` this campaign says nothing about cost."""

    arms: tuple[str, ...]
    lines: tuple[Answered, ...]
    unit: str


def answer(tables: Tables) -> Answer:
    """Return what a campaign says about cost, the most asked for first."""
    arms = tuple(sorted(set(tables.ladder["treatment"]), key=climb))
    lines = [
        *sorted(_starts(tables, arms), key=lambda line: line.first),
        *_events(tables, arms),
        *_requests(tables, arms),
    ]
    if not lines:
        lines = [
            _line(group, arms, f"{_each(str(key[-1]))} of {key[-1]}", _where(key, tables.ladder))
            for key, group in _strata(tables)
        ]
    lines = lines[: _FEW + len(_EVENTS)] + list(_overall(tables, arms))
    reading = metrics.reading(metrics.PRIMARY, tables.question.tier)
    return Answer(arms=arms, lines=tuple(lines), unit=reading.label if reading else "")


def _strata(tables: Tables, metric: str = metrics.PRIMARY) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    table = tables.ladders.get(metric)
    return [] if table is None or table.empty else list(table.groupby(["kernel", "runtime", "workload"]))


def _starts(tables: Tables, arms: tuple[str, ...]) -> Iterator[Answered]:
    for key, group in _strata(tables):
        workload = str(key[-1])
        if is_start(workload):
            cold = costmodel.is_cold(workload)
            what = "The first start of an image" if cold else f"{_each(workload)} of a known image"
            yield replace(_line(group, arms, what, _where(key, tables.ladder)), first=cold)


def _requests(tables: Tables, arms: tuple[str, ...]) -> Iterator[Answered]:
    for key, group in _strata(tables, _RUNNING):
        workload = str(key[-1])
        yield _line(group, arms, f"{_each(workload)} of {workload}, once it runs", "without the start", share=True)


def _overall(tables: Tables, arms: tuple[str, ...]) -> Iterator[Answered]:
    for key, group in tables.overall.groupby(["kernel", "runtime"]):
        found = {
            str(row["treatment"]): _split(words.overhead(row["ratio"], row["low"], row["high"]))
            for row in group.to_dict("records")
        }
        count = int(group["workloads"].max())
        where = ", ".join(map(str, key)) if len(set(tables.overall["kernel"])) > 1 else "from start to end"
        yield Answered(what=f"All {count} workloads, geometric mean", how=where, costs=tuple(map(found.get, arms)))


def _events(tables: Tables, arms: tuple[str, ...]) -> Iterator[Answered]:
    kernels = sorted({fit.kernel for fit in tables.fits})
    for kernel in kernels:
        fits = {fit.step.name: fit for fit in tables.fits if fit.kernel == kernel}
        for term, (what, how) in _EVENTS.items():
            costs = tuple(_price(arm, term, fits) for arm in arms)
            if any(costs):
                yield Answered(what=what, how=f"{how}; {kernel}" if len(kernels) > 1 else how, costs=costs)


def _price(arm: str, term: str, fits: Mapping[str, costmodel.Fit]) -> Cost | None:
    """Return the price of an event under an arm: of the first of the arm's steps that has one."""
    for step in costmodel.chain(arm):
        fit = fits.get(step.name)
        price = fit.prices.get(term) if fit else None
        if fit and price:
            bounds = price.interval or effect.Interval(low=float("-inf"), high=float("inf"))
            return _split(words.amount(price.center, bounds.low, bounds.high, fit.unit))
    return None


def _line(group: pd.DataFrame, arms: tuple[str, ...], what: str, how: str, *, share: bool = False) -> Answered:
    found = {str(row["treatment"]): _cost(row, share=share) for row in group.to_dict("records")}
    return Answered(what=what, how=how, costs=tuple(map(found.get, arms)))


def _cost(row: Mapping[Any, Any], *, share: bool) -> Cost:
    ratio = words.overhead(row["ratio"], row["low"], row["high"])
    amount = words.amount(row["cost"], row["cost_low"], row["cost_high"], row["unit"])
    verdict = _REMARKS.get(row["verdict"], "")
    if share:
        return _split(ratio, verdict)
    return _split(amount, "; ".join(filter(None, (_split(ratio).value, verdict))))


def _split(text: str, remark: str = "") -> Cost:
    """Return a number in words as a cost. Its unit is that of the whole answer, unless it is one letter."""
    parts = divide(text)
    if parts is None:
        value, _, note = text.partition(" (")
        return Cost(value=value.removesuffix(_UNIT), interval=note.rstrip(")"), remark=remark)
    return Cost(value=parts.value.removesuffix(_UNIT), interval=parts.interval, remark=remark)


def _where(key: tuple[Any, ...], table: pd.DataFrame) -> str:
    kernel, runtime, workload = map(str, key)
    extra = [value for name, value in (("kernel", kernel), ("runtime", runtime)) if len(set(table[name])) > 1]
    return ", ".join([workload, *extra])


def _each(workload: str) -> str:
    """Return what the cost is of: ``A request``; an iteration where the workload is not known here."""
    operation = metrics.operation_of(workload) or "iteration"
    article = "An" if operation[:1] in "aeiou" else "A"
    return f"{article} {operation}"

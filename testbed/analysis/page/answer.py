"""The answer in one screen: what a start, an exec, a byte and a request cost under each measurer."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.analysis.page.numbers import divide
from testbed.analysis.report import absolute
from testbed.analysis.report.absolute import OperationCost
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.tables import Tables

# Of operations that nobody asks for by name, so many are the answer of a campaign that has no others.
_FEW = 6
_ASKED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One number of the answer: ``value`` with its unit, ``interval``, and a ``remark`` that a reader needs."""

    value: str
    interval: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One line of the answer: what costs something, how it was found, and the cost under each arm (or ``None``).

    ``base``: what it takes without measurement; empty for the price of an event.
    """

    what: str
    how: str
    base: str
    costs: tuple[Cost | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``arms``: the columns, as the ladder climbs. Without ``lines`` this campaign says nothing about cost."""

    arms: tuple[str, ...]
    lines: tuple[Answered, ...]
    unit: str


def answer(tables: Tables) -> Answer:
    """Return what a campaign says about cost, the most asked for first."""
    arms = tuple(sorted(set(tables.ladder["treatment"]), key=climb))
    known = absolute.operations(tables)
    asked = [one for one in known if one.order < _ASKED]
    lines = [_line(one, arms) for one in asked or known[:_FEW]]
    reading = metrics.reading(metrics.PRIMARY, tables.question.tier)
    return Answer(arms=arms, lines=tuple(lines), unit=reading.label if reading else "")


def _line(one: OperationCost, arms: tuple[str, ...]) -> Answered:
    costs = tuple(_cost(one.costs[arm]) if arm in one.costs else None for arm in arms)
    what, how = (text.replace("`", "") for text in (one.what, one.how))
    return Answered(what=what, how=how, base=one.base, costs=costs)


def _cost(text: str) -> Cost:
    """Return a number in words as a cost."""
    parts = divide(text)
    if parts is None:
        value, _, note = text.partition(" (")
        return Cost(value=value, interval=note.rstrip(")"))
    return Cost(value=parts.value, interval=parts.interval, remark=parts.remark)

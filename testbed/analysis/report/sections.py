"""The sections of a report in their order, each as lines of Markdown: of ``report.md`` and of the report page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from testbed.analysis import markdown
from testbed.analysis.judged import attacked
from testbed.analysis.report import (
    by_size,
    correctness,
    event_costs,
    how_it_went,
    lengths,
    overhead,
    runs_and_facts,
    times,
    tpm,
)
from testbed.analysis.report.inputs import ReportInputs
from testbed.record import Status

_REFERENCE = (
    "This is a reference data set. Its verdicts were made from the whole evidence; here is one bundle of each measurer."
)


def planned(material: ReportInputs) -> str:
    """Say how large the campaign is, and how much of it is there."""
    plan = material.tables.plan
    blocks = len({block.index for block in plan.blocks})
    good = int((material.runs["status"] == str(Status.OK)).sum())
    return f"{len(plan.cells)} cells in {blocks} blocks, {good} of {len(material.runs)} planned runs are good"


def doubts(material: ReportInputs) -> list[str]:
    """Return the reasons to doubt the report, a sentence or two each."""
    return [
        *overhead.doubts(material.tables),
        *event_costs.doubts(material.tables),
        *([_REFERENCE] if material.reference else []),
        *correctness.doubts(material.runs, material.checks),
        *runs_and_facts.mixed_code(material),
        *attacked.doubts(material.attacked),
    ]


def _overhead(material: ReportInputs) -> list[str]:
    return overhead.section(material.tables, material.figures)


def _costs(material: ReportInputs) -> list[str]:
    return event_costs.section(material.tables, material.figures)


def _sizes(material: ReportInputs) -> list[str]:
    return by_size.section(material.tables, material.figures)


def _length(material: ReportInputs) -> list[str]:
    return lengths.section(material.tables, material.figures)


def _bytes(material: ReportInputs) -> list[str]:
    return times.of_bytes(material.tables, material.figures)


def _time(material: ReportInputs) -> list[str]:
    return times.of_time(material.tables, material.assumed)


def _waiting(material: ReportInputs) -> list[str]:
    return tpm.section(material.tables.waiting, material.tpm_ms)


def _surroundings(material: ReportInputs) -> list[str]:
    return how_it_went.section(material.tables.plan, material.tables.rows, material.tables.question)


def _correctness(material: ReportInputs) -> list[str]:
    return correctness.section(material.checks)


def _attacked(material: ReportInputs) -> list[str]:
    return attacked.section(material.attacked)


def _doubts(material: ReportInputs) -> list[str]:
    return ["## Doubts", "", *markdown.bullets(doubts(material))]


# By a name that links and tests use. A section without lines has nothing to say about this campaign.
SECTIONS: Mapping[str, Callable[[ReportInputs], list[str]]] = {
    "overhead": _overhead,
    "length": _length,
    "prices": _costs,
    "sizes": _sizes,
    "bytes": _bytes,
    "time": _time,
    "tpm": _waiting,
    "correctness": _correctness,
    "attacked": _attacked,
    "unmeasured": runs_and_facts.unmeasured,
    "surroundings": _surroundings,
    "doubts": _doubts,
    "failures": runs_and_facts.failures,
    "facts": runs_and_facts.facts,
    "again": runs_and_facts.again,
}

"""The correctness matrix: a row for each cell, a mark with a link for each of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from testbed.analysis.page.names import page_of
from testbed.analysis.report.inputs import ReportInputs
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.worst_check import UNJUDGED, CheckVerdict, worst
from testbed.record import Status
from testbed.rundir import bundle_of

AXES = ("measurer", "workload", "kernel", "runtime", "attack")
NOT_RUN = "not run"
# The mark of each verdict, from the best to the worst: a shape and a word, so that colour is never the only sign.
MARKS = {
    str(CheckVerdict.OK): "\u2713",
    UNJUDGED: "?",
    NOT_RUN: "\u2013",
    "failed": "!",
    "unexpected": "\u2717",
    "missed": "\u2717",
}
_WORDS = {
    str(CheckVerdict.OK): "as expected",
    str(CheckVerdict.UNEXPECTED): "unexpected findings",
    str(CheckVerdict.MISSED): "expected findings are missing",
    UNJUDGED: "not judged",
    NOT_RUN: "did not run",
    "failed": "the run failed",
}
_ORDER = list(MARKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """One run in the matrix: its name, its block, the verdict on it in a word and in words, and its page.

    ``evidence``: its log is there, so the page shows it.
    """

    run: str
    block: int
    verdict: str
    words: str
    mark: str
    page: str
    evidence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell: its place on each of ``AXES``, its runs by block, and the worst verdict on them."""

    axes: tuple[tuple[str, str], ...]
    runs: tuple[RunMark, ...]
    verdict: str
    words: str
    expected: str
    attested: str


def rows(material: ReportInputs) -> list[CellRow]:
    """Return the matrix, by kernel, runtime, workload and attack, then as the ladder climbs."""
    verdicts = worst(material.checks) if len(material.checks) else {}
    checks = {str(name): group for name, group in material.checks.groupby("cell")}
    groups = sorted(material.runs.groupby("cell"), key=lambda pair: _place(pair[1].iloc[0]))
    return [_cell(group, verdicts, checks.get(str(cell)), material) for cell, group in groups]


def choices(matrix: list[CellRow]) -> dict[str, list[str]]:
    """Return what each filter offers: every value that occurs, of axes on which the rows differ."""
    found: dict[str, dict[str, None]] = {}
    for row in matrix:
        for axis, value in (*row.axes, ("verdict", row.verdict)):
            found.setdefault(axis, {})[value] = None
    return {axis: list(values) for axis, values in found.items()}


def _place(run: Any) -> tuple[Any, ...]:
    return run["kernel"], run["runtime"], run["workload"], run["attack"], climb(run["measurer"])


def _cell(
    group: pd.DataFrame, verdicts: dict[str, str], checks: pd.DataFrame | None, material: ReportInputs
) -> CellRow:
    marks = tuple(_marks(group, verdicts, material))
    bad = max((mark.verdict for mark in marks), key=_ORDER.index)
    first = group.iloc[0]
    kinds = sorted({kind for listed in checks["expected"] for kind in listed}) if checks is not None else []
    return CellRow(
        axes=tuple((axis, str(first[axis])) for axis in AXES),
        runs=marks,
        verdict=bad,
        words=_WORDS[bad],
        expected=", ".join(kinds) or "none",
        attested=_attested(checks),
    )


def _marks(group: pd.DataFrame, verdicts: dict[str, str], material: ReportInputs) -> Iterator[RunMark]:
    for run in group.sort_values("block").to_dict("records"):
        name = f"{run['cell']}-{run['block']}"
        verdict = _verdict(run["status"], verdicts.get(name))
        words = _WORDS[verdict] if verdict != "failed" else f"{_WORDS[verdict]}: {run['status']}"
        yield RunMark(
            run=name,
            block=int(run["block"]),
            verdict=verdict,
            words=words,
            mark=MARKS[verdict],
            page=page_of(name),
            evidence=name in material.verdicts and bundle_of(run["path"], run["record"]) is not None,
        )


def _verdict(status: Any, judged: str | None) -> str:
    if status is None or pd.isna(status):
        return NOT_RUN
    if str(status) != str(Status.OK):
        return "failed"
    return UNJUDGED if judged is None else judged


def _attested(checks: pd.DataFrame | None) -> str:
    """Return how many entries the quotes cover, over the cell's runs."""
    counts = [] if checks is None else [sum(int(row["entries"]) for row in listed) for listed in checks["attested"]]
    if not counts:
        return ""
    return f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"

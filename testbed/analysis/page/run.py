"""The pages of one run: its containers, its findings, its log and the replay of its PCRs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from testbed import files
from testbed.analysis.differences import flat
from testbed.analysis.page import names
from testbed.analysis.page.containers import containers
from testbed.analysis.page.environment import render
from testbed.analysis.page.logs import LogPart, LogSummary, parts
from testbed.analysis.page.matrix import CellRow, RunMark
from testbed.analysis.report.inputs import ReportInputs, verify_command
from testbed.attest.verdict import Verdict
from testbed.record import Record
from testbed.rundir import bundle_of

# Samples and facts on a page; `record.json` has them all.
_SHOWN = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """What the pages of one run are made from. ``before after``: the pages of its neighbours in the matrix."""

    mark: RunMark
    cell: CellRow
    path: Path
    record: Record | None
    status: str
    reason: str
    check: Mapping[Any, Any] | None
    verdict: Verdict | None
    before: RunMark | None = None
    after: RunMark | None = None


def runs(material: ReportInputs, matrix: list[CellRow]) -> Iterator[ShownRun]:
    """Yield each planned run in the order of the matrix."""
    known = {f"{run['cell']}-{run['block']}": run for run in material.runs.to_dict("records")}
    checks = {str(check["run"]): check for check in material.checks.to_dict("records")}
    listed = [(cell, mark) for cell in matrix for mark in cell.runs]
    for place, (cell, mark) in enumerate(listed):
        run = known[mark.run]
        yield ShownRun(
            mark=mark,
            cell=cell,
            path=run["path"],
            record=run["record"],
            status="missing" if pd.isna(run["status"]) else str(run["status"]),
            reason=str(run["reason"] or ""),
            check=checks.get(mark.run),
            verdict=material.verdicts.get(mark.run),
            before=listed[place - 1][1] if place else None,
            after=listed[place + 1][1] if place + 1 < len(listed) else None,
        )


def write(run: ShownRun, material: ReportInputs, directory: Path) -> None:
    """Write a run's pages into ``directory``. The first page comes last, as it says what the whole log is."""
    summary, first = LogSummary(), None
    shared = {"run": run, "campaign": material.tables.plan.campaign, "names": names}
    for part in _log(run, summary):
        if first is None:
            first = part
        else:
            page = render("log.html", part=part, colours=summary.colours, summary=summary, **shared)
            _write(directory / names.beside(run.mark.run, part.number), page)
    page = render(
        "run.html",
        part=first,
        summary=summary,
        colours=summary.colours,
        containers=containers(run.record, run.verdict, summary),
        missing=_missing(run, material),
        findings=_findings(run),
        omitted=sum(run.verdict.omitted.values()) if run.verdict else 0,
        samples=run.record.samples[:_SHOWN] if run.record else (),
        counters=sorted(run.record.counters.items()) if run.record else (),
        facts=list(flat(run.record.facts))[:_SHOWN] if run.record else (),
        command=verify_command(material.shown_path, run.path, run.record) if run.record else "",
        **shared,
    )
    _write(directory / names.beside(run.mark.run), page)


def _write(path: Path, page: str) -> None:
    # The directory is renamed when it is whole. To wait for the disk after each of 432 pages would take longest.
    with files.naming(path):
        path.write_bytes(page.encode())


def _log(run: ShownRun, summary: LogSummary) -> Iterator[LogPart]:
    bundle = _bundle(run)
    if bundle is not None and run.verdict is not None:
        yield from parts(bundle, run.verdict, summary)


def _bundle(run: ShownRun) -> Path | None:
    return None if run.record is None else bundle_of(run.path, run.record)


def _missing(run: ShownRun, material: ReportInputs) -> str:
    """Say why there is no log to show; nothing if there is one."""
    if run.record is None:
        return "This run has no record: it was planned and did not run, or it was lost."
    if _bundle(run) is not None:
        return (
            "" if run.verdict is not None else "The evidence of this run was not judged, because the run is not good."
        )
    if material.reference:
        return (
            "This reference data set does not have the evidence of this run: to stay small, it has one bundle of each "
            "measurer. The verdict and the findings below are those that were made from the whole evidence."
        )
    return "No evidence was collected in this run."


def _findings(run: ShownRun) -> list[dict[str, str]]:
    """Return the findings in full, with the container where the verdict is here to say it."""
    if run.verdict is not None:
        return [finding.as_json() | {"container": finding.container or ""} for finding in run.verdict.findings]
    listed = run.check["findings"] if run.check else ()
    return [
        {name: str(finding[name]) for name in ("kind", "where", "expected", "got")} | {"container": ""}
        for finding in listed
    ]

"""A campaign's report: tables in, Markdown out. The first line is the result in one sentence."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.analysis import markdown
from testbed.analysis.judged import attacked, checks, judging
from testbed.analysis.judged.checks import Judge
from testbed.analysis.report import correctness, draw, event_costs, how_it_went, inputs, overhead, runs_and_facts, tpm
from testbed.analysis.report.inputs import ReportInputs
from testbed.analysis.tables import events, frames, stored, worst_check
from testbed.files import write_plain
from testbed.record import Status
from testbed.rundir import LoadedCampaign


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report that was written at ``report``: its first line, and the exit status that says the same to a program."""

    summary: str
    report: Path
    exit_status: int


def write(loaded: LoadedCampaign, judge: Judge | None = None, tpm_ms: float | None = None) -> WrittenReport:
    """Write everything that follows from a campaign's raw runs: the tables, the figures, ``report.md``.

    Raises ``EvidenceError`` for a record that is malformed, ``IncompatibleRuns`` for records that must not be pooled.
    """
    campaign = loaded.campaign
    material = inputs.gather(loaded, judge or judging.judge_of(campaign), tpm_ms=tpm_ms)
    rows = campaign.path / frames.FILE
    if not material.reference:
        stored.write(material.tables.events, campaign.path / events.FILE)
        stored.write(material.checks, campaign.path / worst_check.FILE, checks.SCHEMA)
    if not (material.reference and rows.exists()):
        stored.write(material.tables.rows, rows)
    drawn = draw.write(material.tables, campaign.path / "figures")
    pictures = {name: str(paths[-1].relative_to(campaign.path)) for name, paths in drawn.items()}
    text = render(dataclasses.replace(material, figures=pictures))
    path = campaign.path / "report.md"
    write_plain(path, text.encode())
    outcome = correctness.outcome(material.runs, material.checks)
    status = outcome.exit_status or int(not all(evidence.ok for evidence in material.attacked))
    return WrittenReport(summary=text.splitlines()[0].removeprefix("# "), report=path, exit_status=status)


def render(material: ReportInputs) -> str:
    """Return the report as Markdown."""
    parts = [_head(material), *(section(material) for section in _SECTIONS)]
    text = "\n".join(line for part in parts if part for line in (*part, ""))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _head(material: ReportInputs) -> list[str]:
    outcome = correctness.outcome(material.runs, material.checks)
    wish = material.facts.get("experiment") or {}
    question = f" Question: {wish['question']}" if wish.get("question") else ""
    plan = material.tables.plan
    return [
        f"# {outcome.words}; tier {plan.tier}",
        "",
        f"Campaign `{plan.campaign}`: {_planned(material)}.{question}",
    ]


def _planned(material: ReportInputs) -> str:
    plan = material.tables.plan
    blocks = len({block.index for block in plan.blocks})
    good = int((material.runs["status"] == str(Status.OK)).sum())
    return f"{len(plan.cells)} cells in {blocks} blocks, {good} of {len(material.runs)} planned runs are good"


def _overhead(material: ReportInputs) -> list[str]:
    return overhead.section(material.tables, material.figures)


def _costs(material: ReportInputs) -> list[str]:
    return event_costs.section(material.tables, material.figures)


def _waiting(material: ReportInputs) -> list[str]:
    return tpm.section(material.tables.waiting, material.tpm_ms)


def _surroundings(material: ReportInputs) -> list[str]:
    return how_it_went.section(material.tables.plan, material.tables.rows, material.tables.question)


def _correctness(material: ReportInputs) -> list[str]:
    return correctness.section(material.checks)


def _attacked(material: ReportInputs) -> list[str]:
    return attacked.section(material.attacked)


_REFERENCE = (
    "This is a reference data set. Its verdicts were made from the whole evidence; here is one bundle of each measurer."
)


def _doubts(material: ReportInputs) -> list[str]:
    lines = [
        *overhead.doubts(material.tables),
        *event_costs.doubts(material.tables),
        *([_REFERENCE] if material.reference else []),
        *correctness.doubts(material.runs, material.checks),
        *runs_and_facts.mixed_code(material),
        *attacked.doubts(material.attacked),
    ]
    return ["## Doubts", "", *markdown.bullets(lines)]


_SECTIONS: tuple[Callable[[ReportInputs], list[str]], ...] = (
    _overhead,
    _costs,
    _waiting,
    _correctness,
    _attacked,
    runs_and_facts.unmeasured,
    _surroundings,
    _doubts,
    runs_and_facts.failures,
    runs_and_facts.facts,
    runs_and_facts.again,
)

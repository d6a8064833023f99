"""A campaign's report: tables in, Markdown out. The first line says in plain words what came of it."""

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
from testbed.analysis.tables import events, frames
from testbed.record import Status
from testbed.rundir import Campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report that was written at ``report``: its first line, and the exit status that says the same to a program."""

    summary: str
    report: Path
    exit_status: int


def write(campaign: Campaign, judge: Judge | None = None, tpm_ms: float | None = None) -> WrittenReport:
    """Write everything that follows from a campaign's raw runs: the tables, the figures, ``report.md``.

    Raises ``EvidenceError`` for a record that is malformed, ``IncompatibleRuns`` for records that must not be pooled.
    """
    told = inputs.gather(campaign, judge or judging.judge_of(campaign), tpm_ms=tpm_ms)
    if not told.reference:
        frames.write_parquet(told.tables.rows, campaign.path / "rows.parquet")
        frames.write_parquet(told.tables.events, campaign.path / events.FILE)
        checks.write_parquet(told.checks, campaign.path / "checks.parquet")
    drawn = draw.write(told.tables, campaign.path / "figures")
    pictures = {name: str(paths[-1].relative_to(campaign.path)) for name, paths in drawn.items()}
    text = render(dataclasses.replace(told, figures=pictures))
    path = campaign.path / "report.md"
    spare = path.with_name(f".part-{path.name}")
    spare.write_text(text, encoding="utf-8")
    spare.rename(path)
    outcome = correctness.outcome(told.runs, told.checks)
    status = outcome.exit_status or int(not all(one.ok for one in told.attacked))
    return WrittenReport(summary=text.splitlines()[0].removeprefix("# "), report=path, exit_status=status)


def render(told: ReportInputs) -> str:
    """Return the report as Markdown."""
    parts = [_head(told), *(section(told) for section in _SECTIONS)]
    text = "\n".join(line for part in parts if part for line in (*part, ""))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _head(told: ReportInputs) -> list[str]:
    outcome = correctness.outcome(told.runs, told.checks)
    wish = told.facts.get("experiment") or {}
    question = f" Question: {wish['question']}" if wish.get("question") else ""
    plan = told.tables.plan
    return [
        f"# {outcome.words}; tier {plan.tier}",
        "",
        f"Campaign `{plan.campaign}`: {_planned(told)}.{question}",
    ]


def _planned(told: ReportInputs) -> str:
    plan = told.tables.plan
    blocks = len({block.index for block in plan.blocks})
    good = int((told.runs["status"] == str(Status.OK)).sum())
    return f"{len(plan.cells)} cells in {blocks} blocks, {good} of {len(told.runs)} planned runs are good"


def _overhead(told: ReportInputs) -> list[str]:
    return overhead.section(told.tables, told.figures)


def _costs(told: ReportInputs) -> list[str]:
    return event_costs.section(told.tables, told.figures)


def _waiting(told: ReportInputs) -> list[str]:
    return tpm.section(told.tables.waiting, told.tpm_ms)


def _surroundings(told: ReportInputs) -> list[str]:
    return how_it_went.section(told.tables.plan, told.tables.rows, told.tables.question)


def _correctness(told: ReportInputs) -> list[str]:
    return correctness.section(told.checks)


def _attacked(told: ReportInputs) -> list[str]:
    return attacked.section(told.attacked)


_REFERENCE = (
    "A reference data set: its verdicts were found when all evidence was there; here is one bundle of each measurer."
)


def _doubts(told: ReportInputs) -> list[str]:
    lines = [
        *overhead.doubts(told.tables),
        *event_costs.doubts(told.tables),
        *([_REFERENCE] if told.reference else []),
        *correctness.doubts(told.runs, told.checks),
        *attacked.doubts(told.attacked),
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

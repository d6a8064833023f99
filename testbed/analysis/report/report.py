"""A campaign's report: tables in, Markdown out. The first line is the result in one sentence."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from testbed.analysis.judged import checks, judging
from testbed.analysis.judged.checks import Judge
from testbed.analysis.page import page
from testbed.analysis.report import correctness, draw, inputs
from testbed.analysis.report.inputs import Given, ReportInputs
from testbed.analysis.report.sections import SECTIONS, planned
from testbed.analysis.tables import events, frames, stored, worst_check
from testbed.errors import SpecError
from testbed.files import write_plain
from testbed.rundir import LoadedCampaign


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report that was written: its first line, its files, and the exit status that says the same to a program.

    ``report``: the Markdown; ``page``: the front page in HTML. ``inputs``: what it was written from.
    """

    summary: str
    report: Path
    page: Path
    exit_status: int
    inputs: ReportInputs


def write(loaded: LoadedCampaign, judge: Judge | None = None, given: Given | None = None) -> WrittenReport:
    """Write everything that follows from a campaign's raw runs: tables, figures, ``report.md``, the report page.

    Raises ``EvidenceError`` for a record that is malformed, ``IncompatibleRuns`` for records that must not be pooled.
    """
    campaign = loaded.campaign
    for name in (page.DIRECTORY, "figures"):
        own_directory(campaign.path / name)
    material = inputs.gather(loaded, judge or judging.judge_of(campaign), given=given)
    rows = campaign.path / frames.FILE
    if not material.reference:
        stored.write(material.tables.events, campaign.path / events.FILE)
        stored.write(material.checks, campaign.path / worst_check.FILE, checks.SCHEMA)
    if not (material.reference and rows.exists()):
        stored.write(material.tables.rows, rows)
    drawn = draw.drawn(material.tables)
    files = draw.save(drawn, campaign.path / "figures")
    pictures = {name: str(paths[-1].relative_to(campaign.path)) for name, paths in files.items()}
    shown = dataclasses.replace(material, figures=pictures)
    text = render(shown)
    path = campaign.path / "report.md"
    write_plain(path, text.encode())
    # After the files: the page takes the figures' captions out of them.
    front = page.write(shown, drawn, campaign.path)
    outcome = correctness.outcome(material.runs, material.checks)
    status = outcome.exit_status or int(not all(evidence.ok for evidence in material.attacked))
    summary = text.splitlines()[0].removeprefix("# ")
    return WrittenReport(summary=summary, report=path, page=front, exit_status=status, inputs=shown)


def own_directory(path: Path) -> None:
    """Raise ``SpecError`` if this is a link: files of another directory would be replaced by the report's."""
    if path.is_symlink():
        hint = "remove it: the report replaces what is there"
        raise SpecError(f"{path}: expected a directory, or nothing yet, got a symbolic link", hint)


def render(material: ReportInputs) -> str:
    """Return the report as Markdown."""
    parts = [_head(material), *(section(material) for section in SECTIONS.values())]
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
        f"Campaign `{plan.campaign}`: {planned(material)}.{question}",
    ]

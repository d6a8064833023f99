"""The front page of a report: the answer, the verdicts, the doubts, then every section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from testbed.analysis.page import matrix as cells
from testbed.analysis.page import names, prose, svg
from testbed.analysis.page.answer import answer
from testbed.analysis.page.environment import render
from testbed.analysis.page.matrix import CellRow
from testbed.analysis.page.svg import InlineFigure
from testbed.analysis.report import correctness
from testbed.analysis.report.inputs import ReportInputs
from testbed.analysis.report.sections import SECTIONS, doubts, planned
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import climb
from testbed.record import unmeasured

_TITLES = {
    "overhead": "Overhead by workload and measurer",
    "blocks": "Every block of every arm",
    "run-length": "Overhead against the length of a run",
    "byte-price": "Overhead against the price of a hashed byte",
    "ladder-stack": "Where the added instructions go",
    "cost-model": "Predicted against observed",
    "starts": "Starts of containers",
    "scaling": "How the cost grows",
}
# Sections of the report in the order of the page, with their headings; those that the page itself has are not among
# them.
_HEADINGS = {
    "overhead": "Overhead",
    "length": "How long a container runs",
    "prices": "What an event costs",
    "bytes": "Another price of a hashed byte",
    "time": "Time, as a model",
    "tpm": "TPM: extends, and waiting",
    "attacked": "The verifier, attacked",
    "unmeasured": "Unmeasured events",
    "surroundings": "How it went",
    "failures": "Runs that failed, were rejected or are missing",
    "facts": "Facts of host and guests",
    "again": "Reproducing this campaign",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsOfArm:
    """The logs of one measurer, summed over its judged runs."""

    measurer: str
    runs: int
    right: int
    promised: str
    attested: int
    unattested: int


def page(material: ReportInputs, figures: Mapping[str, Figure], matrix: list[CellRow]) -> str:
    """Return the front page. The figures' own captions are taken out of them."""
    drawn = [svg.inline(figure, name, _TITLES.get(name, name)) for name, figure in figures.items()]
    wish = material.facts.get("experiment") or {}
    outcome = correctness.outcome(material.runs, material.checks)
    return render(
        "index.html",
        campaign=material.tables.plan.campaign,
        tier=str(material.tables.plan.tier),
        runs=len(material.runs),
        meaning=metrics.MEANING[material.tables.question.tier],
        question=str(wish.get("question") or ""),
        planned=planned(material),
        outcome=outcome,
        answer=answer(material.tables),
        baseline=material.tables.question.baseline,
        logs=_logs(material.checks),
        unmeasured=_unmeasured(material.runs),
        attacked=[(one.run, sum(row.ok for row in one.rows), len(one.rows), one.ok) for one in material.attacked],
        doubts=[prose.words(line) for line in doubts(material)],
        sections=_sections(material, drawn),
        wrong=_wrong(material),
        matrix=matrix,
        choices=cells.choices(matrix),
        names=names,
        glance=_glance(material),
    )


def _sections(material: ReportInputs, drawn: list[InlineFigure]) -> list[tuple[str, str, Markup]]:
    """Return (name, heading, HTML) of each section that says something."""
    pictures = {one.name: Markup(render("figure.html", figure=one)) for one in drawn}  # noqa: S704 - a template's own
    made = ((name, heading, SECTIONS[name](material)) for name, heading in _HEADINGS.items())
    return [(name, heading, prose.html(_pictured(lines), pictures)) for name, heading, lines in made if lines]


def _pictured(lines: list[str]) -> list[str]:
    """Put a section's first picture before its first table: who reads on a page looks before they read numbers."""
    picture = next((place for place, line in enumerate(lines) if line.startswith("![")), 0)
    table = next((place for place, line in enumerate(lines) if line.startswith("|")), 0)
    if not 0 < table < picture or any(line.startswith("### ") for line in lines[table:picture]):
        return lines
    return [*lines[:table], lines[picture], "", *lines[table:picture], *lines[picture + 1 :]]


def _wrong(material: ReportInputs) -> Markup:
    """Return what was not as expected, from the report's section on correctness: without its table of all cells."""
    lines = SECTIONS["correctness"](material)
    first = next((place for place, line in enumerate(lines) if line.startswith("### ")), len(lines))
    return prose.html(lines[first:])


def _logs(checks: pd.DataFrame) -> list[LogsOfArm]:
    if checks.empty:
        return []
    groups = sorted(checks.groupby("measurer"), key=lambda pair: climb(str(pair[0])))
    return [_of_arm(str(arm), group) for arm, group in groups]


def _of_arm(arm: str, group: pd.DataFrame) -> LogsOfArm:
    promised = group["promised"].sum(min_count=1)
    silent = not group["promises"].any()
    return LogsOfArm(
        measurer=arm,
        runs=len(group),
        right=int((group["verdict"] == "ok").sum()),
        promised="promises none" if silent else "unknown" if pd.isna(promised) else f"{int(promised):,}",
        attested=sum(int(row["entries"]) for listed in group["attested"] for row in listed),
        unattested=int(group["unattested"].sum()),
    )


def _unmeasured(runs: pd.DataFrame) -> tuple[int, int]:
    """Return the sum of all counters of what could not be measured, and how many runs have counters."""
    counted = [counters for counters in runs["counters"] if counters]
    return sum(sum(unmeasured(counters).values()) for counters in counted), len(counted)


def _glance(material: ReportInputs) -> list[tuple[str, str]]:
    """Return the facts that most readers look for first."""
    host = material.facts.get("host") or {}
    guest: dict[str, Any] = next((facts for facts in material.runs["facts"] if facts), {})
    kernels = sorted({str(facts["kernel_release"]) for facts in material.runs["facts"] if facts.get("kernel_release")})
    made = [record.started_utc for record in material.runs["record"] if record is not None]
    listed = (
        ("guest kernel", ", ".join(kernels)),
        ("guest CPU", guest.get("cpu_model")),
        ("QEMU", guest.get("qemu_version")),
        ("software TPM", guest.get("swtpm_version")),
        ("host CPU", host.get("cpu")),
        ("host processors", host.get("processors")),
        ("first run", min(made, default="")[:16].replace("T", " ")),
        ("last run", max(made, default="")[:16].replace("T", " ")),
    )
    return [(name, str(value)) for name, value in listed if value]

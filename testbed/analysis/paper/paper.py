"""Everything that a paper shows, from data to files: figures, tables, claims, and the page that holds them together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from testbed.analysis.paper import claims, compared, drawn, evaluated, page, paired, typeset, vector
from testbed.analysis.paper.claims import ClaimVerdict, JudgedClaim, PaperClaim
from testbed.analysis.paper.compared import SlideComparison
from testbed.analysis.paper.live import LiveLog
from testbed.analysis.paper.material import CampaignData, PaperData
from testbed.analysis.paper.typeset import PaperTable
from testbed.analysis.report import draw
from testbed.files import write_plain

PAGE = "paper.md"
SCHEMA = 1
# The report's figures that a paper shows too.
_REPORTED = ("overhead", "run-length", "ladder-stack", "byte-price")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPaper:
    """What was written: the ``page``, every file, and the claims with their verdicts."""

    page: Path
    files: tuple[Path, ...]
    judged: tuple[JudgedClaim, ...]

    @property
    def exit_status(self) -> int:
        """Return 1 if a claim does not hold, else 0: what cannot be judged is neither."""
        return int(any(one.verdict is ClaimVerdict.FAILS for one in self.judged))


def write(data: PaperData, stated: Sequence[PaperClaim], directory: Path) -> WrittenPaper:
    """Write the paper's figures, tables and page into ``directory``. The same data gives the same bytes."""
    judged = claims.judge(stated, data)
    live = {name: log for one in data.campaigns.values() for name, log in one.live.items()}
    live |= data.campaigns["paper"].live if "paper" in data.campaigns else {}
    comparisons, pairs = compared.compare(data.listings, live), paired.table(data.listings, live)
    tables = {name: tuple(_tables(one)) for name, one in data.campaigns.items()}
    written: list[Path] = []
    pictures: dict[str, str] = {}
    for name, figure in _figures(data, comparisons):
        paths = vector.write(figure, directory / Path(name).parent, Path(name).name)
        pictures[name] = str(paths[-1].relative_to(directory))
        written += paths
    for name, table in page.tables(judged, comparisons, pairs, tables).items():
        written += _write_table(table, directory / name)
    text = page.render(
        judged, comparisons=comparisons, paired=pairs, evaluated=tables, campaigns=data.campaigns, figures=pictures
    )
    listed = {"schema": SCHEMA, "claims": [one.as_json() for one in judged]}
    for path, content in ((directory / PAGE, text), (directory / "claims.json", json.dumps(listed, indent=1) + "\n")):
        write_plain(path, content.encode())
        written.append(path)
    return WrittenPaper(page=directory / PAGE, files=tuple(written), judged=judged)


def _tables(one: CampaignData) -> Iterator[PaperTable]:
    made = (evaluated.costs, evaluated.overhead, evaluated.prices, evaluated.entries_table)
    yield from (table for make in made if (table := make(one.tables)) is not None)
    if one.checks is not None and len(one.checks):
        yield evaluated.evidence_table(one.checks, one.tables.plan.campaign)


def _figures(data: PaperData, comparisons: Sequence[SlideComparison]) -> Iterator[tuple[str, Figure]]:
    beside = [log for comparison in comparisons for _, log in comparison.beside if log is not None]
    logs: dict[str, LiveLog] = {log.measurer: log for log in beside}
    if data.listings:
        yield page.BINDING, drawn.binding(data.listings, list(logs.values()), _BINDING)
    for name, one in data.campaigns.items():
        figures = {kind: draw.FIGURES[kind](one.tables) for kind in _REPORTED}
        yield from ((f"{name}/{kind}", figure) for kind, figure in figures.items() if figure is not None)
        entries = evaluated.entries(one.tables)
        if len(entries):
            yield f"{name}/entries", drawn.entries(entries, f"Campaign {one.tables.plan.campaign}. {_ENTRIES}")
        if one.checks is not None and len(one.checks):
            table = evaluated.evidence(one.checks)
            yield f"{name}/correctness", drawn.evidence(table, f"Campaign {one.tables.plan.campaign}. {_EVIDENCE}")


def _write_table(table: PaperTable, path: Path) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    forms = {".md": typeset.as_markdown(table), ".tex": typeset.as_latex(table)}
    written = []
    for ending, lines in forms.items():
        written.append(path.with_name(f"{path.name}{ending}"))
        write_plain(written[-1], "\n".join([*lines, ""]).encode())
    return written


_BINDING = (
    "Of each entry that names a namespace or a container: how much of the file's or the image's content its digest "
    "binds, and whether it binds that container. Slides: lines as they are printed, or repaired by one character that "
    "makes them fit their template digest; unknown: no line has the plain digest of that path. Live: PCR 11 of one run."
)
_ENTRIES = (
    "Shown: entries of the IMA log that one start of a container adds, median over the runs, on an axis that is linear "
    "up to 1. Each entry is one extend in each PCR bank. An arm that adds none in a later iteration leaves no trace of "
    "those containers. Not shown: how long an extend takes."
)
_EVIDENCE = (
    "Each cell: runs that were judged as expected of all runs, and the median number of entries that the ground truth "
    "demands of the log. Blue: all as expected and trusted. White: the same, but no entry was demanded, so only the "
    "authenticity of the log was judged. Yellow: all as expected, and the expected verdict is untrusted. Red: a run "
    "was not judged as expected, or an entry is wrong."
)

"""All pages of this version in one directory, with one page in front: ``python -m testbed.analysis.pages DIRECTORY``.

The reports are made here, from the reference data. The paper and the documentation are taken from ``build/``, where
``make paper`` and ``make docs`` have written them. What is missing is named on the front page, with the reason.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import __version__, files
from testbed.analysis.page import environment, prose
from testbed.analysis.report import report
from testbed.errors import SpecError
from testbed.rundir import Campaign, load

INDEX = "index.html"
_REPORT = "report/index.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlace:
    """A part of all pages. ``entry``: the file to open, below the directory. ``missing``: what to say if there is none.

    ``reference``: the campaign below ``results/`` whose report it is. ``built``: what of ``build/`` it is.
    """

    title: str
    shows: str
    entry: str
    missing: str
    reference: str = ""
    built: str = ""


PLACES = (
    PagePlace(
        title="Report of the overhead campaign",
        shows="What four measurers cost twelve workloads on six boots, and the verdict on each run.",
        entry=f"reference/{_REPORT}",
        missing="results/reference is not in this checkout.",
        reference="reference",
    ),
    PagePlace(
        title="Report of the paper's campaign",
        shows="Both prototypes beside this project's measurers, with the evidence of each.",
        entry=f"reference-paper/{_REPORT}",
        missing="results/reference-paper is not in this checkout.",
        reference="reference-paper",
    ),
    PagePlace(
        title="Paper",
        shows="The slides' logs beside live ones, vector figures, tables, and a verdict on each claim.",
        entry="paper/paper.md",
        missing="`make paper` writes it.",
        built="paper",
    ),
    PagePlace(
        title="Documentation",
        shows="Tutorial, how-to pages, reference and explanation; the demo's recording.",
        entry="docs/index.html",
        missing="`make docs` writes it.",
        built="docs",
    ),
    PagePlace(
        title="Notebooks",
        shows="Five notebooks, executed on the reference data.",
        entry="docs/notebooks/index.html",
        missing="`make notebooks docs` writes them.",
    ),
    PagePlace(
        title="Arena of measurers",
        shows="Each measurer with its cost, the bits that it binds, and the attacks that it finds.",
        entry="arena/index.html",
        missing="this version runs no attacks inside a guest, so there is nothing to compare.",
    ),
    PagePlace(
        title="Cost by the size of a program",
        shows="Each program of an image executed once: instructions over its size.",
        entry=f"reference-sizes/{_REPORT}",
        missing="results/reference-sizes is not in this checkout; `testbed run experiments/sizes.toml` makes one.",
        reference="reference-sizes",
    ),
    PagePlace(
        title="Vectors for other verifiers",
        shows="Frozen evidence with the verdict that a verifier must give, and what others give.",
        entry="vectors/index.html",
        missing="this version has no frozen vectors; `testbed audit` makes its forgeries each time.",
    ),
)


def write(directory: Path, repository: Path, places: Sequence[PagePlace] = PLACES) -> Path:
    """Write all pages into ``directory``, replacing older ones; return the front page.

    ``repository``: where ``results/`` and ``build/`` are. Raises ``SpecError`` if ``directory`` holds something else.
    """
    known = {INDEX, *(place.entry.partition("/")[0] for place in places)}
    if directory.is_symlink() or (directory.exists() and {path.name for path in directory.iterdir()} - known):
        raise SpecError(f"{directory}: expected all pages or nothing, got another directory", "name another directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with files.naming(directory), tempfile.TemporaryDirectory(prefix=files.SPARE, dir=directory.parent) as spare:
        whole = Path(spare) / "pages"
        whole.mkdir()
        for place in places:
            _fill(place, whole, repository)
        (whole / INDEX).write_text(_front(whole, places), encoding="utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        whole.rename(directory)
    return directory / INDEX


def _fill(place: PagePlace, whole: Path, repository: Path) -> None:
    source = repository / "results" / place.reference
    if place.reference and source.is_dir():
        # A copy: a report writes its files beside the records.
        kept = shutil.ignore_patterns("report", "figures")
        campaign = shutil.copytree(source, whole / place.reference, ignore=kept)
        report.write(load(Campaign(path=campaign)))
    built = repository / "build" / place.built
    if place.built and built.is_dir():
        shutil.copytree(built, whole / place.built)


def _front(whole: Path, places: Sequence[PagePlace]) -> str:
    shown = [
        {
            "title": place.title,
            "shows": place.shows,
            "entry": place.entry,
            "missing": prose.words(place.missing),
            "here": (whole / place.entry).is_file(),
        }
        for place in places
    ]
    return environment.render("front.html", places=shown, version=__version__)


def main() -> None:
    """Write all pages into the directory that is named."""
    sys.stdout.write(f"{write(Path(sys.argv[1]), Path.cwd())}\n")


if __name__ == "__main__":
    main()

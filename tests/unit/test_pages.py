"""All pages in one directory: what is there is linked, what is missing is named, and nothing else is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lxml import html

from testbed.analysis import pages
from testbed.analysis.report import report
from testbed.errors import SpecError
from testbed.rundir import LoadedCampaign

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the small reference data set and a paper, but without a site.

    The reports in it are stand-ins: they have tests of their own.
    """

    def written(loaded: LoadedCampaign) -> None:
        front = loaded.campaign.path / "report" / "index.html"
        front.parent.mkdir()
        front.write_text("report")

    monkeypatch.setattr(report, "write", written)
    shutil.copytree(ROOT / "results" / "reference-paper", tmp_path / "repository" / "results" / "reference-paper")
    paper = tmp_path / "repository" / "build" / "paper"
    paper.mkdir(parents=True)
    (paper / "paper.md").write_text("# Paper\n")
    return tmp_path / "repository"


def test_what_is_there_is_linked_and_what_is_missing_is_named(repository: Path, tmp_path: Path) -> None:
    front = pages.write(tmp_path / "pages", repository)
    text = front.read_text(encoding="utf-8")
    tree = html.fromstring(text)
    linked = {link.get("href", "") for link in tree.iter("a")} - {"#content"}
    assert linked == {"reference-paper/report/index.html", "paper/paper.md"}
    assert all((front.parent / link).is_file() for link in linked)
    shown = "".join(map(str, tree.itertext()))
    for place in pages.PLACES:
        assert place.title in shown
        assert (place.missing.replace("`", "") in shown) is (place.entry not in linked)
    assert text.count("Missing:") == len(pages.PLACES) - 2
    assert not (repository / "results" / "reference-paper" / "report").exists()


def test_older_pages_are_replaced_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    pages.write(tmp_path / "pages", repository)
    shutil.rmtree(repository / "build")
    front = pages.write(tmp_path / "pages", repository)
    assert not (front.parent / "paper").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "mine" / "index.html").write_text("x")
    with pytest.raises(SpecError, match="mine: expected all pages or nothing"):
        pages.write(tmp_path / "mine", repository)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "pages", "repository"]


def test_every_place_has_a_reason_for_its_absence() -> None:
    assert all(place.missing.endswith(".") and place.shows.endswith(".") for place in pages.PLACES)
    assert len({place.entry for place in pages.PLACES}) == len(pages.PLACES)

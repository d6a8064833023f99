"""The documentation site: every page has its place in the navigation, every link leads somewhere, here and there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import site_links
import site_notebooks
import site_pages
import site_reference
import site_stage
from site_pages import INDEX, ROOT

from testbed import cli
from testbed.spec import Experiment

INDEX_TEXT = (ROOT / INDEX).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "sources"
    site_stage.make(out)
    return out


def reachable(out: Path, name: str, found: set[str]) -> set[str]:
    """Return the pages of the sources that a reader reaches by the tables of contents."""
    found.add(name)
    for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", (out / name).read_text(), re.MULTILINE | re.DOTALL):
        for line in tree.splitlines():
            if not line or line.startswith(":"):
                continue
            target = re.sub(r"^.*<(.*)>$", r"\1", line)
            base = target.lstrip("/") if target.startswith("/") else str(Path(name).parent / target)
            (page,) = [f"{base}{end}" for end in (".md", ".rst") if (out / f"{base}{end}").exists()]
            if page not in found:
                reachable(out, page, found)
    return found


def test_every_page_is_reached_by_the_navigation(staged: Path) -> None:
    made = {path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.suffix in (".md", ".rst")}
    lost = made - reachable(staged, "index.md", set())
    assert {name for name in lost if not name.startswith("source/")} == set()
    shown = [(staged / name).read_text().splitlines()[1] for name in lost]
    assert set(shown) == {"orphan: true"}


def test_the_index_has_the_four_parts_and_each_page_once() -> None:
    parts = site_pages.navigation(INDEX_TEXT, [])
    assert tuple(parts) == site_pages.PARTS
    listed = [entry.page for entries in parts.values() for entry in entries]
    assert len(listed) == len(set(listed))
    assert set(site_pages.pages()) - {INDEX} == set(listed), "each page has one line in docs/index.md"


def test_a_page_that_no_list_has_is_still_reached() -> None:
    parts = site_pages.navigation(INDEX_TEXT, ["docs/later.md", INDEX])
    assert parts["Reference"][-1] == site_pages.Entry(title="", page="docs/later.md")


@pytest.mark.parametrize("page", site_pages.pages())
def test_no_link_of_a_page_is_dead(page: str) -> None:
    assert site_pages.dead_links(page, (ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("limits.md", None),
        ("limits.md#of-a-verdict", None),
        ("#here-it-is", None),
        ("https://example.org/nothing", None),
        ("limits.md#nothing", "docs/limits.md has no heading with this anchor"),
        ("#nothing", "docs/a.md has no heading with this anchor"),
        ("nothing.md", "no such file"),
    ],
)
def test_a_dead_link_is_found(target: str, complaint: str | None) -> None:
    text = f"# Here it is\n\n`[code](nothing)`\n\n```\n[code](nothing)\n```\n\n[words]({target})\n"
    expected = [] if complaint is None else [f"docs/a.md:9: {target}: {complaint}"]
    assert site_pages.dead_links("docs/a.md", text) == expected


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("`testbed doctor`", "testbed-doctor"),
        ("3. Image tree digest, version 2", "3-image-tree-digest-version-2"),
        ("[A link](a.md) and 1.04 %", "a-link-and-104-"),
        ("Kind 1, `ctr-file`: 96 + P bytes", "kind-1-ctr-file-96--p-bytes"),
    ],
)
def test_an_anchor_is_that_of_github(heading: str, anchor: str) -> None:
    assert site_pages.slug(heading) == anchor


def test_a_heading_that_is_there_twice_gets_a_number_and_code_has_none() -> None:
    assert site_pages.anchors("# A\n\n## B\n\n```\n# C\n```\n\n## B\n") == {"a", "b", "b-1"}


@pytest.mark.parametrize(
    ("page", "target", "there"),
    [
        ("docs/verify.md", "policy.md#limits", "policy.md#limits"),
        ("docs/verify.md", "../README.md", "readme.md"),
        ("README.md", "docs/how-to/add-a-kernel.md", "how-to/add-a-kernel.md"),
        ("docs/how-to/add-a-kernel.md", "../kernels.md", "../kernels.md"),
        ("docs/how-to/add-a-kernel.md", "../../CONTRIBUTING.md#dependencies", "../contributing.md#dependencies"),
        ("docs/architecture.md", "../tests/unit/test_layers.py", "source/tests/unit/test_layers.py.md"),
        ("README.md", "examples/measurer", "source/examples/measurer/index.md"),
        ("README.md", "notebooks/overhead.py", "notebooks/overhead.md"),
        ("README.md", "docs/overhead.png", "overhead.png"),
        ("README.md", "https://example.org/a", "https://example.org/a"),
        ("README.md", "#limits", "#limits"),
    ],
)
def test_a_link_leads_to_the_same_thing_in_the_site(page: str, target: str, there: str, tmp_path: Path) -> None:
    stage = site_stage.Stage(out=tmp_path)
    assert stage.page(page, f"[x]({target}) `[x]({target})`") == f"[x]({there}) `[x]({target})`"


def test_a_page_shows_a_file_even_if_it_has_fences_or_bytes(tmp_path: Path) -> None:
    page = site_stage.shown("docs/tutorial.md")
    assert page.startswith("---\norphan: true\n---\n# `docs/tutorial.md`\n\n````````text\n")
    assert "bytes; it is not shown here" in site_stage.shown("docs/overhead.png")
    assert "## `execlog.c`" in site_stage.shown("examples/measurer/src")
    large = site_stage.shown("results/reference")
    assert "\n... and " in large
    assert "## `plan.json`" in large
    assert "## `runs/" not in large


def test_every_command_has_a_page(staged: Path) -> None:
    names = {path.stem for path in (staged / "reference/commands").glob("*.rst")}
    assert names == {path.stem.replace("_", "-") for path in cli.COMMANDS.glob("[!_]*.py")}


def test_every_key_of_an_experiment_has_its_type_default_and_meaning() -> None:
    rows = {key: (kind, default, limits) for key, kind, default, limits in _keys()}
    assert rows["blocks"] == ("whole number", "`6`", "at least 1; at most 1000")
    assert rows["machine.vcpus"] == ("whole number", "`1`", "at least 1; at most 64")
    assert rows["start"][0] == "one of `restore`, `boot`"
    assert rows["question"][1:] == ("required", "length at least 1")
    assert rows["kernels"] == ("list of: name", '`["debian-6.12"]`', "at least 1 in the list")
    assert rows["bpf_stats"] == ("`true` or `false`", "`false`", "")
    table = site_reference.experiment_page().splitlines()
    assert [line for line in table if line.startswith("| `") and line.endswith("|  |")] == []


def _keys() -> list[tuple[str, str, str, str]]:
    return list(site_reference.keys(Experiment.model_json_schema()))


def test_a_notebook_becomes_text_code_and_pictures(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {
            "cell_type": "code",
            "source": "1 + 1",
            "outputs": [
                {"data": {"text/plain": "2"}},
                {"data": {"image/png": "aGVsbG8=", "text/plain": "<Figure>"}},
                {"text": ["printed\n"]},
                {"data": {"text/html": "<table></table>", "text/plain": "a table"}},
            ],
        },
    ]
    page = site_notebooks.page({"cells": cells}, tmp_path, "n")
    assert page.startswith("# Title\nwords\n\n``````python\n1 + 1\n``````\n\n``````text\n2\n``````\n\n![")
    assert (tmp_path / "n-1-1.png").read_bytes() == b"hello"
    assert "``````text\nprinted\n``````" in page
    assert "<table></table>" in page


@pytest.fixture
def site(tmp_path: Path) -> SimpleNamespace:
    (tmp_path / "a.html").write_text('<a href="b.html#x">1</a><a href="#y" id="y">2</a><a href="https://e.org/">3</a>')
    (tmp_path / "b.html").write_text('<p id="x"><img src="data:image/png;base64,">')
    return SimpleNamespace(path=tmp_path)


def test_a_site_whose_links_lead_somewhere_has_no_complaint(site: SimpleNamespace) -> None:
    checked = site_links.check(site.path)
    assert checked.complaints == ()
    assert (checked.internal, checked.external) == (2, ("https://e.org/",))


@pytest.mark.parametrize(
    ("tag", "complaint"),
    [
        ('<a href="c.html">', "c.html: c.html: no such file"),
        ('<a href="b.html#z">', "c.html: b.html#z: no such anchor"),
        ('<img src="https://e.org/x.png">', "c.html: img is fetched from elsewhere: https://e.org/x.png"),
        ('<script src="//e.org/x.js"></script>', "c.html: script is fetched from elsewhere: //e.org/x.js"),
    ],
)
def test_a_link_of_the_site_that_leads_nowhere_is_found(site: SimpleNamespace, tag: str, complaint: str) -> None:
    page = site.path / "c.html"
    page.write_text(tag)
    if "no such file" in complaint:
        page.rename(site.path / "d.html")
        complaint = complaint.replace("c.html: ", "d.html: ", 1)
    assert site_links.check(site.path).complaints == (complaint,)


def test_make_docs_builds_without_a_warning() -> None:
    """The build itself is a part of `make test`: it takes longer than a unit test should."""
    text = (ROOT / "docs/_site/site_build.py").read_text(encoding="utf-8")
    assert '"-W", "--keep-going"' in text
    made = subprocess.run(["make", "-C", ROOT, "-n", "docs"], capture_output=True, text=True, check=True).stdout
    assert "docs/_site/site_build.py" in made

"""The notebooks run from results to every figure, through the API alone, and the executed ones are of their sources."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from fake_campaign import RUNGS, WORKLOADS, build
from test_attribution import truth
from test_layers import imports

import testbed
from testbed.analysis.notebook import execute
from testbed.analysis.tables import events, stored
from testbed.rundir import load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference"
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The reference data set of the repository; where there is none, a synthetic campaign."""
    if (REFERENCE / "plan.json").exists():
        return REFERENCE
    few = {name: WORKLOADS[name] for name in ("archive", "compile", "exec-30", "nginx", "start-warm")}
    campaign = build(tmp_path, arms=RUNGS, workloads=few)
    stored.write(events.events(load(campaign), truth(few)), campaign.path / events.FILE)
    return campaign.path


def _cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


# How many pictures each shows.
PICTURES = {"attestation": 1, "compare_campaigns": 1, "overhead": 4, "paper_figures": 4, "your_measurer": 1}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_anywhere_and_shows_its_figures(tmp_path: Path, source: Path, results: Path) -> None:
    copy = Path(shutil.copy(source, tmp_path))
    notebook = execute(copy, None if results == REFERENCE else results)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    pictures = [output for output in outputs if {"image/png", "image/svg+xml"} & output.get("data", {}).keys()]
    assert len(pictures) >= PICTURES[source.stem]
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_uses_the_api_alone(source: Path) -> None:
    text = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code")
    ours = [name for name in imports(text, "notebook") if name.split(".")[0] == "testbed"]
    assert ours == ["testbed"]
    used = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute) and _is_testbed(node)}
    assert used - {"__file__"} <= set(testbed.__all__)


def _is_testbed(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "testbed"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_executed_notebook_is_of_this_source(source: Path) -> None:
    executed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)  # type: ignore[no-untyped-call]
    assert _cells(executed) == _cells(jupytext.read(source))
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert str(ROOT) not in source.with_suffix(".ipynb").read_text()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_cell_has_a_few_lines(source: Path) -> None:
    cells = [cell.source.split("\n") for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    assert max(sum(bool(line) for line in cell) for cell in cells) <= 10


def test_these_are_the_notebooks() -> None:
    assert [path.stem for path in SOURCES] == sorted(PICTURES)

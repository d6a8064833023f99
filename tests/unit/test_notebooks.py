"""The notebooks run from results to every figure, and the executed one is of the source beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from fake_campaign import RUNGS, WORKLOADS, build
from test_attribution import truth

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


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_anywhere_and_shows_its_figures(tmp_path: Path, source: Path, results: Path) -> None:
    copy = Path(shutil.copy(source, tmp_path))
    notebook = execute(copy, None if results == REFERENCE else results)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type in ("stream", "error")]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 4


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_executed_notebook_is_of_this_source(source: Path) -> None:
    executed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)  # type: ignore[no-untyped-call]
    assert _cells(executed) == _cells(jupytext.read(source))
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_cell_has_a_few_lines(source: Path) -> None:
    cells = [cell.source.split("\n") for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    assert max(sum(bool(line) for line in cell) for cell in cells) <= 10


def test_there_is_a_notebook() -> None:
    assert [path.stem for path in SOURCES] == ["overhead"]

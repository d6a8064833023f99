"""Write the report page of a campaign: ``report/index.html`` and a page for each run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from testbed.analysis.page import index, matrix, names, run
from testbed.analysis.report.inputs import ReportInputs
from testbed.files import write_plain

DIRECTORY = "report"


def write(material: ReportInputs, figures: Mapping[str, Figure], campaign: Path) -> Path:
    """Write the pages below a campaign's directory; return the path of the front page.

    ``figures``: those that were drawn, by name. ``material.figures`` says which of them the sections show. Pages of an
    earlier report are removed first: a run that is gone must not leave one.
    """
    directory = campaign / DIRECTORY
    cells = matrix.rows(material)
    shutil.rmtree(directory / "runs", ignore_errors=True)
    (directory / "runs").mkdir(parents=True, exist_ok=True)
    for one in run.runs(material, cells):
        run.write(one, material, directory)
    front = directory / names.INDEX
    write_plain(front, index.page(material, figures, cells).encode())
    return front

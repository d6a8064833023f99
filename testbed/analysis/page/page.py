"""Write the report page of a campaign: ``report/index.html`` and a page for each run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from testbed import files
from testbed.analysis.page import index, matrix, names, run
from testbed.analysis.report.inputs import ReportInputs

DIRECTORY = "report"


def write(material: ReportInputs, figures: Mapping[str, Figure], campaign: Path) -> Path:
    """Write the pages below a campaign's directory; return the path of the front page.

    ``figures``: those that were drawn, by name. ``material.figures`` says which of them the sections show. The pages of
    runs replace those of an earlier report as a whole: a run that is gone must not leave one.
    """
    directory = campaign / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    cells = matrix.rows(material)
    final = directory / names.RUNS
    spare = Path(tempfile.mkdtemp(prefix=f"{files.SPARE}{names.RUNS}-", dir=directory))
    try:
        for one in run.runs(material, cells):
            run.write(one, material, spare)
        spare.chmod(0o755)
        shutil.rmtree(final, ignore_errors=True)
        spare.rename(final)
    finally:
        shutil.rmtree(spare, ignore_errors=True)
    front = directory / names.INDEX
    files.write_plain(front, index.page(material, figures, cells).encode())
    return front

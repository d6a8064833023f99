"""Run a notebook's source and keep what it showed: ``python -m testbed.analysis.notebook notebooks/NAME.py``.

Needs the packages of the extra ``notebooks``, which only this module imports.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

from testbed.files import write_plain

_SECONDS = 600
_VARIABLE = "TESTBED_RESULTS"


def execute(source: Path, results: Path | None = None) -> Any:
    """Return the notebook of a source in percent format, executed where it lies.

    ``results``: the campaign that it shows, if not the one that it names itself. Raises ``CellExecutionError``.
    """
    notebook = jupytext.read(source)
    client = nbclient.NotebookClient(notebook, timeout=_SECONDS, resources={"metadata": {"path": str(source.parent)}})
    env = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    client.execute(env=env | ({_VARIABLE: str(results.resolve())} if results else {}))
    for cell in notebook.cells:
        # The time of execution would make each run a different file.
        cell.metadata.pop("execution", None)
    return notebook


def main() -> None:
    """Execute each source named and write ``NAME.ipynb`` beside it. ``TESTBED_RESULTS`` names a campaign."""
    results = os.environ.get(_VARIABLE)
    for name in sys.argv[1:]:
        source = Path(name)
        sys.stdout.write(f"{source}\n")
        sys.stdout.flush()
        notebook = execute(source, Path(results).expanduser() if results else None)
        # Names of cells are random; their positions make equal runs equal files.
        for place, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{place}"
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        write_plain(source.with_suffix(".ipynb"), f"{text}\n".encode())


if __name__ == "__main__":
    main()

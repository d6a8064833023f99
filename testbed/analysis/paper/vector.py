"""Vector figures in files: PDF and SVG. The same figure gives the same bytes, at any time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from testbed.analysis.figures.canvas import STYLE
from testbed.files import write_plain

# The date is left out of both, or no two runs would agree. SVG also names its parts by a hash with a random salt.
_METADATA: Mapping[str, Mapping[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def write(figure: Figure, directory: Path, name: str) -> tuple[Path, ...]:
    """Write ``name.pdf`` and ``name.svg``, each whole or not at all; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, metadata in _METADATA.items():
        drawn = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": name}, fname=STYLE):
            figure.savefig(drawn, format=kind, metadata=dict(metadata))
        path = directory / f"{name}.{kind}"
        write_plain(path, drawn.getvalue())
        written.append(path)
    return tuple(written)

"""The names of a report's files: a run's page is named as the run is."""

from __future__ import annotations

import re

INDEX = "index.html"
RUNS = "runs"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,150}", re.ASCII)


def file_of(run: str) -> str:
    """Return a run's name as part of a file's name. The harness makes plain names; others are written in hex."""
    return run if _PLAIN.fullmatch(run) else f"x{run.encode(errors='surrogatepass').hex()[:150]}"


def page_of(run: str, part: int = 1) -> str:
    """Return where a run's page is, from the index. ``part``: of its log; the first part is on the page itself."""
    return f"{RUNS}/{beside(run, part)}"


def beside(run: str, part: int = 1) -> str:
    """Return the same from another page of a run."""
    return f"{file_of(run)}.html" if part == 1 else f"{file_of(run)}.log-{part}.html"

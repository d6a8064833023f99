"""What the oracle said of a run: the worst of its checks. A number counts only where the measurement happened."""

from __future__ import annotations

import enum
from pathlib import Path

import pandas as pd

# Of a run that the table of checks does not have.
UNJUDGED = "unjudged"


class CheckVerdict(enum.StrEnum):
    """How what was found compares with what had to be found. ``MISSED`` is the worst: an attack that nobody saw."""

    OK = "ok"
    UNEXPECTED = "unexpected"
    MISSED = "missed"


_BY_WORTH = tuple(str(verdict) for verdict in CheckVerdict)


def read(campaign: Path) -> pd.DataFrame | None:
    """Return a campaign's ``checks.parquet``; ``None`` if ``testbed report`` has not written it."""
    path = campaign / "checks.parquet"
    return pd.read_parquet(path) if path.exists() else None


def worst(checks: pd.DataFrame) -> dict[str, str]:
    """Return the worst verdict on each run, by the name of its directory. ``checks``: of ``checks.checks``."""
    verdicts: dict[str, str] = {}
    for name, verdict in zip(checks["run"].astype(str), checks["verdict"].astype(str), strict=True):
        verdicts[name] = max(verdicts.get(name, verdict), verdict, key=_BY_WORTH.index)
    return verdicts

"""The oracle's verdict on a run: the worst of its checks. A number counts only if that is ``ok``."""

from __future__ import annotations

import enum
from pathlib import Path

import pandas as pd

from testbed.analysis.tables import stored
from testbed.errors import EvidenceError

FILE = "checks.parquet"
# The verdict on a run that is not in the table of checks.
UNJUDGED = "unjudged"


class CheckVerdict(enum.StrEnum):
    """How the findings compare with the expected ones. ``MISSED`` is the worst: an attack that was not found."""

    OK = "ok"
    UNEXPECTED = "unexpected"
    MISSED = "missed"


_BY_WORTH = tuple(str(verdict) for verdict in CheckVerdict)


def read(campaign: Path) -> pd.DataFrame | None:
    """Return a campaign's ``checks.parquet``; ``None`` if ``testbed report`` has not written it.

    Raises ``EvidenceError`` as ``stored.read`` does.
    """
    return stored.read(campaign, FILE, ("run", "verdict"))


def worst(checks: pd.DataFrame) -> dict[str, str]:
    """Return the worst verdict on each run, by the name of its directory. ``checks``: of ``checks.checks``."""
    verdicts: dict[str, str] = {}
    if unknown := set(checks["verdict"].astype(str)) - set(_BY_WORTH):
        got = ascii(min(unknown))[:80]
        raise EvidenceError(f"{FILE}: expected verdicts {', '.join(_BY_WORTH)}, got {got}", stored.AGAIN)
    for name, verdict in zip(checks["run"].astype(str), checks["verdict"].astype(str), strict=True):
        verdicts[name] = max(verdicts.get(name, verdict), verdict, key=_BY_WORTH.index)
    return verdicts

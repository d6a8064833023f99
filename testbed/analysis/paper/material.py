"""What the paper is made from: the campaigns by their experiment, and the slides' listings. Each file is read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed.analysis.paper import live
from testbed.analysis.paper.live import LiveLog
from testbed.analysis.paper.slides import SlideListing
from testbed.analysis.tables import frames, stored, tables, worst_check
from testbed.analysis.tables.tables import Tables
from testbed.errors import EvidenceError, SpecError
from testbed.rundir import LoadedCampaign

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# Of checks.parquet, what the claims and the tables use.
_CHECKS = ("run", "measurer", "workload", "attack", "judgement", "verdict", "findings", "promised")


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignData:
    """One campaign: its tables, its verdicts (``None``: nobody judged it yet), its runs, and a log of each measurer."""

    experiment: str
    loaded: LoadedCampaign
    tables: Tables
    checks: pd.DataFrame | None
    runs: pd.DataFrame
    live: Mapping[str, LiveLog]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperData:
    """``campaigns`` by the name of their experiment, and the slides' ``listings``."""

    campaigns: Mapping[str, CampaignData]
    listings: tuple[SlideListing, ...]


def experiment_of(loaded: LoadedCampaign) -> str:
    """Return the name of a campaign's experiment, as ``campaign.json`` has it; else that in the campaign's name.

    Raises ``EvidenceError`` for a name that no experiment file can have: files are named by it.
    """
    wish = loaded.facts.get("experiment") or {}
    return _named(loaded.campaign.facts_file, str(wish.get("name") or loaded.plan.campaign.rsplit("-", 2)[0]))


def _named(where: Path, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise EvidenceError(f"{where}: expected a name of an experiment file, got {name!r}", "take it from its author")
    return name


def campaign_data(loaded: LoadedCampaign) -> CampaignData:
    """Compute what the paper needs of one campaign.

    Raises as ``tables.read`` and ``stored.read`` do, and ``EvidenceError`` for a name that no experiment can have: a
    figure would read a part of it as a formula.
    """
    for cell in loaded.plan.cells:
        for name in (loaded.plan.campaign, cell.kernel, cell.runtime, cell.measurer, cell.workload, cell.attack):
            _named(loaded.campaign.plan_file, name)
    checks = stored.read(loaded.campaign.path, worst_check.FILE, _CHECKS)
    return CampaignData(
        experiment=experiment_of(loaded),
        loaded=loaded,
        tables=tables.read(loaded, checks),
        checks=checks,
        runs=frames.runs(loaded),
        live=live.logs(loaded),
    )


def gather(campaigns: Iterable[LoadedCampaign], listings: tuple[SlideListing, ...]) -> PaperData:
    """Gather what the paper is made from. Raises ``SpecError`` for two campaigns of one experiment."""
    found: dict[str, CampaignData] = {}
    for loaded in campaigns:
        name = experiment_of(loaded)
        if name in found:
            both = f"{found[name].loaded.campaign.path} and {loaded.campaign.path}"
            raise SpecError(f"two campaigns of experiment {name!r}: {both}", "give one campaign of each experiment")
        found[name] = campaign_data(loaded)
    return PaperData(campaigns=found, listings=listings)

"""What a report is written from: the tables, the verdicts, the runs, and the campaign's name for a reader."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis import hosthash
from testbed.analysis.judged import attacked, checks, judging
from testbed.analysis.judged.attacked import Attacked
from testbed.analysis.judged.checks import Judge, Judged
from testbed.analysis.models.timemodel import Assumptions
from testbed.analysis.tables import events, frames, stored, tables, worst_check
from testbed.analysis.tables.events import Truth
from testbed.analysis.tables.tables import Tables
from testbed.attest.verdict import Judgement, Verdict
from testbed.errors import EvidenceError
from testbed.plan import Cell
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign, bundle_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """What the sections of a report read.

    ``facts``: ``campaign.json``; ``runs`` of ``frames.runs``, ``checks`` of ``checks.checks``. ``attacked``: the
    verifier's findings in forgeries of this campaign's evidence. ``shown_path``: how the campaign's directory is
    written in commands; ``figures``: the picture of each figure by its name, relative to it. ``tpm_ms``: the latency of
    an extend that a reader gives, for a model; ``assumed``: all that the time model assumes. ``reference``: the
    verdicts are the stored ones. ``verdicts``: of each good run by its name, as far as its evidence is here.
    """

    facts: Mapping[str, Any]
    tables: Tables
    runs: pd.DataFrame
    checks: pd.DataFrame
    shown_path: str
    attacked: tuple[Attacked, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    tpm_ms: float | None = None
    assumed: Assumptions | None = None
    reference: bool = False
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a reader gives beside a campaign.

    ``tpm_ms``: the latency of an extend; ``cpi``: cycles an instruction takes, from and to; both for models. ``runs``:
    a campaign that counted how often the measurer's programs ran.
    """

    tpm_ms: float | None = None
    cpi: tuple[float, float] | None = None
    runs: LoadedCampaign | None = None


def gather(
    loaded: LoadedCampaign, judge: Judge, truth: Truth | None = None, given: Given | None = None
) -> ReportInputs:
    """Judge a campaign's runs and compute all tables. ``truth``: of events; by its images if not given.

    With ``cpi``, the host's SHA-256 is measured unless the campaign's directory has kept it (``hosthash``). Raises
    ``EvidenceError`` if a reference data set does not have the tables that cannot be made again.
    """
    campaign, runs = loaded.campaign, frames.runs(loaded)
    given = given or Given()
    kept = stored.is_reference(campaign.path)
    # Of a reference data set most evidence is elsewhere, so the stored verdicts are used, and the report says so.
    judged = stored.read(campaign.path, worst_check.FILE, checks.SCHEMA.names, checks.SCHEMA) if kept else None
    verdicts: dict[str, Verdict] = {}
    if judged is None:
        judged = checks.checks(loaded, _keeping(judge, verdicts))
        known = tables.read(loaded, judged, truth or events.truth_of(campaign), given.runs)
    else:
        known = tables.read(loaded, judged, runs=given.runs)
        verdicts = {
            path.name: judging.authentic(path, record) for path, record in loaded.current if _whole(path, record)
        }
        _agree(judged, verdicts, campaign.path)
    return ReportInputs(
        facts=loaded.facts,
        tables=known,
        runs=runs,
        checks=judged,
        shown_path=str(campaign.path),
        attacked=attacked.attack(campaign, runs),
        tpm_ms=given.tpm_ms,
        assumed=_assumed(campaign.path, given),
        reference=kept,
        verdicts=verdicts,
    )


def _assumed(path: Path, given: Given) -> Assumptions | None:
    if given.cpi is None:
        return None
    return Assumptions(host=hosthash.of_campaign(path), cpi=given.cpi, tpm_s=1e-3 * (given.tpm_ms or 0.0))


def _agree(stored_checks: pd.DataFrame, verdicts: Mapping[str, Verdict], path: Path) -> None:
    """Raise ``EvidenceError`` if the evidence that is here does not have the verdict that is stored."""
    told = dict(zip(stored_checks["run"].astype(str), stored_checks["judgement"].astype(str), strict=True))
    wrong = sorted(name for name, one in verdicts.items() if not one.ok and told.get(name) == str(Judgement.TRUSTED))
    if wrong:
        raise EvidenceError(
            f"{path}: stored as trusted, and the evidence here is not: {', '.join(wrong[:4])}",
            "`testbed check-results` says what differs",
        )


def _keeping(judge: Judge, verdicts: dict[str, Verdict]) -> Judge:
    """Return a judge that judges the same, and keeps each verdict by the name of its run."""

    def keeping(cell: Cell, path: Path, record: Record) -> Judged:
        judged = judge(cell, path, record)
        verdicts[path.name] = judged.verdict
        return judged

    return keeping


def verify_command(shown_path: str, path: Path, record: Record) -> str:
    """Return the command that verifies a run's evidence, quoted for a shell; empty where something of it is not here.

    ``shown_path``: how the campaign's directory is written; ``path``: the run's directory.
    """
    evidence, nonce = record.evidence, record.facts.get("nonce")
    if bundle_of(path, record) is None or not evidence.ak or not nonce:
        return ""
    where = Path(shown_path) / "runs" / path.name
    bundle, ak = where / str(evidence.bundle), where / evidence.ak
    return shlex.join(["testbed", "verify", str(bundle), "--ak", str(ak), "--nonce", str(nonce)])


def _whole(path: Path, record: Record) -> bool:
    """Whether a run of a reference data set is one of those that have their evidence there."""
    return record.status is Status.OK and bundle_of(path, record) is not None

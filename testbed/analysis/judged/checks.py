"""Judge every run of a campaign: its findings against the expected ones (``checks.parquet``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from testbed import plugins, progress
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.verdict import Verdict
from testbed.plan import Cell
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign

# The evidence as it was collected. Evidence that was tampered with afterwards will be further cases of the same run.
COLLECTED = "collected"
_FINDING = pa.struct([(name, pa.string()) for name in ("kind", "where", "expected", "got")])
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("campaign", "run", "cell", "kernel", "runtime")),
        *((name, pa.string()) for name in ("measurer", "workload", "attack")),
        ("block", pa.int64()),
        ("case", pa.string()),
        ("judgement", pa.string()),
        ("verdict", pa.string()),
        ("expected", pa.list_(pa.string())),
        ("unexpected", pa.list_(pa.string())),
        ("missed", pa.list_(pa.string())),
        ("findings", pa.list_(_FINDING)),
        ("entries", pa.int64()),
        ("unattested", pa.int64()),
        ("attested", pa.list_(pa.struct([("pcr", pa.int64()), ("entries", pa.int64())]))),
        ("promises", pa.bool_()),
        ("promised", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The judgement of one run.

    ``promises``: whether the measurer makes entries at all; ``promised``: how many the ground truth demands of it,
    ``None`` if that is not known.
    """

    verdict: Verdict
    promises: bool = False
    promised: int | None = None


Judge = Callable[[Cell, Path, Record], Judged]


def checks(loaded: LoadedCampaign, judge: Judge) -> pd.DataFrame:
    """Return one row per (good run, case). A run that is not good has no row, as its evidence may be incomplete."""
    cells = loaded.cells
    listed = [
        one(loaded.plan.campaign, cells[record.cell_id], path, record, judge(cells[record.cell_id], path, record))
        for path, record in progress.each(loaded.current, "verdicts", unit="runs")
        if record.status is Status.OK
    ]
    return pd.DataFrame(listed, columns=SCHEMA.names)


def compare(expect: Iterable[str], findings: Iterable[Finding]) -> tuple[CheckVerdict, list[str], list[str]]:
    """Return the verdict, the kinds that were found but not expected, and those that were expected but not found.

    What is only informative is never unexpected.
    """
    wanted, listed = set(expect), list(findings)
    unexpected = sorted({str(finding.kind) for finding in listed if not finding.informative} - wanted)
    missed = sorted(wanted - {str(finding.kind) for finding in listed})
    verdict = CheckVerdict.MISSED if missed else CheckVerdict.UNEXPECTED if unexpected else CheckVerdict.OK
    return verdict, unexpected, missed


def absent(where: str, expected: str) -> Verdict:
    """Return the verdict on evidence that is not there: malformed, never a pass."""
    finding = Finding(kind=FindingKind.MALFORMED, where=where, expected=expected, got="nothing was collected")
    return Verdict(findings=(finding,))


def one(campaign: str, cell: Cell, path: Path, record: Record, judged: Judged) -> dict[str, Any]:
    """Return the row of one run."""
    expect = plugins.attack(cell.attack).expect | plugins.measurer(cell.measurer).expect
    verdict, unexpected, missed = compare(expect, judged.verdict.findings)
    return {
        "campaign": campaign,
        "run": path.name,
        "cell": cell.id,
        "kernel": cell.kernel,
        "runtime": cell.runtime,
        "measurer": cell.measurer,
        "workload": cell.workload,
        "attack": cell.attack,
        "block": record.block,
        "case": COLLECTED,
        "judgement": str(judged.verdict.judgement),
        "verdict": str(verdict),
        "expected": sorted(expect),
        "unexpected": unexpected,
        "missed": missed,
        "findings": [finding.as_json() for finding in judged.verdict.findings],
        "entries": judged.verdict.entries,
        "unattested": judged.verdict.unattested,
        "attested": [{"pcr": pcr, "entries": count} for pcr, count in sorted(judged.verdict.attested.items())],
        "promises": judged.promises,
        "promised": judged.promised,
    }

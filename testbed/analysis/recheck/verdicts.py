"""The stored verdicts against verdicts that are made again: from the evidence that is here, and from the findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from testbed import plugins
from testbed.analysis.judged import checks, judging
from testbed.analysis.judged.checks import Judge
from testbed.analysis.recheck.step import RecheckStep, listed
from testbed.analysis.tables.worst_check import FILE
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.verdict import Verdict
from testbed.plan import Cell
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign, bundle_of

# What a verdict made again must agree on, with the images of the containers and without them.
# Of findings only the kinds count: their words may change with a version.
_WHOLE = ("judgement", "verdict", "expected", "unexpected", "missed", "kinds", "promised")
_LOG = ("entries", "unattested", "attested")


def recheck(loaded: LoadedCampaign, stored: pd.DataFrame | None) -> RecheckStep:
    """Compare ``checks.parquet`` with its own findings, and with the evidence of each run that has some here."""
    if stored is None:
        missing = f"{FILE}: expected verdicts, got no such file: `testbed report` makes them"
        return RecheckStep(name="verdicts", said="none are stored", problems=(missing,))
    rows = {str(row["run"]): _plain(row) for row in stored.to_dict("records")}
    good = {path.name: (path, record) for path, record in loaded.current if record.status is Status.OK}
    problems = [f"{FILE}: {count} verdicts on runs/{name}" for name, count in _counts(stored).items() if count > 1]
    problems += [f"{FILE}: no verdict on runs/{name}" for name in sorted(good.keys() - rows.keys())]
    problems += [f"{FILE}: a verdict on {name}, which is no good run" for name in sorted(rows.keys() - good.keys())]
    again = _Again(loaded)
    for name in sorted(good.keys() & rows.keys()):
        path, record = good[name]
        cell = loaded.cells[record.cell_id]
        problems += (f"{FILE}: runs/{name}: {words}" for words in _consistent(cell, rows[name]))
        problems += (f"{FILE}: runs/{name}: {words}" for words in again.compare(cell, path, record, rows[name]))
    return RecheckStep(
        name="verdicts",
        said=f"{len(rows)} stored; {again.whole} made again from evidence and images, {again.log} from evidence alone",
        problems=tuple(problems),
        unchecked=tuple(again.unchecked()),
    )


def _counts(stored: pd.DataFrame) -> Counter[str]:
    return Counter(stored["run"].astype(str))


class _Again:
    """Verdicts made again, and how many of each sort. A class, because it counts while it compares."""

    def __init__(self, loaded: LoadedCampaign) -> None:
        self._loaded = loaded
        self._judge: Judge = judging.judge_of(loaded.campaign)
        self.whole = self.log = 0
        self._without: list[str] = []
        self._unknown: set[str] = set()

    def compare(self, cell: Cell, path: Path, record: Record, row: Mapping[str, Any]) -> Iterator[str]:
        """Yield how the stored verdict differs from the one that the evidence gives."""
        if bundle_of(path, record) is None:
            self._without.append(path.name)
            return
        if cell.measurer not in plugins.names("measurers"):
            self._unknown.add(cell.measurer)
            return
        images = (self._loaded.campaign.image_path(started.image) for started in record.containers)
        if record.containers and all(image.is_file() for image in images):
            self.whole += 1
            table = checks.one(self._loaded.plan.campaign, cell, path, record, self._judge(cell, path, record))
            yield from _differences(row, _plain(table), (*_WHOLE, *_LOG))
            return
        self.log += 1
        verdict = judging.authentic(path, record)
        attested = [{"pcr": pcr, "entries": count} for pcr, count in sorted(verdict.attested.items())]
        made = {"entries": verdict.entries, "unattested": verdict.unattested, "attested": attested}
        yield from _differences(row, made, _LOG)
        # What the comparison with the ground truth found is stored too, and cannot be found again without the images.
        known = Counter(row["kinds"])
        for finding in verdict.findings:
            if not known[str(finding.kind)]:
                yield f"the evidence gives a finding that is not stored: {finding.kind} at {finding.where!a}"
            known[str(finding.kind)] -= 1

    def unchecked(self) -> Iterator[str]:
        """Yield what could not be made again."""
        if self._without:
            runs = listed(self._without)
            yield f"the verdicts on {len(self._without)} runs, whose evidence is not here ({runs})"
        if self.log:
            yield f"of {self.log} runs, whether the log has all that was executed: the images are not here"
        if self._unknown:
            yield f"runs of {listed(sorted(self._unknown))}: no such measurer here; name it with --measurer-path"


def _consistent(cell: Cell, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a stored verdict contradicts its own findings, or what its measurer and attack must cause."""
    try:
        findings = [Finding(**finding | {"kind": FindingKind(finding["kind"])}) for finding in row["findings"]]
    except (KeyError, TypeError, ValueError) as error:
        yield f"a finding that cannot be read: {error!r}"
        return
    verdict, unexpected, missed = checks.compare(row["expected"], findings)
    judgement = str(Verdict(findings=tuple(findings)).judgement)
    made = {"judgement": judgement, "verdict": str(verdict), "unexpected": unexpected, "missed": missed}
    yield from _differences(row, made)
    if cell.measurer in plugins.names("measurers") and cell.attack in plugins.names("attacks"):
        expect = sorted(plugins.attack(cell.attack).expect | plugins.measurer(cell.measurer).expect)
        yield from _differences(row, {"expected": expect})
    for axis in ("measurer", "workload", "attack", "kernel", "runtime"):
        if row.get(axis) != getattr(cell, axis):
            yield f"{axis} {row.get(axis)!r}, the plan says {getattr(cell, axis)!r}"


def _differences(
    row: Mapping[str, Any], made: Mapping[str, Any], names: tuple[str, ...] | None = None
) -> Iterator[str]:
    for name in made if names is None else names:
        if row.get(name) != made.get(name):
            yield f"{name}: stored {_short(row.get(name))}, made again {_short(made.get(name))}"


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with lists for arrays and ``None`` for what is missing, so that two can be compared."""
    plain = {str(key): _value(value) for key, value in row.items()}
    findings = plain.get("findings") or []
    return plain | {"kinds": sorted(str(one.get("kind")) for one in findings if isinstance(one, dict))}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else value
        return [_value(item) for item in items] if isinstance(items, list | tuple) else items
    return None if value is None or value is pd.NA or (isinstance(value, float) and value != value) else value  # noqa: PLR0124 - NaN


def _short(value: Any, most: int = 120) -> str:
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."

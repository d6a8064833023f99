"""The report's part on correctness: was each run judged as expected?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from testbed.analysis import markdown
from testbed.analysis.tables.ladder import climb
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.record import Status

# Findings shown for one row of the table; checks.parquet has them all.
_SHOWN = 8
_WIDTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCounts:
    """The result of a campaign's checks, in runs. ``unrun``: planned, but lost, rejected or without a record."""

    judged: int
    wrong: int
    failed: int
    unrun: int

    @property
    def ok(self) -> bool:
        """Whether every planned run is good and was judged as expected."""
        return self.judged > 0 and not (self.wrong or self.failed or self.unrun)

    @property
    def exit_status(self) -> int:
        """Return 0 all as expected; 3 a run was lost or is missing; 1 a workload failed or a verdict is wrong."""
        if self.ok:
            return 0
        return 3 if self.unrun or not (self.wrong or self.failed) else 1

    @property
    def words(self) -> str:
        """The result as a sentence."""
        as_expected = f"{self.judged - self.wrong} of {self.judged} judged runs are as expected"
        lost = f"{self.failed} workloads failed; {self.unrun} planned runs were lost or did not run"
        if not self.judged:
            return f"Correctness NOT SHOWN: no run was judged; {lost}"
        if self.wrong:
            return f"Correctness NOT OK: {as_expected}" + (f"; {lost}" if self.failed or self.unrun else "")
        if self.failed or self.unrun:
            return f"Correctness INCOMPLETE: {as_expected}; {lost}"
        return f"Correctness OK: all {self.judged} runs were judged as expected"


def outcome(runs: pd.DataFrame, checks: pd.DataFrame) -> CheckCounts:
    """Count; ``runs`` of ``frames.runs``, ``checks`` of ``checks.checks``."""
    wrong = checks.loc[checks["verdict"] != str(CheckVerdict.OK), "run"]
    failed = int((runs["status"] == str(Status.WORKLOAD_FAILED)).sum())
    good = int((runs["status"] == str(Status.OK)).sum())
    return CheckCounts(
        judged=len(set(checks["run"])), wrong=len(set(wrong)), failed=failed, unrun=len(runs) - good - failed
    )


def section(checks: pd.DataFrame) -> list[str]:
    """Return the lines on correctness: one row for each cell over its blocks, then what was not as expected."""
    lines = ["## Correctness", ""]
    if checks.empty:
        return [*lines, "No run was judged, so nothing is known about correctness."]
    groups = sorted(((list(key), group) for key, group in checks.groupby(list(_KEY))), key=_place)
    lines += markdown.table(_HEADER, (_row(key, group) for key, group in groups))
    wrong = [(key, group[group["verdict"] != str(CheckVerdict.OK)]) for key, group in groups]
    for key, group in wrong:
        if len(group):
            lines += ["", f"### Not as expected: {_named(key)}", "", *_wrong(group)]
    return lines


def doubts(runs: pd.DataFrame, checks: pd.DataFrame) -> list[str]:
    """Return the reasons to doubt the verdicts."""
    lines = [
        "This project's own verifier made the verdicts. Each run's evidence is kept, so another verifier can judge it."
    ]
    again = runs[runs["attempt"] > 1]
    if len(again):
        lines.append(f"{len(again)} runs are a second or later attempt; the earlier attempts were lost.")
    unjudged = int((runs["status"] == str(Status.OK)).sum()) - len(set(checks["run"]))
    if unjudged:
        lines.append(f"{unjudged} good runs were not judged.")
    empty = checks[(checks["promised"] == 0) & (checks["promises"])]
    if len(empty):
        arms = ", ".join(f"`{arm}`" for arm in sorted(set(empty["measurer"])))
        lines.append(
            f"{arms}: claims entries on a PCR, but promised none in {len(empty)} runs. Zero entries are not success."
        )
    silent = checks.loc[~checks["promises"], "measurer"]
    if len(silent):
        arms = ", ".join(f"`{arm}`" for arm in sorted(set(silent)))
        lines.append(f"{arms}: promise no entry, so only the authenticity of their logs was judged.")
    return lines


_KEY = ("measurer", "workload", "attack", "kernel", "runtime")
_HEADER = (
    *("measurer", "workload", "attack", "runs", "as expected", "verdict", "expected findings", "unexpected", "missed"),
    *("promised", "attested entries", "unattested"),
)


def _place(group: tuple[list[Any], pd.DataFrame]) -> tuple[Any, ...]:
    """Sort key: by kernel, runtime, workload and attack, then by rung."""
    measurer, workload, attack, kernel, runtime = group[0]
    return kernel, runtime, workload, attack, climb(measurer)


def _named(key: list[Any]) -> str:
    measurer, workload, attack, kernel, runtime = key
    return f"`{measurer}`, `{workload}` ({kernel}, {runtime}), attack `{attack}`"


def _row(key: list[Any], group: pd.DataFrame) -> tuple[object, ...]:
    measurer, workload, attack, kernel, runtime = key
    right = int((group["verdict"] == str(CheckVerdict.OK)).sum())
    expected = sorted({kind for kinds in group["expected"] for kind in kinds})
    return (
        f"`{measurer}`",
        f"`{workload}` ({kernel}, {runtime})",
        f"`{attack}`",
        len(group),
        f"{right} of {len(group)}" + ("" if right == len(group) else " **!**"),
        _counts(group["judgement"]),
        ", ".join(expected) or "nothing",
        _counts(kind for kinds in group["unexpected"] for kind in set(kinds)) or "none",
        _counts(kind for kinds in group["missed"] for kind in kinds) or "none",
        _span(group["promised"]),
        "; ".join(_pcrs(group)) or "none",
        _span(group["unattested"]),
    )


def _counts(words: Iterable[str]) -> str:
    """Return each word with the number of runs it occurs in."""
    return ", ".join(f"{word} x{count}" for word, count in sorted(Counter(words).items()))


def _span(values: Iterable[Any]) -> str:
    known = [int(value) for value in values if not pd.isna(value)]
    if not known:
        return "unknown"
    return f"{known[0]}" if len(set(known)) == 1 else f"{min(known)} to {max(known)}"


def _pcrs(group: pd.DataFrame) -> Iterator[str]:
    counts: dict[int, list[int]] = {}
    for attested in group["attested"]:
        for row in attested:
            counts.setdefault(int(row["pcr"]), []).append(int(row["entries"]))
    for pcr, values in sorted(counts.items()):
        yield f"PCR {pcr}: {_span(values)}"


def _wrong(group: pd.DataFrame) -> list[str]:
    """List unexpected and missed findings; equal findings of several runs are listed once."""
    lines = []
    counts = Counter(
        (finding["kind"], finding["where"], finding["expected"], finding["got"])
        for check in group.to_dict("records")
        for finding in check["findings"]
        if finding["kind"] in set(check["unexpected"])
    )
    shown = counts.most_common(_SHOWN)
    if shown:
        cells = ((kind, *map(_quoted, texts), count) for (kind, *texts), count in shown)
        lines += markdown.table(("kind", "where", "expected", "got", "times"), cells)
    if len(counts) > len(shown):
        lines += ["", f"... and {len(counts) - len(shown)} more; all are in `checks.parquet`."]
    missed = sorted({kind for kinds in group["missed"] for kind in kinds})
    if missed:
        lines += ["", f"Expected and not found: {', '.join(missed)}."]
    return [*lines, "", f"Runs: {', '.join(f'`{run}`' for run in sorted(set(group['run'])))}."]


def _quoted(text: str) -> str:
    return markdown.code(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}...")

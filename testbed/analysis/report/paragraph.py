"""A campaign's answer as one paragraph: what a start and an exec cost with each measurer; is every log complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from testbed import plugins
from testbed.analysis import words
from testbed.analysis.tables import costmodel, metrics
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.attest.finding import FindingKind
from testbed.record import Status, Tier, unmeasured

# What people ask for: the operation of a workload, and its name in a sentence.
_ASKED: Mapping[str, str] = {"start": "A container start", "exec": "An exec"}
_MORE = "`testbed run experiments/overhead.toml` measures"


def paragraph(known: Tables, runs: pd.DataFrame, checks: pd.DataFrame) -> str:
    """Return the paragraph. ``runs`` of ``frames.runs``, ``checks`` of ``checks.checks``."""
    return " ".join([*_costs(known), *_logs(runs, checks), *_unmeasured(runs)])


def _costs(known: Tables) -> Iterator[str]:
    ladder = known.ladder
    if ladder.empty:
        yield "No cost is claimed: " + (
            "this tier has no meaningful clock."
            if known.question.tier is Tier.TCG
            else "no block has both the baseline and another measurer."
        )
        return
    groups = [(str(key[2]), group) for key, group in ladder.groupby(list(STRATUM))]
    absent = []
    for operation, title in _ASKED.items():
        alike = [
            (name, group)
            for name, group in groups
            if metrics.operation_of(name) == operation and not costmodel.is_cold(name)
        ]
        if alike:
            # The smallest of them is mostly the operation itself.
            name, group = min(alike, key=lambda pair: float(pair[1]["base"].iloc[0]))
            yield _sentence(f"{title} (`{name}`)", group, known)
        else:
            absent.append(operation)
    if len(absent) == len(_ASKED):
        name, group = groups[0]
        yield _sentence(_iteration(name), group, known)
    if absent:
        either = " or ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in absent)
        yield f"{either[0].upper()}{either[1:]} alone was not measured here; {_MORE} {_it(absent)}."


def _sentence(subject: str, group: pd.DataFrame, known: Tables) -> str:
    """Say what each measurer adds to one operation."""
    rows: list[dict[Any, Any]] = sorted(group.to_dict("records"), key=lambda row: climb(str(row["treatment"])))
    each = "; ".join(f"`{row['treatment']}` {_cost(row)}" for row in rows)
    base = words.size(float(rows[0]["base"]), str(rows[0]["unit"]))
    return f"{subject} takes {base} without measurement (`{known.question.baseline}`). Measuring adds: {each}."


def _cost(row: Mapping[Any, Any]) -> str:
    share = words.overhead(row["ratio"], row["low"], row["high"])
    # The cost is a median over blocks and the ratio is one too: near zero they may have different signs.
    return f"{share}, which is {words.size(row['cost'], row['unit'])}" if row["cost"] > 0 else share


def _iteration(name: str) -> str:
    workload = plugins.known_workload(name)
    starts = 1 if workload is None else workload.starts
    inside = f"{starts} containers and runs their programs" if starts > 1 else "a container and runs its programs"
    return f"One iteration of `{name}`, which starts {inside},"


def _logs(runs: pd.DataFrame, checks: pd.DataFrame) -> Iterator[str]:
    """Say whether each log is complete: everything that ground truth demands is in it, and nothing else."""
    good = int((runs["status"] == str(Status.OK)).sum())
    if checks.empty:
        yield "Nothing is known about the logs: no run was judged."
        return
    demanding = checks[checks["promises"].astype(bool)]
    lacking = demanding[[_missing(row) for row in demanding.to_dict("records")]]
    wrong = checks[checks["verdict"] != str(CheckVerdict.OK)]
    arms = ", ".join(f"`{arm}`" for arm in sorted(set(map(str, demanding["measurer"])), key=climb))
    if demanding.empty:
        yield "No measurer here promises entries, so completeness was not judged."
    elif len(lacking):
        names = ", ".join(sorted(set(map(str, lacking["measurer"])), key=climb))
        yield f"NOT every log is complete: entries are missing in {len(lacking)} of {len(demanding)} logs ({names})."
    else:
        total = int(demanding["promised"].fillna(0).sum())
        yield (
            f"Every log of {arms} is complete: all {total:,} entries that ground truth demands were found in "
            f"{len(demanding)} logs, and the quotes cover them."
        )
    if len(wrong):
        yield f"{len(wrong)} of {len(checks)} verdicts are NOT the expected ones; the report says why."
    elif len(lacking) == 0:
        yield f"All {len(checks)} verdicts are the expected ones."
    if good < len(runs):
        yield f"{len(runs) - good} of {len(runs)} planned runs are missing or were not good."


def _missing(row: Mapping[Any, Any]) -> bool:
    return str(FindingKind.MISSING) in set(row["unexpected"])


def _unmeasured(runs: pd.DataFrame) -> Iterator[str]:
    """Say if a measurer counted events that it did not measure."""
    total = sum(sum(unmeasured(counters).values()) for counters in runs["counters"])
    if total:
        yield f"The measurers counted {total:,} events that they did not measure."


def _it(absent: Sequence[str]) -> str:
    return "both" if len(absent) > 1 else "it"

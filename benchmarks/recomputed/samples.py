"""A campaign's samples and events, and one value for each arm in each block (docs/statistics.md, Estimator)."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Under icount one nanosecond of CPU time is one instruction.
INSTRUCTIONS = 1e9
# What a report and its figures leave in a campaign's directory is no part of its data.
_DATA = ("campaign.json", "plan.json", "reference.json", "*.parquet", "blocks/**/*", "runs/**/*")


@functools.cache
def digest(directory: Path) -> str:
    """Return the SHA-256 over the campaign's files: of the lines that `sha256sum` prints of them, sorted by name."""
    found = {path for pattern in _DATA for path in directory.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(directory).as_posix() for path in found)
    lines = (f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Samples:
    """A campaign. ``rows``, ``events``, ``checks``: its tables; ``facts``: campaign.json."""

    directory: Path
    rows: pd.DataFrame
    events: pd.DataFrame
    checks: pd.DataFrame
    facts: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> Samples:
        """Read the tables of a campaign's directory. Raises ``SystemExit`` where the numbers would mean nothing."""
        facts = json.loads((directory / "campaign.json").read_text())
        if facts["tier"] != "icount":
            raise SystemExit(
                f"{directory}: tier {facts['tier']}, expected icount: it is instructions that are computed"
            )
        tables = (pd.read_parquet(directory / f"{name}.parquet") for name in ("rows", "events", "checks"))
        rows, events, checks = (_labelled(table[table["attack"] == "none"]) for table in tables)
        events = _completed(events)
        return cls(directory=directory, rows=rows, events=events, checks=checks, facts=facts)

    @property
    def baseline(self) -> str:
        """The arm to which the others are compared."""
        return str(self.facts["experiment"]["baseline"])

    @property
    def duplicate(self) -> str:
        """The second run of the baseline in each block."""
        return str(self.facts["experiment"]["duplicate"])

    @property
    def delta(self) -> float:
        """The margin below which two arms count as equal; 0.5 % unless the experiment says otherwise."""
        return float(self.facts["experiment"]["delta"] or 0.005)

    @functools.cached_property
    def workloads(self) -> list[str]:
        """The names of the workloads, in alphabetical order."""
        return sorted(set(self.rows["label"]))

    @functools.cached_property
    def arms(self) -> list[str]:
        """The names of all arms, the baseline and its second run included."""
        return sorted(set(self.rows["measurer"]))

    def values(self, metric: str, workload: str, *, each: bool = True, first: bool = False) -> pd.DataFrame:
        """Return instructions: a row per block, a column per arm. It is the median of the timed iterations.

        ``each``: of one operation, else of a whole iteration. ``first``: of the first iteration in the machine.
        """
        return self._values(metric, each, first).get(workload, pd.DataFrame())

    @functools.cache  # noqa: B019 - a program that reads one campaign and ends
    def _values(self, metric: str, each: bool, first: bool) -> dict[str, pd.DataFrame]:
        rows = self.rows[(self.rows["metric"] == metric) & self._counts]
        rows = rows[rows["iteration"] == 0] if first else rows[~rows["warmup"].astype(bool)]
        value = INSTRUCTIONS * rows["value"] / (rows["operations"] if each else 1.0)
        table = rows.assign(instructions=value).pivot_table(
            index=["label", "block"], columns="measurer", values="instructions", aggfunc="median"
        )
        return {str(label): group.droplevel("label") for label, group in table.groupby(level="label")}

    @functools.cached_property
    def _counts(self) -> pd.Series[bool]:
        """Whether a row counts: a good run, not an earlier attempt, and judged ``ok`` if it was judged."""
        judged = self.rows["oracle"].isna() | (self.rows["oracle"] == "ok")
        return (self.rows["status"] == "ok") & self.rows["current"].astype(bool) & judged

    @functools.cache  # noqa: B019
    def lost(self, workload: str, arms: frozenset[str]) -> tuple[float, float]:
        """Return the shares of the blocks that lost one of the arms: by failure, and by rejection."""
        mine = self.rows[(self.rows["label"] == workload) & self.rows["measurer"].isin(arms)]
        mine = mine[mine["current"].astype(bool)]
        wrong = (mine["status"] == "ok") & mine["oracle"].notna() & (mine["oracle"] != "ok")
        failed = mine["status"].isin(["workload-failed", "machine-lost", "timed-out"]) | wrong
        blocks = mine["block"].nunique()
        rejected = mine["status"] == "rejected"
        return mine.loc[failed, "block"].nunique() / blocks, mine.loc[rejected, "block"].nunique() / blocks

    def counts(self, arm: str, columns: list[str], *, first: bool = False) -> pd.DataFrame:
        """Return the events of an arm in one iteration: a row per (workload, block)."""
        mine = self.events[self.events["measurer"] == arm]
        mine = mine[mine["iteration"] == 0] if first else mine[~mine["warmup"].astype(bool)]
        return mine.groupby(["label", "block"])[columns].median()


def _completed(events: pd.DataFrame) -> pd.DataFrame:
    """Return events with the columns that an earlier version did not write."""
    if "runtimes" in events:
        return events
    first = (events["launches"] > 0) & (events["iteration"] == 0)
    return events.assign(runtimes=first.astype(float), runs=np.nan)


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Name each row's workload, with kernel and runtime where there are several, as the page's tables do."""
    extra = [name for name in ("kernel", "runtime") if len(set(table[name])) > 1]
    label = table["workload"].astype(str)
    if extra:
        label = label + " (" + table[extra].astype(str).agg(", ".join, axis=1) + ")"
    return table.assign(label=label)


def geometric(values: pd.DataFrame) -> pd.Series[float]:
    """Return the geometric mean of each row."""
    return pd.Series(np.exp(np.log(values.to_numpy(dtype=float)).mean(axis=1)), index=values.index)

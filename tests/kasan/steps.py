"""Steps of a soak, each written down when it is done: what was interrupted goes on with the next step."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TUPLES = ("reports", "complaints")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did, and what was reported in it.

    ``seconds``: of the guest's clock; ``counts``: by kind; ``counted``: what the measurer's counters grew by;
    ``log_entries``: in IMA's log after it; ``known``: how many reports a row of ``known.toml`` covers; ``reports``: the
    others, whole; ``complaints``: what else must not be.
    """

    name: str
    boot: str
    seconds: float = 0.0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    counted: dict[str, int] = dataclasses.field(default_factory=dict)
    log_entries: int
    known: int
    reports: tuple[str, ...]
    complaints: tuple[str, ...]
    schema: int = 1

    @property
    def clean(self) -> bool:
        return not self.reports and not self.complaints


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """A directory with a file for each step. One that was not clean stays: to forget it, remove it."""

    path: Path

    def steps(self) -> dict[str, Step]:
        """Return what is done, by name."""
        return {file.stem: _read(file) for file in sorted(self.path.glob("*.json"))}

    def add(self, step: Step) -> None:
        """Write a step down, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.path / f".{step.name}.part"
        beside.write_text(json.dumps(dataclasses.asdict(step), indent=1) + "\n")
        beside.rename(self.path / f"{step.name}.json")


def _read(file: Path) -> Step:
    data: dict[str, Any] = json.loads(file.read_text())
    return Step(**data | {key: tuple(data[key]) for key in _TUPLES})

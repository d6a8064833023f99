"""The file of a survey: which kernels were tried, and the campaign of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from testbed.rundir import SCHEMA, read_object, shaped, write_json


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One kernel of a survey.

    ``version``: of its Debian package; ``seconds``: what compiling the measurer took, ``None`` if that failed.
    ``campaign``: name of the directory of its runs, none if ``problem`` says why there are none. ``refused``: why the
    guest refused a measurer, by name.
    """

    kernel: str
    release: str = ""
    version: str = ""
    seconds: float | None = None
    campaign: str = ""
    problem: str = ""
    refused: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Kernels and measurers that were tried with each other. ``host``: what emulated the machines, and how."""

    name: str
    measurers: tuple[str, ...]
    host: dict[str, str]
    kernels: tuple[Tried, ...]


def write_survey(results: Path, survey: Survey) -> Path:
    """Write a survey; return the file."""
    path = results / f"{survey.name}.json"
    write_json(path, {"schema": SCHEMA} | dataclasses.asdict(survey))
    return path


def read_survey(path: Path) -> Survey:
    """Read a survey's file. Raises ``EvidenceError``."""
    raw = read_object(path, missing="`testbed kernels` without --again makes it")
    with shaped(path):
        return Survey(
            name=raw["name"],
            measurers=tuple(raw["measurers"]),
            host=raw["host"],
            kernels=tuple(Tried(**tried) for tried in raw["kernels"]),
        )

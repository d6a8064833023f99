"""A workload: what a container runs, what it must print, and which files of its image run as code.

To add one, write ``workloads/NAME.py`` with a module-level ``WORKLOAD``; test ``parse`` on a captured output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath


class WorkloadFailed(Exception):
    """The workload's output is not that of a run that worked: where, expected, got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one iteration does: ``starts`` containers of ``image``, one after the other, each runs ``argv``.

    ``executes``: every file of the image that the command executes (scripts and what is started by name; the ELF
    interpreter and libraries follow from the image). ``check`` gets the standard output of one container and raises
    ``WorkloadFailed`` when it is not that of a run that worked.
    """

    name: str
    summary: str
    image: str
    argv: tuple[str, ...]
    executes: tuple[PurePosixPath, ...]
    check: Callable[[str], None]
    starts: int = 1
    timeout: float = 120

"""The reports of a debugging kernel: reports in its log and in kmemleak's file. Pure: texts in, reports out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from testbed.errors import SpecError
from testbed.kernel_complaints import REPORT

_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_CUT = "[ cut here ]"
_END = "---[ end trace"
_LINES = 120
_LEAK = "unreferenced object "
# Code of this project in the kernel: the module, and everything that a BPF program (all are the project's) has called.
_OURS = re.compile(r"\btestbed_\w+\+0x|\[testbed_\w+\]|\bbpf_prog_[0-9a-f]{16}_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report: its first line, and all of it."""

    head: str
    text: str

    @property
    def ours(self) -> bool:
        """Whether code of this project is in its stack."""
        return _OURS.search(self.text) is not None


class KnownReport(BaseModel):
    """A known report with another cause. ``head``: pattern of its first line; ``frame``: a function in its stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: str
    frame: str
    reason: str

    def covers(self, report: Report) -> bool:
        """Return whether it is that report; one with this project's code in its stack never is."""
        if report.ours or not re.search(self.head, report.head):
            return False
        return re.search(rf"\b{re.escape(self.frame)}\+0x", report.text) is not None


def load_known(path: Path) -> tuple[KnownReport, ...]:
    """Read the reports that are known, ``[[report]]`` each. Raises ``SpecError``, naming file and key."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("report", [])
        return TypeAdapter(tuple[KnownReport, ...]).validate_python(rows)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SpecError(f"{path}: {error}") from error


def in_log(log: str) -> list[Report]:
    """Return the reports in a kernel's log, as ``dmesg`` prints it."""
    lines = [_STAMP.sub("", line) for line in log.splitlines()]
    reports: list[Report] = []
    at = 0
    while at < len(lines):
        if _CUT in lines[at]:
            end = _end(lines, at, lambda line: _CUT in line)
            reports.append(_report(lines[at:end]))
        elif REPORT.search(lines[at]):
            end = _end(lines, at, lambda line: _CUT in line or REPORT.search(line) is not None)
            reports.append(_report(lines[at:end]))
        else:
            end = at + 1
        at = end
    return reports


def _end(lines: list[str], begin: int, begins: Callable[[str], bool]) -> int:
    """Return where the report at ``begin`` ends: after its own end mark, or where another ``begins``."""
    last = min(begin + _LINES, len(lines))
    for number in range(begin + 1, last):
        if _END in lines[number]:
            return number + 1
        if begins(lines[number]):
            return number
    return last


def _report(lines: list[str]) -> Report:
    # The words of a warning stand between its first line and the one that says where it is.
    head = next((line for line in lines if REPORT.search(line)), lines[min(1, len(lines) - 1)])
    return Report(head=head.strip(), text="\n".join(lines))


def in_kmemleak(text: str) -> list[Report]:
    """Return the objects in ``/sys/kernel/debug/kmemleak``."""
    parts = [f"{_LEAK}{part}".rstrip() for part in text.split(_LEAK)[1:]]
    return [Report(head=part.splitlines()[0], text=part) for part in parts]


def unknown(reports: Iterable[Report], known: Iterable[KnownReport]) -> list[Report]:
    """Return the reports that no row covers."""
    rows = tuple(known)
    return [report for report in reports if not any(row.covers(report) for row in rows)]

"""The table of kernels and measurers: what builds, loads and behaves, from a survey and the campaigns that it names."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed import plugins
from testbed.analysis import markdown
from testbed.analysis.judged import checks, judging
from testbed.analysis.judged.checks import Judge
from testbed.analysis.tables.worst_check import CheckVerdict
from testbed.files import write_plain
from testbed.kernel_complaints import complaints
from testbed.record import Record, Status, unmeasured
from testbed.rundir import Campaign, load
from testbed.surveys import Survey, Tried, read_survey

YES, NO, NOTHING, UNKNOWN = "yes", "**no**", "-", "not tried"
_HASH = re.compile(r"testbed_measurer: hashing with (\S+)")
# It depends only on the image, which is the same for all kernels.
_NOT_TOLD = frozenset({"bytes_hashed"})
_REASON = 600
_COLUMNS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """One kernel with one measurer. ``traits``: what may differ between kernels although the measurer works."""

    kernel: str
    measurer: str
    builds: str
    loads: str = UNKNOWN
    behaves: str = UNKNOWN
    reason: str = ""
    traits: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it builds, loads and behaves, or has nothing to build and load."""
        return self.behaves == YES and NO not in (self.builds, self.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPage:
    """A page that was written. ``summary``: its result in one line."""

    summary: str
    exit_status: int


def write(survey_file: Path, page: Path, judge_of: Callable[[Campaign], Judge] = judging.judge_of) -> WrittenPage:
    """Judge the runs of a survey and write its table to ``page``. Raises ``EvidenceError``."""
    survey = read_survey(survey_file)
    rows = [row for tried in survey.kernels for row in _rows(tried, survey, survey_file.parent, judge_of)]
    write_plain(page, render(survey, rows).encode())
    good = sum(row.ok for row in rows)
    return WrittenPage(summary=f"{good} of {len(rows)} build, load and behave", exit_status=int(good < len(rows)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run, what its kernel printed, and the check of its evidence (empty if the run did not end well)."""

    record: Record
    dmesg: str
    check: dict[Any, Any]


def _rows(tried: Tried, survey: Survey, results: Path, judge_of: Callable[[Campaign], Judge]) -> Iterator[KernelRow]:
    ran = _ran(Campaign(path=results / tried.campaign), judge_of) if tried.campaign else {}
    for measurer in survey.measurers:
        bare = plugins.measurer(measurer).mode is None
        built = NOTHING if bare else NO if tried.seconds is None else f"{tried.seconds:.1f} s"
        row = KernelRow(kernel=tried.kernel, measurer=measurer, builds=built)
        if tried.problem:
            yield replace(row, reason=tried.problem)
        elif measurer in tried.refused:
            yield replace(row, loads=NO, reason=tried.refused[measurer])
        elif measurer not in ran:
            yield replace(row, reason="there is no record of a run")
        else:
            yield _judged(replace(row, loads=NOTHING if bare else YES), ran[measurer])


def _ran(campaign: Campaign, judge_of: Callable[[Campaign], Judge]) -> dict[str, _Run]:
    """Return each measurer's run."""
    loaded = load(campaign)
    judged: list[dict[Any, Any]] = checks.checks(loaded, judge_of(campaign)).to_dict("records")
    table = {check["run"]: check for check in judged}
    cells = loaded.cells
    by_measurer: dict[str, _Run] = {}
    for path, record in loaded.current:
        log = path / str(record.evidence.dmesg)
        said = log.read_text(encoding="utf-8", errors="backslashreplace") if record.evidence.dmesg else ""
        by_measurer[cells[record.cell_id].measurer] = _Run(record=record, dmesg=said, check=table.get(path.name, {}))
    return by_measurer


def _judged(row: KernelRow, run: _Run) -> KernelRow:
    record, check = run.record, run.check
    if record.status in (Status.MACHINE_LOST, Status.TIMED_OUT):
        return replace(row, loads=UNKNOWN, reason=f"{record.status}: {record.reason}")
    wrong = list(_wrong(run))
    traits = {"hash": "".join(_HASH.findall(run.dmesg)[-1:]), "claims": str(check.get("promised"))}
    attested = {counted["pcr"]: counted["entries"] for counted in check.get("attested", ())}
    traits["entries on PCR 11"] = str(attested.get(11, 0))
    traits |= {name: str(value) for name, value in record.counters.items() if name not in _NOT_TOLD}
    return replace(row, behaves=NO if wrong else YES, reason="; ".join(wrong), traits=traits)


def _wrong(run: _Run) -> Iterator[str]:
    record, check = run.record, run.check
    if record.status is not Status.OK:
        yield f"{record.status}: {record.reason}"
    elif check.get("verdict") != str(CheckVerdict.OK):
        yield from (f"{kind} was found" for kind in check["unexpected"])
        yield from (f"{kind} was not found" for kind in check["missed"])
    yield from (f"{name} is {value}" for name, value in sorted(unmeasured(record.counters).items()))
    if lines := complaints(run.dmesg):
        yield f"the kernel complains: {lines[0]}"
    elif record.facts.get("taint"):
        yield f"the kernel is tainted: {record.facts['taint']}"


def render(survey: Survey, rows: list[KernelRow]) -> str:
    """Return the page."""
    host = ", ".join(f"{name.removesuffix('_version')} {value}" for name, value in sorted(survey.host.items()))
    kernels = ((f"`{tried.kernel}`", tried.release or "?", tried.version or "?") for tried in survey.kernels)
    first: dict[str, KernelRow] = {}
    for row in rows:
        if row.ok:
            first.setdefault(row.measurer, row)
    cells = [
        (
            f"`{row.kernel}`",
            f"`{row.measurer}`",
            row.builds,
            row.loads,
            row.behaves,
            _differs(row, first.get(row.measurer)),
        )
        for row in rows
    ]
    lines = [
        "# Kernels and measurers",
        "",
        *textwrap.wrap("Written by `make kernels` from real boots; not edited by hand. " + _LEGEND, _COLUMNS),
        "",
        *markdown.table(("kernel", "release", "package version"), kernels),
        "",
        *markdown.table(("kernel", "measurer", "builds", "loads", "behaves", "what differs"), cells),
        "",
        f"Machines: {host}.",
        "",
        *_DIFFERENCES,
    ]
    return "\n".join(lines) + "\n"


_LEGEND = (
    "*Builds*: the C parts compile without a warning, in so many seconds (wall clock, on a host with other load). "
    "*Loads*: the kernel accepts the policy, the module and the programs. *Behaves*: the evidence is "
    "authentic, the log is what `claim` says of the containers that ran, nothing was left unmeasured, and the kernel "
    "printed no warning."
)
_DIFFERENCES = (
    "Differences are relative to the first kernel on which the measurer works. Each difference that the code handles",
    "is a row in `bpf/module/compat.h` or `bpf/compat.bpf.h`.",
)


def _differs(row: KernelRow, reference: KernelRow | None) -> str:
    if not row.ok:
        reason = " ".join(row.reason.split())
        return markdown.code(reason if len(reason) <= _REASON else f"...{reason[-_REASON:]}")
    assert reference is not None, "a row that works has a first one"
    if row is reference:
        traits = (f"{name} {value}" for name, value in row.traits.items() if value not in ("", "0", "None"))
        return ", ".join(traits) or NOTHING
    mine, theirs = row.traits, reference.traits
    other = [
        f"{name} {mine.get(name, 'none')}, not {theirs.get(name, 'none')}"
        for name in sorted(mine | theirs)
        if mine.get(name) != theirs.get(name)
    ]
    return "; ".join(other) or "nothing"

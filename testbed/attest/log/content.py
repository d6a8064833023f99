"""What one log says, gathered for the audit of its digests: entries that fit, and what was not read and why.

Nothing is skipped in silence: what looks like an entry and was not read is a damaged line or a finding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from testbed.attest import hashes
from testbed.attest.finding import BadEvidence, Finding, FindingKind, counted
from testbed.attest.log.ascii import Line, damaged
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry, read_entries, template_digest
from testbed.attest.log.repair import repair
from testbed.attest.log.rules import CANDIDATES, SHOWN, Measured, is_namespaced
from testbed.attest.log.text import is_text, read_lines
from testbed.errors import EvidenceError

# Damaged lines that are listed.
KEPT = 10_000
# A TPM of a PC has no other. Numbers of lines that stand before the PCR without a blank make larger ones.
_PCRS = 24
# In so many entries after each other, PCRs that rise as fast as the numbers of the lines are numbers of lines.
_RISING = 3
GIVE = "copy binary_runtime_measurements or ascii_runtime_measurements as a file, not from a screen or a page"


@dataclass(slots=True, kw_only=True)
class Content:
    """The content of one log, from entries that fit their digest: ``namespaced`` lines, ``plain`` digests by path.

    ``cleaned``: what was undone in lines, how many there are, and the number of the first.
    ``counted``: the other lines: the first one of each PCR, kind and size of digest, and how many there are.
    """

    path: str
    binary: bool
    encoding: str = ""
    entries: int = 0
    violations: int = 0
    others: int = 0
    damaged: int = 0
    repaired: int = 0
    cleaned: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged_lines: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unlisted: int = 0
    namespaced: list[Measured] = field(default_factory=list)
    counted: dict[tuple[int, bytes, int], tuple[Measured, int]] = field(default_factory=dict)
    plain: dict[bytes, list[bytes]] = field(default_factory=dict)

    @property
    def form(self) -> str:
        return "binary" if self.binary else "text"

    @property
    def unread(self) -> int:
        return self.damaged - self.repaired


def read_content(path: str, data: bytes, encoding: str = "", *, repairs: int = 0) -> Content:
    """Read a log, binary or text. ``path``: for messages; ``encoding``: what a text was converted from, if it was.

    ``repairs``: of how many damaged lines the one character that was changed is searched. It takes thousands of tries.

    Raises ``EvidenceError`` if there is no entry, and no line that looks like one.
    """
    log = Content(path=path, binary=not is_text(data), encoding=encoding)
    if log.binary:
        _read_binary(log, data)
    else:
        _read_text(log, data, repairs)
    if not log.entries and not log.damaged and not log.findings:
        raise EvidenceError(f"{path}: expected entries of an IMA log, got none", GIVE)
    if log.unlisted:
        more = Finding(
            kind=log.findings[-1].kind,
            where=f"{path}: further lines",
            expected="none",
            got=f"{log.unlisted} more",
        )
        log.findings.append(more)
    return log


def _read_binary(log: Content, data: bytes) -> None:
    end = 0
    try:
        for entry in read_entries(data):
            end = entry.end
            digest = template_digest(entry)
            if entry.violation or digest == entry.digest:
                _take(log, entry, f"{log.path}: entry {entry.number} at byte {entry.offset}")
                continue
            log.entries += 1
            log.damaged += 1
            why = f"expected template digest {digest.hex()}, that of the fields, got {entry.digest.hex()}"
            if log.damaged <= KEPT:
                log.damaged_lines.append({"entry": entry.number, "offset": entry.offset, "why": why, "repair": None})
    except BadEvidence as error:
        if not log.entries:
            raise EvidenceError(f"{log.path}: {error.message.removeprefix('ima.bin: ')}", GIVE) from error
        where = f"{log.path}: byte {end}, after {counted(log.entries, 'entry', 'entries')}"
        rest = counted(len(data) - end, "byte")
        got = f"{rest} that cannot be read as one: expected {error.expected}, got {error.got}"
        _note(log, Finding(kind=error.kind, where=where, expected="an entry, or the end of the log", got=got))


def _read_text(log: Content, data: bytes, repairs: int) -> None:
    before, rising = (0, 0), 1
    for line in read_lines(data):
        where = f"{log.path}: {line.where}"
        if damaged(line):
            _read_damaged(log, line, where, repair(line.raw) if log.damaged < repairs else None)
        elif line.problem is not None:
            log.entries += 1
            _note(log, line.problem.finding(log.path))
        elif line.entry is not None:
            _take(log, line.entry, where)
            if line.cleaned:
                count, first = log.cleaned.get(line.cleaned, (0, line.number))
                log.cleaned[line.cleaned] = count + 1, first
            steps, before = (line.number - before[0], line.entry.pcr - before[1]), (line.number, line.entry.pcr)
            rising = rising + 1 if steps[0] == steps[1] > 0 else 1
            if rising == _RISING:
                got = f"{line.entry.pcr - 1} and {line.entry.pcr} in the lines before and here: numbers of lines"
                _note(log, Finding(kind=FindingKind.MALFORMED, where=where, expected="a PCR in each line", got=got))
        else:
            log.others += 1


def _read_damaged(log: Content, line: Line, where: str, repaired: tuple[Line, str] | None) -> None:
    why = str(line.problem).removeprefix(line.where).lstrip(": ")
    log.damaged += 1
    if log.damaged <= KEPT:
        log.damaged_lines.append(
            {"line": line.number, "offset": line.offset, "why": why, "repair": repaired and repaired[1]}
        )
    if repaired is None or repaired[0].entry is None:
        log.entries += 1
        return
    log.repaired += 1
    _take(log, repaired[0].entry, f"{where} (repaired)")


def _take(log: Content, entry: Entry, where: str) -> None:
    """Add an entry that fits its template digest to the plain digests or to the audited lines."""
    log.entries += 1
    if entry.pcr >= _PCRS:
        expected = f"a PCR below {_PCRS}, with nothing before it"
        _note(log, Finding(kind=FindingKind.MALFORMED, where=where, expected=expected, got=f"{entry.pcr}"))
        return
    if entry.violation:
        log.violations += 1
        return
    try:
        fields = parse_fields(entry)
        hashed = hashes.digest(fields.algorithm, fields.buf) if fields.buf else fields.digest
    except BadEvidence as error:
        _note(log, error.finding(where))
        return
    if hashed != fields.digest:
        expected, got = "the digest of field buf in field d-ng", fields.digest.hex()
        _note(log, Finding(kind=FindingKind.TEMPLATE_HASH, where=where, expected=expected, got=got))
        return
    line = Measured(
        where=where,
        pcr=entry.pcr,
        name=fields.name,
        algorithm=fields.algorithm,
        digest=fields.digest,
        template=entry.template,
    )
    if fields.of_file and is_namespaced(fields.name):
        log.namespaced.append(line)
        return
    key = (line.pcr, line.name if line.template == b"ima-buf" else b"", len(line.digest))
    first, count = log.counted.get(key, (line, 0))
    log.counted[key] = first, count + 1
    if fields.of_file and len(digests := log.plain.setdefault(fields.name, [])) < CANDIDATES:
        digests.append(fields.digest)


def _note(log: Content, finding: Finding) -> None:
    """Keep the first findings and count the others: in a wrong log mostly every line has the same fault."""
    if len(log.findings) < SHOWN:
        log.findings.append(finding)
    else:
        log.unlisted += 1

"""Report what the digests in each LOG bind: the rule that made them, how many bits, which container."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from testbed import files
from testbed.attest import hashes
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.log.ascii import Line, damaged, read_lines
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry, read_entries, template_digest
from testbed.attest.log.repair import repair
from testbed.attest.log.rules import CANDIDATES, SHOWN, Audit, Group, Measured, audit, infer, is_namespaced, path_of
from testbed.errors import EvidenceError

SCHEMA = 1
# A million entries in text are about 200 MB. Lines have a limit of their own: each costs more than its bytes.
_LOG_MAX = 1 << 28
_LINES_MAX = 1 << 22
_REPAIRS = 64
_KEPT = 10_000


@dataclass(slots=True, kw_only=True)
class _Log:
    """The content of one log, from entries that fit their digest: ``namespaced`` lines, ``plain`` digests by path.

    ``counted``: the other lines: the first one of each PCR, kind and size of digest, and how many there are.
    """

    path: str
    binary: bool
    entries: int = 0
    violations: int = 0
    others: int = 0
    damaged: int = 0
    damaged_lines: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    namespaced: list[Measured] = field(default_factory=list)
    counted: dict[tuple[int, bytes, int], tuple[Measured, int]] = field(default_factory=dict)
    plain: dict[bytes, list[bytes]] = field(default_factory=dict)

    @property
    def form(self) -> str:
        return "binary" if self.binary else "text"


@click.command("semantics")
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(context: click.Context, *, logs: tuple[Path, ...], as_json: bool) -> None:
    """Report what the digests in each LOG bind: the rule that made them, how many bits, which container.

    LOG is an IMA log as the kernel shows it, binary or text; damaged lines of a copied text are reported. The plain
    digests of all logs are used for each log. Nothing is verified: there is no quote.

    Exit status: 0 nothing found; 1 something found; 2 wrong arguments; 4 malformed log, or a file without a log line.
    """
    said = [_read(str(path), _bytes(path)) for path in logs]
    namespaced = [line for log in said for line in log.namespaced]
    known = {path: _plain(said, path) for line in namespaced if (path := path_of(line.name)) is not None}
    counted = (itertools.repeat(line, count) for log in said for line, count in log.counted.values())
    judged = audit(itertools.chain(namespaced, *counted), known)
    findings = [*(finding for log in said for finding in log.findings), *judged.findings]
    if as_json:
        lines = [_line_json(line, known) for line in namespaced]
        click.echo(json.dumps(_json(said, judged, lines, findings), indent=1))
    else:
        click.echo("\n".join(_text(said, judged, findings)))
    context.exit(1 if findings or any(log.damaged for log in said) else 0)


def _plain(logs: Iterable[_Log], path: bytes) -> list[bytes]:
    return list(dict.fromkeys(digest for log in logs for digest in log.plain.get(path, ())))


def _bytes(path: Path) -> bytes:
    """Read a plain file to the end: in securityfs the size of a file is not its length."""
    try:
        with files.open_plain(path) as file:
            data = file.read(_LOG_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{path}: expected a plain file that can be read, got: {files.reason(error)}") from error
    if len(data) > _LOG_MAX:
        raise click.UsageError(f"{path}: expected a log of at most {_LOG_MAX} bytes, got more")
    return data


def _read(path: str, data: bytes) -> _Log:
    # A binary log begins with a PCR in four bytes, little-endian; text has no zero byte there.
    log = _Log(path=path, binary=b"\0" in data[:4])
    if not log.binary and data.count(b"\n") > _LINES_MAX:
        raise click.UsageError(f"{path}: expected a log of at most {_LINES_MAX} lines, got more")
    if log.binary:
        _read_binary(log, data)
    else:
        _read_text(log, data)
    if not log.entries and not log.damaged and not log.findings:
        raise EvidenceError(
            f"{path}: expected lines of an IMA log, got none",
            "give a copy of ascii_runtime_measurements or binary_runtime_measurements",
        )
    return log


def _read_binary(log: _Log, data: bytes) -> None:
    try:
        for entry in read_entries(data):
            where = f"{log.path}: entry {entry.number} at byte {entry.offset}"
            digest = template_digest(entry)
            if entry.violation or digest == entry.digest:
                _take(log, entry, where)
                continue
            log.entries += 1
            why = f"template digest {entry.digest.hex()}, expected {digest.hex()}"
            _damage(log, {"entry": entry.number, "offset": entry.offset, "why": why, "repair": None})
    except BadEvidence as error:
        raise EvidenceError(f"{log.path}: {error.message.removeprefix('ima.bin: ')}") from error


def _read_text(log: _Log, data: bytes) -> None:
    for line in read_lines(data):
        where = f"{log.path}: line {line.number} at byte {line.offset}"
        if damaged(line):
            log.entries += 1
            why = _why(line)
            repaired = repair(line.raw) if log.damaged < _REPAIRS else None
            words = repaired[1] if repaired else None
            _damage(log, {"line": line.number, "offset": line.offset, "why": why, "repair": words})
            if repaired and repaired[0].entry is not None:
                log.entries -= 1
                _take(log, repaired[0].entry, f"{where} (repaired)")
        elif line.problem is not None:
            log.entries += 1
            _note(log, line.problem.finding(log.path))
        elif line.entry is not None:
            _take(log, line.entry, where)
        else:
            log.others += 1


def _why(line: Line) -> str:
    if line.problem is None:
        return "the template digest is not that of the line"
    return str(line.problem).removeprefix(line.where).lstrip(": ")


def _take(log: _Log, entry: Entry, where: str) -> None:
    """Add an entry that fits its template digest to the plain digests or to the audited lines."""
    log.entries += 1
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


def _damage(log: _Log, line: dict[str, Any]) -> None:
    log.damaged += 1
    if log.damaged <= _KEPT:
        log.damaged_lines.append(line)


def _note(log: _Log, finding: Finding) -> None:
    """Keep the first findings: in a wrong log mostly every line has the same fault."""
    if len(log.findings) < SHOWN:
        log.findings.append(finding)


def _line_json(line: Measured, known: dict[bytes, list[bytes]]) -> dict[str, Any]:
    inferred = infer(line, known)
    return {
        "where": line.where,
        "pcr": line.pcr,
        "name": line.name.decode(errors="backslashreplace"),
        "digest": line.digest.hex(),
        "rule": inferred.rule.value,
        "bits": inferred.bits,
        "namespace_bound": inferred.namespace_bound,
        "explanation": inferred.explanation,
    }


def _json(
    logs: Iterable[_Log], judged: Audit, lines: list[dict[str, Any]], findings: Iterable[Finding]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "logs": [
            {
                "path": log.path,
                "form": log.form,
                "entries": log.entries,
                "violations": log.violations,
                "other_lines": log.others,
                "damaged": log.damaged,
                "damaged_lines": log.damaged_lines,
            }
            for log in logs
        ],
        "rules": [
            {
                "pcr": group.pcr,
                "rule": group.rule.value,
                "namespaced": group.namespaced,
                "entries": group.entries,
                "bits": [{"bound": bits, "entries": count} for bits, count in group.bits.items()],
                "namespace_bound": group.namespace_bound if group.namespaced else None,
            }
            for group in judged.groups
        ],
        "lines": lines,
        "findings": [finding.as_json() for finding in findings],
    }


def _text(logs: Iterable[_Log], judged: Audit, findings: Iterable[Finding]) -> Iterator[str]:
    for log in logs:
        other = f", {log.others} other lines" if log.others else ""
        violations = f", {log.violations} violations" if log.violations else ""
        yield f"{log.path} ({log.form}): {log.entries} entries, {log.damaged} damaged{violations}{other}"
        for line in log.damaged_lines[:SHOWN]:
            place = f"line {line['line']}" if "line" in line else f"entry {line['entry']}"
            yield f"  damaged: {place} at byte {line['offset']}: {line['repair'] or line['why']}"
        if log.damaged > SHOWN:
            yield f"  ... and {log.damaged - SHOWN} more; --json has the first {_KEPT}"
    yield from _table(judged.groups)
    for finding in findings:
        yield f"{finding.kind}: {finding.where}"
        yield f"    expected {finding.expected}"
        yield f"    got      {finding.got}"


def _table(groups: Iterable[Group]) -> Iterator[str]:
    yield f"{'PCR':>3}  {'rule':15}  {'entries':>7}  {'bits bound':>10}  namespace"
    for group in groups:
        bound = ("bound" if group.namespace_bound else "not bound") if group.namespaced else "none"
        for bits, count in group.bits.items():
            bound_bits = "unknown" if bits is None else f"{bits}"
            yield f"{group.pcr:>3}  {group.rule.value:15}  {count:>7}  {bound_bits:>10}  {bound}"

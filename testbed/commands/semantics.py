"""Report what the digests in each LOG bind: the rule that made them, how many bits, which container."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from testbed import files
from testbed.attest.finding import Finding, counted
from testbed.attest.log.content import GIVE, KEPT, Content, read_content
from testbed.attest.log.pasted import decode
from testbed.attest.log.rules import SHOWN, Audit, Group, Measured, audit, infer, path_of

SCHEMA = 1
# A million entries in text are about 200 MB. Lines have a limit of their own: each costs more than its bytes.
_LOG_MAX = 1 << 28
_LINES_MAX = 1 << 22
_REPAIRS = 64


@click.command("semantics")
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(context: click.Context, *, logs: tuple[Path, ...], as_json: bool) -> None:
    """Report what the digests in each LOG bind: the rule that made them, how many bits, which container.

    LOG is an IMA log as the kernel shows it, binary or text. In a text that was pasted, quoted or numbered, what was
    added is left out if the template digest of the line confirms that; other damaged lines are reported. The plain
    digests of all logs are used for each log. Nothing is verified: there is no quote.

    Exit status: 0 nothing found; 1 something found, or a damaged line; 2 wrong arguments; 4 a file without an entry.
    """
    said = [_read(path) for path in logs]
    namespaced = [line for log in said for line in log.namespaced]
    known = {path: _plain(said, path) for line in namespaced if (path := path_of(line.name)) is not None}
    others = (itertools.repeat(line, count) for log in said for line, count in log.counted.values())
    judged = audit(itertools.chain(namespaced, *others), known)
    findings = [*(finding for log in said for finding in log.findings), *judged.findings]
    if as_json:
        lines = [_line_json(line, known) for line in namespaced]
        click.echo(json.dumps(_json(said, judged, lines, findings), indent=1))
    else:
        click.echo("\n".join(_text(said, judged, findings)))
    context.exit(1 if findings or any(log.damaged for log in said) else 0)


def _plain(logs: Iterable[Content], path: bytes) -> list[bytes]:
    return list(dict.fromkeys(digest for log in logs for digest in log.plain.get(path, ())))


def _read(path: Path) -> Content:
    data, encoding = decode(_bytes(path))
    # A binary log may have any number of these bytes.
    if b"\0" not in data[:4] and data.count(b"\n") > _LINES_MAX:
        raise click.UsageError(f"{path}: expected a log of at most {_LINES_MAX} lines, got more")
    return read_content(str(path), data, encoding, repairs=_REPAIRS)


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
    logs: Iterable[Content], judged: Audit, lines: list[dict[str, Any]], findings: Iterable[Finding]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "logs": [
            {
                "path": log.path,
                "form": log.form,
                "encoding": log.encoding,
                "entries": log.entries,
                "violations": log.violations,
                "other_lines": log.others,
                "damaged": log.damaged,
                "damaged_lines": log.damaged_lines,
                "cleaned": [
                    {"what": what, "lines": count, "first": first} for what, (count, first) in log.cleaned.items()
                ],
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


def _text(logs: Iterable[Content], judged: Audit, findings: Iterable[Finding]) -> Iterator[str]:
    for log in logs:
        yield from _of_log(log)
    if judged.groups:
        yield from _table(judged.groups)
    for finding in findings:
        yield f"{finding.kind}: {finding.where}"
        yield f"    expected {finding.expected}"
        yield f"    got      {finding.got}"


def _of_log(log: Content) -> Iterator[str]:
    form = ", ".join(filter(None, (log.form, log.encoding)))
    other = f", {counted(log.others, 'other line')}" if log.others else ""
    violations = f", {counted(log.violations, 'violation')}" if log.violations else ""
    parts = ((log.repaired, "repaired"), (log.unread, "not read"))
    fates = f" ({', '.join(f'{count} {fate}' for count, fate in parts if count)})" if log.damaged else ""
    entries = counted(log.entries, "entry", "entries")
    yield f"{log.path} ({form}): {entries}, {log.damaged} damaged{fates}{violations}{other}"
    for what, (count, first) in log.cleaned.items():
        yield f"  cleaned: {counted(count, 'line')}, the first is line {first}: {what}"
    for line in log.damaged_lines[:SHOWN]:
        place = f"line {line['line']}" if "line" in line else f"entry {line['entry']}"
        kind = "repaired" if line["repair"] else "not read"
        yield f"  {kind}: {place} at byte {line['offset']}: {line['repair'] or line['why']}"
    if log.damaged > SHOWN:
        yield f"  ... and {log.damaged - SHOWN} more; --json has the first {KEPT}"
    if log.unread:
        yield f"  hint: {GIVE}"


def _table(groups: Iterable[Group]) -> Iterator[str]:
    yield f"{'PCR':>3}  {'rule':15}  {'entries':>7}  {'bits bound':>10}  namespace"
    for group in groups:
        bound = ("bound" if group.namespace_bound else "not bound") if group.namespaced else "none"
        for bits, count in group.bits.items():
            bound_bits = "unknown" if bits is None else f"{bits}"
            yield f"{group.pcr:>3}  {group.rule.value:15}  {count:>7}  {bound_bits:>10}  {bound}"

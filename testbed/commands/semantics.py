"""Report what the digests in each LOG bind: the rule that made them, how many bits, which container."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from testbed.attest.finding import counted
from testbed.attest.log.content import GIVE, KEPT, Content
from testbed.attest.log.rules import SHOWN, Group
from testbed.attest.log.semantics import Semantics, read_semantics
from testbed.commands._options import usage


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
    said: Semantics = usage(lambda: read_semantics(logs))
    click.echo(json.dumps(said.as_json(), indent=1) if as_json else "\n".join(_text(said)))
    context.exit(0 if said.clean else 1)


def _text(said: Semantics) -> Iterator[str]:
    for log in said.logs:
        yield from _of_log(log)
    if said.audit.groups:
        yield from _table(said.audit.groups)
    for finding in said.findings:
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

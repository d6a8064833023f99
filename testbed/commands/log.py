"""Show the log of BUNDLE entry by entry, or with --diff the differences between two logs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import click

from testbed import progress
from testbed.attest.decoded.as_text import escaped
from testbed.attest.decoded.choose import Differing, RuntimeIds, Wanted, choose, differences
from testbed.attest.decoded.decode import DecodedEntry
from testbed.attest.decoded.read import DecodedLog, open_decoded
from testbed.attest.entries.parse import KINDS
from testbed.attest.finding import counted
from testbed.attest.quote import parse_nonce
from testbed.attest.registers import PCRS
from testbed.attest.verdict import Verdict
from testbed.attest.verify import DEFAULT_PCRS, verify
from testbed.commands._options import usage

SCHEMA = 1
_KEY_MAX = 1 << 16
_DIGEST = 16
_PATH = click.Path(exists=True, path_type=Path)
_HEAD = ("number", "PCR", "attested", "container", "kind", "digest", "says")
_ROW = "{:>7}  {:>3}  {:8}  {:>9}  {:14}  {:16}  {}"
_ATTESTED = {True: "yes", False: "NO", None: "?"}
_COLOURS = {True: "green", False: "yellow", None: None}


@click.command("log")
@click.argument("bundle", type=_PATH)
@click.option(
    "--container",
    "containers",
    multiple=True,
    metavar="ID",
    help="Only entries of this container: its number, or the runtime's id or its first characters; repeatable.",
)
@click.option(
    "--pcr", "pcrs", multiple=True, type=click.IntRange(0, PCRS - 1), help="Only entries of this PCR; repeatable."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only entries of this kind (file, violation, buffer, ctr-file, ...); repeatable.",
)
@click.option("--ak", type=click.File("rb"), help="Attestation key: PEM or TPM2B_PUBLIC. Verifies the log first.")
@click.option("--nonce", metavar="HEX", help="The nonce that you sent.")
@click.option(
    "--pcrs",
    "demanded",
    default=DEFAULT_PCRS,
    show_default=True,
    metavar="BANK:PCR,...",
    help="The PCRs that you demand of the quote.",
)
@click.option(
    "--diff", type=_PATH, metavar="OTHER", help="Show instead what OTHER does not have (-) and what only it has (+)."
)
@click.option("--exact", is_flag=True, help="With --diff: compare whole entries, and how often each one is there.")
@click.option("--full", is_flag=True, help="Show every field, the whole digests, and what the PCR then holds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line (docs/data.md).")
@click.pass_context
def command(
    context: click.Context,
    *,
    bundle: Path,
    containers: tuple[str, ...],
    pcrs: tuple[int, ...],
    kinds: tuple[str, ...],
    ak: BinaryIO | None,
    nonce: str | None,
    demanded: str,
    diff: Path | None,
    exact: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Show the log of BUNDLE entry by entry, or with --diff the differences between two logs.

    BUNDLE is a bundle's directory, or a file that the kernel wrote: binary_runtime_measurements or
    ascii_runtime_measurements. With --ak and --nonce the bundle is verified first, and each entry is marked as attested
    (yes) or not (NO). Without them nothing is verified, the mark is ?, and the author of the log decides what it says.

    With --diff, entries count as equal if they bind the same: kind, file and digest, in whatever container.

    Exit status: 0 all was shown, or no difference; 1 the bundle is not trusted, or there is a difference; 2 wrong
    arguments; 4 the log cannot be read to its end, or the bundle is malformed.
    """
    wanted = Wanted(containers=containers, pcrs=pcrs, kinds=_kinds(kinds))
    if exact and diff is None:
        raise click.UsageError("--exact: expected --diff with it")
    if diff is not None:
        if ak is not None or nonce is not None or full:
            raise click.UsageError("--diff: expected neither --ak, --nonce nor --full with it; it verifies nothing")
        context.exit(_differ(bundle, diff, wanted, exact=exact, as_json=as_json))
    verdict = _verified(bundle, ak, nonce, demanded)
    show = _as_json if as_json else _full if full else _row
    ids = RuntimeIds()
    with open_decoded(bundle, None if verdict is None else verdict.attested) as log:
        if not as_json and not full:
            click.echo(_ROW.format(*_HEAD))
        found = False
        for entry in choose(_watched(log), wanted, ids):
            found = True
            click.echo(show(entry, ids))
        if not found and (containers or pcrs or kinds):
            click.echo("no entry matches; without --container, --pcr and --kind, every entry is shown", err=True)
        _note_unread(log)
    context.exit(0 if verdict is None else verdict.judgement.exit_status)


def _kinds(given: tuple[str, ...]) -> tuple[str, ...]:
    known = ("file", "boot aggregate", "violation", "buffer", "unreadable", *(name.decode() for name in sorted(KINDS)))
    for kind in given:
        if kind not in known:
            raise click.UsageError(f"--kind: expected one of {', '.join(known)}, got {kind!r}")
    return given


def _verified(bundle: Path, ak: BinaryIO | None, nonce: str | None, demanded: str) -> Verdict | None:
    """Verify if it is asked for, and say on standard error what that means."""
    if (ak is None) != (nonce is None):
        raise click.UsageError("--ak and --nonce go together: a quote answers one nonce, signed by one key")
    if ak is None or nonce is None:
        click.echo("nothing is verified: the author of this log decides what it says", err=True)
        return None
    if not bundle.is_dir():
        raise click.UsageError(f"{bundle}: expected a bundle's directory with --ak, got a file: a log has no quote")
    key = ak.read(_KEY_MAX)
    verdict: Verdict = usage(
        lambda: verify(bundle, ak=key, nonce=parse_nonce(nonce), pcrs=demanded, make_state=False, processes=None)
    )
    covered = sum(verdict.attested.values())
    why = ", ".join(sorted({finding.kind for finding in verdict.findings if not finding.informative}))
    more = f" ({why}); `testbed verify` says more" if why else ""
    click.echo(
        f"{verdict.judgement}: {covered} of {counted(verdict.entries, 'entry', 'entries')} attested{more}", err=True
    )
    return verdict


def _differ(first: Path, second: Path, wanted: Wanted, *, exact: bool, as_json: bool) -> int:
    with open_decoded(first) as ours, open_decoded(second) as theirs:
        mine, others = (choose(_watched(log, silent=False), wanted, RuntimeIds()) for log in (ours, theirs))
        found = 0
        for differing in differences(mine, others, exact=exact):
            found += 1
            click.echo(_differing_json(differing) if as_json else _differing(differing))
        _note_unread(ours)
        _note_unread(theirs)
    if not as_json:
        click.echo(f"{counted(found, 'difference')} between {first} and {second}", err=True)
    return 1 if found else 0


def _watched(log: DecodedLog, *, silent: bool | None = None) -> Iterator[DecodedEntry]:
    """Yield the entries and show how far they are read, but where the entries themselves show it."""
    if sys.stdout.isatty() if silent is None else silent:
        yield from log.entries
        return
    with progress.steps(f"{log.path.name}", log.size or None, progress.BYTES) as work:
        for entry in log.entries:
            yield entry
            work.done = entry.offset


def _note_unread(log: DecodedLog) -> None:
    if log.unread:
        said = f"{log.path}: {counted(log.unread, 'line')} not read; `testbed semantics` says which and why"
        click.echo(said, err=True)


def _shown(text: str) -> str:
    return escaped(text.encode(errors="surrogateescape"))


def _row(entry: DecodedEntry, _: RuntimeIds) -> str:
    cells = (entry.number, entry.pcr, _ATTESTED[entry.attested], entry.container or "-", entry.kind)
    line = _ROW.format(*cells, _bound(entry)[:_DIGEST], _shown(entry.says))
    return _coloured(line, entry)


def _bound(entry: DecodedEntry) -> str:
    """Return the digest that people look for: of the file or the image, if the entry has one."""
    fields = dict(entry.fields)
    if entry.kind == entry.name:
        return fields.get("digest") or fields.get("image") or "-"
    return entry.digest or "-"


def _full(entry: DecodedEntry, ids: RuntimeIds) -> str:
    head = f"entry {entry.number} at byte {entry.offset}: {entry.kind}, PCR {entry.pcr}, {_shown(entry.says)}"
    runtime_id = ids.of.get(entry.container or "")
    rows = {
        "attested": _ATTESTED[entry.attested],
        "container": f"{entry.container}" + (f" ({runtime_id})" if runtime_id else "") if entry.container else "none",
        "template": f"{entry.template}, {entry.template_digest}",
        "name": entry.name,
        "digest": f"{entry.algorithm}:{entry.digest}" if entry.digest else "",
        **dict(entry.fields),
        f"PCR {entry.pcr} gets": f"{entry.bank}:{entry.extension}" if entry.extension else "",
        f"PCR {entry.pcr} holds": f"{entry.bank}:{entry.value}" if entry.value else "",
    }
    lines = [f"  {name:16} {_indented(value)}" for name, value in rows.items() if value]
    return "\n".join([_coloured(head, entry), *lines])


def _indented(value: str) -> str:
    return "\n".join([_shown(line) for line in value.split("\n")]).replace("\n", "\n" + 19 * " ")


def _coloured(text: str, entry: DecodedEntry) -> str:
    # click leaves the colours out where standard output is no terminal.
    if "NO_COLOR" in os.environ:
        return text
    return click.style(text, fg=_COLOURS[entry.attested] or ("cyan" if entry.container else None))


def as_json(entry: DecodedEntry, ids: RuntimeIds) -> dict[str, Any]:
    """Return an entry as one object of ``--json``; ``analysis.tables.dictionary`` documents its keys."""
    runtime_id = None if entry.container is None else ids.of.get(entry.container)
    return {"schema": SCHEMA, **asdict(entry), "fields": dict(entry.fields), "runtime_id": runtime_id}


def _as_json(entry: DecodedEntry, ids: RuntimeIds) -> str:
    return json.dumps(as_json(entry, ids))


def _differing(differing: Differing) -> str:
    bound, sign = differing.binding, "-" if differing.first else "+"
    times = f" ({differing.count} times)" if differing.count > 1 else ""
    text = f"{sign} {bound.kind:14} {_shown(' '.join(bound.name.split(chr(10))))} {bound.digest}".rstrip() + times
    return text if "NO_COLOR" in os.environ else click.style(text, fg="red" if differing.first else "green")


def _differing_json(differing: Differing) -> str:
    only = "bundle" if differing.first else "other"
    return json.dumps({"schema": SCHEMA, "only_in": only, **differing.binding._asdict(), "count": differing.count})

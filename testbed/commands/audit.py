"""Attack the evidence in BUNDLE in every known way and check the verifier's findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from testbed import progress
from testbed.attest.mutate.engine.trial import AttackOutcome, Rivals, ask_rivals, matrix
from testbed.attest.mutate.registry import ATTACKS
from testbed.attest.rivals import verifiers
from testbed.commands._evidence import AK, BUNDLE, NONCE, PCRS, key_of, kinds, nonce_of, show
from testbed.commands._options import usage
from testbed.errors import SpecError

SCHEMA = 1


@click.command("audit")
@BUNDLE
@AK
@NONCE
@PCRS
@click.option("--json", "as_json", is_flag=True, help="Print the matrix as JSON.")
@click.option(
    "--rivals/--no-rivals",
    "asked",
    default=False,
    show_default=True,
    help="Ask other verifiers too; this takes minutes.",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    bundle: Path,
    ak: Path | None,
    nonce: str | None,
    pcrs: str,
    as_json: bool,
    asked: bool,
) -> None:
    """Attack the evidence in BUNDLE in every known way and check the verifier's findings.

    Exit status: 0 each attack gave exactly its findings; 1 some did not; 2 wrong arguments; 4 BUNDLE is malformed.
    """
    rows = usage(lambda: _audit(bundle, key_of(bundle, ak), nonce_of(bundle, nonce), pcrs, asked=asked))
    if as_json:
        click.echo(json.dumps(_as_json(bundle, rows), indent=1))
    else:
        _matrix(rows)
    context.exit(0 if all(row.ok for row in rows) else 1)


def _audit(bundle: Path, ak: bytes, nonce: bytes, pcrs: str, *, asked: bool) -> list[AttackOutcome]:
    ask = _rivals() if asked else None
    with progress.steps("attacks", len(ATTACKS)) as work:
        return matrix(bundle, ATTACKS, ak=ak, nonce=nonce, pcrs=pcrs, ask=ask, advance=lambda _: work.advance())


def _rivals() -> Rivals:
    if not verifiers.available():
        names = ", ".join(verifiers.SEES)
        raise SpecError("--rivals: expected another verifier on this machine, got none", f"install one of {names}")
    return ask_rivals(verifiers.available())


def _matrix(rows: Sequence[AttackOutcome]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.rivals))
    head = ["attack", "case", "power", "expected", "found", "correct", *names]
    show(head, [[*_cells(row), *(row.rivals.get(name, "") for name in names)] for row in rows])
    for row in rows:
        for finding in row.findings if not row.ok else ():
            click.echo(
                f"{row.attack.name}: {finding.kind} at {finding.where}: expected {finding.expected}, got {finding.got}"
            )
    made = [row for row in rows if not row.skipped]
    for row in rows:
        if row.skipped:
            click.echo(f"not made: {row.attack.name}: {row.skipped}")
    left = f"; {len(rows) - len(made)} could not be made from this bundle" if len(made) < len(rows) else ""
    click.echo(f"{sum(row.ok for row in made)} of {len(made)} attacks gave exactly the expected findings{left}")


def _cells(row: AttackOutcome) -> list[str]:
    verdict = "not made" if row.skipped else ("yes" if row.ok else "NO")
    found = "" if row.skipped else kinds(row.got)
    return [row.attack.name, row.attack.catalogue, row.attack.power.value, kinds(row.attack.expect), found, verdict]


def _as_json(bundle: Path, rows: Sequence[AttackOutcome]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "bundle": f"{bundle}",
        "made": sum(not row.skipped for row in rows),
        "as_expected": sum(row.ok and not row.skipped for row in rows),
        "attacks": [
            {
                "name": row.attack.name,
                "catalogue": row.attack.catalogue,
                "power": row.attack.power.value,
                "expect": sorted(row.attack.expect),
                "got": sorted(row.got),
                "ok": row.ok,
                "skipped": row.skipped,
                "rivals": dict(row.rivals),
            }
            for row in rows
        ],
    }

"""Honest evidence to attack, and results of attacks: the shared part of ``testbed mutate`` and ``testbed audit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from testbed.attest.mutate.engine.forge import stated_key, stated_nonce
from testbed.attest.quote import parse_nonce
from testbed.attest.verify import DEFAULT_PCRS

_NOTHING = "nothing"

BUNDLE = click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
AK = click.option(
    "--ak",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its attestation key; default: ak.pub or ak.pem in BUNDLE.",
)
NONCE = click.option("--nonce", metavar="HEX", help="Its nonce; default: the one in bundle.json.")
PCRS = click.option(
    "--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs in its quote."
)


def key_of(bundle: Path, given: Path | None) -> bytes:
    return stated_key(bundle) if given is None else given.read_bytes()


def nonce_of(bundle: Path, given: str | None) -> bytes:
    """Return the nonce; say so if it is the bundle's own claim."""
    if given is not None:
        return parse_nonce(given)
    nonce = stated_nonce(bundle)
    click.echo(f"note: nonce {nonce.hex()} is the bundle's own claim; a verifier never trusts it", err=True)
    return nonce


def kinds(kinds: frozenset[str]) -> str:
    return " ".join(sorted(kinds)) or _NOTHING


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, and lines with tabs anywhere else."""
    if not sys.stdout.isatty():
        for row in (head, *rows):
            click.echo("\t".join(row))
        return
    table = Table(*head, highlight=False)
    for row in rows:
        table.add_row(*row, style="bold red" if "NO" in row else None)
    Console().print(table, markup=False)

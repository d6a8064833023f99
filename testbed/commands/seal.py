"""Sign the digests of all files of the campaign DIR, or verify such a seal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from testbed import files
from testbed.analysis import seal
from testbed.analysis.seal import SealDifferences, Sealed
from testbed.attest.finding import counted
from testbed.commands._complete import CampaignPath

# A key in PEM has a few hundred bytes.
_KEY_MAX = 1 << 16


@click.command("seal")
@click.argument("directory", type=CampaignPath(), metavar="DIR")
@click.option(
    "--key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A private key in PEM (Ed25519 or ECDSA); with --verify the public key.",
)
@click.option("--verify", is_flag=True, help="Verify the seal that is there, and name each file that differs.")
@click.pass_context
def command(context: click.Context, *, directory: Path, key: Path, verify: bool) -> None:
    """Sign the digests of all files of the campaign DIR, or verify such a seal.

    The seal is DIR/seal.dsse.json: an in-toto statement with the predicate *Test Result* in a DSSE envelope.

    Exit status: 0 sealed, or the seal is of this key and every file is as it was sealed; 1 a file was changed, removed
    or added, or another key made the seal; 2 wrong arguments; 3 a file cannot be read; 4 no seal, or malformed.
    """
    pem = _read(key)
    if not verify:
        made = seal.seal(directory, pem)
        click.echo(f"{made.path}: {counted(len(made.digests), 'file')} sealed, result {made.result}")
        click.echo("\n".join(seal.proves(made)))
        return
    known = seal.unseal(directory, pem)
    if known is None:
        click.echo(f"NOT SEALED BY THIS KEY: {directory / seal.FILE}: expected a signature of {key} over this list")
        context.exit(1)
    found = seal.compare(directory, known)
    click.echo("\n".join(_text(known, found)))
    context.exit(0 if found.ok else 1)


def _text(known: Sealed, found: SealDifferences) -> Iterator[str]:
    state = "UNCHANGED" if found.ok else "CHANGED"
    yield f"{state}: {counted(len(known.digests), 'file')} sealed by key {known.key}, result {known.result}"
    for what in ("changed", "missing", "added"):
        yield from (f"  {what}: {ascii(name)[1:-1]}" for name in getattr(found, what))
    yield from seal.proves(known)


def _read(path: Path) -> bytes:
    with files.naming(path), files.open_plain(path) as file:
        return file.read(_KEY_MAX)

"""Make a bundle from other projects' evidence, and write a bundle's log in another form."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from testbed import files
from testbed.attest.bundle import LIMITS, log_format, open_log, read_bundle
from testbed.attest.hashes import BANKS
from testbed.attest.log.text import TEXT_MAX, is_text
from testbed.attest.walk import log_entries
from testbed.commands._options import usage
from testbed.errors import SpecError

if TYPE_CHECKING:
    from testbed.attest.foreign.quotes import Imported

_FILE = click.Path(exists=True, path_type=Path)
_KEY_MAX = 1 << 16
_STDOUT = Path("-")
_OUTPUT = click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Bundle to make: a new directory."
)
_LOG_HELP = "The IMA log, binary or text (ascii_runtime_measurements)."


@click.group("bundle")
def command() -> None:
    """Make a bundle from other projects' evidence, and write a bundle's log in another form."""


@command.group("import")
def import_group() -> None:
    """Make a bundle from other projects' evidence. Nothing is judged: that is `testbed verify`."""


@import_group.command("keylime")
@click.argument("answer", type=_FILE)
@click.option("--log", type=_FILE, help=f"{_LOG_HELP} Default: the list in ANSWER, which is text.")
@_OUTPUT
def import_keylime_command(answer: Path, log: Path | None, output: Path) -> None:
    """Read what Keylime's agent answered to `/quotes/integrity`: JSON, of the whole answer or of its `results`.

    The attestation key is not in it. Keylime's registrar has it (`aik_tpm`, base64 of a TPM2B_PUBLIC).
    """
    from testbed.attest.foreign import quotes  # noqa: PLC0415

    raw = quotes.read_answer(_read(answer, quotes.ANSWER_MAX))
    imported = quotes.answered_quote(raw)
    if log is None:
        lines = quotes.answered_log(raw)
        data, notes = quotes.binary_log(lines, "ima_measurement_list") if lines else (b"", ("the answer has no log",))
        quotes.write(imported, data, output)
        _say(imported, output, notes)
    else:
        _write_with(imported, log, output)


@import_group.command("tpm2")
@click.option("--attest", required=True, type=_FILE, help="What `tpm2_quote -m` wrote.")
@click.option("--sig", required=True, type=_FILE, help="What `tpm2_quote -s` wrote, with -f tss or -f plain.")
@click.option("--pcrs", type=_FILE, help="What `tpm2_quote -o` wrote, with -F values or without.")
@click.option("--log", required=True, type=_FILE, help=_LOG_HELP)
@click.option("--ak", type=click.File("rb"), help="Attestation key, PEM or TPM2B_PUBLIC: needed for -f plain.")
@_OUTPUT
def import_tpm2_command(
    *, attest: Path, sig: Path, pcrs: Path | None, log: Path, ak: BinaryIO | None, output: Path
) -> None:
    """Put together the files that `tpm2_quote` wrote, and a log."""
    from testbed.attest.foreign import pcr_values, quotes  # noqa: PLC0415

    values = None if pcrs is None else _read(pcrs, pcr_values.SIZE_MAX)
    key = None if ak is None else ak.read(_KEY_MAX)
    parts = _read(attest, LIMITS["quote.attest"]), _read(sig, LIMITS["quote.sig"])
    _write_with(usage(lambda: quotes.from_parts(*parts, values, key)), log, output)


@command.command("cel")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--bank",
    "banks",
    multiple=True,
    default=("sha1", "sha256"),
    show_default=True,
    type=click.Choice(tuple(BANKS)),
    help="Bank whose digests each record has; may be repeated.",
)
@click.option("--padded-sha1", is_flag=True, help="The kernel is older than 5.8: it extended other banks so.")
@click.option(
    "-o", "--output", default=_STDOUT, type=click.Path(path_type=Path), help="File to write; default: standard output."
)
def cel_command(*, bundle: Path, banks: tuple[str, ...], padded_sha1: bool, output: Path) -> None:
    """Write the log of BUNDLE as CEL-JSON: TCG's Canonical Event Log, one `ima_template` record for each entry.

    Nothing is verified. The digests are computed from the entries; a violation has ones, as in the TPM.
    """
    from testbed.attest.foreign import cel  # noqa: PLC0415

    claim = read_bundle(bundle).log
    different = tuple(dict.fromkeys(banks))
    with open_log(bundle, claim.offset, log_format(claim, None, None)) as log:
        pieces = cel.lines(log_entries(log, claim.offset), different, padded=padded_sha1)
        if output == _STDOUT:
            for piece in pieces:
                click.echo(piece, nl=False)
            return
        with files.replacing(output) as spare, spare.open("w", encoding="ascii") as out:
            out.writelines(pieces)


def _write_with(imported: Imported, log: Path, output: Path) -> None:
    """Write a bundle with a log from a file; a binary one may be too large for memory."""
    from testbed.attest.foreign import quotes  # noqa: PLC0415

    try:
        with files.open_plain(log) as file:
            begin = file.read(4)
            if not is_text(begin):
                file.seek(0)
                quotes.write(imported, file, output)
                _say(imported, output, ())
                return
            data = begin + file.read(TEXT_MAX)
    except files.NotPlainFile as error:
        raise SpecError(f"{log}: expected a plain file, got: {files.reason(error)}", "give an IMA log") from error
    binary, notes = quotes.binary_log(data, log.name)
    quotes.write(imported, binary, output)
    _say(imported, output, notes)


def _say(imported: Imported, output: Path, notes: tuple[str, ...]) -> None:
    for note in (*imported.notes, *notes):
        click.echo(f"note: {note}", err=True)
    nonce = imported.nonce.hex()
    click.echo(
        f"verify it with: testbed verify {shlex.quote(str(output))} --ak AK --nonce HEX --pcrs {imported.selection}"
    )
    click.echo(f"HEX is the nonce that you sent; the quote itself has {nonce or 'an empty one'}")


def _read(path: Path, most: int) -> bytes:
    """Read a small plain file. Raises ``SpecError`` if it is none, or too large."""
    hint = "give the file as the other program wrote it"
    try:
        with files.open_plain(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise SpecError(f"{path}: expected a plain file, got: {files.reason(error)}", hint) from error
    if len(data) > most:
        raise SpecError(f"{path}: expected at most {most} bytes, got more", hint)
    return data

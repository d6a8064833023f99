"""Collect evidence from a machine that is not yours, with a script and files that a person carries."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed import files
from testbed.attest.quote import parse_selection
from testbed.attest.verify import DEFAULT_PCRS
from testbed.commands._options import usage
from testbed.errors import SpecError

if TYPE_CHECKING:
    from cryptography import x509

_STDOUT = Path("-")
_CA_MAX = 1 << 20
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PCRS = click.option(
    "--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs to be quoted."
)


@click.group("collect")
def command() -> None:
    """Collect evidence from a machine that is not yours, with a script and files that a person carries.

    docs/collect.md goes through it step by step.
    """


@command.command("script")
@_PCRS
@click.option(
    "-o", "--output", default=_STDOUT, type=click.Path(path_type=Path), help="File to write; default: standard output."
)
def script_command(pcrs: str, output: Path) -> None:
    """Write the shell script that root runs on the machine to be attested. It needs tpm2-tools there."""
    from testbed.attest.enrol.exchange import script  # noqa: PLC0415 - tarfile and cryptography are slow to import

    text = usage(lambda: script(pcrs))
    if output == _STDOUT:
        click.echo(text, nl=False)
        return
    files.write_plain(output, text.encode(), mode=0o777)
    name = shlex.quote(output.name)
    click.echo(f"carry {output} to the machine, and run there: sudo sh {name} check && sudo sh {name} enrol")


@command.command("challenge")
@click.argument("enrolment", type=_FILE)
@click.option("--ca", "authorities", multiple=True, type=_FILE, help="Certificate of the TPM's maker; may be repeated.")
@click.option("--no-certificate", is_flag=True, help="Do not ask who certified the endorsement key.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory to make.")
@_PCRS
def challenge_command(
    enrolment: Path, *, authorities: tuple[Path, ...], no_certificate: bool, output: Path, pcrs: str
) -> None:
    """Make a challenge that only the TPM of ENROLMENT (`enrol.tar`) can answer.

    Each certificate of --ca is trusted to issue endorsement keys. Exit status 4 if the keys are not those of a TPM, or
    nobody in --ca certified them.
    """
    from testbed.attest.enrol.exchange import CHALLENGE, challenge  # noqa: PLC0415

    if no_certificate == bool(authorities):
        raise click.UsageError("expected --ca or --no-certificate, and not both")
    trusted = None if no_certificate else usage(lambda: _authorities(authorities))
    usage(lambda: parse_selection(pcrs))
    made = challenge(enrolment, output, authorities=trusted, pcrs=pcrs)
    if made.issuer:
        click.echo(f"the endorsement key is certified by {ascii(made.issuer)[1:-1]}")
    else:
        click.echo("note: nobody was asked whether the endorsement key is that of a real TPM", err=True)
    click.echo(f"carry {output / CHALLENGE} to the machine, and run there: sudo sh collect.sh answer {CHALLENGE}")


@command.command("accept")
@click.argument("challenge", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("evidence", type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Bundle to make.")
def accept_command(challenge: Path, evidence: Path, output: Path) -> None:
    """Check that EVIDENCE (`evidence.tar`) answers the directory CHALLENGE, and unpack its bundle.

    It says how to verify the bundle, and does not do it. Exit status 4 if the TPM could not open the credential.
    """
    from testbed.attest.enrol.exchange import accept  # noqa: PLC0415

    answered = accept(challenge, evidence, output)
    click.echo("the TPM that has the endorsement key has the attestation key too; verify its evidence with")
    where = shlex.quote(str(output))
    ak = shlex.quote(str(output / "ak.pub"))
    click.echo(f"testbed verify {where} --ak {ak} --nonce {answered.nonce.hex()} --pcrs {answered.pcrs}")


def _authorities(paths: tuple[Path, ...]) -> tuple[x509.Certificate, ...]:
    from testbed.attest.enrol.keys import load_authorities  # noqa: PLC0415

    read = []
    for path in paths:
        try:
            with files.open_plain(path) as file:
                read.append((str(path), file.read(_CA_MAX)))
        except OSError as error:
            raise SpecError(
                f"{path}: expected a plain file, got: {files.reason(error)}", "give a certificate"
            ) from error
    return load_authorities(read)

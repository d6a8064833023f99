"""``testbed verify``: the judge, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from testbed.attest.finding import Finding, Judgement, Verdict
from testbed.attest.quote import parse_nonce
from testbed.attest.tpm import parse_name
from testbed.attest.verify import DEFAULT_PCRS, verify
from testbed.errors import SpecError

_SHOWN = 20
_KEY_MAX = 1 << 16
_SAID = {
    Judgement.TRUSTED: "trusted (log authentic, files not judged)",
    Judgement.UNTRUSTED: "untrusted",
    Judgement.MALFORMED: "malformed",
}


@click.command("verify")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ak", required=True, type=click.File("rb"), help="Attestation key: PEM or TPM2B_PUBLIC.")
@click.option("--nonce", required=True, metavar="HEX", help="The nonce that you sent.")
@click.option(
    "--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs that you demand."
)
@click.option("--ak-parent", metavar="HEX", help="Qualified name of the key's parent; needs a TPM2B_PUBLIC.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def command(
    context: click.Context,
    *,
    bundle: Path,
    ak: BinaryIO,
    nonce: str,
    pcrs: str,
    ak_parent: str | None,
    as_json: bool,
) -> None:
    """Judge the evidence in BUNDLE: exit status 0 trusted, 1 not trusted, 2 wrong arguments, 4 malformed."""
    try:
        verdict = verify(
            bundle,
            ak=ak.read(_KEY_MAX),
            nonce=parse_nonce(nonce),
            pcrs=pcrs,
            ak_parent=None if ak_parent is None else parse_name(ak_parent),
        )
    except SpecError as error:
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(verdict.as_json(), indent=1) if as_json else "\n".join(_lines(verdict)))
    context.exit(verdict.judgement.exit_status)


def _lines(verdict: Verdict) -> Iterator[str]:
    """Say the verdict first, then why, then what stands behind it."""
    yield _SAID[verdict.judgement]
    for finding in verdict.findings[:_SHOWN]:
        yield from _finding_lines(finding)
    if len(verdict.findings) > _SHOWN:
        yield f"  ... and {len(verdict.findings) - _SHOWN} more; --json has them all"
    yield f"  log: {verdict.entries} entries, {verdict.unattested} of them unattested"
    for pcr, value in sorted(verdict.pcrs.items()):
        yield f"  PCR {pcr}: {value}, after {verdict.attested[pcr]} entries"
    for key, container in verdict.containers.items():
        name = container.runtime_id or "of no runtime that is known here"
        yield f"  container {key}: {verdict.container_judgement(key)}, {container.entries} entries, {name}"
    for note in verdict.notes:
        yield f"  note: {note}"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.kind}{' (informative)' if finding.informative else ''}: {finding.where}"
    yield f"    expected {finding.expected}"
    yield f"    got      {finding.got}"

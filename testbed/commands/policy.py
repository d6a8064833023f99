"""Make and check reference policies: which files may run on the host and in containers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from testbed import progress
from testbed.attest.bundle import open_log
from testbed.attest.image.platform import Platform
from testbed.attest.log.ima import Entry
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.policy.file import parse_document, read_policy_file
from testbed.attest.policy.keys import json_schema
from testbed.attest.policy.log import from_entries
from testbed.attest.policy.make import ANY, MadePolicy, as_json, from_images, from_keys, from_rootfs, merge
from testbed.attest.policy.reference import build_policy, load_policy, parse_policy
from testbed.attest.quote import parse_nonce
from testbed.attest.verify import DEFAULT_PCRS, attested_entries, verify
from testbed.commands._composefs import composefs_digest
from testbed.commands._images import DRIVER, PLATFORM, Named, NamedImage
from testbed.rundir import write_json

_KEY_MAX = 1 << 16
_FILE = click.Path(exists=True, path_type=Path)
_STDOUT = Path("-")


def _writes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that make a policy."""
    output = click.option(
        "-o",
        "--output",
        default=_STDOUT,
        type=click.Path(path_type=Path),
        help="File to write; default: standard output.",
    )
    onto = click.option(
        "--onto",
        metavar="POLICY",
        type=_FILE,
        help="Write POLICY with these additions; the file POLICY itself is not changed.",
    )
    return output(onto(command))


@click.group("policy")
def command() -> None:
    """Make and check reference policies: which files may run on the host and in containers."""


@command.command("from-image")
@click.argument("images", nargs=-1, required=True, type=NamedImage(), metavar="[NAME=]IMAGE...")
@PLATFORM
@DRIVER
@click.option("--composefs", is_flag=True, help="Also list the digest of each image's root on composefs.")
@_writes
def from_image_command(
    *, images: Named, platform: Platform | None, driver: str | None, composefs: bool, output: Path, onto: Path | None
) -> None:
    """List every regular file of container images; a container can have been started from any of them.

    IMAGE is an archive of one image (of OCI's or Docker's format), or a directory with an OCI layout. NAME is its name
    in the policy; default: as the archive names it.
    """
    archives, names = [path for _, path in images], [name for name, _ in images]
    roots = (lambda image: {"composefs": [composefs_digest(image.nodes)]}) if composefs else None
    _write(from_images(archives, names, platform=platform, driver=driver, roots=roots), output, onto)


@command.command("from-rootfs")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_writes
def from_rootfs_command(directory: Path, output: Path, onto: Path | None) -> None:
    """List every regular file of a host's root file system, without entering others mounted in it."""
    _write(from_rootfs(directory), output, onto)


@command.command("from-log")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ak", type=click.File("rb"), help="Attestation key: PEM or TPM2B_PUBLIC.")
@click.option("--nonce", metavar="HEX", help="The nonce that you sent.")
@click.option(
    "--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs that you demand."
)
@_writes
@click.pass_context
def from_log_command(
    context: click.Context,
    *,
    bundle: Path,
    ak: BinaryIO | None,
    nonce: str | None,
    pcrs: str,
    output: Path,
    onto: Path | None,
) -> None:
    """List all files and buffers in the log of BUNDLE (trust on first use).

    With --ak and --nonce the bundle is verified and only attested entries count; exit status 1 and no policy if it is
    not trusted. Without them nothing is verified.
    """
    if (ak is None) != (nonce is None):
        raise click.UsageError("--ak and --nonce go together: a quote answers one nonce, signed by one key")
    if ak is None or nonce is None:
        click.echo("nothing was verified: the author of this log decides what this policy allows", err=True)
        entries = _all_entries(bundle)
    else:
        verdict = verify(bundle, ak=ak.read(_KEY_MAX), nonce=parse_nonce(nonce), pcrs=pcrs)
        if not verdict.ok:
            why = ", ".join(sorted({finding.kind for finding in verdict.findings if not finding.informative}))
            click.echo(f"{verdict.judgement} ({why}): no policy was made; `testbed verify` says more", err=True)
            context.exit(verdict.judgement.exit_status)
        entries = attested_entries(bundle, verdict)
    _write(from_entries(progress.each(entries, "policy", unit="entries")), output, onto)


@command.command("from-key")
@click.argument("keys", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_writes
def from_key_command(keys: Sequence[Path], output: Path, onto: Path | None) -> None:
    """Accept what certificates or public keys (PEM or DER, one in each file) have signed."""
    _write(from_keys(keys), output, onto)


@command.command("import-keylime")
@click.argument("file", type=click.Path(path_type=Path))
@_writes
def import_keylime_command(file: Path, output: Path, onto: Path | None) -> None:
    """Make a policy from Keylime's runtime policy (version 1). What was not carried over is listed on stderr."""
    from testbed.attest.foreign.keylime_import import import_policy  # noqa: PLC0415

    _write(import_policy(read_policy_file(file), str(file)), output, onto)


@command.command("export-keylime")
@click.argument("file", metavar="POLICY", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default=_STDOUT, type=click.Path(path_type=Path), help="File to write; default: standard output."
)
def export_keylime_command(file: Path, output: Path) -> None:
    """Write what a policy says of the host as Keylime's runtime policy; all else is named on stderr."""
    from testbed.attest.foreign.keylime_export import export_policy  # noqa: PLC0415

    read = parse_document(read_policy_file(file), str(file))
    build_policy(read, str(file))
    made = export_policy(read)
    for note in made.notes:
        click.echo(note, err=True)
    if output == _STDOUT:
        click.echo(json.dumps(made.document, indent=1, sort_keys=True))
        return
    write_json(output, made.document)


@command.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
def lint_command(file: Path) -> None:
    """Check a policy: exit status 0 if it can be used, else 2 with the reason."""
    loaded = load_policy(file)
    listed = len(loaded.accepted) + len(loaded.verity)
    files = sum(len(image.files) for image in loaded.images.values())
    keys = {id(key) for named in loaded.signers.values() for key in named}
    click.echo(f"{file}: good; host: {listed} digests, {len(loaded.exclude)} excludes, {len(keys)} keys; ", nl=False)
    click.echo(f"images: {len(loaded.images)} with {files} files; containers: {len(loaded.containers)}")


@command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the file."""
    click.echo(json.dumps(json_schema(), indent=1))


def _all_entries(bundle: Path) -> Iterator[Entry]:
    with open_log(bundle) as log:
        for item in read_runs(log.file, log.size):
            yield from item.entries() if isinstance(item, Run) else (item,)


def _write(made: MadePolicy, output: Path, onto: Path | None) -> None:
    """Write a policy that has been checked. Deterministic: the same content gives the same bytes."""
    document = made.document
    if onto is not None:
        base = parse_document(read_policy_file(onto), str(onto))
        build_policy(base, str(onto))
        document = merge(as_json(base), document)
    text = json.dumps(document, indent=1, sort_keys=True)
    parse_policy(text.encode(), "the policy that was made")
    for note in made.notes:
        click.echo(note, err=True)
    if not document["host"]["boot_aggregate"]:
        click.echo("no boot_aggregate is known, but every log begins with one: add it to host.boot_aggregate", err=True)
    if len(document["containers"].get(ANY, ())) > 1:
        names = ", ".join(document["containers"][ANY])
        click.echo(
            f"a container can be of any of these images: {names}; name its image by its id in `containers`", err=True
        )
    if output == _STDOUT:
        click.echo(text)
        return
    write_json(output, document)

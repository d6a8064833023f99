"""Judge the evidence in BUNDLE: exit status 0 trusted, 1 untrusted, 2 wrong arguments, 4 malformed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from testbed.attest.finding import Finding, FindingKind, counted
from testbed.attest.hashes import BANKS
from testbed.attest.quote import parse_nonce
from testbed.attest.registers import PCRS, pcr_register
from testbed.attest.saved.state import load_state
from testbed.attest.saved.state import save_state as save_state_file
from testbed.attest.tpm import parse_name
from testbed.attest.verdict import Judgement, Verdict
from testbed.attest.verify import DEFAULT_PCRS, IMA_PCR, verify
from testbed.commands._ear import EAR_FILE, EAR_KEY, EAR_PROFILE, result_writer
from testbed.errors import SpecError

if TYPE_CHECKING:
    from testbed.attest.policy.reference import Policy

Value = TypeVar("Value")
_FILE = click.Path(path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 20
_KEY_MAX = 1 << 16
_START = re.compile(r"([0-9]{1,2})=((?:[0-9a-fA-F]{2})+)", re.ASCII)
_FIRMWARE = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16})", re.ASCII)


@click.command("verify")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ak", required=True, type=click.File("rb"), help="Attestation key: PEM or TPM2B_PUBLIC.")
@click.option("--nonce", required=True, metavar="HEX", help="The nonce that you sent.")
@click.option(
    "--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs that you demand."
)
@click.option("--ak-parent", metavar="HEX", help="Qualified name of the key's parent; needs a TPM2B_PUBLIC.")
@click.option("--firmware", metavar="HEX", help="The expected firmwareVersion of the TPM.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    metavar="PCR=HEX",
    help="Value of a PCR before the log's first entry, if firmware or boot loader extended it.",
)
@click.option(
    "--padded-sha1", is_flag=True, help="The kernel is older than 5.8: it extends each bank with a padded SHA-1."
)
@click.option(
    "--ima-pcr",
    type=click.IntRange(0, PCRS - 1),
    default=IMA_PCR,
    show_default=True,
    help="The PCR that IMA extends (CONFIG_IMA_MEASURE_PCR_IDX of the kernel).",
)
@click.option(
    "--log-digest",
    type=click.Choice(tuple(BANKS)),
    help="Hash of the log's template digests; by default what the bundle says, else sha1.",
)
@click.option(
    "--byte-order",
    type=click.Choice(("little", "big")),
    help="Byte order of the log; by default what the bundle says, else little.",
)
@click.option(
    "--allow-resettable",
    "resettable",
    multiple=True,
    metavar="PCR=REASON",
    help="Rely on a PCR that can be reset while the machine runs (16 to 23), for this reason.",
)
@click.option("--policy", type=_FILE, help="Reference policy that says which files may run (docs/policy.md).")
@click.option("--since", type=_FILE, help="Continue from the state that an earlier verification saved.")
@click.option("--recheck", is_flag=True, help="With --since: also hash the log before that state again.")
@click.option(
    "--rejudge",
    is_flag=True,
    help="With --since: judge the whole log again, by the policy that you give now.",
)
@click.option("--save-state", type=_OUT, help="Save what this verification attested, if it is trusted.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Number of processes; by default one for each 16 MiB of log, at most one for each processor.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@EAR_FILE
@EAR_KEY
@EAR_PROFILE
@click.pass_context
def command(
    context: click.Context,
    *,
    bundle: Path,
    ak: BinaryIO,
    nonce: str,
    pcrs: str,
    ak_parent: str | None,
    firmware: str | None,
    starts: tuple[str, ...],
    padded_sha1: bool,
    ima_pcr: int,
    log_digest: str | None,
    byte_order: str | None,
    resettable: tuple[str, ...],
    policy: Path | None,
    since: Path | None,
    recheck: bool,
    rejudge: bool,
    save_state: Path | None,
    jobs: int | None,
    as_json: bool,
    ear: Path | None,
    ear_key: BinaryIO | None,
    ear_profile: str,
) -> None:
    """Judge the evidence in BUNDLE: exit status 0 trusted, 1 untrusted, 2 wrong arguments, 4 malformed."""
    for name, given in (("--recheck", recheck), ("--rejudge", rejudge)):
        if given and since is None:
            raise click.UsageError(
                f"{name}: expected --since with it; without a saved state the whole log is judged anyway"
            )
    try:
        result = result_writer(ear, ear_key, ear_profile)
        loaded = None if policy is None else _policy(policy)
        verdict = verify(
            bundle,
            ak=ak.read(_KEY_MAX),
            nonce=parse_nonce(nonce),
            pcrs=pcrs,
            ak_parent=None if ak_parent is None else parse_name(ak_parent),
            firmware=None if firmware is None else _firmware(firmware),
            starts=_by_pcr("--start", map(_start, starts)),
            padded_sha1=padded_sha1,
            ima_pcr=ima_pcr,
            log_digest=log_digest,
            byte_order=byte_order,
            resettable=_by_pcr("--allow-resettable", map(_resettable, resettable)),
            policy=loaded,
            since=None if since is None else load_state(since),
            recheck=recheck,
            rejudge=rejudge,
            make_state=save_state is not None,
            processes=jobs,
        )
    except SpecError as error:
        raise click.UsageError(str(error)) from error
    lines = _lines(verdict, judged=policy is not None)
    click.echo(json.dumps(verdict.as_json(), indent=1) if as_json else "\n".join(lines))
    if result is not None:
        result(verdict, parse_nonce(nonce), None if loaded is None else loaded.sha256)
    if save_state is not None:
        _save(save_state, verdict)
    context.exit(verdict.judgement.exit_status)


def _policy(path: Path) -> Policy:
    from testbed.attest.policy.reference import load_policy  # noqa: PLC0415 - pydantic is slow to import

    return load_policy(path)


def _firmware(text: str) -> int:
    match = _FIRMWARE.fullmatch(text)
    if not match:
        raise SpecError(f"--firmware: expected up to 16 hex digits, got {text[:40]!r}", "`tpm2_print` shows it")
    return int(match[1], 16)


def _start(text: str) -> tuple[int, bytes]:
    match = _START.fullmatch(text)
    if not match or int(match[1]) >= PCRS:
        raise SpecError(f"--start: expected PCR=HEX, got {text[:80]!r}", "for example 11=" + 32 * "00")
    return int(match[1]), bytes.fromhex(match[2])


def _resettable(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"([0-9]{1,2})=(.*\S.*)", text, re.ASCII)
    if not match or not pcr_register(int(match[1]), "sha256").reset_by:
        hint = "for example 23='only the boot loader has access to the TPM'"
        raise SpecError(f"--allow-resettable: expected a PCR from 16 to 23, = and a reason, got {text[:80]!r}", hint)
    return int(match[1]), match[2]


def _by_pcr(option: str, pairs: Iterable[tuple[int, Value]]) -> dict[int, Value]:
    """Return values by PCR. The same value twice is harmless; of two values nobody knows which is meant."""
    values: dict[int, Value] = {}
    for number, value in pairs:
        if values.setdefault(number, value) != value:
            got = " and ".join(one.hex() if isinstance(one, bytes) else f"{one}" for one in (values[number], value))
            raise SpecError(f"{option}: expected one value of PCR {number}, got {got}", "give each PCR once")
    return values


def _save(path: Path, verdict: Verdict) -> None:
    """Save a trusted verdict's state. If there is none, report it on stderr and leave an older file unchanged."""
    if verdict.state is not None:
        save_state_file(path, verdict.state)
        return
    why = "entries of different PCRs are out of order" if verdict.ok else "the evidence is not trusted"
    click.echo(f"{path}: no state saved: {why}", err=True)


def _lines(verdict: Verdict, *, judged: bool) -> Iterator[str]:
    """Yield the verdict first, then the findings, then the log, PCRs and containers."""
    unjudged = verdict.judgement is Judgement.TRUSTED and not judged
    yield f"{verdict.judgement}{' (log authentic, files not judged)' if unjudged else ''}"
    for finding in verdict.findings[:_SHOWN]:
        yield from _finding_lines(finding)
    if len(verdict.findings) > _SHOWN:
        yield f"  ... and {len(verdict.findings) - _SHOWN} more, which --json lists"
    numbers: Counter[FindingKind] = Counter()
    for (kind, _), number in verdict.omitted.items():
        numbers[kind] += number
    for kind, number in sorted(numbers.items()):
        yield f"  {kind}: {number} more, which are only counted"
    covered = sum(verdict.attested.values())
    log = counted(verdict.entries, "entry", "entries")
    yield f"  log: {log}, {covered} of them attested, {verdict.unattested} after the quoted state"
    for pcr, value in sorted(verdict.pcrs.items()):
        yield f"  PCR {pcr}: {value}, after {counted(verdict.attested[pcr], 'entry', 'entries')}"
    judgements = verdict.container_judgements(verdict.containers)
    for key, container in verdict.containers.items():
        inside = f"inside container {container.parent}" if container.parent else "without a runtime's id"
        name = container.runtime_id or inside
        image = f", image {container.image}" if container.image else ""
        tree = f", tree {container.image_digest}" if container.image_digest else ""
        tree += ", which stands for its files" if container.drift else ""
        said = f"{judgements[key]}, {counted(container.entries, 'entry', 'entries')}, {name}{image}{tree}"
        yield f"  container {key}: {said}"
    for note in verdict.notes:
        yield f"  note: {note}"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.kind}{' (informative)' if finding.informative else ''}: {finding.where}"
    yield f"    expected {finding.expected}"
    yield f"    got      {finding.got}"

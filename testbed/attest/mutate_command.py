"""``testbed mutate`` makes one attack's evidence, ``testbed audit`` puts the verifier through all of them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from testbed.attest import rivals
from testbed.attest.mutate.model import REFUSED, EvidenceAttack, Forged, Honest
from testbed.attest.mutate.registry import ATTACKS, find
from testbed.attest.mutate.run import Rivals, Row, ask_rivals, beside, matrix, read_honest, saved_state, write_files
from testbed.attest.quote import parse_nonce
from testbed.attest.state import save_state
from testbed.attest.verify import DEFAULT_PCRS
from testbed.errors import SpecError

SCHEMA = 1
_KEYS = ("ak.pub", "ak.pem")
_JSON_MAX = 1 << 20
_NOTHING = "nothing"

_BUNDLE = click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
_AK = click.option(
    "--ak", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key; default: ak.pub beside it."
)
_NONCE = click.option("--nonce", metavar="HEX", help="Its nonce; default: the one that it claims itself.")
_PCRS = click.option("--pcrs", default=DEFAULT_PCRS, show_default=True, metavar="BANK:PCR,...", help="The PCRs of it.")


@click.command("mutate")
@_BUNDLE
@click.option("--list", "listed", is_flag=True, help="Say which attacks there are and what must follow.")
@click.option("--apply", "name", metavar="NAME", help="Make this attack's evidence.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="New directory for it.")
@_AK
@_NONCE
@_PCRS
def mutate_command(
    *, bundle: Path, listed: bool, name: str | None, output: Path | None, ak: Path | None, nonce: str | None, pcrs: str
) -> None:
    """Turn the honest evidence in BUNDLE into that of a named attack, and say how to judge it.

    Give --list, or --apply NAME -o DIRECTORY. Nothing of BUNDLE is changed.
    """
    if listed == (name is not None):
        raise click.UsageError("expected either --list or --apply NAME")
    honest = _usage(lambda: read_honest(bundle, ak=_key(bundle, ak), nonce=_nonce(bundle, nonce), pcrs=pcrs))
    if name is None:
        _show(["attack", "case", "power", "must follow", "what is done"], [_listed(one, honest) for one in ATTACKS])
        return
    if output is None:
        raise click.UsageError("--apply needs -o DIRECTORY, which must not exist yet")
    for line in _usage(lambda: _apply(find(name), honest, output)):
        click.echo(line)


@click.command("audit")
@_BUNDLE
@_AK
@_NONCE
@_PCRS
@click.option("--json", "as_json", is_flag=True, help="Print the matrix as JSON.")
@click.option(
    "--rivals/--no-rivals", "asked", default=False, show_default=True, help="Ask other verifiers, too: takes minutes."
)
@click.pass_context
def audit_command(
    context: click.Context,
    *,
    bundle: Path,
    ak: Path | None,
    nonce: str | None,
    pcrs: str,
    as_json: bool,
    asked: bool,
) -> None:
    """Attack the evidence in BUNDLE in every known way and hold the verifier to what must follow.

    Exit status: 0 each attack gave exactly its findings; 1 some did not; 2 wrong arguments; 4 BUNDLE is malformed.
    """
    rows = _usage(lambda: _audit(bundle, _key(bundle, ak), _nonce(bundle, nonce), pcrs, asked=asked))
    if as_json:
        click.echo(json.dumps(_as_json(bundle, rows), indent=1))
    else:
        _matrix(rows)
    context.exit(0 if all(row.ok for row in rows) else 1)


def _usage(work: Callable[[], Any]) -> Any:
    """Say what is wrong with an argument as click does; other errors go on as they are."""
    try:
        return work()
    except SpecError as error:
        raise click.UsageError(str(error)) from error


def _key(bundle: Path, given: Path | None) -> bytes:
    if given is not None:
        return given.read_bytes()
    for name in _KEYS:
        if (bundle / name).is_file():
            return (bundle / name).read_bytes()
    raise SpecError(f"{bundle}: expected the attestation key as {' or '.join(_KEYS)}, got neither", "give --ak")


def _nonce(bundle: Path, given: str | None) -> bytes:
    """Return the nonce. One that the bundle claims is good enough to attack it, never to trust it."""
    if given is not None:
        return parse_nonce(given)
    try:
        with (bundle / "bundle.json").open("rb") as file:
            told = json.loads(file.read(_JSON_MAX))["nonce"]
        nonce = parse_nonce(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError(
            f"{bundle}: expected a nonce in bundle.json, got none that can be read", "give --nonce"
        ) from error
    click.echo(f"note: nonce {told} is the bundle's own word; a verifier takes none from there", err=True)
    return nonce


def _apply(attack: EvidenceAttack, honest: Honest, output: Path) -> list[str]:
    """Write the forged evidence, and what it is to be judged with, into a new directory."""
    if reason := attack.applies(honest):
        raise SpecError(f"{attack.name}: cannot be made from this bundle: {reason}", "--list shows which can")
    forged = attack.forge(honest)
    with beside(output) as new:
        write_files(forged, new)
        (new / _key_name(forged)).write_bytes(forged.ak)
        if forged.policy is not None:
            (new / "policy.json").write_bytes(forged.policy)
        if forged.since is not None:
            save_state(new / "state.json", saved_state(forged.since, new.with_name("first")))
    said = "the verifier must refuse its own argument (exit 2)" if attack.expect == {REFUSED} else _kinds(attack.expect)
    return [
        f"{attack.name} ({attack.catalogue}): {attack.summary}",
        shlex.join(command_line(forged, output)),
        f"must follow: {said}",
    ]


def _key_name(forged: Forged) -> str:
    return "ak.pem" if forged.ak.startswith(b"-----BEGIN") else "ak.pub"


def command_line(forged: Forged, directory: Path) -> list[str]:
    """Return the command that judges the evidence in ``directory`` as the attack's verifier would."""
    argv = ["testbed", "verify", f"{directory}", "--ak", f"{directory / _key_name(forged)}"]
    argv += ["--nonce", forged.nonce.hex(), "--pcrs", forged.pcrs]
    if forged.ak_parent is not None:
        argv += ["--ak-parent", forged.ak_parent.hex()]
    if forged.firmware is not None:
        argv += ["--firmware", f"{forged.firmware:016x}"]
    for pcr, value in forged.starts.items():
        argv += ["--start", f"{pcr}={value.hex()}"]
    if forged.policy is not None:
        argv += ["--policy", f"{directory / 'policy.json'}"]
    if forged.since is not None:
        argv += ["--since", f"{directory / 'state.json'}"]
    return argv + ["--padded-sha1"] * forged.padded_sha1 + ["--recheck"] * forged.recheck


def _audit(bundle: Path, ak: bytes, nonce: bytes, pcrs: str, *, asked: bool) -> list[Row]:
    with _bar(len(ATTACKS)) as advance:
        return matrix(bundle, ATTACKS, ak=ak, nonce=nonce, pcrs=pcrs, ask=_rivals() if asked else None, advance=advance)


def _rivals() -> Rivals:
    if not rivals.available():
        names = ", ".join(rivals.SEES)
        raise SpecError("--rivals: expected another verifier on this machine, got none", f"install one of {names}")
    return ask_rivals(rivals.available())


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Row], None]]:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("attacks", total=total)
        yield lambda _: progress.advance(task)


def _kinds(kinds: frozenset[str]) -> str:
    return " ".join(sorted(kinds)) or _NOTHING


def _listed(attack: EvidenceAttack, honest: Honest) -> list[str]:
    reason = attack.applies(honest)
    told = f"{attack.summary} (not from this bundle: {reason})" if reason else attack.summary
    return [attack.name, attack.catalogue, attack.power.value, _kinds(attack.expect), told]


def _matrix(rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.rivals))
    head = ["attack", "case", "power", "must follow", "followed", "as it must", *names]
    _show(head, [[*_cells(row), *(row.rivals.get(name, "") for name in names)] for row in rows])
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
    click.echo(f"{sum(row.ok for row in made)} of {len(made)} attacks gave exactly what they must{left}")


def _cells(row: Row) -> list[str]:
    verdict = "not made" if row.skipped else ("yes" if row.ok else "NO")
    got = "" if row.skipped else _kinds(row.got)
    return [row.attack.name, row.attack.catalogue, row.attack.power.value, _kinds(row.attack.expect), got, verdict]


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, and lines with tabs anywhere else."""
    if not sys.stdout.isatty():
        for row in (head, *rows):
            click.echo("\t".join(row))
        return
    table = Table(*head, highlight=False)
    for row in rows:
        table.add_row(*row, style="bold red" if "NO" in row else None)
    Console().print(table, markup=False)


def _as_json(bundle: Path, rows: Sequence[Row]) -> dict[str, Any]:
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

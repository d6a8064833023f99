"""Forge the honest evidence in BUNDLE as a named attack does, and print the command that judges it."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from testbed.attest.mutate.engine.forge import key_name, write_forged
from testbed.attest.mutate.engine.model import REFUSED, EvidenceAttack, Forged, Honest
from testbed.attest.mutate.engine.trial import read_honest
from testbed.attest.mutate.registry import ATTACKS, find
from testbed.commands._evidence import AK, BUNDLE, NONCE, PCRS, key_of, kinds, nonce_of, show
from testbed.commands._options import usage


@click.command("mutate")
@BUNDLE
@click.option("--list", "listed", is_flag=True, help="List the attacks and the expected findings.")
@click.option("--apply", "name", metavar="NAME", help="Make this attack's evidence.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="New directory for the evidence.")
@AK
@NONCE
@PCRS
def command(
    *, bundle: Path, listed: bool, name: str | None, output: Path | None, ak: Path | None, nonce: str | None, pcrs: str
) -> None:
    """Forge the honest evidence in BUNDLE as a named attack does, and print the command that judges it.

    Give --list, or --apply NAME -o DIRECTORY. BUNDLE is not changed.
    """
    if listed == (name is not None):
        raise click.UsageError("expected either --list or --apply NAME")
    honest = usage(lambda: read_honest(bundle, ak=key_of(bundle, ak), nonce=nonce_of(bundle, nonce), pcrs=pcrs))
    if name is None:
        show(["attack", "case", "power", "expected", "what is done"], [_listed(attack, honest) for attack in ATTACKS])
        return
    if output is None:
        raise click.UsageError("--apply needs -o DIRECTORY, which must not exist yet")
    for line in usage(lambda: _apply(find(name), honest, output)):
        click.echo(line)


def _apply(attack: EvidenceAttack, honest: Honest, output: Path) -> list[str]:
    """Write the forged evidence into a new directory; return what a user must know of it."""
    forged = write_forged(attack, honest, output)
    said = "the verifier rejects its own argument (exit 2)" if attack.expect == {REFUSED} else kinds(attack.expect)
    return [
        f"{attack.name} ({attack.catalogue}): {attack.summary}",
        shlex.join(command_line(forged, output)),
        f"expected: {said}",
    ]


def command_line(forged: Forged, directory: Path) -> list[str]:
    """Return the `testbed verify` command that judges the evidence in ``directory``."""
    argv = ["testbed", "verify", f"{directory}", "--ak", f"{directory / key_name(forged)}"]
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


def _listed(attack: EvidenceAttack, honest: Honest) -> list[str]:
    reason = attack.applies(honest)
    summary = f"{attack.summary} (not from this bundle: {reason})" if reason else attack.summary
    return [attack.name, attack.catalogue, attack.power.value, kinds(attack.expect), summary]

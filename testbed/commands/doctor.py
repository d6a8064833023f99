"""Say what this machine can do and what is missing, with the command that fixes it."""

from __future__ import annotations

import sys

import click

from testbed.lab import probe


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """Say what this machine can do and what is missing, with the command that fixes it.

    Exit status: 0 everything that is needed is there; 3 something is missing.
    """
    capabilities = probe.capabilities()
    click.echo(probe.as_json(capabilities) if as_json else "\n".join(map(line, capabilities)))
    sys.exit(0 if all(capability.ok for capability in capabilities if capability.needed) else 3)


def line(capability: probe.Capability) -> str:
    """Return a capability's lines: verdict, name, what was found, and the command that fixes it."""
    verdict = "ok" if capability.ok else "MISSING" if capability.needed else "no"
    remedy = f"   remedy: {capability.remedy}" if capability.remedy and not capability.ok else ""
    return f"{verdict:8}{capability.name:20} {capability.found}{remedy}"

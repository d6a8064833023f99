"""End machines whose `testbed` process was killed and remove their files; print what was done."""

from __future__ import annotations

import click

from testbed.lab.machines import reap


@click.command("gc")
def command() -> None:
    """End machines whose `testbed` process was killed and remove their files; print what was done.

    Machines of a running process stay. `testbed images gc` removes images.
    """
    # `--help` of this command works without libvirt.
    from testbed.lab.machines import hypervisor  # noqa: PLC0415

    for done in reap.collect(hypervisor.destroy) or ["nothing to clean up"]:
        click.echo(done)

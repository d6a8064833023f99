"""End machines whose `testbed` process was killed and remove their files; say what was done."""

from __future__ import annotations

import click

from testbed.lab.machines import hypervisor, reap


@click.command("gc")
def command() -> None:
    """End machines whose `testbed` process was killed and remove their files; say what was done.

    Machines of a process that still lives are left alone. Images are removed by `testbed images gc`.
    """
    for done in reap.collect(hypervisor.destroy) or ["nothing was left behind"]:
        click.echo(done)

"""Boot a machine, copy the measurer into it, and open a shell there. The machine ends with the shell."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from testbed import progress, shell, spec
from testbed.commands._options import CONNECT, OneOf
from testbed.lab import places, probe
from testbed.lab.build.recipes import load_containers, load_kernels
from testbed.measurers import DEPLOYED


@click.command("shell")
@click.option("--kernel", type=OneOf(load_kernels), default="debian-6.12", show_default=True)
@click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), default="tcg", show_default=True)
@CONNECT
@click.option(
    "--image", "images", multiple=True, type=OneOf(load_containers), help="Also load this container image; repeatable."
)
def command(kernel: str, tier: str, connect: str | None, images: tuple[str, ...]) -> None:
    """Boot a machine, copy the measurer into it, and open a shell there. The machine ends with the shell."""
    # `--help` of this command works without libvirt.
    from testbed.lab import block, campaign  # noqa: PLC0415
    from testbed.lab.build.image import build_container_image  # noqa: PLC0415
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    places.check(*places.always())
    wish = spec.Experiment(name="shell", question="?", kernels=(kernel,), measurers=("none",), workloads=("tools",))
    with progress.reporter("shell", 0) as reporter:
        chosen, why = probe.choose_tier(tier, kernel, reporter.say)
        reporter.say(f"tier {chosen}: {why}")
        recipes = load_containers()
        brought = tuple(build_container_image(recipes[name], reporter.say) for name in images)
        parts = campaign.build_parts(kernel, brought, wish, chosen, reporter.say)
        reporter.say("booting")
    with (
        tempfile.TemporaryDirectory(prefix="testbed-") as directory,
        open_lab(connect) as lab,
        lab.boot(parts.machine, Path(directory)) as machine,
    ):
        block.deploy(machine.guest, parts.bundle)
        for image in brought:
            block.load(machine.guest, "podman", image)
        key = Path(directory) / "key"
        key.touch(mode=0o600)
        key.write_text(machine.private_key, encoding="utf-8")
        click.echo(f"{kernel} is up after {machine.ready_seconds:.0f} s; the measurer is in {DEPLOYED}")
        door = ("ssh", "-i", key, "-p", str(machine.port), "-o", "StrictHostKeyChecking=no")
        shell.interact([*door, "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@127.0.0.1"])

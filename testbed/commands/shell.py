"""Boot a machine with a measurer active in it, and open a shell there. The machine ends with the shell."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed import estimate, plugins, progress, shell, spec
from testbed.attest.finding import counted
from testbed.commands._complete import OneOf
from testbed.commands._options import CONNECT, MEASURER_PATH
from testbed.errors import LostMachine
from testbed.guest import Guest
from testbed.lab import places, probe
from testbed.lab.build.image import ContainerImage
from testbed.lab.build.recipes import load_containers, load_kernels
from testbed.measurers import DEPLOYED, PINS, Measurer
from testbed.record import Tier

if TYPE_CHECKING:  # these import libvirt, which `--help` of this command does without
    from testbed.lab.block import Parts
    from testbed.lab.machines.machine import Machine

# A guest has neither netavark's nft nor journald for containers, and the cgroups of a campaign are not systemd's.
_PODMAN = ("podman", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=none", "--log-driver=none")
_LOG = "/sys/kernel/security/ima/ascii_runtime_measurements"


@click.command("shell")
@click.option("--kernel", type=OneOf(load_kernels), default="debian-6.12", show_default=True)
@click.option(
    "--measurer",
    type=OneOf(lambda: plugins.names("measurers")),
    default="none",
    show_default=True,
    help="Load its policy and attach its programs before the shell opens.",
)
@MEASURER_PATH
@click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), default="tcg", show_default=True)
@CONNECT
@click.option(
    "--image", "images", multiple=True, type=OneOf(load_containers), help="Also load this container image; repeatable."
)
def command(kernel: str, measurer: str, tier: str, connect: str | None, images: tuple[str, ...]) -> None:
    """Boot a machine with a measurer active in it, and open a shell there. The machine ends with the shell.

    Every machine has the parts of this project's measurer in /opt/testbed. With --measurer the one that you name is
    active when the shell opens: its IMA policy is loaded (a boot takes one policy), and its programs are attached.
    """
    from testbed.lab import block  # noqa: PLC0415
    from testbed.lab.machines.lab import open_lab  # noqa: PLC0415

    places.check(*places.always())
    active = plugins.measurer(measurer)
    parts, chosen = _built(kernel, active, tier, images)
    with tempfile.TemporaryDirectory(prefix="testbed-") as directory, open_lab(connect) as lab, ExitStack() as stack:
        boot = progress.waiting_for(lab.boot(parts.machine, Path(directory)), f"boot {kernel}", estimate.BOOT[chosen])
        machine = stack.enter_context(boot)
        with progress.waiting("copy the measurer and the images"):
            block.deploy(machine.guest, parts.bundle)
            for image in parts.images:
                block.load(machine.guest, "podman", image)
            if active.name in parts.products:
                block.deploy_products(machine.guest, active, parts.products[active.name])
        with _active(active, machine.guest):
            click.echo("\n".join(greeting(active, kernel, machine.ready_seconds, parts.images)), err=True)
            _open(machine, Path(directory))


def _built(kernel: str, measurer: Measurer, tier: str, images: tuple[str, ...]) -> tuple[Parts, Tier]:
    """Build what the machine needs, or take it from the cache."""
    from testbed.lab import campaign  # noqa: PLC0415
    from testbed.lab.build.image import build_container_image  # noqa: PLC0415

    wish = spec.Experiment(
        name="shell", question="?", kernels=(kernel,), measurers=(measurer.name,), workloads=("tools",)
    )
    with progress.reporter("shell", 0) as reporter:
        chosen, why = probe.choose_tier(tier, kernel, reporter.say)
        reporter.say(f"tier {chosen}: {why}")
        recipes = load_containers()
        brought = tuple(build_container_image(recipes[name], reporter.say) for name in images)
        parts = campaign.build_parts(kernel, brought, wish, chosen, reporter.say)
    return parts, chosen


@contextmanager
def _active(measurer: Measurer, guest: Guest) -> Iterator[None]:
    """Hold the measurer in the guest. A user who turns the machine off in the shell has ended the measurer too."""
    # Only runs that are compared need the commands of an arm that measures nothing.
    if not measurer.policy and not measurer.promises and measurer.mode is None:
        yield
        return
    ended = False
    try:
        with measurer.attach(measurer, guest):
            yield
            ended = True
    except LostMachine:
        if not ended:
            raise


def greeting(measurer: Measurer, kernel: str, seconds: float, images: tuple[ContainerImage, ...]) -> Iterator[str]:
    """Yield what the user should know when the shell opens."""
    yield f"{kernel} is up after {seconds:.0f} s; the parts of this project's measurer are in {DEPLOYED}"
    loaded = counted(len(measurer.policy), "line")
    policy = f"{loaded} of IMA policy loaded" if measurer.policy else "no IMA policy loaded"
    programs = f"its programs are attached (mode {measurer.mode})" if measurer.mode else "no programs are attached"
    if measurer.source is not None:
        programs = f"its own programs are in {measurer.deployed}"
    yield f"measurer {measurer.name}: {policy}, {programs}"
    yield f"its log: cat {_LOG}"
    if measurer.mode:
        yield f"its counters: {DEPLOYED}/measurer counters --pin {PINS}"
    for image in images:
        yield f"a container: {' '.join(_PODMAN)} {image.reference} COMMAND"


def _open(machine: Machine, directory: Path) -> None:
    key = directory / "key"
    key.touch(mode=0o600)
    key.write_text(machine.private_key, encoding="utf-8")
    door = ("ssh", "-i", key, "-p", str(machine.port), "-o", "StrictHostKeyChecking=no")
    shell.interact([*door, "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@127.0.0.1"])

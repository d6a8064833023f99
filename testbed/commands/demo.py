"""Show in five minutes what a container measurer proves.

A machine boots, its log and its verdict are shown, and then four attacks.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console

from testbed import progress
from testbed.commands._complete import OneOf
from testbed.commands._options import CONNECT
from testbed.files import write_plain
from testbed.lab.build.recipes import load_kernels


@click.command("demo")
@click.option("--script", is_flag=True, help="Print plain lines and wait for no key; so it is without a terminal.")
@click.option("--no-pause", is_flag=True, help="Do not wait for Enter between the acts.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Also write a picture of the demo.",
)
@click.option("--kernel", type=OneOf(load_kernels), default="debian-6.12", show_default=True)
@click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), default="tcg", show_default=True)
@CONNECT
def command(*, script: bool, no_pause: bool, record: Path | None, kernel: str, tier: str, connect: str | None) -> None:
    """Show in five minutes what a container measurer proves.

    A machine boots, two containers start, and their entries arrive in the log. The verifier judges the evidence. Then a
    library is changed, an entry is deleted, and PCR 11 is reset and extended. Each verdict is the verifier's own. Exit
    status 1: a verdict was not as it must be.
    """
    if record is not None and not record.absolute().parent.is_dir():
        raise click.BadParameter(f"{record.parent} is no directory", param_hint="--record")
    # `--help` of this command works without libvirt.
    from testbed.lab.demo import picture, whole  # noqa: PLC0415
    from testbed.lab.demo.lines import Lines  # noqa: PLC0415
    from testbed.lab.demo.panels import Panels  # noqa: PLC0415

    plain = script or not sys.stdout.isatty()
    reporting = nullcontext(progress.Plain("demo", 0)) if plain else progress.reporter("demo", 0)
    begun = time.monotonic()
    with reporting as reporter:
        parts = whole.build(kernel, tier, reporter.say)
    show = Lines(sys.stdout) if plain else Panels(Console(), paused=sys.stdin.isatty() and not no_pause)
    performance = whole.demo(parts, connect, show)
    show.say(f"{time.monotonic() - begun:.0f} s in all; docs/demo.md says what each act proves, and what it does not")
    if record is not None:
        write_plain(record, picture.svg(performance).encode())
        show.say(f"{record}: written")
    sys.exit(1 if performance.problems else 0)

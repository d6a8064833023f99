"""Options and arguments that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from testbed import plugins
from testbed.commands._complete import CampaignPath, ExperimentPath
from testbed.errors import SpecError

RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where campaigns are written.",
)
CONNECT = click.option("--connect", metavar="URI", help="libvirt URI; default: the embedded driver.")
TIER = click.option(
    "--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), help="Override the `tier` of the experiment file."
)
SET = click.option(
    *("--set", "overrides"),
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the experiment file (VALUE in TOML syntax).",
)
MACHINES = click.option(
    "--machines", type=click.IntRange(1, 64), help="Machines that run at the same time; default: by the tier."
)
IMA_POLICY = click.option(
    *("--ima-policy", "ima_policies"),
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Add a measurer that loads this IMA policy; repeatable.",
)
KERNEL_ARG = click.option(
    *("--kernel-arg", "kernel_args"),
    multiple=True,
    metavar="WORD",
    help="Add a word to the kernel's command line in every machine; repeatable.",
)
KERNEL_PATH = click.option(
    "--kernel-path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Boot your own kernel: a compiled tree, or a directory with the output of `make bindeb-pkg`.",
)
ONLY = click.option(
    "--only", multiple=True, metavar="AXIS=NAME[,NAME]", help="Run only matching cells (workload, measurer, ...)."
)
MAX_MINUTES = click.option(
    "--max-minutes", type=click.FloatRange(min=0), help="Do not start if the estimate exceeds this (exit status 2)."
)
CAMPAIGN = click.argument("campaign_dir", type=CampaignPath(), metavar="CAMPAIGN_DIR")
EXPERIMENT = click.argument("experiment", type=ExperimentPath())


def _add_measurers(context: click.Context, _: click.Parameter, directories: tuple[Path, ...]) -> None:
    context.with_resource(plugins.measurers_from(directories))


MEASURER_PATH = click.option(
    "--measurer-path",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also use the measurers in DIR (files NAME.py with a MEASURER). Their code is run.",
    expose_value=False,
    # Before the options that name a measurer.
    is_eager=True,
    callback=_add_measurers,
)


def usage(work: Callable[[], Any]) -> Any:
    """Report a wrong argument as click does; pass other errors on unchanged."""
    try:
        return work()
    except SpecError as error:
        raise click.UsageError(str(error)) from error

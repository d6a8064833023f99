"""The command line. It alone sees both the lab and the desk; each command's work is elsewhere."""

from __future__ import annotations

import errno
import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from testbed import __version__, spec
from testbed.errors import HostError, SpecError, TestbedError
from testbed.rundir import Campaign

SMOKE = Path("experiments/smoke.toml")
KERNELS = Path("experiments/kernels.toml")
SELFTEST = Path("experiments/selftest.toml")
_INTERRUPTED = 128 + signal.SIGINT

# Imported when they are used: the commands of the desk must work where there is no libvirt.
_ELSEWHERE = {
    "audit": "testbed.attest.mutate_command:audit_command",
    "bench": "testbed.lab.bench_command:bench",
    "compare": "testbed.analysis.agreement:compare_command",
    "doctor": "testbed.lab.doctor_command:doctor",
    "figures": "testbed.analysis.report_command:figures_command",
    "gc": "testbed.lab.gc_command:gc",
    "image-digest": "testbed.attest.image_command:image_digest",
    "images": "testbed.lab.images_command:images",
    "mutate": "testbed.attest.mutate_command:mutate_command",
    "plan": "testbed.lab.plan_command:plan_command",
    "policy": "testbed.attest.policy_command:policy",
    "reference": "testbed.analysis.reference:reference_command",
    "report": "testbed.analysis.report_command:report_command",
    "semantics": "testbed.attest.semantics_command:semantics",
    "shell": "testbed.lab.shell_command:shell_command",
    "simulate": "testbed.analysis.simulate_command:simulate_command",
    "verify": "testbed.attest.command:command",
}


class _Commands(click.Group):
    """Finds commands that live elsewhere, and turns an error of ours into its message and exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _ELSEWHERE[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TestbedError as error:
            _complain(error)
        except KeyboardInterrupt as error:
            # Not click's own 1, which here says that a verdict is not the expected one.
            click.echo("interrupted: what is complete is kept; give the same command again to go on", err=True)
            raise SystemExit(_INTERRUPTED) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            where = f" at {error.filename}" if error.filename else ""
            hint = "free some and give the same command again: what is complete is kept; `testbed images gc` frees more"
            _complain(HostError(f"the disk is full{where}", hint))


def _complain(error: TestbedError) -> NoReturn:
    click.secho(f"error: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
    raise SystemExit(error.exit_status) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--verbose", "-v", is_flag=True, help="Print every command that is run.")
def main(*, verbose: bool) -> None:
    """Emulated testbed and benchmarking harness for container trust."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("testbed").setLevel(logging.DEBUG if verbose else logging.WARNING)
    # A SIGTERM unwinds like Ctrl-C, so that context managers end what they started.
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where campaigns go."
)
_CONNECT = click.option("--connect", metavar="URI", help="libvirt URI; default: the embedded driver.")
_SET = click.option(
    *("--set", "overrides"), multiple=True, metavar="KEY=VALUE", help="Instead of a key of the file; VALUE as in TOML."
)
_MACHINES = click.option("--machines", type=click.IntRange(1, 64), help="Machines at a time; default: by the tier.")


@main.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), help="Instead of the file's `tier`.")
@_SET
@_RESULTS
@_CONNECT
@_MACHINES
@click.option(
    "--only", multiple=True, metavar="AXIS=NAME[,NAME]", help="Run these cells alone (workload, measurer, ...)."
)
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Refuse what is expected to take longer.")
def run(
    *,
    experiment: Path,
    tier: str | None,
    overrides: tuple[str, ...],
    results: Path,
    connect: str | None,
    machines: int | None,
    only: tuple[str, ...],
    max_minutes: float | None,
) -> None:
    """Run EXPERIMENT (a TOML file), verify its evidence and write its report. Runs that are complete are skipped.

    Exit status: 0 all as expected; 1 a workload failed or a verdict is not the expected one; 2 the file is wrong;
    3 a machine was lost or this host lacks something; 4 malformed evidence.
    """
    more = {"overrides": overrides, "only": only, "max_minutes": max_minutes}
    sys.exit(_run(experiment, results, tier, connect, machines, **more))


@main.command()
@_RESULTS
@_CONNECT
@_MACHINES
def evaluate(results: Path, connect: str | None, machines: int | None) -> None:
    """Run the main experiment with the embedded defaults: machines, measurers, plots and verdicts."""
    sys.exit(_run(SMOKE, results, None, connect, machines))


@main.command()
@click.argument("experiment", type=click.Path(path_type=Path), default=SELFTEST)
@_RESULTS
@_CONNECT
@_MACHINES
def selftest(experiment: Path, results: Path, connect: str | None, machines: int | None) -> None:
    """Run a null campaign, in which nothing may be found, and a positive control, which must be found.

    Exit status: 1 if either is not so, else as `run`.
    """
    from testbed.analysis import selftest as judging  # noqa: PLC0415 - see _ELSEWHERE

    campaign, status = _conduct(experiment, results, None, connect, machines)
    outcome = judging.judge(campaign)
    for line in outcome.lines:
        click.echo(line)
    sys.exit(status or (0 if outcome.ok else 1))


@main.command()
@click.argument("experiment", type=click.Path(path_type=Path), default=KERNELS)
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/kernels.md"), show_default=True)
@click.option("--tier", type=click.Choice(["auto", "kvm", "icount", "tcg"]), help="Instead of the file's `tier`.")
@click.option("--again", is_flag=True, help="Boot nothing: write the page of the results that are there.")
@_RESULTS
@_CONNECT
def kernels(experiment: Path, page: Path, tier: str | None, results: Path, connect: str | None, *, again: bool) -> None:
    """Try every kernel of EXPERIMENT with every measurer and write a table of what builds, loads and behaves.

    What fails is a row of the table. Exit status: 1 if there is such a row.
    """
    from testbed.analysis import kernels as table  # noqa: PLC0415 - see _ELSEWHERE
    from testbed.lab import survey  # noqa: PLC0415

    wish = spec.load(experiment)
    path = results / f"{wish.name}.json"
    if not again:
        path = survey.survey(wish, results=results, tier=tier, connect=connect)
    written = table.write(path, page)
    click.echo(f"{written.summary}: {page}")
    sys.exit(written.exit_status)


def _run(path: Path, results: Path, tier: str | None, connect: str | None, machines: int | None, **more: Any) -> int:
    return _conduct(path, results, tier, connect, machines, **more)[1]


def _conduct(
    path: Path,
    results: Path,
    tier: str | None,
    connect: str | None,
    machines: int | None,
    *,
    overrides: Sequence[str] = (),
    **more: Any,
) -> tuple[Campaign, int]:
    from testbed.analysis import report  # noqa: PLC0415 - see _ELSEWHERE
    from testbed.lab import campaign  # noqa: PLC0415

    experiment = spec.load(path, overrides)
    try:
        done = campaign.conduct(experiment, results=results, tier=tier, connect=connect, machines=machines, **more)
    except SpecError as error:
        raise SpecError(f"{spec.named(path, overrides)}: {error.message}", error.hint) from error
    written = report.write(done)
    click.echo(written.summary)
    click.echo(f"report: {written.report}")
    return done, written.exit_status


if __name__ == "__main__":
    main()

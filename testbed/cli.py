"""The command line: it finds a command's file by its name, and turns an error into a message and an exit status."""

from __future__ import annotations

import ast
import errno
import importlib
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from testbed import __version__
from testbed.errors import HostError, TestbedError

COMMANDS = Path(__file__).with_name("commands")
_INTERRUPTED = 128 + signal.SIGINT


class _Commands(click.Group):
    """The commands of ``testbed/commands/``. Only the one that is called is imported.

    The imports of all of them take seconds, and those of the lab need libvirt, which a desk does not have.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(path.stem.replace("_", "-") for path in COMMANDS.glob("[!_]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"testbed.commands.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _short_help(name, limit)) for name in names])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TestbedError as error:
            _complain(error)
        except KeyboardInterrupt as error:
            # Not click's own status 1, which here means that a verdict is not the expected one.
            click.echo("interrupted: what is complete is kept; give the same command again to go on", err=True)
            raise SystemExit(_INTERRUPTED) from error
        except ModuleNotFoundError as error:
            if error.name != "libvirt":
                raise
            hint = "run `make setup`, which installs what boots machines; verify, report and figures work without it"
            _complain(HostError("this command boots machines, and the Python module libvirt is not installed", hint))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            where = f" at {error.filename}" if error.filename else ""
            hint = "free some and give the same command again: what is complete is kept; `testbed images gc` frees more"
            _complain(HostError(f"the disk is full{where}", hint))


def summary(name: str) -> str:
    """Return the first line of a command's file: what the command does, read without importing it."""
    source = (COMMANDS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _short_help(name: str, limit: int) -> str:
    return click.Command(name, help=summary(name)).get_short_help_str(limit)


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


if __name__ == "__main__":
    main()

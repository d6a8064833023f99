"""The command line: it finds a command's file by its name, and turns an error into a message and an exit status."""

from __future__ import annotations

import ast
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from testbed import __version__, streams
from testbed.errors import HostError, SpecError, TestbedError, host_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = Path(__file__).with_name("commands")
# docs/architecture.md explains every status. 1 is a verdict and nothing else: Python's own 1 for an exception and
# click's for a closed pipe are replaced by these.
_DEFECT = os.EX_SOFTWARE
_INTERRUPTED = 128 + signal.SIGINT
_CLOSED = 128 + signal.SIGPIPE


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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so. None is imported: the shell waits for the answer at each key."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell that completes needs it

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        listed = [CompletionItem(name, help=summary(name)) for name in names]
        return [*listed, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _short_help(name, limit)) for name in names])

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command. Raises ``SystemExit``, with a status of docs/architecture.md, and nothing else."""
        streams.settle()
        status = _status(lambda: super(_Commands, self).main(*args, **kwargs | {"standalone_mode": False}))
        streams.finish()
        sys.exit(status)


def summary(name: str) -> str:
    """Return the first line of a command's file: what the command does, read without importing it."""
    source = (COMMANDS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _short_help(name: str, limit: int) -> str:
    return click.Command(name, help=summary(name)).get_short_help_str(limit)


def _status(run: Callable[[], object]) -> int:
    """Run a command to its end; print what went wrong; return its exit status."""
    try:
        try:
            ended = run()
        except SystemExit as end:
            if isinstance(end.code, str):
                raise
            ended = end.code
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - Python would end with 1, which is a verdict
        return _explain(error)
    return ended if isinstance(ended, int) else 0


def _explain(error: BaseException) -> int:
    """Print what ended a command, and return the exit status of that."""
    if isinstance(error, click.Abort):  # click's name for an interrupt, and for an ``EOFError``
        error = error.__cause__ or KeyboardInterrupt()
    if isinstance(error, KeyboardInterrupt):
        _tell("interrupted: what is complete is kept; give the same command again to go on")
        return _INTERRUPTED
    if isinstance(error, streams.Closed):
        return _CLOSED
    if isinstance(error, click.ClickException):
        with suppress(OSError, streams.Closed):
            error.show()
        return SpecError.exit_status
    known = _known(error)
    if known is None:
        _tell("".join(traceback.format_exception(error)) + "this is a defect of the testbed: please report these lines")
        return _DEFECT
    if known is not error:
        logging.getLogger("testbed").debug("the error as Python reports it:", exc_info=error)
    _tell(f"error: {known}", red=True)
    return known.exit_status


def _known(error: BaseException) -> TestbedError | None:
    """Return an error in the user's terms; ``None`` if it is a defect of the testbed."""
    if isinstance(error, TestbedError):
        return error
    if isinstance(error, ImportError) and error.name and not error.name.startswith("testbed"):
        hint = "run `make setup`, which installs what boots machines; verify, report and figures work without it"
        if error.name.startswith("libvirt"):
            return HostError("this command boots machines, and the Python module libvirt is not installed", hint)
        return HostError(f"the Python module {error.name} cannot be used: {error}", "run `make setup`")
    if isinstance(error, OSError | UnicodeError | MemoryError):
        return host_error(error)
    return None


def _tell(text: str, *, red: bool = False) -> None:
    # Where even this cannot be written, the exit status is all that is left.
    with suppress(OSError, streams.Closed):
        click.secho(text, err=True, fg="red" if red and sys.stderr.isatty() else None)


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

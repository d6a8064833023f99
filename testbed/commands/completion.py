"""Print the script with which a shell completes `testbed` commands, options and names."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes `testbed` commands, options and names.

    It also completes the names of campaigns, experiments, measurers, workloads, kernels and images.

    \b
    bash: add to ~/.bashrc   eval "$(testbed completion bash)"
    zsh:  add to ~/.zshrc    eval "$(testbed completion zsh)"
    fish: run once           testbed completion fish > ~/.config/fish/completions/testbed.fish

    The shell must find `testbed` by that name: add .venv/bin to PATH, or give its path in these lines.
    """  # noqa: D301 - click reads the escape
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only this command needs it

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(context.find_root().command, {}, "testbed", "_TESTBED_COMPLETE").source())

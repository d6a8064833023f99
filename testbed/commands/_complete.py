"""What a shell may complete: types of arguments that know their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbed.errors import TestbedError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_EXPERIMENTS = Path("experiments")


class OneOf(click.ParamType):  # type: ignore[type-arg] # older versions of click have no argument
    """A choice of names, which are looked up only when the option is given: ``--help`` works without their files."""

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; ends the command if there is no such name."""
        names = sorted(self._names())
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}.", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return the names that begin so; none where they cannot be known, as in a package without its repository."""
        try:
            return _items(self._names(), incomplete)
        except TestbedError:
            return []


class NameOf(OneOf):
    """A name that the command itself looks up, with a better message than click's."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Return the name."""
        return value


class ExperimentPath(click.Path):
    """The path of an experiment file: those in ``experiments/`` are offered first."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the experiment files that begin so, otherwise let the shell offer files."""
        known = sorted(map(str, _EXPERIMENTS.glob("*.toml")))
        return _items(known, incomplete) or super().shell_complete(ctx, param, incomplete)


class CampaignPath(click.Path):
    """The directory of a campaign: those below ``results/`` are offered first, the newest first."""

    def __init__(self, **more: Any) -> None:
        super().__init__(exists=True, path_type=Path, **{"file_okay": False, **more})

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the campaigns that begin so, otherwise let the shell offer paths."""
        given = ctx.params.get("results")
        results = given if isinstance(given, Path) else Path("results")
        plans = sorted(results.glob("*/plan.json"), key=_written, reverse=True)
        found = _items((str(plan.parent) for plan in plans), incomplete)
        return found or super().shell_complete(ctx, param, incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell that completes needs it

    # A line break would be two completions.
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name.isprintable()]


def _written(path: Path) -> float:
    try:
        return os.path.getmtime(path)  # noqa: PTH204 - a Path has no short form of it
    except OSError:
        return 0.0

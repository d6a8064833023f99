"""Show progress: a bar with an estimate on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class Reporter(Protocol):
    """Where a long piece of work reports its progress. Called from several threads."""

    def say(self, text: str) -> None:
        """Report one event."""
        ...

    def advance(self, text: str) -> None:
        """Report that one more unit of work ended."""
        ...


@contextmanager
def reporter(title: str, total: int) -> Iterator[Reporter]:
    """Yield a reporter for ``total`` units of work; errors and tracebacks printed meanwhile do not tear the bar."""
    if not sys.stderr.isatty():
        yield Plain(title, total)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), Remaining(), console=Console(stderr=True)) as bar:
        yield Bar(bar, title, total)


class Bar:
    """A bar on a terminal."""

    def __init__(self, bar: Progress, title: str, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=total)

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def advance(self, text: str) -> None:
        """Print above the bar and move it."""
        self.say(text)
        self._bar.advance(self._task)


class Plain:
    """One line per event, with the count and an estimate of what is left."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{self._title}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal

    def advance(self, text: str) -> None:
        """Print a line with the count and the estimate."""
        with self._lock:
            self._done += 1
            spent = time.monotonic() - self._start
            left = spent / self._done * (self._total - self._done)
            count = f"{self._done}/{self._total}"
        self.say(f"[{count}, {spent / 60:.1f} min, {left / 60:.1f} min left] {text}")

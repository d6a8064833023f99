"""Show how far long work is: bars with an estimate on a terminal, plain lines anywhere else, always on standard error.

A command that boots machines has a ``reporter``, which says each event. All other code counts its work with ``steps``,
and says nothing where it takes less than two seconds. Only the command line shows anything (``streams.owned``): to a
program that imports this package, all of this is silent.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from testbed import streams

if TYPE_CHECKING:  # slow to import, and mostly nothing is shown
    from rich.progress import Progress, TaskID

# Seconds: before work is shown on a terminal, between two looks at it; before its first plain line, between two.
AFTER, LOOK = 2.0, 0.2
PLAIN_AFTER, PLAIN_EACH = 5.0, 10.0
BYTES = "MB"

Item = TypeVar("Item")


class Reporter(Protocol):
    """Where a long piece of work reports its progress. Called from several threads."""

    def say(self, text: str) -> None:
        """Report one event."""
        ...

    def advance(self, text: str) -> None:
        """Report that one more unit of work ended."""
        ...


class CountedWork:
    """Work that is counted: ``done`` of ``total`` units, ``None`` if that is unknown.

    ``done`` may be set directly: nothing is drawn by that, another thread looks at it. ``clock``: the units are
    seconds, and pass by themselves.
    """

    def __init__(self, title: str, total: float | None, unit: str, *, clock: bool = False) -> None:
        self.title, self.total, self.unit, self.clock = title, total, unit, clock
        self.done: float = 0
        self.begun = self.printed = time.monotonic()
        self.task: TaskID | None = None

    def advance(self, count: float = 1) -> None:
        """Count units as done."""
        self.done += count

    def look(self, now: float) -> tuple[float, float | None]:
        """Return how much is done of how much. Work that takes longer than expected has no end that is known."""
        if not self.clock:
            return self.done, self.total
        spent = now - self.begun
        return spent, None if self.total is None or spent > self.total else self.total

    def amount(self, now: float) -> str:
        """Return in words how much is done: ``12/432 runs``."""
        done, total = self.look(now)
        if self.clock:
            return "" if total is None else f"about {total:.0f} s"
        scale = 1e6 if self.unit == BYTES else 1
        of = "" if total is None else f"/{total / scale:.0f}"
        return f"{done / scale:.0f}{of} {self.unit}".rstrip()

    def left(self, now: float) -> float | None:
        """Return how many seconds are left, if what is left goes as fast as what is done."""
        done, total = self.look(now)
        if total is None or not done:
            return None
        return max(0.0, (now - self.begun) / done * (total - done))


class _Display:
    """What is shown now: the work that is under way, and the thread that looks at it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.under_way: list[CountedWork] = []
        self.bars: Progress | None = None
        self.own = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, work: CountedWork) -> None:
        with self.lock:
            self.under_way.append(work)
            if self._thread is None:
                self._stop = threading.Event()
                self._thread = threading.Thread(target=self._watch, args=(self._stop,), daemon=True)
                self._thread.start()

    def end(self, work: CountedWork) -> None:
        with self.lock:
            self.under_way.remove(work)
            if work.task is not None and self.bars is not None:
                self.bars.remove_task(work.task)
            if self.under_way:
                return
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self.lock:
            if self.own and self.bars is not None and not self.under_way:
                self.bars.stop()
                self.bars, self.own = None, False

    def lend(self) -> tuple[Progress, bool]:
        """Return the bars of this terminal, made if there are none, and whether other work uses them."""
        with self.lock:
            shared = self.bars is not None
            if self.bars is None:
                self.bars, self.own = _bars(transient=False), False
                self.bars.start()
            return self.bars, shared

    def take_back(self) -> None:
        """End the bars that were lent. Work that is still under way gets new ones."""
        with self.lock:
            assert self.bars is not None
            for work in self.under_way:
                if work.task is not None:
                    self.bars.remove_task(work.task)
                    work.task = None
            self.bars.stop()
            self.bars = None

    def _watch(self, stop: threading.Event) -> None:
        terminal = sys.stderr.isatty()
        # A user who has closed standard error wants no progress.
        with suppress(OSError, ValueError, streams.Closed):
            while not stop.wait(LOOK):
                self._look(terminal=terminal)

    def _look(self, *, terminal: bool) -> None:
        with self.lock:
            for work in self.under_way:
                now = time.monotonic()
                if terminal:
                    self._draw(work, now)
                else:
                    _line(work, now)

    def _draw(self, work: CountedWork, now: float) -> None:
        if now - work.begun < AFTER:
            return
        if self.bars is None:
            # What a command prints on standard output must get there, not into the bars.
            self.bars, self.own = _bars(transient=True), True
            self.bars.start()
        if work.task is None:
            work.task = self.bars.add_task(work.title, total=None, amount="")
            # Its speed is that since its begin.
            self.bars.tasks[-1].start_time = self.bars.get_time() - (now - work.begun)
        done, total = work.look(now)
        self.bars.update(work.task, completed=done, total=total, amount=work.amount(now))


_DISPLAY = _Display()


@contextmanager
def steps(title: str, total: float | None = None, unit: str = "") -> Iterator[CountedWork]:
    """Yield the count of ``total`` units of work. It is shown if the work takes more than two seconds."""
    yield from _shown(CountedWork(title, total, unit))


@contextmanager
def waiting(title: str, seconds: float | None = None) -> Iterator[CountedWork]:
    """Hold work that cannot be counted, and that is expected to take ``seconds``; ``None``: unknown."""
    yield from _shown(CountedWork(title, seconds, "s", clock=True))


@contextmanager
def waiting_for(context: AbstractContextManager[Item], title: str, seconds: float | None = None) -> Iterator[Item]:
    """Enter a context as ``waiting`` does, and hold it."""
    with ExitStack() as stack:
        with waiting(title, seconds):
            entered = stack.enter_context(context)
        yield entered


def each(items: Iterable[Item], title: str, total: int | None = None, unit: str = "") -> Iterator[Item]:
    """Yield ``items`` and count them, each as done when the next is asked for. ``total``: if they have no length."""
    known = len(items) if total is None and isinstance(items, Sized) else total
    with steps(title, known, unit) as work:
        for item in items:
            yield item
            work.done += 1


def _shown(work: CountedWork) -> Iterator[CountedWork]:
    if not streams.owned():
        yield work
        return
    _DISPLAY.begin(work)
    try:
        yield work
    finally:
        _DISPLAY.end(work)


def _line(work: CountedWork, now: float) -> None:
    if now - work.begun < PLAIN_AFTER or (work.printed > work.begun and now - work.printed < PLAIN_EACH):
        return
    work.printed = now
    left = work.left(now)
    parts = (work.amount(now), f"{now - work.begun:.0f} s", "" if left is None else f"about {left:.0f} s left")
    print(f"{work.title}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)  # noqa: T201 - see above


def _bars(*, transient: bool) -> Progress:
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import TimeRemainingColumn as Remaining  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    rest = (TextColumn("{task.fields[amount]}", markup=False), TimeElapsedColumn(), TextColumn("left"), Remaining())
    return Progress(*columns, *rest, console=Console(stderr=True), transient=transient, redirect_stdout=False)


@contextmanager
def reporter(title: str, total: int) -> Iterator[Reporter]:
    """Yield a reporter for ``total`` units of work; errors and tracebacks printed meanwhile do not tear the bar.

    ``total`` 0: unknown.
    """
    if not sys.stderr.isatty():
        yield Plain(title, total)
        return
    bars, shared = _DISPLAY.lend()
    try:
        yield Bar(bars, title, total)
    finally:
        # Where other work was shown already, its bars go on.
        if not shared:
            _DISPLAY.take_back()


class Bar:
    """A bar on a terminal."""

    def __init__(self, bar: Progress, title: str, total: int) -> None:
        self._bar = bar
        self._work = CountedWork(title, total or None, "")
        self._task = bar.add_task(title, total=total or None, amount=self._amount())

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def advance(self, text: str) -> None:
        """Print above the bar and move it."""
        self.say(text)
        self._work.advance()
        self._bar.update(self._task, advance=1, amount=self._amount())

    def _amount(self) -> str:
        return self._work.amount(time.monotonic()) if self._work.total else ""


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

"""One pass over a log: read it, replay it, and judge each entry that a quote can cover."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from testbed import progress
from testbed.attest.bundle import Log
from testbed.attest.checked import Checked, Task, checked_items, worthwhile
from testbed.attest.finding import BadEvidence
from testbed.attest.judge import Judge
from testbed.attest.log.ima import Entry
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.replay import Replay


def walk(log: Log, replay: Replay, judge: Judge | None, processes: int | None) -> None:
    """Replay the log, and judge it if there is a judge."""
    offset, number = replay.boundary, replay.entries
    task = Task(log=log, policy=None if judge is None else judge.policy, bank=replay.bank, padded=replay.padded)
    count = worthwhile(log.size - offset) if processes is None else processes
    count = 1 if judge is None else count
    step: Callable[[Entry], None] = judge.step if judge is not None else lambda _: None
    items_of = checked_items(task, offset=offset, number=number, processes=count, enough=lambda: replay.complete)
    # After `items_of`, which forks: a child has none of the threads that this process has.
    with without_collector(), items_of as items, progress.steps("log", log.size - offset, progress.BYTES) as work:
        try:
            for item in items:
                entries: Iterable[Entry] = (item,) if isinstance(item, Entry) else ()
                if isinstance(item, Checked):
                    entries = () if replay.run(item) else log_entries(log, item.offset, replay.entries, item.end)
                elif isinstance(item, Run):
                    entries = () if replay.skip(item) else item.entries()
                for entry in entries:
                    if replay.step(entry):
                        step(entry)
                work.done = item.end - offset
        except BadEvidence as error:
            replay.broken = error


def log_entries(log: Log, offset: int = 0, number: int = 0, stop: int | None = None) -> Iterator[Entry]:
    """Yield entries one by one, by a position of their own in the file."""
    with log.reopened() as file:
        for item in read_runs(file, log.size, offset=offset, number=number, stop=stop, form=log.form):
            if isinstance(item, Run):
                yield from item.entries()
            else:
                yield item


@contextmanager
def without_collector() -> Iterator[None]:
    """Let Python not look for circular garbage meanwhile.

    A log makes millions of tuples and no circle. Each such search goes over the whole policy, and together they take a
    sixth of the time.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()

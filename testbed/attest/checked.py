"""Runs of entries about which a judge reports nothing, found and hashed: in this process, or by several at once.

The extends of a PCR are a chain, which one process computes. All else about an ordinary entry can be done anywhere in
the log: so other processes take blocks of it, and this one does too while it has nothing to extend with.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from testbed.attest.bundle import Log
from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS, HASHES
from testbed.attest.log.ima import Entry, extensions
from testbed.attest.log.stream import LogSource, Run, read_runs, synchronize

if TYPE_CHECKING:  # slow to import, and not needed without a policy and with one process
    from multiprocessing.connection import Connection
    from multiprocessing.sharedctypes import Synchronized

    from testbed.attest.policy.reference import Policy

BLOCK = 1 << 20
# A further process is worth its start for so many bytes of log.
_WORTH = 1 << 24
# Blocks that this process checks ahead of the one that it waits for.
_AHEAD = 4
_HEADER = struct.Struct("<QI")
_SEGMENT = struct.Struct("<QQI")
_OF_PCR = struct.Struct("<BI")
# For each PCR, a table that maps PCR numbers to whether they equal it.
_ONLY = tuple(bytes(number == pcr for number in range(256)) for pcr in range(256))
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Checked(NamedTuple):
    """Successive entries about which ``Judge.step`` reports nothing: correct digests and accepted names.

    ``offset``, ``end``: bytes in the log. ``extended``: by PCR, what each of its entries extends it with, in order.
    """

    offset: int
    end: int
    extended: Mapping[int, tuple[bytes, ...]]

    def __len__(self) -> int:
        return sum(map(len, self.extended.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is checked: by which policy, and for the replay of which bank (``padded`` as in ``Replay``)."""

    log: Log
    policy: Policy | None
    bank: str
    padded: bool


Items = Iterator[Checked | Run | Entry]


def check(run: Run, task: Task) -> Checked | None:
    """Return a run as checked; ``None`` if one of its entries has to be judged by itself."""
    digest = HASHES[run.form.digest]
    if tuple([digest(data).digest() for data in run.data]) != run.shown or not (
        task.policy is None or task.policy.accepted.issuperset(run.fields)
    ):
        return None
    same = run.form.digest == task.bank and not task.padded
    extended = run.shown if same else extensions(run.data, task.bank, padded=task.padded)
    pcrs = set(run.pcrs)
    by_pcr = {pcr: tuple(compress(extended, run.pcrs.translate(_ONLY[pcr]))) for pcr in pcrs}
    return Checked(run.offset, run.end, by_pcr if len(pcrs) > 1 else dict.fromkeys(pcrs, tuple(extended)))


def worthwhile(size: int) -> int:
    """Return how many processes a log of ``size`` bytes is worth, at most as many as there are processors."""
    return min(len(os.sched_getaffinity(0)), 1 + size // _WORTH)


@contextmanager
def checked_items(
    task: Task, *, offset: int, number: int, processes: int, enough: Callable[[], bool]
) -> Iterator[Items]:
    """Yield the log's entries from byte ``offset`` on, before which ``number`` entries lie, checked where possible.

    ``enough``: whether the entries need not be checked any more. The items are the same, whatever ``processes`` is,
    but for where a run ends.
    """
    if processes == 1:
        yield _check_here(task, offset, number, task.log.size, enough)
        return
    with _workers(task, offset, processes - 1) as workers:
        yield _check_together(workers, offset, number, enough)


def _check_here(task: Task, offset: int, number: int, stop: int, enough: Callable[[], bool]) -> Items:
    for item in read_runs(task.log.file, task.log.size, offset=offset, number=number, stop=stop, form=task.log.form):
        yield (not enough() and check(item, task)) or item if isinstance(item, Run) else item


def _check_together(workers: _Workers, offset: int, number: int, enough: Callable[[], bool]) -> Items:
    """Yield what was checked elsewhere, and between that what is read here.

    A block that was begun at a wrong byte, which only looked like an entry, does not fit and is dropped.
    """
    task = workers.task
    for segment in workers.segments():
        if enough():
            break
        if segment.offset < offset:
            continue
        for item in _check_here(task, offset, number, segment.offset, enough):
            yield item
            offset, number = item.end, number + _count(item)
        if segment.offset == offset:
            yield segment
            offset, number = segment.end, number + len(segment)
    yield from _check_here(task, offset, number, task.log.size, enough)


def _count(item: Checked | Run | Entry) -> int:
    """Return how many entries an item has."""
    if isinstance(item, Entry):
        return 1
    return len(item.data) if isinstance(item, Run) else len(item)


class _Workers:
    """Processes that check blocks of a log, and their answers. ``begin``: the byte at which the first block begins."""

    def __init__(self, task: Task, begin: int, taken: Synchronized[int]) -> None:
        self.task = task
        self._begin = begin
        self._taken = taken
        self._blocks = -(-(task.log.size - begin) // BLOCK)
        self._done: dict[int, list[Checked]] = {}
        self._answers: list[Connection] = []

    def add(self, answers: Connection) -> None:
        self._answers.append(answers)

    def segments(self) -> Iterator[Checked]:
        """Yield what was checked, in the order of the log."""
        for block in range(self._blocks):
            while block not in self._done:
                self._proceed(block)
            yield from self._done.pop(block)

    def work(self, answers: Connection) -> None:
        """Check blocks until none is left, and send what was checked."""
        with self.task.log.reopened() as file:
            while (block := self._take()) is not None:
                answers.send_bytes(_packed(block, self._check(file, block)))

    def _take(self) -> int | None:
        with self._taken.get_lock():
            block = self._taken.value
            if block >= self._blocks:
                return None
            self._taken.value = block + 1
        return block

    def _proceed(self, block: int) -> None:
        """Take an answer if there is one, else check a block here, else wait; so that ``block`` is done some time."""
        from multiprocessing.connection import wait  # noqa: PLC0415 - one process does without

        may_work = len(self._done) < _AHEAD
        ready = wait(self._answers, timeout=0 if may_work else None) if self._answers else []
        for answers in ready:
            self._receive(answers)  # type: ignore[arg-type]
        if ready:
            return
        mine = self._take() if may_work or not self._answers else None
        if mine is None and not self._answers:
            mine = block  # the process that took it has died
        if mine is not None:
            self._done[mine] = self._check(self.task.log.file, mine)
        elif self._answers:
            wait(self._answers)

    def _receive(self, answers: Connection) -> None:
        try:
            block, segments = _unpacked(answers.recv_bytes(), BANKS[self.task.bank])
            self._done[block] = segments
        except (EOFError, OSError):
            self._answers.remove(answers)

    def _check(self, file: LogSource, block: int) -> list[Checked]:
        """Check the entries that lie in a block. Where the first one begins is a guess, except in the first block."""
        start = self._begin + block * BLOCK
        stop = min(start + BLOCK, self.task.log.size)
        segments: list[Checked] = []
        with suppress(BadEvidence):
            offset = synchronize(file, start, stop, self.task.log.form) if block else start
            if offset is None:
                return []
            for item in read_runs(file, self.task.log.size, offset=offset, stop=stop, form=self.task.log.form):
                segment = check(item, self.task) if isinstance(item, Run) else None
                if segment is not None:
                    segments.append(segment)
        return segments


@contextmanager
def _workers(task: Task, begin: int, count: int) -> Iterator[_Workers]:
    import multiprocessing  # noqa: PLC0415 - one process does without

    # By fork, not a new interpreter: the policy can have a million files and is already in memory.
    context = multiprocessing.get_context("fork")
    workers = _Workers(task, begin, context.Value("q", 0))
    with ExitStack() as stack:
        for _ in range(count):
            ours, theirs = context.Pipe(duplex=False)
            # An answer is larger than a pipe usually is: its sender would wait until this process reads it.
            with suppress(OSError):
                fcntl.fcntl(theirs.fileno(), fcntl.F_SETPIPE_SZ, BLOCK)
            process = context.Process(target=_serve, args=(workers, theirs, ours), daemon=True)
            # A signal before the new process has its own handlers would run those of this one.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            stack.callback(process.join)
            stack.callback(process.kill)
            stack.callback(ours.close)
            workers.add(ours)
        yield workers


def _serve(workers: _Workers, answers: Connection, other: Connection) -> None:
    """Be one of the other processes. It is killed when it is not needed any more, and Ctrl-C is for the first one."""
    other.close()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with suppress(OSError):
        workers.work(answers)
    # Without the interpreter's exit handlers: buffers and handlers here are copies of the parent's.
    os._exit(0)


def _packed(block: int, segments: list[Checked]) -> bytes:
    """Return an answer as bytes; ``_unpacked`` reads it."""
    parts = [_HEADER.pack(block, len(segments))]
    for segment in segments:
        parts.append(_SEGMENT.pack(segment.offset, segment.end, len(segment.extended)))
        for pcr, extended in segment.extended.items():
            parts += [_OF_PCR.pack(pcr, len(extended)), *extended]
    return b"".join(parts)


def _unpacked(data: bytes, size: int) -> tuple[int, list[Checked]]:
    block, count = _HEADER.unpack_from(data)
    at, segments = _HEADER.size, []
    for _ in range(count):
        offset, end, pcrs = _SEGMENT.unpack_from(data, at)
        at += _SEGMENT.size
        extended = {}
        for _ in range(pcrs):
            pcr, entries = _OF_PCR.unpack_from(data, at)
            at += _OF_PCR.size
            extended[pcr] = struct.unpack_from(f"{size}s" * entries, data, at)
            at += size * entries
        segments.append(Checked(offset, end, extended))
    return block, segments

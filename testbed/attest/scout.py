"""A second process that checks runs of entries during their replay, so that a long log uses two cores."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from testbed.attest.bundle import Log
from testbed.attest.finding import BadEvidence
from testbed.attest.log.stream import Run, read_runs

if TYPE_CHECKING:  # slow to import, and not needed without a policy and with one process
    from multiprocessing.connection import Connection

    from testbed.attest.policy.reference import Policy

# An ordinary file's `d-ng|n-ng`. A name that begins with a digit may begin with a namespace.
_ORDINARY = re.compile(rb"(?s)\x28\0\0\0sha256:\0.{32}(....)([^\x000-9][^\0]*\0)")
# Answers are sent in pieces of this size: one system call per answer would cost more than the answer.
_BATCH = 16

Ordinary = Callable[[int, Run], bool]


def ordinary(run: Run, policy: Policy | None) -> bool:
    """Whether ``Judge.step`` would report nothing about any entry of a run: correct digests and accepted names."""
    digests = [hashlib.sha1(data).digest() for data in run.data]  # noqa: S324 - the log's format
    if b"".join(digests) != b"".join(run.shown):
        return False
    if policy is not None:
        return policy.accepted.issuperset(run.fields)
    matches = [_ORDINARY.fullmatch(fields) for fields in run.fields]
    return all(match and int.from_bytes(match[1], "little") == len(match[2]) for match in matches)


@contextmanager
def ordinary_runs(log: Log, policy: Policy | None, *, offset: int, number: int, processes: int) -> Iterator[Ordinary]:
    """Yield a function that returns whether all entries of the log's nth run (from 0) are ordinary.

    With two processes the other one reads the same open file and splits it into the same runs. With one process, or if
    the other one ended early, the answer is computed on request.
    """
    if processes == 1:
        yield lambda _, run: ordinary(run, policy)
        return
    import multiprocessing  # noqa: PLC0415 - one process does without

    # By fork, not a new interpreter: the policy can have a million files and is already in memory.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    scout = context.Process(target=_scout, args=(log, policy, (offset, number), (theirs, ours)), daemon=True)
    scout.start()
    theirs.close()
    try:
        yield _Answers(ours, policy)
    finally:
        ours.close()
        scout.terminate()
        scout.join()


class _Answers:
    """The other process's answers, in the order of the runs."""

    def __init__(self, answers: Connection, policy: Policy | None) -> None:
        self._answers = answers
        self._policy = policy
        self._got = b""
        self._before = 0

    def __call__(self, number: int, run: Run) -> bool:
        with suppress(EOFError, OSError):
            while number >= self._before + len(self._got):
                self._before += len(self._got)
                self._got = b""
                self._got = self._answers.recv_bytes()
            return bool(self._got[number - self._before])
        return ordinary(run, self._policy)


def _scout(log: Log, policy: Policy | None, begin: tuple[int, int], ends: tuple[Connection, Connection]) -> None:
    answers, other = ends
    other.close()
    offset, number = begin
    batch = bytearray()
    # Opened again: an inherited descriptor would share its position with the parent's.
    with open(f"/proc/self/fd/{log.file.fileno()}", "rb") as file, suppress(BadEvidence, OSError):  # noqa: PTH123
        for item in read_runs(file, log.size, offset=offset, number=number):
            if isinstance(item, Run):
                batch.append(ordinary(item, policy))
            if len(batch) >= _BATCH:
                answers.send_bytes(batch)
                batch.clear()
    with suppress(OSError):
        if batch:
            answers.send_bytes(batch)
    answers.close()
    # Without the interpreter's exit handlers: buffers and handlers here are copies of the parent's.
    os._exit(0)

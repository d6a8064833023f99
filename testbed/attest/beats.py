"""Was the measurer attached throughout? Each gap in the numbered beats of a log is an ``unknown-window``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from testbed.attest.entries.integrity import (
    ALL_PROVED,
    ASKED,
    ATTACHED,
    DETACHED,
    HOOKS,
    OPEN_PROVED,
    PERIODIC,
    BeatEntry,
    names,
)
from testbed.attest.finding import Finding, FindingKind

# A beat may be late by a whole interval: a work queue of the kernel guarantees no time.
_PATIENCE = 2
_SECOND = 1_000_000_000
# Which hooks a beat must have seen run, by event: a requested beat tries them all.
_PROVED = {PERIODIC: OPEN_PROVED, ASKED: ALL_PROVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What the verifier must know about a beat to judge the next one.

    ``time`` and ``interval`` in nanoseconds; ``containers``: the highest ``seq`` that it names; ``started``: the
    highest that had a ``ctr-start`` in the log by then.
    """

    number: int
    time: int
    interval: int
    lost: int
    containers: int
    started: int


@dataclass(slots=True, kw_only=True)
class Beats:
    """The beats of one PCR, judged one by one. ``last``: the latest, of an earlier verification at first.

    A state is saved only if there is no finding, so the programs are attached in each saved state.
    """

    last: Beat | None = None
    _gone: tuple[str, BeatEntry] | None = None

    def step(self, where: str, beat: BeatEntry, *, started: int, lossy: bool = False) -> list[Finding]:
        """Return what a beat shows about the time since the previous one.

        ``started``: the highest ``seq`` with a ``ctr-start`` so far. ``lossy``: a container lost events, which can be
        the start of one inside it.
        """
        findings = [*self._since_last(where, beat), *_unproved(where, beat)]
        findings += self._numbers(where, beat, started, lossy=lossy)
        if self._gone is not None and beat.event == ATTACHED:
            seconds = (beat.time - self._gone[1].time) / _SECOND
            findings.append(_detached(*self._gone, f"attached again at beat {beat.number}, after {seconds:.3f} s"))
            self._gone = None
        elif self._gone is None and beat.event == DETACHED:
            self._gone = (where, beat)
        self.last = Beat(
            number=beat.number,
            time=beat.time,
            interval=beat.interval,
            lost=beat.lost,
            containers=beat.containers,
            started=started,
        )
        return findings

    def end(self) -> list[Finding]:
        """Return the finding at the end of the log: programs that were detached and not attached again."""
        return [] if self._gone is None else [_detached(*self._gone, "not attached again")]

    def _since_last(self, where: str, beat: BeatEntry) -> Iterator[Finding]:
        due, last = (1, None) if self.last is None else (self.last.number + 1, self.last)
        if beat.number != due:
            expected = "the first of the boot" if last is None else "one more than the previous beat"
            yield _unknown(where, f"beat {due}, {expected}", f"beat {beat.number}")
        elif (beat.event == ATTACHED) != (last is None or self._gone is not None):
            expected = "programs that stay attached" if beat.event == ATTACHED else "attached programs"
            again, without = "programs that were attached a second time", "a beat although the programs are detached"
            got = again if beat.event == ATTACHED else without
            yield _unknown(where, expected, f"{got}: beat {beat.number}")
        elif last is not None and beat.time < last.time:
            yield _unknown(where, f"{last.time} ns or later", f"{beat.time} ns, at beat {beat.number}")
        elif last is not None and last.interval and beat.time - last.time > _PATIENCE * last.interval:
            latest, once = _PATIENCE * last.interval / _SECOND, last.interval / _SECOND
            promised = f"at most {latest:.3f} s after beat {last.number}, which promised the next in {once:.3f} s"
            yield _unknown(where, promised, f"beat {beat.number}, {(beat.time - last.time) / _SECOND:.3f} s after it")
        before = 0 if last is None else last.lost
        if beat.lost > before:
            yield _unknown(where, f"{before} events without an entry", f"{beat.lost}, at beat {beat.number}")

    def _numbers(self, where: str, beat: BeatEntry, started: int, *, lossy: bool) -> Iterator[Finding]:
        """Compare the containers that beats name with those that started.

        A start and a beat can be logged at the same time, in either order. So a beat is compared with the starts before
        the previous one, and the starts before this one with what the previous beat named.
        """
        if self.last is None:
            return
        if beat.containers < self.last.containers:
            yield _unknown(
                where, f"container {self.last.containers} or higher", f"{beat.containers}, a lower number than before"
            )
        elif beat.containers < self.last.started:
            expected = f"container {self.last.started} or higher, which started before the previous beat"
            yield Finding(kind=FindingKind.MALFORMED, where=where, expected=expected, got=f"{beat.containers}")
        elif started < self.last.containers and beat.lost == self.last.lost and not lossy:
            expected = f"a ctr-start of container {self.last.containers}, which beat {self.last.number} names"
            got = f"container {started} as the highest that started" if started else "no ctr-start"
            yield Finding(kind=FindingKind.MISSING, where=where, expected=expected, got=got)


def _unproved(where: str, beat: BeatEntry) -> Iterator[Finding]:
    """Report the hooks that a beat has not seen run; a beat of version 1 names no hooks."""
    missing = 0 if beat.proved is None else _PROVED.get(beat.event, 0) & ~beat.proved
    if missing:
        got = f"hooks not seen to run: {', '.join(names(missing, HOOKS))}, at beat {beat.number}"
        yield _unknown(where, "hooks that are seen to run", got)


def _detached(where: str, beat: BeatEntry, then: str) -> Finding:
    return _unknown(where, "programs that stay attached", f"detached at beat {beat.number}, {then}")


def _unknown(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.UNKNOWN_WINDOW, where=where, expected=expected, got=got)

"""Attacks of root on the beats, which show that the measurer was attached: missing, late, replayed or false ones."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from testbed.attest.entries.parse import ASKED, ATTACHED, DETACHED, PERIODIC
from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    buffer_line,
    event,
    highest_seq,
    join,
    needs_containers,
    patched,
    payload,
    payload_of,
    quote,
    start_places,
)
from testbed.attest.mutate.engine.model import Forged, Honest, by_root

_SECOND = 1_000_000_000
_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class ForgedBeat:
    """A beat at ``at`` seconds, which promises the next one within ``interval`` seconds.

    ``containers``: by how much the highest number of a container that it names is too high.
    """

    number: int
    what: int
    at: float
    interval: float = 0
    lost: int = 0
    reserved: int = 0
    containers: int = 0

    def line(self, lines: Iterable[Entry] = ()) -> Entry:
        """Return the entry after ``lines``."""
        containers = highest_seq(lines) + self.containers
        times = (self.number, int(self.at * _SECOND), self.what, self.reserved, int(self.interval * _SECOND))
        return buffer_line(b"ctr-beat", payload_of(6, struct.pack("<QQIIQQQ", *times, self.lost, containers)))


ForgedBeats = tuple[ForgedBeat, ...]
_FIRST = ForgedBeat(1, ATTACHED, 5, 30)
_SECOND_BEAT = ForgedBeat(2, PERIODIC, 35, 30)


def _lines(honest: Honest, beats: Sequence[ForgedBeat]) -> list[Entry]:
    """Return the honest lines with these beats and no others, the last line last."""
    lines = [entry for entry in honest.covered() if event(entry) != b"ctr-beat"]
    return [*lines[:-1], *(beat.line(lines[:-1]) for beat in beats), lines[-1]]


def _said(honest: Honest, beats: ForgedBeats) -> Forged:
    return quote(honest, ForgedMachine(lines=_lines(honest, beats)))


def _later(honest: Honest, before: ForgedBeats, after: ForgedBeats) -> Forged:
    """Save a state after the first beats, and continue with the others."""
    lines = _lines(honest, before)
    later = ForgedMachine(lines=[*lines, *(beat.line(lines) for beat in after)], clock=_MINUTE)
    return replace(quote(honest, later), since=quote(honest, ForgedMachine(lines=lines)))


def _past_the_quote(honest: Honest) -> Forged:
    lines = _lines(honest, (_FIRST,))
    return quote(honest, ForgedMachine(lines=lines, log=join([*lines, ForgedBeat(7, DETACHED, 9).line()])))


def _replaced(honest: Honest) -> Forged:
    """Show a series of beats without a gap, although the PCR was extended with a gap."""
    good = _lines(honest, (_FIRST, _SECOND_BEAT, ForgedBeat(3, ASKED, 40)))
    return quote(honest, ForgedMachine(lines=_lines(honest, (_FIRST, ForgedBeat(3, ASKED, 40))), log=join(good)))


def _ran_before(honest: Honest) -> Forged:
    """List a container that started before the measurer, under its own number and id."""
    start = patched(payload(honest.entries[start_places(honest)[0]]), 12, b"\2")
    start = re.sub(rb"[0-9a-f]{64}", b"7f" * 32, start)
    return added(honest, buffer_line(b"ctr-start", patched(start, 16, struct.pack("<Q", 0x7777))))


def _of_container(honest: Honest) -> Forged:
    body = payload(_FIRST.line())[48:]
    return added(honest, buffer_line(b"ctr-beat", payload_of(6, body, identity=b"\1" + bytes(31))))


_GAP = (Kind.UNKNOWN_WINDOW,)
_SAID: tuple[tuple[str, str, str, ForgedBeats, tuple[str, ...]], ...] = (
    (
        "good",
        "T67",
        "no attack: attached, one on time, one before the quote",
        (_FIRST, _SECOND_BEAT, ForgedBeat(3, ASKED, 40)),
        (),
    ),
    (
        "just-in-time",
        "T67",
        "no attack: the second is late by the promised interval",
        (_FIRST, ForgedBeat(2, PERIODIC, 65)),
        (),
    ),
    (
        "unpromised",
        "T67",
        "no attack: no interval was promised, and the next came after a day",
        (ForgedBeat(1, 1, 5), ForgedBeat(2, 3, 9e4)),
        (),
    ),
    ("all-gone", "T69", "all removed: like the evidence of a measurer without beats, with a note", (), ()),
    ("gone", "T69", "one removed, and PCR 11 extended without it", (_FIRST, ForgedBeat(3, ASKED, 40)), _GAP),
    ("first-gone", "T69", "the first one removed", (_SECOND_BEAT, ForgedBeat(3, ASKED, 40)), _GAP),
    ("replayed", "T69", "an old number repeated", (_FIRST, _SECOND_BEAT, ForgedBeat(2, ASKED, 40)), _GAP),
    ("from-one-again", "T69", "numbers that begin again", (_FIRST, _SECOND_BEAT, replace(_FIRST, at=50)), _GAP),
    ("never-attached", "T69", "beats of programs that were never attached", (ForgedBeat(1, ASKED, 5),), _GAP),
    ("detached", "T69", "programs detached for good", (_FIRST, ForgedBeat(2, DETACHED, 9)), _GAP),
    (
        "detached-for-a-while",
        "T69",
        "programs detached and attached again",
        (_FIRST, ForgedBeat(2, DETACHED, 9), ForgedBeat(3, ATTACHED, 10)),
        _GAP,
    ),
    (
        "of-detached",
        "T69",
        "a beat of programs that were detached",
        (_FIRST, ForgedBeat(2, DETACHED, 9), ForgedBeat(3, ASKED, 10)),
        _GAP,
    ),
    ("attached-anew", "T69", "programs attached a second time", (_FIRST, ForgedBeat(2, ATTACHED, 9)), _GAP),
    ("late", "T69", "one that comes long after the promised time", (_FIRST, ForgedBeat(2, PERIODIC, 66)), _GAP),
    ("time-back", "T69", "a time before that of the previous one", (_FIRST, ForgedBeat(2, ASKED, 4)), _GAP),
    ("lost", "T69", "events without an entry", (_FIRST, ForgedBeat(2, ASKED, 9, lost=3)), _GAP),
    ("lost-at-once", "T69", "events without an entry, reported by the first", (replace(_FIRST, lost=1),), _GAP),
    (
        "container-missing",
        "T52",
        "a beat that names a container that never started",
        (_FIRST, ForgedBeat(2, PERIODIC, 35, containers=1), ForgedBeat(3, ASKED, 40, containers=1)),
        (Kind.MISSING,),
    ),
    (
        "container-racing",
        "T52",
        "no attack: a beat names a container that started just before, and its ctr-start is not in the log yet",
        (_FIRST, ForgedBeat(2, ASKED, 40, containers=1)),
        (),
    ),
    (
        "containers-back",
        "T69",
        "a beat that names fewer containers than the one before it",
        (_FIRST, ForgedBeat(2, ASKED, 9, containers=-1)),
        _GAP,
    ),
    ("number-zero", "T60", "number 0", (replace(_FIRST, number=0),), (Kind.MALFORMED,)),
    ("event-unknown", "T60", "an unknown event", (_FIRST, ForgedBeat(2, 5, 9)), (Kind.MALFORMED,)),
    ("reserved", "T60", "a reserved field in use", (_FIRST, ForgedBeat(2, 3, 9, reserved=1)), (Kind.MALFORMED,)),
)
_SAVED: tuple[tuple[str, str, ForgedBeats, tuple[str, ...]], ...] = (
    ("good", "no attack: the next one follows after the state was saved", (_SECOND_BEAT,), ()),
    ("gone", "one removed after the state was saved", (ForgedBeat(3, ASKED, 40),), _GAP),
    ("replayed", "a beat that the saved state knows", (replace(_FIRST, at=50),), _GAP),
    ("attached-anew", "programs attached a second time after the state was saved", (ForgedBeat(2, ATTACHED, 9),), _GAP),
    ("late", "a late one, promised before the state was saved", (ForgedBeat(2, PERIODIC, 66),), _GAP),
    ("lost", "events without an entry since the state was saved", (ForgedBeat(2, ASKED, 9, lost=1),), _GAP),
)
_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(f"beats-{name}", row, f"beats: {summary}", partial(_said, beats=beats), *expect)
        for name, row, summary, beats, expect in _SAID
    ),
    *(
        _row(f"saved-beats-{name}", "T68", f"beats: {summary}", partial(_later, before=(_FIRST,), after=after), *expect)
        for name, summary, after, expect in _SAVED
    ),
    _row("beats-gap-hidden", "T52", "beats: a gap that the log does not show", _replaced, Kind.REPLAY_MISMATCH),
    _row("beats-past-the-quote", "T56", "beats: a gap after the quoted state", _past_the_quote, Kind.UNATTESTED),
    _row("beats-of-a-container", "T60", "a beat that names a container", _of_container, Kind.MALFORMED),
    _row("ctr-start-before", "T69", "a container that started before the measurer", _ran_before, Kind.UNKNOWN_WINDOW),
)

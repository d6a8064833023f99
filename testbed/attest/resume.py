"""Going on from a saved state: where the replay begins, what of the past is looked at again, what is saved next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from testbed.attest import state
from testbed.attest.beats import Beats
from testbed.attest.bundle import Log
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.ima import BANKS
from testbed.attest.judge import Judge, Known
from testbed.attest.policy import Policy
from testbed.attest.quote import Attest, Selection
from testbed.attest.replay import Mark, Replay, start_value
from testbed.attest.state import Segment, State
from testbed.attest.tpm import Key
from testbed.errors import SpecError

_PIECE = 1 << 20


def begin(key: Key, demanded: Selection, starts: Mapping[int, bytes], since: State | None) -> Mark:
    """Return where a replay begins. Raises ``SpecError`` for values or a state that are not for this question."""
    if since is not None:
        if starts:
            raise SpecError("start values and a saved state: expected one of them", "the state tells what PCRs held")
        state.applies(since, state.fingerprint(key), demanded.bank, demanded.pcrs)
        return Mark(offset=since.offset, entries=since.entries, values=since.pcrs, counts=since.counts)
    size = BANKS[demanded.bank]
    for pcr, value in starts.items():
        if pcr not in demanded.pcrs:
            raise SpecError(f"start value: expected a PCR of {demanded}, got {pcr}")
        if len(value) != size:
            raise SpecError(f"start value of PCR {pcr}: expected {size} bytes of {demanded.bank}, got {len(value)}")
    values = {pcr: starts.get(pcr, start_value(pcr, demanded.bank)) for pcr in demanded.pcrs}
    return Mark(offset=0, entries=0, values=values, counts=dict.fromkeys(demanded.pcrs, 0))


def judge(policy: Policy | None, since: State | None) -> Judge:
    """Return the judge of what comes next, who knows what the saved state knows."""
    if since is None:
        return Judge(policy=policy)
    return Judge(
        policy=policy,
        containers={one.container.seq: _known(one) for one in since.containers},
        trees={(None, bytes.fromhex(digest)) for digest in since.trees},
        beats={pcr: Beats(last=beat) for pcr, beat in since.beats.items()},
    )


def _known(one: state.Known) -> Known:
    # A launch without a digest is a finding, and then no state is saved.
    return Known(pcr=None, container=one.container, images=one.images, launched=bool(one.container.image_digest))


def past_findings(log: Log, since: State | None, *, recheck: bool) -> list[Finding]:
    """Say whether the log can have grown out of the one that was verified; with ``recheck`` by hashing that, too."""
    if since is None:
        return []
    if log.size < since.seen_bytes:
        return [_mismatch("ima.bin", f"at least the {since.seen_bytes} bytes of the last time", f"{log.size} bytes")]
    found, at = [], 0
    for segment in since.segments if recheck else ():
        got = _digest(log, at, segment.size)
        if got != segment.sha256:
            where = f"ima.bin: bytes {at} to {at + segment.size}, verified before"
            found.append(_mismatch(where, f"SHA-256 {segment.sha256}", got))
        at += segment.size
    return found


def progress_findings(replay: Replay, log: Log, since: State | None) -> list[Finding]:
    """Say whether the quote lags behind: what was in the log at the last verification has been extended by now."""
    here = replay.mark().entries
    if since is None or not replay.complete or here >= since.seen_entries or log.size < since.seen_bytes:
        return []
    expected = f"a quote that covers the {since.seen_entries} entries which were in the log at the last verification"
    return [_mismatch(f"ima.bin: entry {here + 1}", expected, f"one that covers {here}")]


def next_state(  # noqa: PLR0917 - a state holds something of each
    key: Key, attest: Attest, replay: Replay, judge: Judge, log: Log, since: State | None
) -> State | None:
    """Return what to save of a trusted verification.

    Without ``since``, or after a recheck, the whole prefix becomes one segment. ``None`` where attested entries lie
    behind others that are not: no one place in the log stands for that.
    """
    mark = replay.mark()
    if mark.entries != sum(replay.counts.values()):
        return None
    done, segments = (since.offset, since.segments) if since is not None else (0, ())
    if mark.offset > done:
        segments = (*segments, Segment(size=mark.offset - done, sha256=_digest(log, done, mark.offset - done)))
    known = judge.known(replay.reached).values()
    return State(
        key=state.fingerprint(key),
        bank=replay.bank,
        pcrs=mark.values,
        counts=mark.counts,
        offset=mark.offset,
        entries=mark.entries,
        seen_bytes=log.size,
        seen_entries=replay.entries,
        clock=attest.clock,
        reset_count=attest.reset_count,
        restart_count=attest.restart_count,
        firmware=attest.firmware,
        segments=segments,
        containers=tuple(state.Known(container=one.container, images=one.images) for one in known),
        trees=tuple(sorted(digest.hex() for digest in judge.known_trees(replay.reached))),
        beats=judge.last_beats(replay.reached),
        padded_sha1=replay.padded,
    )


def _digest(log: Log, start: int, size: int) -> str:
    """Return the SHA-256 of a part of the log, hex."""
    digest = hashlib.sha256()
    log.file.seek(start)
    while size:
        piece = log.file.read(min(size, _PIECE))
        if not piece:
            raise BadEvidence("ima.bin", f"{log.size} bytes of log", "fewer: it was cut while read")
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _mismatch(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.REPLAY_MISMATCH, where=where, expected=expected, got=got)

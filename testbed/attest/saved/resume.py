"""Continuing from a saved state: where the replay begins, what is checked again, what is saved next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from testbed.attest.beats import Beats
from testbed.attest.bundle import Log
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.hashes import BANKS
from testbed.attest.judge import Judge
from testbed.attest.log.ima import LogFormat
from testbed.attest.quote import Attest, Selection
from testbed.attest.registers import pcr_register
from testbed.attest.replay import Mark, Replay
from testbed.attest.roster import JudgedContainer
from testbed.attest.saved import state
from testbed.attest.saved.containers import SavedContainer
from testbed.attest.saved.state import Part, Segment, State
from testbed.attest.tpm import Key
from testbed.errors import SpecError

if TYPE_CHECKING:  # a policy needs pydantic, which is slow to import
    from testbed.attest.policy.reference import Policy

_PIECE = 1 << 20
_U32 = (1 << 32) - 1


def begin(
    key: Key,
    demanded: Selection,
    starts: Mapping[int, bytes],
    since: State | None,
    *,
    policy: str | None = None,
    rejudge: bool = False,
) -> Mark:
    """Return where a replay begins. Raises ``SpecError`` for values or a state that are not for this question.

    ``policy``: the SHA-256 of the policy's file, hex, which must be the state's; with ``rejudge`` it may be another one
    and the replay begins where the log begins.
    """
    if since is not None:
        if starts:
            raise SpecError(
                "start values (--start) and a saved state (--since): expected one of them, got both",
                "remove --start: the saved state has the values of the PCRs",
            )
        state.applies(since, state.fingerprint(key), demanded.bank, demanded.pcrs)
        if rejudge:
            return _at_start(since.starts)
        state.same_policy(since, policy)
        return Mark(offset=since.offset, entries=since.entries, values=since.pcrs, counts=since.counts)
    size = BANKS[demanded.bank]
    for pcr, value in starts.items():
        if pcr not in demanded.pcrs:
            raise SpecError(f"start value: expected a PCR of {demanded}, got {pcr}")
        if len(value) != size:
            raise SpecError(f"start value of PCR {pcr}: expected {size} bytes of {demanded.bank}, got {len(value)}")
    return _at_start({pcr: starts.get(pcr, pcr_register(pcr, demanded.bank).start) for pcr in demanded.pcrs})


def _at_start(values: Mapping[int, bytes]) -> Mark:
    return Mark(offset=0, entries=0, values=values, counts=dict.fromkeys(values, 0))


def quote_findings(state: State, attest: Attest) -> list[Finding]:
    """Report whether this quote can come after the saved one, in the same run of the same machine.

    Source: TPM 2.0 Library, Part 1, "Clock", "resetCount", "restartCount" and "PCR attributes"; Part 2,
    "TPMS_CLOCK_INFO". The saved state is usable only if the PCRs continued from there:

    - TPM Reset (power-on, ``Startup(CLEAR)`` without ``Shutdown(STATE)`` before) resets every PCR and raises
      ``resetCount``; ``TPM2_Clear`` sets that to 0. Any other ``resetCount`` than the saved one is ``quote-reset``.
    - TPM Restart (hibernation: ``Startup(CLEAR)`` after ``Shutdown(STATE)``) resets every PCR, TPM Resume (sleep:
      ``Startup(STATE)``) keeps PCRs 0 to 15 (PC Client profile). Both raise ``restartCount``, so a higher value may
      mean either: it is not a finding. The replay decides, because new entries continue from the saved values only
      after a resume. A lower one under the same ``resetCount`` is ``quote-reset``: an older quote, or a TPM whose old
      state was restored.
    - For a key outside the endorsement and platform hierarchies a TPM adds a number that depends on the key to both
      counters (modulo 2^32) and to ``firmwareVersion``. So "lower" is a property of the difference, in which that
      number cancels.
    - ``clock`` never goes back in one run: a lower one is ``quote-clock``. After a disorderly shutdown a TPM may have
      lost the time since it last stored its clock (up to 2^22 ms), and reports that by ``safe``; but that is a reset
      too.
    - ``firmwareVersion`` does not change without a reset: another one is ``quote-signer``.
    """
    findings = []
    if attest.clock < state.clock:
        doubt = "" if attest.safe else "; not safe: the TPM lost time in a disorderly shutdown"
        findings.append(_finding(FindingKind.QUOTE_CLOCK, "clock", f"{state.clock} or later", f"{attest.clock}{doubt}"))
    if attest.reset_count != state.reset_count:
        expected, got = f"{state.reset_count}, as saved", f"{attest.reset_count}"
        findings.append(_finding(FindingKind.QUOTE_RESET, "resetCount", expected, got))
    elif (attest.restart_count - state.restart_count) & _U32 > _U32 >> 1:
        expected, got = f"{state.restart_count}, as saved, or more", f"{attest.restart_count}"
        findings.append(_finding(FindingKind.QUOTE_RESET, "restartCount", expected, got))
    if attest.firmware != state.firmware:
        expected, got = f"{state.firmware:016x}, as saved", f"{attest.firmware:016x}"
        findings.append(_finding(FindingKind.QUOTE_SIGNER, "firmwareVersion", expected, got))
    return findings


def chunk_findings(offset: int, since: State | None, *, from_start: bool) -> list[Finding]:
    """Report a log that begins at byte ``offset``, if what comes before was not verified, or is to be read again.

    Kernels may remove entries that were read (staged logs), so that a later log is only the part after them.
    """
    if offset == 0 or (since is not None and offset <= since.offset and not from_start):
        return []
    wanted = 0 if since is None or from_start else since.offset
    expected = f"the log from byte {wanted} on" + ("" if since is not None else ", or --since with the state before it")
    got = f"the log from byte {offset} on: the part before it is missing"
    return [Finding(kind=FindingKind.LOG_MISSING, where="bundle.json: log.offset", expected=expected, got=got)]


def same_form(since: State | None, form: LogFormat) -> None:
    """Raise ``BadEvidence`` for a log that is written otherwise than the verified one: its bytes are other bytes."""
    if since is not None and (since.log_digest, since.byte_order) != (form.digest, form.byte_order):
        expected = f"a log with {since.log_digest} digests, {since.byte_order}-endian, as at the last verification"
        raise BadEvidence("ima.bin", expected, f"one with {form.digest} digests, {form.byte_order}-endian")


def judge(policy: Policy | None, since: State | None) -> Judge:
    """Return the judge of the new entries, with the knowledge of the saved state."""
    if since is None:
        return Judge(policy=policy)
    known = Judge(
        policy=policy,
        trees={(None, bytes.fromhex(digest)) for digest in since.trees},
        parts={(None, part.part, bytes.fromhex(part.digest)): "saved state" for part in since.measurer},
        beats={pcr: Beats(last=beat) for pcr, beat in since.beats.items()},
    )
    for saved in since.containers:
        known.roster.adopt(_known(saved))
    return known


def _known(saved: SavedContainer) -> JudgedContainer:
    # A launch without a digest is a finding, and so is a container that ran before: then no state is saved.
    return JudgedContainer(
        pcr=None,
        container=saved.container,
        counts_as=saved.counts_as,
        images=saved.images,
        launched=bool(saved.container.image_digest),
    )


def past_findings(log: Log, since: State | None, *, recheck: bool) -> list[Finding]:
    """Report whether the log can have grown from the verified one; with ``recheck`` by hashing that part too."""
    if since is None:
        return []
    if log.size < since.seen_bytes:
        return [
            _mismatch("ima.bin", f"at least {since.seen_bytes} bytes, as at the last verification", f"{log.size} bytes")
        ]
    findings, at = [], 0
    for segment in since.segments if recheck else ():
        digest = _digest(log, at, segment.size)
        if digest != segment.sha256:
            where = f"ima.bin: bytes {at} to {at + segment.size}, verified before"
            findings.append(_mismatch(where, f"SHA-256 {segment.sha256}", digest))
        at += segment.size
    return findings


def progress_findings(replay: Replay, log: Log, since: State | None) -> list[Finding]:
    """Report whether the quote lags behind: the entries in the log at the last verification are extended by now."""
    here = replay.mark().entries
    if since is None or not replay.complete or here >= since.seen_entries or log.size < since.seen_bytes:
        return []
    expected = f"a quote that covers the {since.seen_entries} entries that were in the log at the last verification"
    return [_mismatch(f"ima.bin: entry {here + 1}", expected, f"one that covers {here}")]


def next_state(
    key: Key,
    attest: Attest,
    replay: Replay,
    judge: Judge,
    log: Log,
    *,
    starts: Mapping[int, bytes],
    since: State | None,
) -> State | None:
    """Return what to save of a trusted verification.

    ``starts``: what the PCRs held before the log's first entry. Without ``since``, or after a recheck, the whole prefix
    becomes one segment. ``None`` where attested entries come after unattested ones: no single position in the log
    describes that.
    """
    mark = replay.mark()
    if mark.entries != sum(replay.counts.values()):
        return None
    done, segments = (since.offset, since.segments) if since is not None else (0, ())
    if mark.offset > done:
        segments = (*segments, Segment(size=mark.offset - done, sha256=_digest(log, done, mark.offset - done)))
    said = judge.roster.containers(replay.reached)
    return State(
        key=state.fingerprint(key),
        policy=None if judge.policy is None else judge.policy.sha256,
        bank=replay.bank,
        starts=starts,
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
        containers=tuple(
            SavedContainer(container=said[f"{known.container.seq}"], images=known.images, counts_as=known.counts_as)
            for known in judge.roster.attested(replay.reached)
        ),
        measurer=tuple(
            Part(part=part, digest=digest.hex()) for part, digest in sorted(judge.known_parts(replay.reached))
        ),
        trees=tuple(sorted(digest.hex() for digest in judge.known_trees(replay.reached))),
        beats=judge.last_beats(replay.reached),
        padded_sha1=replay.padded,
        log_digest=log.form.digest,
        byte_order=log.form.byte_order,
    )


def _digest(log: Log, start: int, size: int) -> str:
    """Return the SHA-256 of a part of the log, hex."""
    digest = hashlib.sha256()
    log.file.seek(start)
    while size:
        piece = log.file.read(min(size, _PIECE))
        if not piece:
            raise BadEvidence("ima.bin", f"{log.size} bytes of log", "fewer: it was cut while it was read")
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _mismatch(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.REPLAY_MISMATCH, where=where, expected=expected, got=got)


def _finding(kind: FindingKind, field: str, expected: str, got: str) -> Finding:
    return Finding(kind=kind, where=f"quote.attest: {field}", expected=expected, got=got)

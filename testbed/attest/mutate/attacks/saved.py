"""Attacks on a verifier that continues from a saved state: reboots, rollbacks, stalls and a rewritten past."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    ForgedMachine,
    buffer_line,
    event,
    file_line,
    flipped,
    join,
    needs_containers,
    payload,
    quote,
    start_places,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, REFUSED, Forged, Honest, by_root
from testbed.attest.mutate.engine.standin import other_rsa_tpm

_MINUTE = 60_000
_BEHIND = 3


def _half(honest: Honest) -> list[Entry]:
    covered = honest.covered()
    return covered[: len(covered) // 2]


def _first(honest: Honest, *, restart: int = 0) -> Forged:
    """Return the evidence of the earlier verification: half of the log."""
    return quote(honest, ForgedMachine(lines=_half(honest), restart=restart))


def _later(honest: Honest, **machine: int) -> Forged:
    """Return a quote of the same machine a minute later, or as ``machine`` says."""
    return quote(honest, replace(ForgedMachine(lines=honest.covered(), clock=_MINUTE), **machine))  # type: ignore[arg-type]


def _after(honest: Honest, **machine: int) -> Forged:
    return replace(_later(honest, **machine), since=_first(honest))


def _shown(honest: Honest, log: Callable[[Honest], bytes], *, recheck: bool = False) -> Forged:
    machine = ForgedMachine(lines=honest.covered(), log=log(honest), clock=_MINUTE)
    return replace(quote(honest, machine), since=_first(honest), recheck=recheck)


def _past_changed(honest: Honest) -> bytes:
    """Change a digest in what was verified before; the log keeps its size."""
    lines = honest.covered()
    place = max(index for index, entry in enumerate(_half(honest)) if event(entry) == b"ctr-file")
    lines[place] = buffer_line(b"ctr-file", flipped(payload(lines[place]), DIGEST))
    return join(lines)


def _past_longer(honest: Honest) -> bytes:
    """Show the last line that was verified before twice."""
    half = len(_half(honest))
    lines = honest.covered()
    return join([*lines[:half], lines[half - 1], *lines[half:]])


def _past_gone(honest: Honest) -> bytes:
    return join(honest.covered()[-1:])


def _cut(honest: Honest) -> bytes:
    return join(_half(honest)[:-1])


def _cut_idle(honest: Honest) -> Forged:
    """Quote the same state as before, and show less of the log than before."""
    lines = _half(honest)
    machine = ForgedMachine(lines=lines, log=join(lines[:-1]), clock=_MINUTE)
    return replace(quote(honest, machine), since=_first(honest))


def _hibernated(honest: Honest) -> Forged:
    """Reset the PCRs without raising resetCount, and continue the log as if they had not been reset."""
    new = [file_line("/sbin/resumed", b"resumed"), *honest.covered()[len(_half(honest)) :]]
    machine = ForgedMachine(lines=new, log=join([*_half(honest), *new]), clock=_MINUTE, restart=1)
    return replace(quote(honest, machine), since=_first(honest))


def _lagging(honest: Honest, behind: int) -> Forged:
    """Show a log with unquoted lines at its end; the next quote covers all of them but ``behind``."""
    covered = honest.covered()
    log = join(covered)
    before = quote(honest, ForgedMachine(lines=covered[:-_BEHIND], log=log))
    now = ForgedMachine(lines=covered[: len(covered) - behind], log=log, clock=_MINUTE)
    return replace(quote(honest, now), since=before)


def _other_key(honest: Honest) -> Forged:
    return replace(_later(honest), since=quote(honest, ForgedMachine(lines=_half(honest)), tpm=other_rsa_tpm()))


def _other_pcrs(honest: Honest) -> Forged:
    lines = [entry for entry in honest.covered() if entry.pcr == IMA_PCR]
    first = replace(quote(honest, ForgedMachine(lines=lines), pcrs=(IMA_PCR,)), pcrs=f"sha256:{IMA_PCR}")
    return replace(_later(honest), since=first)


def _other_bank(honest: Honest) -> Forged:
    first = quote(honest, ForgedMachine(lines=_half(honest), bank="sha1"))
    return replace(_later(honest), since=replace(first, pcrs=f"sha1:{IMA_PCR},{CONTAINER_PCR}"))


def _start_twice(honest: Honest) -> Forged:
    """Start a container again that only the state knows."""
    again = honest.entries[start_places(honest)[0]]
    machine = ForgedMachine(lines=[*honest.covered(), again], clock=_MINUTE)
    return replace(quote(honest, machine), since=_first(honest))


def _chunk(honest: Honest, missing: int, *, state: bool = True) -> Forged:
    """Show only the part of the log after the saved state, without its first ``missing`` lines."""
    lines, first = honest.covered(), len(_half(honest)) + missing
    forged = _later(honest)
    claims = json.loads(forged.files["bundle.json"])  # type: ignore[arg-type]
    claims["log"] = {"offset": len(join(lines[:first]))}
    files = {**forged.files, "bundle.json": json.dumps(claims).encode(), "ima.bin": join(lines[first:])}
    return replace(forged, files=files, since=_first(honest) if state else None)


def _policy(**changes: object) -> bytes:
    return json.dumps({"schema": 1, "on": {"unknown": "note"}, **changes}).encode()


def _renewed(honest: Honest, first: bytes | None, later: bytes | None, *, rejudge: bool = False) -> Forged:
    """Continue under another policy than the one that judged the past, or under none."""
    return replace(_later(honest), since=replace(_first(honest), policy=first), policy=later, rejudge=rejudge)


def _replayed(honest: Honest) -> Forged:
    """Answer with the earlier quote, after a later one was verified."""
    return replace(_first(honest), since=_later(honest))


_COUNTERS: tuple[tuple[str, str, str, Callable[[Honest], Forged], tuple[str, ...]], ...] = (
    ("saved-progress", "T68", "no attack: a minute later the log has more lines", _after, ()),
    ("saved-idle", "T67", "no attack: a minute later the log has the same lines", partial(_lagging, behind=0), ()),
    ("saved-reboot", "T63", "a reboot since the state was saved", partial(_after, reset=1), (Kind.QUOTE_RESET,)),
    (
        "saved-cleared",
        "T63",
        "a resetCount lower than saved: the TPM's state was restored",
        partial(_after, reset=-1),
        (Kind.QUOTE_RESET,),
    ),
    ("saved-clock-back", "T63", "a clock that went back", partial(_after, clock=-500), (Kind.QUOTE_CLOCK,)),
    (
        "saved-state-put-back",
        "T63",
        "an old state of the TPM restored: clock and resetCount are lower",
        partial(_after, clock=-500, reset=-1),
        (Kind.QUOTE_CLOCK, Kind.QUOTE_RESET),
    ),
    (
        "saved-restart-back",
        "T63",
        "a restartCount lower than saved",
        lambda honest: replace(_later(honest), since=_first(honest, restart=1)),
        (Kind.QUOTE_RESET,),
    ),
    ("saved-sleep", "T63", "no attack: the machine slept, the PCRs were kept", partial(_after, restart=1), ()),
    (
        "saved-hibernated",
        "T63",
        "PCRs reset without a reset of the TPM",
        _hibernated,
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "saved-firmware",
        "T63",
        "another firmware version without a reset",
        partial(_after, firmware=1),
        (Kind.QUOTE_SIGNER,),
    ),
)
_STRICT = json.dumps({"schema": 1}).encode()
_RENEWED: tuple[tuple[str, str, Callable[[Honest], Forged], tuple[str, ...]], ...] = (
    ("same", "no attack: the policy that judged the past", partial(_renewed, first=_policy(), later=_policy()), ()),
    ("renewed", "another policy than before", partial(_renewed, first=_policy(), later=_policy(images={})), (REFUSED,)),
    ("added", "a policy after none", partial(_renewed, first=None, later=_policy()), (REFUSED,)),
    ("dropped", "no policy after one", partial(_renewed, first=_policy(), later=None), (REFUSED,)),
    (
        "rejudged",
        "no attack: another policy, which judges the past again",
        partial(_renewed, first=None, later=_policy(), rejudge=True),
        (),
    ),
    (
        "rejudged-strict",
        "files that a laxer policy allowed, judged again by a stricter one",
        partial(_renewed, first=_policy(), later=_STRICT, rejudge=True),
        (Kind.UNKNOWN_FILE,),
    ),
)
_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(_row(name, row, summary, forge, *expect) for name, row, summary, forge, expect in _COUNTERS),
    _row("saved-chunk", "T68", "no attack: the part of the log after the saved state", partial(_chunk, missing=0)),
    _row(
        "saved-chunk-missing",
        "T68",
        "a part of the log that begins two lines after the saved state",
        partial(_chunk, missing=2),
        Kind.LOG_MISSING,
    ),
    _row(
        "saved-chunk-alone",
        "T68",
        "a later part of the log, without the state of what was before it",
        partial(_chunk, missing=0, state=False),
        Kind.LOG_MISSING,
    ),
    *(_row(f"saved-policy-{name}", "T68", summary, forge, *expect) for name, summary, forge, expect in _RENEWED),
    _row(
        "saved-stalled",
        "T67",
        "a fresh quote of the same old state: no progress",
        partial(_lagging, behind=_BEHIND),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-lagging",
        "T67",
        "a quote that does not quite cover the lines that were in the log before",
        partial(_lagging, behind=1),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-log-shorter",
        "T68",
        "a log shorter than the part that was verified before",
        partial(_shown, log=_cut),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-log-shorter-idle",
        "T68",
        "a log shorter than the part that was verified before, and a quote of the same state",
        _cut_idle,
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-past-gone",
        "T68",
        "a log with the newest line only",
        partial(_shown, log=_past_gone),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-past-longer",
        "T68",
        "one more line in the part that was verified before",
        partial(_shown, log=_past_longer),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-past-changed",
        "T68",
        "a digest changed in the part that was verified before, which is not read again",
        partial(_shown, log=_past_changed),
    ),
    _row(
        "saved-past-changed-recheck",
        "T68",
        "a digest changed in the part that was verified before, which --recheck reads again",
        partial(_shown, log=_past_changed, recheck=True),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "saved-recheck",
        "T68",
        "no attack: --recheck finds the past unchanged",
        partial(_shown, log=lambda honest: join(honest.covered()), recheck=True),
    ),
    _row(
        "saved-start-again",
        "T68",
        "a second ctr-start of a container that only the state knows",
        _start_twice,
        Kind.MALFORMED,
    ),
    _row("saved-replayed", "T63", "an older quote and log after a later one was verified", _replayed, Kind.QUOTE_CLOCK),
    _row("saved-other-key", "T68", "the state of another machine's key", _other_key, REFUSED),
    _row("saved-other-pcrs", "T68", "the state of other PCRs", _other_pcrs, REFUSED),
    _row("saved-other-bank", "T68", "the state of another bank", _other_bank, REFUSED),
    _row(
        "saved-and-start",
        "T62",
        "a start value given together with a state",
        lambda honest: replace(_after(honest), starts={CONTAINER_PCR: bytes(32)}),
        REFUSED,
    ),
)

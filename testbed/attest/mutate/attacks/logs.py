"""Attacks by rewriting the log in transit: its lines and its framing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    PATH,
    buffer_line,
    described,
    event,
    fixed,
    flipped,
    join,
    needs_containers,
    payload,
    victim,
    with_files,
    with_log,
    without_values,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_files
from testbed.attest.mutate.engine.standin import extended

Edit = Callable[[Entry], Entry]


def _first(honest: Honest) -> int:
    return honest.places(CONTAINER_PCR)[0]


def _last(honest: Honest) -> int:
    return honest.places(CONTAINER_PCR)[-1]


def _boot(honest: Honest) -> int:
    return honest.places(IMA_PCR)[0]


def _replaced(honest: Honest, at: Callable[[Honest], int], edit: Callable[[Entry], list[Entry]]) -> Forged:
    place = at(honest)
    lines = [*honest.entries[:place], *edit(honest.entries[place]), *honest.entries[place + 1 :]]
    return with_log(honest, lines)


def _changed(honest: Honest, at: Callable[[Honest], int], edit: Edit) -> Forged:
    return _replaced(honest, at, lambda entry: [edit(entry)])


def _payload_bit(entry: Entry, at: int) -> Entry:
    """Flip a bit of the payload, which ends the template data, and leave all hashes as they are."""
    return entry._replace(data=flipped(entry.data, len(entry.data) - len(payload(entry)) + at))


def _payload_bit_fixed(entry: Entry, at: int) -> Entry:
    """Flip a bit of the payload and correct the line's hashes."""
    return buffer_line(event(entry), flipped(payload(entry), at), entry.pcr)


def _ng_name(entry: Entry) -> Entry:
    """Flip a bit in the middle of an ``ima-ng`` line's name."""
    return entry._replace(data=flipped(entry.data, -4))


def _swapped(honest: Honest) -> Forged:
    place = victim(honest)
    other = next(index for index in honest.places(CONTAINER_PCR) if index > place)
    lines = list(honest.entries)
    lines[place], lines[other] = lines[other], lines[place]
    return with_log(honest, lines)


def _without(honest: Honest, gone: Callable[[Entry], bool]) -> Forged:
    return with_log(honest, [entry for entry in honest.entries if not gone(entry)])


_AT_ONE: tuple[tuple[str, str, str, Callable[[Honest], int], Callable[[Entry], list[Entry]], tuple[str, ...]], ...] = (
    ("line-deleted", "T52", "a middle line of PCR 11 deleted", victim, lambda _: [], (Kind.REPLAY_MISMATCH,)),
    ("line-deleted-first", "T52", "the first line of PCR 11 deleted", _first, lambda _: [], (Kind.REPLAY_MISMATCH,)),
    ("line-deleted-last", "T52", "the last line of PCR 11 deleted", _last, lambda _: [], (Kind.REPLAY_MISMATCH,)),
    ("line-duplicated", "T52", "a middle line duplicated", victim, lambda e: [e, e], (Kind.REPLAY_MISMATCH,)),
    ("line-duplicated-first", "T52", "the first line duplicated", _first, lambda e: [e, e], (Kind.REPLAY_MISMATCH,)),
    (
        "line-duplicated-last",
        "T56",
        "the last line duplicated: the second is after the quoted state",
        _last,
        lambda entry: [entry, entry],
        (Kind.UNATTESTED,),
    ),
    (
        "line-of-other-pcr",
        "T52",
        "a line of PCR 12 added in the middle: no quoted PCR covers it",
        victim,
        lambda entry: [entry._replace(pcr=12), entry],
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "line-added",
        "T52",
        "a well-made line added in the middle",
        victim,
        lambda entry: [_payload_bit_fixed(entry, DIGEST), entry],
        (Kind.REPLAY_MISMATCH,),
    ),
)
_BOTH = (Kind.TEMPLATE_HASH, Kind.REPLAY_MISMATCH)
_LINE_EDITS: tuple[tuple[str, str, str, Callable[[Honest], int], Edit, tuple[str, ...]], ...] = (
    ("digest-edited", "T52", "a file's digest", victim, partial(_payload_bit, at=DIGEST), _BOTH),
    (
        "digest-edited-and-fixed",
        "T52",
        "a file's digest, with all hashes of the line",
        victim,
        partial(_payload_bit_fixed, at=DIGEST),
        (Kind.REPLAY_MISMATCH,),
    ),
    ("path-edited", "T52", "a file's path", victim, partial(_payload_bit, at=PATH + 1), _BOTH),
    (
        "path-edited-and-fixed",
        "T52",
        "a file's path, with all hashes of the line",
        victim,
        partial(_payload_bit_fixed, at=PATH + 1),
        (Kind.REPLAY_MISMATCH,),
    ),
    ("ima-name-edited", "T52", "the name in a line of PCR 10", _boot, _ng_name, _BOTH),
    (
        "ima-name-edited-and-fixed",
        "T52",
        "the name in a line of PCR 10, with its template hash",
        _boot,
        lambda entry: fixed(_ng_name(entry)),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "template-hash-edited",
        "T52",
        "only the template hash that the log shows",
        victim,
        lambda entry: entry._replace(digest=flipped(entry.digest, 7)),
        (Kind.TEMPLATE_HASH,),
    ),
    (
        "violation-over-line",
        "T59",
        "a line's template hash to zeros: it claims to be a violation",
        victim,
        lambda entry: entry._replace(digest=bytes(20)),
        (Kind.VIOLATION, Kind.REPLAY_MISMATCH),
    ),
    (
        "violation-over-ima-line",
        "T59",
        "the template hash of PCR 10's first line to zeros, its path kept",
        _boot,
        lambda entry: entry._replace(digest=bytes(20)),
        (Kind.VIOLATION, Kind.REPLAY_MISMATCH),
    ),
    *(
        (
            f"line-moved-to-pcr-{pcr}",
            "T52",
            f"the PCR of one of PCR 11's lines to {pcr}",
            victim,
            partial(lambda entry, to: entry._replace(pcr=to), to=pcr),
            (Kind.REPLAY_MISMATCH,),
        )
        for pcr in (10, 12, 23)
    ),
)
# No hash covers a template's name, so the replay cannot detect these.
_RENAMED = (
    ("ima-ng-as-sig", _boot, b"ima-sig", (Kind.MALFORMED,)),
    ("ima-ng-as-ngv2", _boot, b"ima-ngv2", (Kind.MALFORMED,)),
    ("ima-ng-as-buf", _boot, b"ima-buf", (Kind.MALFORMED,)),
    ("ima-ng-as-modsig", _boot, b"ima-modsig", (Kind.MALFORMED,)),
    ("ima-ng-as-unknown", _boot, b"ima-unknown", (Kind.UNSUPPORTED,)),
    ("ima-buf-as-sig", victim, b"ima-sig", (Kind.MALFORMED,)),
    ("ima-buf-as-modsig-field", victim, b"d-ng|n-ng|modsig", (Kind.MALFORMED,)),
    ("ima-buf-as-evmsig-field", victim, b"d-ng|n-ng|evmsig", (Kind.MALFORMED,)),
    ("ima-buf-as-xattr-field", victim, b"d-ng|n-ng|xattrvalues", (Kind.MALFORMED,)),
    ("ima-buf-as-ng", victim, b"ima-ng", (Kind.MALFORMED,)),
    ("ima-buf-as-unknown", victim, b"ima-unknown", (Kind.UNSUPPORTED,)),
    ("ima-buf-as-ima", victim, b"ima", (Kind.MALFORMED, Kind.REPLAY_MISMATCH)),
)


def _moved(honest: Honest) -> Forged:
    return with_log(honest, [entry._replace(pcr=CONTAINER_PCR) for entry in honest.entries])


def _other_buffer(entry: Entry) -> Entry:
    """Change the payload and the line's template hash, and leave the payload's digest unchanged."""
    return fixed(_payload_bit(entry, PATH + 1))


def _values_of_forged(honest: Honest) -> Forged:
    """Remove a line and state the PCR values that the rest leads to."""
    gone = victim(honest)
    lines = [entry for index, entry in enumerate(honest.entries) if index != gone]
    values = {pcr: extended(lines, pcr, "sha256") for pcr in honest.values}
    return with_files(honest, {"ima.bin": join(lines), "bundle.json": described(honest, values)})


_row = partial(by_files, applies=needs_containers)
_gone_11 = partial(_without, gone=lambda entry: entry.pcr == CONTAINER_PCR)
_gone_10 = partial(_without, gone=lambda entry: entry.pcr == IMA_PCR)
_gone_all = partial(_without, gone=lambda _: True)

ATTACKS = (
    *(
        _row(name, row, summary, partial(_replaced, at=at, edit=edit), *expect)
        for name, row, summary, at, edit, expect in _AT_ONE
    ),
    *(
        _row(name, row, f"changed: {summary}", partial(_changed, at=at, edit=edit), *expect)
        for name, row, summary, at, edit, expect in _LINE_EDITS
    ),
    _row(
        "buffer-edited-and-fixed",
        "T52",
        "a payload and the line's template hash changed, but not the payload's digest in the line",
        partial(_changed, at=victim, edit=_other_buffer),
        *_BOTH,
    ),
    *(
        _row(
            name,
            "T60",
            f"a line's template renamed to {template.decode()}",
            partial(_changed, at=at, edit=partial(Entry._replace, template=template)),
            *expect,
        )
        for name, at, template, expect in _RENAMED
    ),
    _row("lines-swapped", "T52", "two neighbours on PCR 11 swapped", _swapped, Kind.REPLAY_MISMATCH),
    _row("lines-all-on-pcr-11", "T52", "all lines moved to PCR 11", _moved, Kind.LOG_MISSING, Kind.REPLAY_MISMATCH),
    _row("pcr-11-lines-gone", "T53", "all lines of PCR 11 removed", _gone_11, Kind.LOG_MISSING),
    _row("pcr-10-lines-gone", "T53", "all lines of PCR 10 removed", _gone_10, Kind.LOG_MISSING),
    _row("log-empty", "T53", "all lines removed", _gone_all, Kind.LOG_MISSING),
    _row(
        "pcr-11-lines-gone-no-values",
        "T53",
        "all lines of PCR 11 removed, and the PCR values from bundle.json",
        lambda honest: without_values(honest, _gone_11(honest)),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "log-empty-no-values",
        "T53",
        "all lines removed, and the PCR values from bundle.json",
        lambda honest: without_values(honest, _gone_all(honest)),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "values-of-forged-log",
        "T52",
        "a line deleted, and bundle.json has the PCR values of the rest",
        _values_of_forged,
        Kind.REPLAY_MISMATCH,
    ),
)

"""Attacks on long runs of ordinary lines, which a verifier may process by the hundred instead of one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.policies import GOOD, Document, judged
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    digest_field,
    file_line,
    fixed,
    flipped,
    join,
    line,
    needs_containers,
    quote,
    sized,
    violation_line,
    without_values,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_root

LENGTH = 300
_MIDDLE = LENGTH // 2
_CONTENT = b"content"
Edit = Callable[[list[Entry]], None]


def _names() -> list[str]:
    return [f"/usr/lib/x86_64-linux-gnu/lib{number}.so" for number in range(LENGTH)]


def _run() -> list[Entry]:
    return [file_line(name, _CONTENT) for name in _names()]


def _unsigned_run() -> list[Entry]:
    return [
        line(IMA_PCR, b"ima-sig", digest_field(_CONTENT) + sized(n.encode() + b"\0") + sized(b"")) for n in _names()
    ]


def _two_pcrs() -> list[Entry]:
    return [entry._replace(pcr=CONTAINER_PCR if number % 3 else IMA_PCR) for number, entry in enumerate(_run())]


def _nothing(_: list[Entry]) -> None:
    """Leave the run as it is."""


def _extended(honest: Honest, edit: Edit, run: Callable[[], list[Entry]] = _run) -> Forged:
    """Log a run after what the quote covers, and extend PCRs by the changed run."""
    lines = run()
    edit(lines)
    return quote(honest, ForgedMachine(lines=[*honest.covered(), *lines]))


def _shown(honest: Honest, edit: Edit, run: Callable[[], list[Entry]] = _run) -> Forged:
    """Extend PCRs by a good run, and show the changed one."""
    lines = [*honest.covered(), *run()]
    shown = run()
    edit(shown)
    return quote(honest, ForgedMachine(lines=lines, log=join([*honest.covered(), *shown])))


def _put(at: int, entry: Entry) -> Edit:
    return lambda lines: lines.__setitem__(at, entry)


def _changed(at: int, change: Callable[[Entry], Entry]) -> Edit:
    return lambda lines: lines.__setitem__(at, change(lines[at]))


def _deleted(lines: list[Entry]) -> None:
    del lines[_MIDDLE]


def _swapped(lines: list[Entry]) -> None:
    lines[_MIDDLE], lines[_MIDDLE + 1] = lines[_MIDDLE + 1], lines[_MIDDLE]


def _other_pcr(lines: list[Entry]) -> None:
    lines.insert(_MIDDLE, file_line("/usr/bin/evil", b"evil", 12))


def _wrong_hash(entry: Entry) -> Entry:
    return entry._replace(digest=flipped(entry.digest, 3))


def _other_digest(entry: Entry) -> Entry:
    return entry._replace(data=flipped(entry.data, 20))


def _ng(digest: bytes, name: bytes) -> Entry:
    return line(IMA_PCR, b"ima-ng", digest + name)


def _longer_name(entry: Entry) -> Entry:
    """Announce a name that is one byte longer than it is."""
    return fixed(entry._replace(data=flipped(entry.data, 44)))


_DIGEST = digest_field(_CONTENT)
_EXTENDED: tuple[tuple[str, str, Edit, Callable[[], list[Entry]], Sequence[str]], ...] = (
    ("run-good", "no attack: good lines", _nothing, _run, ()),
    ("run-unsigned", "no attack: good lines of ima-sig without a signature", _nothing, _unsigned_run, ()),
    ("run-two-pcrs", "no attack: good lines of both PCRs", _nothing, _two_pcrs, ()),
    *(
        (
            f"run-hash-{where}",
            f"the {where} shows a wrong template hash",
            _changed(at, _wrong_hash),
            _run,
            [Kind.TEMPLATE_HASH],
        )
        for where, at in (("first", 0), ("middle", _MIDDLE), ("last", -1))
    ),
    (
        "run-hash-unsigned",
        "one of ima-sig shows a wrong template hash",
        _changed(9, _wrong_hash),
        _unsigned_run,
        [Kind.TEMPLATE_HASH],
    ),
    ("run-violation", "one is a violation", _put(_MIDDLE, violation_line("/usr/bin/x")), _run, [Kind.VIOLATION]),
    (
        "run-name-size",
        "one has a name longer than its bytes",
        _changed(_MIDDLE, _longer_name),
        _run,
        [Kind.MALFORMED],
    ),
    (
        "run-name-nul",
        "one has a zero byte in its name",
        _put(7, _ng(_DIGEST, sized(b"/usr/bin/a\0b\0"))),
        _run,
        [Kind.MALFORMED],
    ),
    (
        "run-name-no-end",
        "one has a name without an end",
        _put(7, _ng(_DIGEST, sized(b"/usr/bin/a"))),
        _run,
        [Kind.MALFORMED],
    ),
    ("run-name-missing", "one has no name", _put(7, _ng(_DIGEST, sized(b""))), _run, [Kind.MALFORMED]),
    (
        "run-digest-unknown",
        "one has a digest of an unknown algorithm",
        _put(7, _ng(sized(b"sha9-512:\0" + bytes(64)), sized(b"/usr/bin/a\0"))),
        _run,
        [Kind.UNSUPPORTED],
    ),
    (
        "run-template-unknown",
        "one has an unknown template",
        _put(7, line(IMA_PCR, b"ima-unknown", b"?")),
        _run,
        [Kind.UNSUPPORTED],
    ),
    ("run-other-pcr", "one belongs to a PCR that was not quoted", _other_pcr, _run, [Kind.REPLAY_MISMATCH]),
)
_SHOWN: tuple[tuple[str, str, Edit, Callable[[], list[Entry]], Sequence[str]], ...] = (
    ("run-line-deleted", "one is deleted", _deleted, _run, [Kind.REPLAY_MISMATCH]),
    ("run-line-doubled", "one is duplicated", lambda lines: lines.insert(7, lines[7]), _run, [Kind.REPLAY_MISMATCH]),
    ("run-lines-swapped", "two are swapped", _swapped, _run, [Kind.REPLAY_MISMATCH]),
    (
        "run-pcr-changed",
        "one is moved to the other PCR",
        _changed(6, lambda e: e._replace(pcr=11)),
        _two_pcrs,
        [Kind.REPLAY_MISMATCH],
    ),
    (
        "run-line-renamed",
        "one is named ima-sig",
        _changed(7, lambda e: e._replace(template=b"ima-sig")),
        _run,
        [Kind.MALFORMED],
    ),
    (
        "run-digest",
        "one has another digest",
        _changed(_MIDDLE, _other_digest),
        _run,
        [Kind.TEMPLATE_HASH, Kind.REPLAY_MISMATCH],
    ),
    (
        "run-digest-fixed",
        "one has another digest, and the hash for it",
        _changed(_MIDDLE, lambda e: fixed(_other_digest(e))),
        _run,
        [Kind.REPLAY_MISMATCH],
    ),
    (
        "run-violation-shown",
        "one claims to be a violation",
        _changed(_MIDDLE, lambda entry: entry._replace(digest=bytes(20))),
        _run,
        [Kind.VIOLATION, Kind.REPLAY_MISMATCH],
    ),
)


def _half_quoted(honest: Honest, *, values: bool = True) -> Forged:
    lines = [*honest.covered(), *_run()]
    forged = quote(honest, ForgedMachine(lines=lines[:-_MIDDLE], log=join(lines)))
    return forged if values else without_values(honest, forged)


def _ahead_in_the_middle(honest: Honest) -> Forged:
    """Show lines of PCR 11 from after the quoted state among those of PCR 10 that were quoted."""
    later = [file_line(f"/usr/bin/later-{number}", b"later", CONTAINER_PCR) for number in range(LENGTH)]
    mixed = [entry for pair in zip(_run(), later, strict=True) for entry in pair]
    return quote(honest, ForgedMachine(lines=[*honest.covered(), *_run()], log=join([*honest.covered(), *mixed])))


def _cut(honest: Honest) -> Forged:
    lines = [*honest.covered(), *_run()]
    return quote(honest, ForgedMachine(lines=lines, log=join(lines)[:-20]))


def _listed(_: Honest, document: Document) -> None:
    digest = file_line("", _CONTENT).data[12:44].hex()
    document["host"]["files"] |= {name: [f"sha256:{digest}"] for name in _names()}


def _one_listed_otherwise(honest: Honest, document: Document) -> None:
    _listed(honest, document)
    document["host"]["files"][_names()[_MIDDLE]] = [GOOD]


def _one_not_listed(honest: Honest, document: Document) -> None:
    _listed(honest, document)
    del document["host"]["files"][_names()[_MIDDLE]]


def _by_policy(honest: Honest, edit: Callable[[Honest, Document], None]) -> Forged:
    return judged(honest, _extended(honest, _nothing), edit)


def _later(honest: Honest) -> Forged:
    """Continue with a run from a state that was saved before it."""
    before = quote(honest, ForgedMachine(lines=honest.covered()))
    return replace(_extended(honest, _nothing), since=before)


_POLICIES = (
    ("run-policy-good", "T05", "no attack: all of them are in the policy", _listed, ()),
    ("run-policy-unknown", "T05", "one is not in the policy", _one_not_listed, [Kind.UNKNOWN_FILE]),
    ("run-policy-wrong", "T04", "one has another digest in the policy", _one_listed_otherwise, [Kind.WRONG_DIGEST]),
)
_row = partial(by_root, applies=needs_containers)
_TOLD = f"of {LENGTH} ordinary lines"

ATTACKS = (
    *(
        _row(name, "T72", f"{_TOLD}, extended: {summary}", partial(_extended, edit=edit, run=run), *expect)
        for name, summary, edit, run, expect in _EXTENDED
    ),
    *(
        _row(name, "T52", f"{_TOLD}, as shown: {summary}", partial(_shown, edit=edit, run=run), *expect)
        for name, summary, edit, run, expect in _SHOWN
    ),
    *(
        _row(
            name,
            row,
            f"{_TOLD}: {summary}",
            partial(_by_policy, edit=edit),
            *expect,
        )
        for name, row, summary, edit, expect in _POLICIES
    ),
    _row(
        "run-ahead-in-the-middle",
        "T66",
        f"{_TOLD}: between them, as many of the other PCR, which is not quoted",
        _ahead_in_the_middle,
        Kind.UNATTESTED,
    ),
    _row("run-half-quoted", "T66", f"{_TOLD}: half were quoted", _half_quoted, Kind.UNATTESTED),
    _row(
        "run-half-quoted-no-values",
        "T66",
        f"{_TOLD}: half were quoted, no PCR values",
        partial(_half_quoted, values=False),
        Kind.UNATTESTED,
    ),
    _row("run-cut", "T57", f"{_TOLD}: the last cut off in its middle", _cut, Kind.MALFORMED, Kind.REPLAY_MISMATCH),
    _row("run-saved", "T68", f"{_TOLD}: no attack: all came after the saved state", _later),
)

"""Attacks with entries after the quoted state, with their order, and with when the log was read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
    line,
    needs_containers,
    payload,
    quote,
    tail,
    victim,
    victim_payload,
    violation_line,
    with_files,
    with_log,
    without_values,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_files, by_root


def _sorted(honest: Honest, first: int) -> Forged:
    """Show one PCR's lines before the other's, the order within each as it was."""
    return with_log(honest, sorted(honest.entries, key=lambda entry: entry.pcr != first))


def _sorted_unvalued(honest: Honest, first: int) -> Forged:
    """Move the entries after the quoted state to the end too: the verifier searches for one prefix."""
    lines = sorted(honest.covered(), key=lambda entry: entry.pcr != first)
    return without_values(honest, with_log(honest, [*lines, *tail(honest)]))


def _ahead_in_the_middle(honest: Honest) -> Forged:
    """Show an attested line of PCR 11 after one of PCR 10 that came after the quoted state."""
    covered = honest.covered()
    late = covered.pop(max(index for index, entry in enumerate(covered) if entry.pcr == CONTAINER_PCR))
    return with_log(honest, [*covered, file_line("/usr/bin/later", b"later"), late])


def _with_tail(honest: Honest, more: bytes) -> Forged:
    return with_files(honest, {"ima.bin": join(honest.covered()) + more})


def _tail_of(honest: Honest, made: Callable[[Honest], list[Entry]]) -> Forged:
    return _with_tail(honest, join(made(honest)))


_TAIL_LINES: tuple[tuple[str, str, Callable[[Honest], list[Entry]]], ...] = (
    ("tail-evil", "an unknown program", lambda _: [file_line("/tmp/evil", b"evil")]),  # noqa: S108 - a name in a log
    (
        "tail-evil-container",
        "a container's file with another digest",
        lambda honest: [buffer_line(b"ctr-file", flipped(victim_payload(honest), DIGEST))],
    ),
    ("tail-good", "lines that are in the log already", lambda honest: honest.covered()[-3:]),
    ("tail-violation", "a violation", lambda _: [violation_line("/usr/bin/x")]),
    ("tail-other-pcr", "a line of PCR 12", lambda _: [file_line("/usr/bin/x", b"x", 12)]),
    ("tail-unknown-template", "a line of an unknown template", lambda _: [line(IMA_PCR, b"ima-unknown", b"?")]),
    ("tail-wrong-hash", "a line whose template hash is wrong", lambda _: [line(11, b"ima-ng", b"", b"\1" * 20)]),
    ("tail-of-thousand", "a thousand lines", lambda _: [file_line(f"/usr/bin/{n}", b"x") for n in range(1000)]),
)
_TAIL_BYTES = (
    ("tail-garbage", "bytes that are not an entry", hashlib.sha512(b"garbage").digest()),
    ("tail-one-byte", "one byte", b"\n"),
    ("tail-zeros", "4096 zeros", bytes(4096)),
    ("tail-size-huge", "an entry with 4 GiB of data", join([file_line("/x", b"")])[:34] + b"\xff" * 4),
    ("tail-half-entry", "half an entry, as an early reader sees it", join([file_line("/x", b"")])[:50]),
)


def _quoted_before(honest: Honest, left: Callable[[int], int], *, values: bool = True) -> Forged:
    """Quote when the log had some lines, read it when it had all: the honest order, on a busy machine."""
    covered = honest.covered()
    machine = ForgedMachine(lines=covered[: left(len(covered))], log=join(covered))
    forged = quote(honest, machine)
    return forged if values else without_values(honest, forged)


def _read_before(honest: Honest) -> Forged:
    """Read the log first and quote afterwards: the entries in between are missing in the log."""
    lines = [*honest.covered(), buffer_line(b"ctr-file", flipped(victim_payload(honest), DIGEST))]
    return quote(honest, ForgedMachine(lines=lines, log=join(lines[:-1])))


def _quoted_unmeasured(honest: Honest) -> Forged:
    """Quote when PCR 11 had not been extended yet."""
    lines = [entry for entry in honest.covered() if entry.pcr != CONTAINER_PCR]
    return quote(honest, ForgedMachine(lines=lines, log=join(honest.covered())))


def _never_measured(honest: Honest) -> Forged:
    """Keep the measurer from ever starting: the log has no container, and PCR 11 has nothing."""
    return quote(honest, ForgedMachine(lines=[entry for entry in honest.covered() if entry.pcr != CONTAINER_PCR]))


def _evil_between(honest: Honest) -> Forged:
    """Put a line that extended no PCR between the last attested ones of PCR 11 and PCR 10."""
    entry = honest.entries[victim(honest)]
    evil = buffer_line(event(entry), flipped(payload(entry), DIGEST))
    lines = sorted(honest.covered(), key=lambda listed: listed.pcr != CONTAINER_PCR)
    split = sum(listed.pcr == CONTAINER_PCR for listed in lines)
    return with_log(honest, [*lines[:split], evil, *lines[split:]])


_files = partial(by_files, applies=needs_containers)
_root = partial(by_root, applies=needs_containers)

ATTACKS = (
    _files("order-pcr-10-first", "T55", "all of PCR 10 before all of PCR 11", partial(_sorted, first=IMA_PCR)),
    _files("order-pcr-11-first", "T55", "all of PCR 11 before all of PCR 10", partial(_sorted, first=CONTAINER_PCR)),
    _files(
        "order-pcr-11-first-no-values",
        "T55",
        "all of PCR 11 before all of PCR 10, and no PCR values: one prefix of the log fits",
        partial(_sorted_unvalued, first=CONTAINER_PCR),
    ),
    _files(
        "order-ahead-in-the-middle",
        "T66",
        "a line after the quoted state of PCR 10 before an attested one of PCR 11",
        _ahead_in_the_middle,
        Kind.UNATTESTED,
    ),
    _files(
        "order-ahead-in-the-middle-no-values",
        "T66",
        "the same without PCR values: no prefix of the log fits",
        lambda honest: without_values(honest, _ahead_in_the_middle(honest)),
        Kind.REPLAY_MISMATCH,
    ),
    _files(
        "order-evil-between",
        "T56",
        "a made-up line after all of PCR 11's, before PCR 10's: after PCR 11's quoted value",
        _evil_between,
        Kind.UNATTESTED,
    ),
    *(
        _files(name, "T56", f"at the end of the log: {summary}", partial(_tail_of, made=made), Kind.UNATTESTED)
        for name, summary, made in _TAIL_LINES
    ),
    *(
        _files(name, "T56", f"at the end of the log: {summary}", partial(_with_tail, more=more), Kind.UNATTESTED)
        for name, summary, more in _TAIL_BYTES
    ),
    _root(
        "race-one-ahead",
        "T66",
        "the log was read when it had one line more than at the quote",
        partial(_quoted_before, left=lambda n: n - 1),
        Kind.UNATTESTED,
    ),
    _root(
        "race-half-ahead",
        "T66",
        "the log was read when it had twice the lines",
        partial(_quoted_before, left=lambda n: n // 2),
        Kind.UNATTESTED,
    ),
    _root(
        "race-half-ahead-no-values",
        "T66",
        "the log was read when it had twice the lines, and there are no PCR values",
        partial(_quoted_before, left=lambda n: n // 2, values=False),
        Kind.UNATTESTED,
    ),
    _root("race-log-first", "T66", "the log was read before the quote", _read_before, Kind.REPLAY_MISMATCH),
    _root(
        "quote-before-measurer",
        "T67",
        "a quote from before the first container: all entries of containers come after it",
        _quoted_unmeasured,
        Kind.UNATTESTED,
    ),
    _root(
        "measurer-never-started",
        "T69",
        "no measurer: good evidence without containers; only ground truth or a policy shows that they are missing",
        _never_measured,
    ),
)

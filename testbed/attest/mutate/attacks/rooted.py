"""Attacks of root: the added lines extend the PCRs, so the replay cannot detect them; their content can be judged."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.engine.lines import (
    DIGEST,
    ForgedMachine,
    buffer_line,
    digest_field,
    file_line,
    fixed,
    flipped,
    grown,
    join,
    line,
    needs_containers,
    payload,
    payload_of,
    quote,
    sized,
    victim,
    victim_payload,
    violation_line,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_root

_EVIL = hashlib.sha256(b"evil").digest()
_NAME = sized(b"/usr/bin/x\0")


def added(honest: Honest, *made: Entry) -> Forged:
    """Log lines and extend PCRs by them, before the last honest line."""
    return quote(honest, ForgedMachine(lines=grown(honest, *made)))


def _line(honest: Honest, entry: Entry) -> Forged:
    return added(honest, entry)


def _ima(data: bytes, template: bytes = b"ima-ng") -> Entry:
    return line(IMA_PCR, template, data)


_OLD = hashlib.sha1(b"old").digest() + sized(b"/usr/bin/old")  # noqa: S324 - what template `ima` has
_LINES: tuple[tuple[str, str, str, Entry, tuple[str, ...]], ...] = (
    ("template-ima", "T60", "template ima", _ima(_OLD, b"ima"), ()),
    (
        "template-ngv2",
        "T60",
        "template ima-ngv2",
        _ima(sized(b"ima:sha256:\0" + bytes(31) + b"\1") + _NAME, b"ima-ngv2"),
        (),
    ),
    ("template-sig", "T60", "template ima-sig", _ima(digest_field(b"x") + _NAME + sized(b"\3\2"), b"ima-sig"), ()),
    (
        "template-sig-empty",
        "T60",
        "ima-sig, no signature",
        _ima(digest_field(b"x") + _NAME + sized(b""), b"ima-sig"),
        (),
    ),
    ("template-field-list", "T60", "template d-ng|n-ng", _ima(digest_field(b"x") + _NAME, b"d-ng|n-ng"), ()),
    ("digest-sha512", "T61", "a digest of SHA-512", _ima(digest_field(b"x", "sha512") + _NAME), ()),
    ("digest-sha1", "T61", "a digest of SHA-1", _ima(digest_field(b"x", "sha1") + _NAME), ()),
    ("boot-aggregate-second", "T64", "a second boot_aggregate, as after kexec", file_line("boot_aggregate", b"2"), ()),
    ("template-unknown", "T60", "an unknown template", _ima(b"?", b"ima-unknown"), (Kind.UNSUPPORTED,)),
    (
        "template-unknown-11",
        "T60",
        "an unknown template on PCR 11",
        line(CONTAINER_PCR, b"ima-unknown", b"?"),
        (Kind.UNSUPPORTED,),
    ),
    (
        "digest-unknown",
        "T60",
        "a digest of an unknown algorithm",
        _ima(sized(b"sha9-512:\0" + bytes(64)) + _NAME),
        (Kind.UNSUPPORTED,),
    ),
    (
        "kernel-buffer",
        "T60",
        "a buffer of the kernel on PCR 10",
        buffer_line(b"kernel_version", b"6.1.0", IMA_PCR),
        (),
    ),
    ("data-empty", "T60", "no template data", _ima(b""), (Kind.MALFORMED,)),
    ("digest-size", "T60", "SHA-256 of 20 bytes", _ima(sized(b"sha256:\0" + bytes(20)) + _NAME), (Kind.MALFORMED,)),
    ("field-size-huge", "T60", "a field of 4 GiB", _ima(b"\xff" * 4 + digest_field(b"x")), (Kind.MALFORMED,)),
    (
        "fields-trailing",
        "T60",
        "bytes after the last field",
        _ima(digest_field(b"x") + _NAME + b"!"),
        (Kind.MALFORMED,),
    ),
    (
        "name-nul",
        "T60",
        "a zero byte in the middle of a name",
        _ima(digest_field(b"x") + sized(b"/usr/bin/x\0evil\0")),
        (Kind.MALFORMED,),
    ),
    ("name-no-end", "T60", "a name without its zero byte", _ima(digest_field(b"x") + sized(b"/x")), (Kind.MALFORMED,)),
    (
        "signature-no-signature",
        "T60",
        "a field sig that contains text",
        _ima(digest_field(b"x") + _NAME + sized(b"TBCM"), b"ima-sig"),
        (Kind.MALFORMED,),
    ),
    ("violation", "T59", "a violation, extended as ones", violation_line("/usr/bin/x"), (Kind.VIOLATION,)),
    ("violation-11", "T59", "a violation on PCR 11", violation_line("/usr/bin/x", CONTAINER_PCR), (Kind.VIOLATION,)),
    (
        "template-hash-wrong",
        "T59",
        "a line that shows another template hash",
        file_line("/usr/bin/x", b"x")._replace(digest=_EVIL[:20]),
        (Kind.TEMPLATE_HASH,),
    ),
    ("event-unknown", "T60", "an unknown event", buffer_line(b"ctr-nothing", b"?"), (Kind.UNSUPPORTED,)),
    ("payload-empty", "T60", "a ctr-file without payload", buffer_line(b"ctr-file", b""), (Kind.MALFORMED,)),
    (
        "payload-is-text",
        "T60",
        "a ctr-file with arbitrary bytes as payload",
        buffer_line(b"ctr-file", bytes(120)),
        (Kind.MALFORMED,),
    ),
)


def _old_buffer_digest(honest: Honest) -> Forged:
    """Log another payload under the digest of the old one; everything else is correct."""
    entry = honest.entries[victim(honest)]
    old, new = payload(entry), flipped(payload(entry), DIGEST)
    return added(honest, fixed(entry._replace(data=entry.data[: -len(old)] + new)))


def _measured_again(honest: Honest) -> Forged:
    """Log one line many times, as a kernel without the table of known digests does (IMA_DISABLE_HTABLE)."""
    return added(honest, *[honest.entries[victim(honest)]] * 50)


def _said_violation(honest: Honest, why: int) -> Forged:
    """Have the measurer report that a container's file could be changed."""
    path = b"/usr/bin/open-for-write"
    body = struct.pack("<HHIQQ", why, 0, len(path), 8 << 32 | 1, 4711) + path
    return added(honest, buffer_line(b"ctr-violation", payload_of(5, body, identity=victim_payload(honest)[16:48])))


def _extended(honest: Honest, pcr: int) -> Forged:
    """Extend a PCR without a line, as `tpm2_pcrextend` does."""
    return quote(honest, ForgedMachine(lines=honest.covered(), direct={pcr: [_EVIL]}))


def _done_again(honest: Honest) -> Forged:
    """Hide a line and extend PCR 11 once more by all the others."""
    lines = honest.covered()
    lines.remove(honest.entries[victim(honest)])
    again = [hashlib.sha256(entry.data).digest() for entry in lines if entry.pcr == CONTAINER_PCR]
    return quote(honest, ForgedMachine(lines=honest.covered(), log=join(lines), direct={CONTAINER_PCR: again}))


def _hidden(honest: Honest, instead: Callable[[Entry], list[Entry]]) -> Forged:
    """Extend the PCR as for a violation, and show something else in the log."""
    bad = violation_line("/usr/bin/open-for-write")
    lines = grown(honest, bad)
    shown = [new for entry in lines for new in (instead(entry) if entry is bad else [entry])]
    return quote(honest, ForgedMachine(lines=lines, log=join(shown)))


_HIDDEN: tuple[tuple[str, str, Callable[[Entry], list[Entry]]], ...] = (
    ("violation-removed", "not shown", lambda _: []),
    ("violation-made-up", "shown as the measurement of a program", lambda _: [file_line("/usr/bin/x", b"x")]),
    ("violation-with-hash", "shown with a template hash", lambda entry: [fixed(entry)]),
)

_VIOLATIONS: tuple[tuple[str, str, int, tuple[str, ...]], ...] = (
    ("ctr-violation", "was executed while open for writing", 1, (Kind.VIOLATION,)),
    ("ctr-violation-tomtou", "was opened for writing while in use", 2, (Kind.VIOLATION,)),
    ("ctr-violation-unknown", "could be changed in an unknown way", 3, (Kind.MALFORMED,)),
)
_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(f"line-{name}", row, f"added and extended: {what}", partial(_line, entry=made), *expect)
        for name, row, what, made, expect in _LINES
    ),
    _row(
        "buffer-old-digest", "T60", "a payload under another's digest, extended", _old_buffer_digest, Kind.TEMPLATE_HASH
    ),
    _row(
        "measured-again",
        "T72",
        "one line fifty times, as if the measurer had no table of known digests",
        _measured_again,
    ),
    *(
        _row(
            name,
            "T59",
            f"an entry of the measurer: a file of a container {what}",
            partial(_said_violation, why=why),
            *expect,
        )
        for name, what, why, expect in _VIOLATIONS
    ),
    *(
        _row(
            f"pcr-{pcr}-extended",
            "T58",
            f"PCR {pcr} extended without a line",
            partial(_extended, pcr=pcr),
            Kind.REPLAY_MISMATCH,
        )
        for pcr in (CONTAINER_PCR, IMA_PCR)
    ),
    _row(
        "line-hidden-rest-again",
        "T58",
        "a line removed, PCR 11 extended again by the others",
        _done_again,
        Kind.REPLAY_MISMATCH,
    ),
    *(
        _row(name, "T59", f"a violation on PCR 10, {summary}", partial(_hidden, instead=instead), Kind.REPLAY_MISMATCH)
        for name, summary, instead in _HIDDEN
    ),
)

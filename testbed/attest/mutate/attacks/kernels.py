"""How a kernel was started and how it extends: what a verifier needs as arguments and must not guess."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry, LogFormat, encode
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    file_line,
    flipped,
    grown,
    line,
    needs_containers,
    quote,
    sized,
    violation_line,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, REFUSED, Forged, Honest, by_root

# PCR 11 after systemd-stub and its boot phases, before a measurer starts.
_PHASES = hashlib.sha256(hashlib.sha256(bytes(32) + hashlib.sha256(b"enter-initrd").digest()).digest()).digest()
_NAMESPACE = 4026532981
_HELLO = b"hello"
_NO_CONTENT = hashlib.sha256(bytes(8)).digest()  # eight bytes of an empty aggregate


def _booted(honest: Honest, declared: Mapping[int, bytes], *, measured: bool = True) -> Forged:
    """Start with boot phases on PCR 11, which IMA's log does not have. ``declared``: start values, for the verifier."""
    lines = [entry for entry in honest.covered() if measured or entry.pcr != CONTAINER_PCR]
    return replace(quote(honest, ForgedMachine(lines=lines, starts={CONTAINER_PCR: _PHASES})), starts=declared)


def _plain(honest: Honest, declared: Mapping[int, bytes]) -> Forged:
    return replace(quote(honest, ForgedMachine(lines=honest.covered())), starts=declared)


def _padded(honest: Honest, *, kernel: bool, declared: bool, more: tuple[Entry, ...] = ()) -> Forged:
    machine = ForgedMachine(lines=grown(honest, *more), padded=kernel)
    return replace(quote(honest, machine), padded_sha1=declared)


def _of_bank(honest: Honest, *, declared: str | None, wrong: bool = False, claimed: str | None = None) -> Forged:
    """Show the log that the kernel has for the bank sha256. ``wrong``: with one template digest changed."""
    forged = quote(honest, ForgedMachine(lines=honest.covered()))
    form, shown = LogFormat(_BANK), []
    for number, entry in enumerate(honest.covered()):
        digest = hashlib.new(_BANK, entry.data).digest() if any(entry.digest) else bytes(32)
        changed = flipped(digest, 5) if wrong and number == 1 else digest
        shown.append(encode(entry.pcr, changed, entry.template, entry.data, form))
    files = {**forged.files, "ima.bin": b"".join(shown)}
    if claimed is not None:
        claims = json.loads(forged.files["bundle.json"])  # type: ignore[arg-type]
        files["bundle.json"] = json.dumps(claims | {"log": {"digest": claimed}}).encode()
    return replace(forged, files=files, log_digest=declared)


def _banked(honest: Honest, bank: str, *, padded: bool = False) -> Forged:
    machine = ForgedMachine(lines=honest.covered(), bank=bank, padded=padded)
    return replace(quote(honest, machine), pcrs=f"{bank}:{IMA_PCR},{CONTAINER_PCR}", padded_sha1=padded)


def _on_locality(honest: Honest, declared: Mapping[int, bytes]) -> Forged:
    """Measure on PCR 17, whose bits are all ones after a start of the machine; a dynamic launch can reset it."""
    lines = [entry._replace(pcr=17) if entry.pcr == CONTAINER_PCR else entry for entry in honest.covered()]
    forged = quote(honest, ForgedMachine(lines=lines), pcrs=(IMA_PCR, 17))
    accepted = {17: "this machine has no dynamic launch"}
    return replace(forged, pcrs=f"sha256:{IMA_PCR},17", starts=declared, resettable=accepted)


def _kexeced(honest: Honest, *, carried: bool) -> Forged:
    """Start another kernel by kexec, with or without the first one's log; the PCRs keep their values in any case."""
    again = [*honest.covered(), file_line("boot_aggregate", b"second"), file_line("/sbin/init", b"init")]
    shown = None if carried else ForgedMachine(lines=again[-2:])
    forged = quote(honest, ForgedMachine(lines=again))
    if shown is None:
        return forged
    return replace(forged, files={**forged.files, "ima.bin": quote(honest, shown).files["ima.bin"]})


def _namespaced(name: bytes, digest: bytes) -> Entry:
    return line(CONTAINER_PCR, b"ima-ng", sized(b"sha256:\0" + digest) + sized(name + b"\0"))


def _prototyped(honest: Honest, entry: Entry) -> Forged:
    """Measure as the prototypes do, on PCR 11 beside IMA's own line of the same file on PCR 10."""
    return quote(honest, ForgedMachine(lines=grown(honest, file_line("/hello", _HELLO), entry)))


def _first_eight(content: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(content).digest()[:8]).digest()


_BANK = "sha256"
_NAME = f"{_NAMESPACE}:/hello".encode()
_IMAGE = f"{_NAMESPACE}".encode()
_PROTOTYPES: tuple[tuple[str, str, str, Entry, tuple[str, ...]], ...] = (
    (
        "prototype-file",
        "T18",
        "a line whose digest covers 8 bytes of the file's digest",
        _namespaced(_NAME, _first_eight(_HELLO)),
        (Kind.WEAK_BINDING,),
    ),
    (
        "prototype-image",
        "T46",
        "an image line whose digest covers nothing",
        _namespaced(_IMAGE, _NO_CONTENT),
        (Kind.NO_CONTENT, Kind.WEAK_BINDING),
    ),
    (
        "prototype-unknown",
        "T18",
        "a namespaced line whose digest fits no known rule",
        _namespaced(_NAME, hashlib.sha256(b"what rule?").digest()),
        (Kind.UNSUPPORTED,),
    ),
)


_row = partial(by_root, applies=needs_containers)
_BANK_LOGS: tuple[tuple[str, str, Callable[[Honest], Forged], tuple[str, ...]], ...] = (
    ("bank-log", "no attack: the log of the bank sha256, declared", partial(_of_bank, declared=_BANK), ()),
    (
        "bank-log-claimed",
        "no attack: the log of the bank sha256, as the bundle says",
        partial(_of_bank, declared=None, claimed=_BANK),
        (),
    ),
    (
        "bank-log-undeclared",
        "the log of the bank sha256, not declared",
        partial(_of_bank, declared=None),
        (Kind.MALFORMED, Kind.REPLAY_MISMATCH),
    ),
    (
        "bank-log-claimed-otherwise",
        "the log of the bank sha256, declared, and the bundle says sha512",
        partial(_of_bank, declared=_BANK, claimed="sha512"),
        (Kind.MALFORMED,),
    ),
    (
        "bank-log-edited",
        "the log of the bank sha256 with one template digest changed",
        partial(_of_bank, declared=_BANK, wrong=True),
        (Kind.TEMPLATE_HASH,),
    ),
)
_UKI: tuple[tuple[str, str, Callable[[Honest], Forged], tuple[str, ...]], ...] = (
    ("start-of-ones", "no attack: PCR 17 starts with all bits set", partial(_on_locality, declared={}), ()),
    (
        "start-of-ones-denied",
        "zeros declared for PCR 17",
        partial(_on_locality, declared={17: bytes(32)}),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "uki-undeclared",
        "boot phases on PCR 11 before the measurer, not declared",
        partial(_booted, declared={}),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "uki-declared",
        "boot phases on PCR 11 before the measurer, declared",
        partial(_booted, declared={11: _PHASES}),
        (),
    ),
    (
        "uki-declared-wrongly",
        "other boot phases declared",
        partial(_booted, declared={11: b"\1" * 32}),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "uki-on-other-pcr",
        "the start value declared for PCR 10",
        partial(_booted, declared={10: _PHASES}),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "uki-unmeasured",
        "boot phases on PCR 11 and no measurer, not declared",
        partial(_booted, declared={}, measured=False),
        (Kind.LOG_MISSING,),
    ),
    (
        "uki-unmeasured-declared",
        "boot phases on PCR 11 and no measurer, declared",
        partial(_booted, declared={11: _PHASES}, measured=False),
        (),
    ),
    (
        "start-declared-only",
        "a start value declared that the PCR did not have",
        partial(_plain, declared={11: _PHASES}),
        (Kind.REPLAY_MISMATCH,),
    ),
    (
        "start-of-unasked-pcr",
        "a start value for a PCR that is not demanded",
        partial(_plain, declared={12: _PHASES}),
        (REFUSED,),
    ),
    ("start-of-other-size", "a start value of 20 bytes", partial(_plain, declared={11: bytes(20)}), (REFUSED,)),
)

ATTACKS = (
    *(_row(name, "T62", summary, forge, *expect) for name, summary, forge, expect in _UKI),
    *(_row(name, "T61", summary, forge, *expect) for name, summary, forge, expect in _BANK_LOGS),
    _row(
        "padded-undeclared",
        "T61",
        "a kernel before 5.8, not declared",
        partial(_padded, kernel=True, declared=False),
        Kind.REPLAY_MISMATCH,
    ),
    _row("padded-declared", "T61", "a kernel before 5.8, declared", partial(_padded, kernel=True, declared=True)),
    _row(
        "padded-declared-only",
        "T61",
        "declared as a kernel before 5.8, but the kernel is newer",
        partial(_padded, kernel=False, declared=True),
        Kind.REPLAY_MISMATCH,
    ),
    _row(
        "padded-violation",
        "T61",
        "a violation on a kernel before 5.8: 20 ones and zeros",
        partial(_padded, kernel=True, declared=True, more=(violation_line("/usr/bin/x"),)),
        Kind.VIOLATION,
    ),
    *(
        _row(f"bank-{bank}-demanded", "T61", f"no attack: {bank} demanded and quoted", partial(_banked, bank=bank))
        for bank in ("sha1", "sha384", "sha512")
    ),
    _row(
        "bank-sha1-padded",
        "T61",
        "no attack: padding makes no difference to SHA-1",
        partial(_banked, bank="sha1", padded=True),
    ),
    _row("kexec-carried", "T64", "kexec, the log carried over", partial(_kexeced, carried=True)),
    _row(
        "kexec-lost",
        "T64",
        "kexec, the log not carried over",
        partial(_kexeced, carried=False),
        Kind.REPLAY_MISMATCH,
        Kind.LOG_MISSING,
    ),
    *(
        _row(name, row, summary, partial(_prototyped, entry=entry), *expect)
        for name, row, summary, entry, expect in _PROTOTYPES
    ),
)

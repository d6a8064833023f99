"""Attacks with registers that prove nothing: never extended, reset, or extended without the boot's first entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.judge import MOST_BOOTS
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.engine.lines import (
    ForgedMachine,
    event,
    file_line,
    join,
    line,
    needs_containers,
    quote,
    sized,
    without_values,
)
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_root

_DECLARED = b"s" * 32
_DEBUG_PCR, _DYNAMIC_PCR, _APPLICATION_PCR, _OTHER_PCR = 16, 20, 23, 12
_FLOOD = 3000


def _unmeasured(honest: Honest, *, pcrs: tuple[int, ...], starts: Mapping[int, bytes], log: bytes | None) -> Forged:
    """Boot without IMA (`pcrs`: those that stay as they were), and show the log of an earlier boot."""
    lines = [entry for entry in honest.covered() if entry.pcr not in pcrs]
    shown = join(honest.covered()) if log is None else log
    return replace(quote(honest, ForgedMachine(lines=lines, log=shown, starts=starts)), starts=starts)


def _without_boot(honest: Honest) -> Forged:
    """Extend PCR 10 by all but the boot aggregate: as after an IMA whose first entries were withheld."""
    rest = [entry for entry in honest.covered() if not _is_boot(entry)]
    return quote(honest, ForgedMachine(lines=[file_line("/sbin/first", b"first"), *rest]))


def _boot_violated(honest: Honest) -> Forged:
    lines = [_violated(entry) if _is_boot(entry) else entry for entry in honest.covered()]
    return quote(honest, ForgedMachine(lines=lines))


def _is_boot(entry: Entry) -> bool:
    return b"boot_aggregate\0" in entry.data


def _violated(entry: Entry) -> Entry:
    return entry._replace(digest=bytes(20))


def _moved(honest: Honest, moves: Mapping[int, int]) -> Forged:
    """Measure into other PCRs."""
    lines = [entry._replace(pcr=moves.get(entry.pcr, entry.pcr)) for entry in honest.covered()]
    pcrs = sorted(moves.get(pcr, pcr) for pcr in (IMA_PCR, CONTAINER_PCR))
    forged = quote(honest, ForgedMachine(lines=lines), pcrs=pcrs)
    return replace(forged, pcrs=f"sha256:{','.join(map(str, pcrs))}")


def _on_resettable(honest: Honest, pcr: int, *, accepted: bool) -> Forged:
    reasons = {pcr: "nobody but the kernel has access to the TPM"} if accepted else {}
    return replace(_moved(honest, {CONTAINER_PCR: pcr}), resettable=reasons)


def _forgotten(honest: Honest) -> Forged:
    """Reset PCR 16 after containers ran, so that only the measurer's first beat is left."""
    moved = [entry._replace(pcr=_DEBUG_PCR) for entry in honest.covered() if entry.pcr == CONTAINER_PCR]
    lines = [*(entry for entry in honest.covered() if entry.pcr == IMA_PCR), *moved[:1]]
    forged = quote(honest, ForgedMachine(lines=lines), pcrs=(IMA_PCR, _DEBUG_PCR))
    return replace(forged, pcrs=f"sha256:{IMA_PCR},{_DEBUG_PCR}")


def _required(honest: Honest, *, beats: bool) -> Forged:
    """Demand a measurer of a machine on which none ran, or one without beats."""
    lines = [entry for entry in honest.covered() if entry.pcr == IMA_PCR or (beats and event(entry) != b"ctr-beat")]
    shown = join([*lines, *(entry for entry in honest.covered() if entry not in lines)])
    document = {"schema": 1, "require_measurer": True, "on": {"unknown": "note", "violation": "note"}}
    forged = quote(honest, ForgedMachine(lines=lines, log=shown))
    return replace(forged, policy=json.dumps(document).encode())


def _rebooted(honest: Honest) -> Forged:
    """Add more boot aggregates than any series of kexecs makes."""
    boots = [file_line("boot_aggregate", number.to_bytes(4, "big")) for number in range(MOST_BOOTS)]
    return quote(honest, ForgedMachine(lines=[*honest.covered(), *boots]))


def _flooded(honest: Honest, *, bogus: bool) -> Forged:
    """Add thousands of entries of an unknown template, each of which is a finding."""
    flood = [line(IMA_PCR, b"x", sized(number.to_bytes(4, "big"))) for number in range(_FLOOD)]
    forged = quote(honest, ForgedMachine(lines=[*honest.covered(), *flood]))
    if not bogus:
        return forged
    signature = bytearray(forged.files["quote.sig"])  # type: ignore[arg-type]
    signature[-1] ^= 1
    return replace(forged, files={**forged.files, "quote.sig": bytes(signature)})


_BOTH = (IMA_PCR, CONTAINER_PCR)
_boot = partial(_unmeasured, starts={}, log=None)
_Row = tuple[str, str, str, Callable[[Honest], Forged], tuple[str, ...]]
_UNMEASURED: tuple[_Row, ...] = (
    (
        "no-ima",
        "T63",
        "a boot without IMA, and the log of an earlier boot",
        partial(_boot, pcrs=_BOTH),
        (Kind.NO_MEASUREMENT,),
    ),
    (
        "no-ima-no-values",
        "T63",
        "the same, and the PCR values too",
        lambda honest: without_values(honest, _boot(honest, pcrs=_BOTH)),
        (Kind.NO_MEASUREMENT,),
    ),
    (
        "no-ima-no-log",
        "T63",
        "a boot without IMA, and an empty log",
        partial(_unmeasured, pcrs=_BOTH, starts={}, log=b""),
        (Kind.NO_MEASUREMENT,),
    ),
    (
        "no-ima-declared",
        "T63",
        "a boot without IMA, whose PCR 10 holds the declared start value",
        partial(_unmeasured, pcrs=_BOTH, starts={IMA_PCR: _DECLARED}, log=None),
        (Kind.NO_MEASUREMENT,),
    ),
    (
        "no-ima-but-containers",
        "T63",
        "a boot without IMA, whose PCR 11 was extended as by a measurer",
        partial(_boot, pcrs=(IMA_PCR,)),
        (Kind.NO_MEASUREMENT,),
    ),
    ("no-boot-aggregate", "T62", "PCR 10 extended without boot_aggregate", _without_boot, (Kind.MISSING,)),
    (
        "boot-aggregate-violated",
        "T62",
        "a violation in the place of boot_aggregate",
        _boot_violated,
        (Kind.MISSING, Kind.VIOLATION),
    ),
    (
        "ima-pcr-other",
        "T58",
        "no attack: a kernel whose IMA extends PCR 12, declared",
        lambda honest: replace(_moved(honest, {IMA_PCR: _OTHER_PCR}), ima_pcr=_OTHER_PCR),
        (),
    ),
    (
        "ima-pcr-other-undeclared",
        "T58",
        "no attack: a kernel whose IMA extends PCR 12, not declared, with a note",
        partial(_moved, moves={IMA_PCR: _OTHER_PCR}),
        (),
    ),
    (
        "measurer-required",
        "T69",
        "no measurer, and a policy that requires one",
        partial(_required, beats=False),
        (Kind.NO_MEASUREMENT,),
    ),
    (
        "measurer-required-no-beats",
        "T69",
        "a measurer without beats, and a policy that requires one",
        partial(_required, beats=True),
        (Kind.NO_MEASUREMENT,),
    ),
)
_RESETTABLE: tuple[_Row, ...] = (
    *(
        (
            f"resettable-{pcr}",
            "T58",
            f"the measurer extends PCR {pcr}, which anybody can reset",
            partial(_on_resettable, pcr=pcr, accepted=False),
            (Kind.REGISTER_RESETTABLE,),
        )
        for pcr in (_DEBUG_PCR, _DYNAMIC_PCR, _APPLICATION_PCR)
    ),
    (
        "resettable-accepted",
        "T58",
        "no attack: the measurer extends PCR 16, which the verifier accepts with a reason",
        partial(_on_resettable, pcr=_DEBUG_PCR, accepted=True),
        (),
    ),
    (
        "resettable-forgotten",
        "T58",
        "PCR 16 reset after containers ran, and extended without their entries",
        _forgotten,
        (Kind.REGISTER_RESETTABLE,),
    ),
)
_FLOODED: tuple[_Row, ...] = (
    (
        "flooded",
        "T60",
        f"{_FLOOD} entries of an unknown template",
        partial(_flooded, bogus=False),
        (Kind.UNSUPPORTED,),
    ),
    (
        "flooded-bogus",
        "T60",
        f"{_FLOOD} entries of an unknown template, under a wrong signature",
        partial(_flooded, bogus=True),
        (Kind.QUOTE_SIGNATURE,),
    ),
    ("flooded-boots", "T60", f"{MOST_BOOTS} more boot_aggregate entries", _rebooted, (Kind.TOO_MANY,)),
)

ATTACKS = tuple(
    by_root(name, row, summary, forge, *expect, applies=needs_containers)
    for name, row, summary, forge, expect in (*_UNMEASURED, *_RESETTABLE, *_FLOODED)
)

"""Attacks with a genuine quote over PCRs other than the demanded ones, or over the same in another encoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.engine.lines import ForgedMachine, needs_both, quote
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest, by_root
from testbed.attest.mutate.engine.standin import selection

_BOTH = (IMA_PCR, CONTAINER_PCR)


@dataclass(frozen=True, slots=True, kw_only=True)
class _QuoteRequest:
    """What root asks its TPM to quote, instead of sha256:10,11 in three bytes.

    ``order``: the log's lines sorted by PCR, so that those of an omitted PCR come last and look unattested.
    """

    name: str
    summary: str
    pcrs: tuple[int, ...] = _BOTH
    bank: str = "sha256"
    selections: Sequence[tuple[int, bytes]] = ()
    values: Callable[[ForgedMachine], list[bytes]] | None = None
    order: tuple[int, ...] = ()
    expect: str = Kind.QUOTE_SELECTION


def _twice(machine: ForgedMachine) -> list[bytes]:
    return [machine.value(pcr, bank) for bank in ("sha256", "sha1") for pcr in _BOTH]


_SELECTIONS = (
    _QuoteRequest(
        name="pcr-11-omitted", summary="PCR 10 alone, PCR 11's lines shown as a tail", pcrs=(10,), order=(10, 11)
    ),
    _QuoteRequest(
        name="pcr-10-omitted", summary="PCR 11 alone, PCR 10's lines shown as a tail", pcrs=(11,), order=(11, 10)
    ),
    _QuoteRequest(name="pcr-12-added", summary="PCRs 10, 11 and 12", pcrs=(10, 11, 12)),
    _QuoteRequest(name="bank-sha1", summary="the SHA-1 bank", bank="sha1"),
    _QuoteRequest(name="bank-sha384", summary="the SHA-384 bank", bank="sha384"),
    _QuoteRequest(
        name="two-banks",
        summary="two selections, the demanded one first",
        selections=(selection("sha256", _BOTH), selection("sha1", _BOTH)),
        values=_twice,
    ),
    _QuoteRequest(
        name="selection-split",
        summary="a selection for each PCR: the same pcrDigest in another encoding",
        selections=(selection("sha256", (10,)), selection("sha256", (11,))),
    ),
    _QuoteRequest(
        name="bitmap-four-bytes",
        summary="a bitmap of four bytes: the same PCRs in another encoding",
        selections=(selection("sha256", _BOTH, 4),),
    ),
    _QuoteRequest(
        name="bitmap-two-bytes", summary="a bitmap of two bytes", selections=(selection("sha256", _BOTH, 2),)
    ),
    _QuoteRequest(
        name="bitmap-five-bytes",
        summary="a bitmap of five bytes, more than a TPM has PCRs",
        selections=(selection("sha256", _BOTH, 5),),
        expect=Kind.MALFORMED,
    ),
    _QuoteRequest(
        name="selection-of-nothing",
        summary="a selection without a PCR",
        selections=(selection("sha256", ()),),
        values=lambda _: [],
    ),
    _QuoteRequest(name="bitmap-one-byte", summary="a bitmap of one byte: PCRs 0 and 1", selections=((0x000B, b"\3"),)),
    _QuoteRequest(
        name="bitmap-no-byte",
        summary="a bitmap of 0 bytes",
        selections=((0x000B, b""),),
        expect=Kind.MALFORMED,
    ),
    _QuoteRequest(
        name="bank-unknown", summary="a bank of no hash (the id of HMAC)", selections=((0x0005, b"\0\x0c\0"),)
    ),
    _QuoteRequest(
        name="selections-seventeen",
        summary="seventeen selections, more than a TPM has banks",
        selections=(selection("sha256", _BOTH),) * 17,
        expect=Kind.MALFORMED,
    ),
)


def _selected(honest: Honest, asked: _QuoteRequest) -> Forged:
    lines = honest.covered()
    if asked.order:
        lines.sort(key=lambda entry: asked.order.index(entry.pcr))
    machine = ForgedMachine(lines=lines, bank=asked.bank)
    values = None if asked.values is None else asked.values(machine)
    return quote(honest, machine, pcrs=asked.pcrs, selections=asked.selections or None, values=values)


def _stands_for(honest: Honest, pcr: int) -> Forged:
    """Reset a PCR that root may reset, extend it as an honest PCR 11, and show it instead of PCR 11."""
    lines = [entry._replace(pcr=pcr) if entry.pcr == CONTAINER_PCR else entry for entry in honest.covered()]
    return quote(honest, ForgedMachine(lines=lines), pcrs=(IMA_PCR, pcr))


_row = partial(by_root, applies=needs_both)

ATTACKS = (
    *(
        _row(
            request.name,
            "T50",
            f"a genuine quote over {request.summary}",
            partial(_selected, asked=request),
            request.expect,
        )
        for request in _SELECTIONS
    ),
    *(
        _row(
            f"pcr-{pcr}-for-11",
            "T58",
            f"PCR {pcr} reset, extended like an honest PCR 11, and quoted instead",
            partial(_stands_for, pcr=pcr),
            Kind.QUOTE_SELECTION,
        )
        for pcr in (16, 23)
    ),
)

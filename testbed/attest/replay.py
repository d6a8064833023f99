"""Replay: which entries of the log lead to the quoted values. Only those are evidence; the log may have run ahead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from testbed.attest.finding import BadEvidence
from testbed.attest.ima import BANKS, HASHES, Entry, extension, read_entries

# PCRs of the dynamic root of trust start as ones (PC Client profile); a log cannot begin there from zero.
_ONES = range(17, 23)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What one pass over the log found.

    ``reached``: for each PCR that came to its quoted value, how many of its entries it took. ``last``: for the other
    PCRs, the value at the end. ``seen``: entries of each quoted PCR. ``foreign``: entries of PCRs that were not quoted,
    not past the quoted state, and the first of them. ``boundary``: the byte at which the last attested entry ends, or
    the log's framing if a PCR was not reached. ``broken``: where and why the framing ended early.
    """

    reached: Mapping[int, int]
    last: Mapping[int, bytes]
    seen: Mapping[int, int]
    entries: int
    foreign: int
    first_foreign: Entry | None
    boundary: int
    broken: BadEvidence | None

    @property
    def complete(self) -> bool:
        """Whether every quoted PCR came to its value: then nothing past ``boundary`` can change what is said."""
        return not self.last

    @property
    def unattested(self) -> int:
        """Entries past the quoted state of their PCR; where a value was not reached, nobody can say which those are."""
        beyond = sum(self.seen[pcr] - count for pcr, count in self.reached.items())
        return beyond + (self.entries - sum(self.seen.values()) - self.foreign)


def start_value(pcr: int, bank: str) -> bytes:
    """Return what a PCR holds after a start of the machine."""
    return (b"\xff" if pcr in _ONES else b"\0") * BANKS[bank]


def replay(log: bytes, bank: str, pcrs: Collection[int], quoted: Mapping[int, bytes]) -> Replay:
    """Replay each PCR on its own until it holds its value in ``quoted``; a PCR without one there is never reached.

    No two prefixes of one PCR's entries give one value, so the first that fits is the only one.
    """
    values = {pcr: start_value(pcr, bank) for pcr in pcrs}
    seen = dict.fromkeys(pcrs, 0)
    reached = {pcr: 0 for pcr, value in values.items() if value == quoted.get(pcr)}
    pending = set(pcrs) - set(reached)
    entries = foreign = boundary = 0
    first: Entry | None = None
    broken: BadEvidence | None = None
    digest = HASHES[bank]
    try:
        for entry in read_entries(log):
            pcr, entries = entry.pcr, entries + 1
            boundary = entry.end if pending else boundary
            if pcr in seen:
                seen[pcr] += 1
            elif pending:
                foreign, first = foreign + 1, first or entry
            if pcr in pending:
                values[pcr] = digest(values[pcr] + extension(entry, bank)).digest()
                if values[pcr] == quoted.get(pcr):
                    reached[pcr] = seen[pcr]
                    pending.remove(pcr)
    except BadEvidence as error:
        broken = error
    return Replay(
        reached=reached,
        last={pcr: values[pcr] for pcr in sorted(pending)},
        seen=seen,
        entries=entries,
        foreign=foreign,
        first_foreign=first,
        boundary=boundary,
        broken=broken,
    )


def search(log: bytes, bank: str, pcrs: Collection[int], algorithm: str, composite: bytes) -> dict[int, bytes] | None:
    """Return the PCR values at the one prefix of the log where their hash, in selection order, is ``composite``.

    ``None`` if there is no such prefix. For a quote without believable PCR values. ``algorithm`` is the quote's digest
    algorithm, not the bank's.
    """
    values = {pcr: start_value(pcr, bank) for pcr in sorted(pcrs)}
    hash_values, digest = HASHES[algorithm], HASHES[bank]
    if hash_values(b"".join(values.values())).digest() == composite:
        return values
    try:
        for entry in read_entries(log):
            if entry.pcr not in values:
                continue
            values[entry.pcr] = digest(values[entry.pcr] + extension(entry, bank)).digest()
            if hash_values(b"".join(values.values())).digest() == composite:
                return values
    except BadEvidence:
        return None  # the replay that follows says where the framing ends
    return None


def take(log: bytes, counts: Mapping[int, int | None]) -> Iterator[Entry]:
    """Yield the first ``counts[pcr]`` entries of each PCR, all of them for ``None``, in the order of the log.

    Ends where the framing ends: that is not said again here, ``Replay.broken`` has it.
    """
    left = {pcr: count for pcr, count in counts.items() if count != 0}
    entries = read_entries(log)
    while left:
        try:
            entry = next(entries)
        except (StopIteration, BadEvidence):
            return
        if entry.pcr not in left:
            continue
        count = left[entry.pcr]
        if count == 1:
            del left[entry.pcr]
        elif count is not None:
            left[entry.pcr] = count - 1
        yield entry

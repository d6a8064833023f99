"""Replay: which entries of the log lead to the quoted values. Only those are evidence; a log may have more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from testbed.attest.checked import Checked
from testbed.attest.finding import BadEvidence, Finding, FindingKind, counted
from testbed.attest.hashes import BANKS, HASHES
from testbed.attest.log.ima import Entry, extension
from testbed.attest.log.stream import Run
from testbed.attest.quote import Attest, Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a replay must lead to.

    ``quoted``: the value of each PCR, so that each is replayed on its own. Or ``None``: then one prefix of the log is
    looked for at which the ``algorithm`` hash of all values together, in selection order, is ``composite``.
    """

    quoted: Mapping[int, bytes] | None
    algorithm: str
    composite: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in the log: ``offset`` bytes and ``entries`` before it, and what the PCRs held there, after how many."""

    offset: int
    entries: int
    values: Mapping[int, bytes]
    counts: Mapping[int, int]


@dataclass(slots=True, kw_only=True)
class Replay:
    """One pass over the log, entry by entry or in runs.

    ``values``: what each PCR holds now; ``counts``: its entries so far that led there. ``pending``: PCRs that have not
    reached their quoted value yet. ``seen``: entries of each quoted PCR; ``foreign``: entries of PCRs that were not
    quoted, before the end of the quoted state, and the first of them. ``boundary``: the byte at which the last attested
    entry ends, or at which the readable log ends if a PCR was not reached. ``broken``: where and why the log cannot be
    read further. ``ahead``: the position of the first entry that the quote does not cover. ``first``: the first entry
    of each quoted PCR.
    """

    bank: str
    goal: Goal
    values: dict[int, bytes]
    counts: dict[int, int]
    padded: bool = False
    entries: int = 0
    boundary: int = 0
    pending: set[int] = field(init=False)
    seen: dict[int, int] = field(init=False)
    foreign: int = 0
    first_foreign: Entry | None = None
    broken: BadEvidence | None = None
    ahead: Mark | None = None
    first: dict[int, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seen = dict(self.counts)
        self.pending = set(self.values)
        if self.goal.quoted is None:
            self._look_at_composite()
        else:
            self.pending = {pcr for pcr, value in self.values.items() if value != self.goal.quoted.get(pcr)}

    @property
    def complete(self) -> bool:
        """Whether every quoted PCR reached its value: then nothing after ``boundary`` can change the findings."""
        return not self.pending

    @property
    def reached(self) -> dict[int, int]:
        """How many entries each PCR took that reached its quoted value."""
        return {pcr: count for pcr, count in self.counts.items() if pcr not in self.pending}

    @property
    def unattested(self) -> int:
        """How many entries come after the quoted state of their PCR; only of PCRs that reached it."""
        beyond = sum(self.seen[pcr] - count for pcr, count in self.reached.items())
        return beyond + (self.entries - sum(self.seen.values()) - self.foreign)

    def mark(self) -> Mark:
        """Return the position up to which everything is attested: a later verification can continue there."""
        here = Mark(offset=self.boundary, entries=self.entries, values=dict(self.values), counts=dict(self.counts))
        return self.ahead or here

    def step(self, entry: Entry) -> bool:
        """Replay one entry; return whether it must be judged: attested, or its PCR's value is not reached yet."""
        pcr = entry.pcr
        before = self.entries
        self.entries += 1
        if pcr in self.seen:
            self.seen[pcr] += 1
        elif self.pending:
            self.foreign, self.first_foreign = self.foreign + 1, self.first_foreign or entry
        judged = pcr in self.pending
        if judged:
            self.first.setdefault(pcr, entry)
            value = HASHES[self.bank](self.values[pcr] + extension(entry, self.bank, padded=self.padded)).digest()
            self.values[pcr] = value
            self.counts[pcr] += 1
        elif self.ahead is None:
            self.ahead = Mark(offset=entry.offset, entries=before, values=dict(self.values), counts=dict(self.counts))
        self.boundary = entry.end if self.pending else self.boundary
        if judged:
            self._look(pcr)
        return judged

    def run(self, run: Checked) -> bool:
        """Replay a run if all of its entries must be judged and none leads to a quoted value; otherwise do nothing.

        Neither does it replay a run with the first entry of a PCR, which must be known by itself.
        """
        quoted, extended = self.goal.quoted, run.extended
        if quoted is None or not (self.pending >= extended.keys() and self.first.keys() >= extended.keys()):
            return False
        values = {}
        for pcr, digests in extended.items():
            value = _chain(self.values[pcr], digests, self.bank, quoted.get(pcr))
            if value is None:
                return False
            values[pcr] = value
        self.values.update(values)
        for pcr, digests in extended.items():
            self.counts[pcr] += len(digests)
            self.seen[pcr] += len(digests)
        self.entries += len(run)
        self.boundary = run.end
        return True

    def skip(self, run: Run) -> bool:
        """Count a run that is completely past the quoted state."""
        if self.pending or self.ahead is None:
            return False
        self.entries += len(run.data)
        for pcr in self.seen:
            self.seen[pcr] += run.pcrs.count(pcr)
        return True

    def _look(self, pcr: int) -> None:
        """Check whether an entry of this PCR has led to the quoted value."""
        if self.goal.quoted is None:
            self._look_at_composite()
        elif self.values[pcr] == self.goal.quoted.get(pcr):
            self.pending.remove(pcr)

    def _look_at_composite(self) -> None:
        together = b"".join(self.values[pcr] for pcr in sorted(self.values))
        if HASHES[self.goal.algorithm](together).digest() == self.goal.composite:
            self.pending.clear()


def find_goal(
    values: Mapping[int, bytes] | None, attest: Attest, algorithm: str, selection: Selection
) -> tuple[Goal, list[str]]:
    """Return what the log must lead to. The attester's PCR values count only if their hash is in the quote."""
    if values is not None and not _quoted(values, selection, algorithm, attest.digest):
        note = "the bundle's pcr_values are not the quoted ones: the log was searched for one prefix instead"
        return Goal(quoted=None, algorithm=algorithm, composite=attest.digest), [note]
    quoted = None if values is None else {pcr: values[pcr] for pcr in selection.pcrs}
    return Goal(quoted=quoted, algorithm=algorithm, composite=attest.digest), []


def _quoted(values: Mapping[int, bytes], selection: Selection, algorithm: str, composite: bytes) -> bool:
    """Each value must have the bank's size: otherwise bytes could move from one PCR to its neighbour under one hash."""
    size = BANKS[selection.bank]
    if any(len(values.get(pcr, b"")) != size for pcr in selection.pcrs):
        return False
    together: bytes = HASHES[algorithm](b"".join(values[pcr] for pcr in selection.pcrs)).digest()
    return together == composite


def replay_findings(replay: Replay) -> list[Finding]:
    """Return the findings of a finished replay: values that were not reached, entries of PCRs that were not quoted."""
    findings = [replay.broken.finding()] if replay.broken and replay.pending else []
    quoted = replay.goal.quoted
    if replay.pending and quoted is None:
        pcrs = ", ".join(map(str, sorted(replay.pending)))
        findings.append(_mismatch(f"PCRs {pcrs}", "a prefix of the log whose PCR values have the quote's hash", "none"))
    elif quoted is not None:
        findings += [_unreached(replay, pcr, quoted[pcr]) for pcr in sorted(replay.pending)]
    if replay.first_foreign is not None:
        others = counted(replay.foreign, "entry", "entries")
        got = f"{others} of other PCRs" + ("" if replay.foreign == 1 else "; this is the first")
        findings.append(_mismatch(replay.first_foreign.where, "only entries of the quoted PCRs", got))
    return findings


def _unreached(replay: Replay, pcr: int, quoted: bytes) -> Finding:
    if replay.seen[pcr] or replay.broken:
        got = f"{replay.values[pcr].hex()} at the end of the log"
        return _mismatch(f"PCR {pcr} of {replay.bank}", quoted.hex(), got)
    expected = f"entries that lead to {quoted.hex()}"
    return Finding(kind=FindingKind.LOG_MISSING, where=f"ima.bin: PCR {pcr}", expected=expected, got="no entry")


def _mismatch(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.REPLAY_MISMATCH, where=where, expected=expected, got=got)


def take(entries: Iterable[Entry], counts: Mapping[int, int]) -> Iterator[Entry]:
    """Yield the first ``counts[pcr]`` entries of each PCR in the order of the log, and read no further."""
    left = {pcr: count for pcr, count in counts.items() if count}
    for entry in entries if left else ():
        if entry.pcr in left:
            left[entry.pcr] -= 1
            if not left[entry.pcr]:
                del left[entry.pcr]
            yield entry
            if not left:
                return


def _chain(value: bytes, extended: Iterable[bytes], bank: str, quoted: bytes | None) -> bytes | None:
    """Return what a PCR of ``value`` holds after these extensions, ``None`` if it reaches ``quoted`` on the way."""
    digest = HASHES[bank]
    for entry_digest in extended:
        value = digest(value + entry_digest).digest()
        if value == quoted:
            return None
    return value

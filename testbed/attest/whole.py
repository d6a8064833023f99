"""What shows only in a log as a whole: whether IMA and a measurer ran at all, and what has no entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from testbed.attest.bundle import Log
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.judge import Judge
from testbed.attest.log import rules
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import BOOT_AGGREGATES, Entry
from testbed.attest.policy.image import some
from testbed.attest.registers import pcr_register
from testbed.attest.replay import Replay, take
from testbed.attest.walk import log_entries


def ima_findings(replay: Replay, *, ima_pcr: int, continued: bool) -> Iterator[Finding]:
    """Yield a finding if the quote does not show that IMA ran since the start of the machine.

    ``ima_pcr``: the PCR that IMA extends (``CONFIG_IMA_MEASURE_PCR_IDX``). ``continued``: the replay began at a saved
    state, so that the log's first entry was judged before.
    """
    yield from _nothing(replay, ima_pcr)
    if not continued:
        yield from _not_the_boot(replay, ima_pcr)


def log_findings(judge: Judge, reached: Collection[int]) -> Iterator[Finding]:
    """Yield what the entries show only together, given the PCRs that reached their quoted value."""
    yield from _unlaunched(judge, reached)
    yield from _parts(judge, reached)
    yield from _no_measurer(judge, reached)
    yield from judge.roster.absent(reached)
    yield from _ambiguous(judge, reached)


def rule_findings(log: Log, replay: Replay, judge: Judge) -> tuple[Finding, ...]:
    """Report what the digests of attested lines with a namespace bind, given the plain digests of the same paths."""
    lines = [line for pcr, line in judge.namespaced if pcr in replay.reached]
    if not lines:
        return ()
    wanted = {rules.path_of(line.name) for line in lines}
    # In the log's order: for a path with very many digests, the first ones are tried.
    known: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
    for entry in take(log_entries(log, stop=judge.stopped), replay.reached):
        try:
            fields = parse_fields(entry)
        except BadEvidence:
            continue  # judged when it was read
        if entry.violation or not fields.of_file or fields.name not in wanted:
            continue
        if len(known[fields.name]) < rules.CANDIDATES:
            known[fields.name][fields.digest] = None
    return rules.audit(lines, known).findings


def register_notes(replay: Replay, *, ima_pcr: int) -> Iterator[str]:
    """Yield a note on each register that says nothing about IMA or containers."""
    if ima_pcr not in replay.values:
        yield (
            f"PCR {ima_pcr} was not quoted: nothing proves that IMA ran, or what ran on the host; "
            "if IMA extends another PCR, give --ima-pcr"
        )
    for pcr, count in replay.reached.items():
        if not count and pcr != ima_pcr:
            yield f"PCR {pcr} holds the value that it had before the log: nothing was measured into it"


def _nothing(replay: Replay, ima_pcr: int) -> Iterator[Finding]:
    """Report a quote that vouches for no measurement: a log beside it can then be of any machine at any time.

    A kernel with IMA extends ``boot_aggregate`` before all else (``ima_init``), and no extension leads to zero.
    """
    quoted = replay.goal.quoted if replay.goal.quoted is not None else replay.values if replay.complete else {}
    start = pcr_register(ima_pcr, replay.bank).start
    if ima_pcr in quoted and (replay.reached.get(ima_pcr) == 0 or quoted[ima_pcr] in {start, bytes(len(start))}):
        where, got = (
            f"PCR {ima_pcr} of {replay.bank}",
            f"{quoted[ima_pcr].hex()}, the start value: IMA extended nothing",
        )
        yield _unmeasured(where, "a PCR that IMA has extended, with boot_aggregate before all else", got)
    elif replay.complete and not sum(replay.counts.values()):
        yield _unmeasured("ima.bin", "at least one entry that the quote covers", "none")


def _not_the_boot(replay: Replay, ima_pcr: int) -> Iterator[Finding]:
    first = replay.first.get(ima_pcr)
    if ima_pcr in replay.reached and first is not None and not _is_boot(first):
        expected = f"boot_aggregate: IMA extends PCR {ima_pcr} with it before all else"
        yield Finding(kind=FindingKind.MISSING, where=first.where, expected=expected, got="another entry")


def _is_boot(entry: Entry) -> bool:
    """Whether an entry is a boot aggregate. One that cannot be read has a finding of its own."""
    try:
        return not entry.violation and parse_fields(entry).name in BOOT_AGGREGATES
    except BadEvidence:
        return True


def _no_measurer(judge: Judge, reached: Collection[int]) -> Iterator[Finding]:
    """Report a log without the measurer that the policy requires."""
    if judge.policy is not None and judge.policy.requires_measurer and not judge.last_beats(reached):
        yield _unmeasured("ima.bin", "a ctr-beat: the policy requires a measurer", "none")


def _unlaunched(judge: Judge, reached: Collection[int]) -> Iterator[Finding]:
    """Report the containers without a launch, if each of their possible images demands one."""
    for known in judge.roster.attested(reached):
        seq = known.container.seq
        if judge.policy is None or known.launched:
            continue
        if expected := judge.policy.demands(judge.roster.images(seq)):
            yield Finding(
                kind=FindingKind.WRONG_DIGEST,
                where=f"ima.bin: container {seq}",
                expected=expected,
                got="no ctr-launch",
                container=f"{seq}",
            )


def _parts(judge: Judge, reached: Collection[int]) -> Iterator[Finding]:
    """Compare the measurer's own parts with those that the policy demands."""
    wanted = {} if judge.policy is None else judge.policy.measurer
    logged = judge.known_parts(reached)
    for (part, digest), where in logged.items():
        if part in wanted and digest not in wanted[part]:
            expected = some([f"{part} sha256:{good.hex()}" for good in sorted(wanted[part])])
            got = f"{part} sha256:{digest.hex()}"
            yield Finding(kind=FindingKind.WRONG_DIGEST, where=where, expected=expected, got=got)
    for part in wanted.keys() - {part for part, _ in logged}:
        expected = f"a ctr-measurer of the {part}"
        yield Finding(kind=FindingKind.MISSING, where="ima.bin", expected=expected, got="no entry")


def _ambiguous(judge: Judge, reached: Collection[int]) -> Iterator[Finding]:
    noted = judge.policy is not None and judge.policy.tolerates(FindingKind.AMBIGUOUS_IDENTITY)
    for again, finding in judge.roster.ambiguous(reached):
        if again and noted:
            judge.tolerated[finding.kind] += 1
        else:
            yield finding


def _unmeasured(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.NO_MEASUREMENT, where=where, expected=expected, got=got)

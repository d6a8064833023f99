"""From a bundle to a verdict: quote, then the log, entry by entry. Pure: files in, values out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.attest import quote
from testbed.attest.bundle import Bundle, Log, open_log, read_bundle, unchanged
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.judge import Judge
from testbed.attest.log import rules
from testbed.attest.log.ima import BANKS, Entry, parse_fields
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.policy.reference import Policy
from testbed.attest.quote import Attest, Quote, Selection
from testbed.attest.replay import Goal, Mark, Replay, take
from testbed.attest.saved import resume
from testbed.attest.saved.state import State
from testbed.attest.scout import ordinary_runs
from testbed.attest.tpm import Key, load_key
from testbed.attest.verdict import Verdict

DEFAULT_PCRS = "sha256:10,11"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a verifier gives; see ``verify``."""

    key: Key
    demanded: Selection
    padded: bool
    policy: Policy | None
    since: State | None
    recheck: bool
    processes: int


def verify(
    directory: Path,
    *,
    ak: bytes,
    nonce: bytes,
    pcrs: str = DEFAULT_PCRS,
    ak_parent: bytes | None = None,
    firmware: int | None = None,
    starts: Mapping[int, bytes] | None = None,
    padded_sha1: bool = False,
    policy: Policy | None = None,
    since: State | None = None,
    recheck: bool = False,
    processes: int = 1,
) -> Verdict:
    """Judge the evidence in ``directory``.

    ``ak``: a PEM or a TPM2B_PUBLIC. ``nonce``, ``pcrs``: what this verifier asked for, never what the bundle says.
    ``ak_parent``: the qualified name of the key's parent. ``firmware``: the TPM's firmwareVersion, if it is pinned.
    ``starts``: what PCRs held before the log's first entry, where that is not what a start of the machine leaves.
    ``padded_sha1``: the kernel is older than 5.8 and extends other banks with SHA-1 and zeros.
    ``since``: what an earlier verification attested; this one goes on there. ``recheck``: hash the log before it, too.
    ``processes``: 1, or 2 to look at entries beside their replay. Raises ``SpecError`` for these, never for evidence.
    """
    question = _Question(
        key=load_key(ak),
        demanded=quote.parse_selection(pcrs),
        padded=since.padded_sha1 if since is not None else padded_sha1,
        policy=policy,
        since=since,
        recheck=recheck,
        processes=processes,
    )
    begin = resume.begin(question.key, question.demanded, starts or {}, since)
    notes = [] if ak_parent is not None else [_signer_note(question.key)]
    try:
        bundle = read_bundle(directory)
        answer = quote.check(
            bundle.attest,
            bundle.sig,
            key=question.key,
            nonce=nonce,
            demanded=question.demanded,
            parent=ak_parent,
            firmware=firmware,
        )
        if answer.attest is None or answer.selection is None or len(answer.attest.digest) != _digest_size(answer):
            notes.append("the log was not replayed: nothing to compare with")
            return Verdict(findings=answer.findings, notes=tuple(notes))
        if later := resume.quote_findings(since, answer.attest) if since is not None else []:
            notes.append("the log was not replayed: this quote does not follow the saved state; verify without it")
            return Verdict(findings=(*answer.findings, *later), notes=tuple(notes))
        with open_log(directory) as log:
            verdict = _judge_log(
                log=log,
                question=question,
                begin=begin,
                bundle=bundle,
                answer=answer,
                attest=answer.attest,
                selection=answer.selection,
            )
            unchanged(log)
            return replace(verdict, notes=(*notes, *verdict.notes))
    except BadEvidence as error:
        return Verdict(findings=(error.finding(),), notes=tuple(notes))


def _judge_log(
    *,
    log: Log,
    question: _Question,
    begin: Mark,
    bundle: Bundle,
    answer: Quote,
    attest: Attest,
    selection: Selection,
) -> Verdict:
    """Replay and judge a log against a quote over ``selection``. Raises ``BadEvidence`` if it cannot be read."""
    since = question.since
    if selection != question.demanded:
        # A finding already. These PCRs are replayed all the same; what was given or saved is of the demanded ones.
        begin, since = resume.begin(question.key, selection, {}, None), None
    goal, notes = _goal(bundle, attest, answer.signature.hash_alg, selection)
    replay = Replay(
        bank=selection.bank,
        goal=goal,
        values=dict(begin.values),
        counts=dict(begin.counts),
        padded=question.padded,
        entries=begin.entries,
        boundary=begin.offset,
    )
    judge = resume.judge(question.policy, since)
    past = resume.past_findings(log, since, recheck=question.recheck)
    _walk(log, replay, judge, question.processes)
    verdict = Verdict(
        findings=(
            *answer.findings,
            *past,
            *_replay_findings(replay),
            *resume.progress_findings(replay, log, since),
            *judge.findings(replay.reached),
            *_rule_findings(log, replay, judge),
            *_unattested(log, replay),
        ),
        entries=replay.entries,
        unattested=replay.unattested,
        pcrs={pcr: replay.values[pcr].hex() for pcr in replay.reached},
        attested=replay.reached,
        containers={seq: known.container for seq, known in judge.known(replay.reached).items()},
        notes=(*notes, *_judge_notes(judge, replay)),
    )
    if not verdict.ok:
        return verdict
    saved = resume.next_state(question.key, attest, replay, judge, log, None if question.recheck else since)
    return replace(verdict, state=saved)


def attested_entries(directory: Path, verdict: Verdict) -> Iterator[Entry]:
    """Yield the entries that the quote covers, for a comparison with ground truth. Raises ``BadEvidence``."""
    with open_log(directory) as log:
        yield from take(_entries(log), verdict.attested)


def _walk(log: Log, replay: Replay, judge: Judge, processes: int) -> None:
    """Take the log into replay and judge, in runs where nothing is to be said of any of their entries."""
    offset, number, runs = replay.boundary, replay.entries, 0
    with ordinary_runs(log, judge.policy, offset=offset, number=number, processes=processes) as ordinary:
        try:
            for item in read_runs(log.file, log.size, offset=offset, number=number):
                if not isinstance(item, Run):
                    if replay.step(item):
                        judge.step(item)
                    continue
                if replay.run(item):
                    for entry in () if ordinary(runs, item) else item.entries():
                        judge.step(entry)
                elif not replay.skip(item):
                    for entry in item.entries():
                        if replay.step(entry):
                            judge.step(entry)
                runs += 1
        except BadEvidence as error:
            replay.broken = error


def _entries(log: Log) -> Iterator[Entry]:
    for item in read_runs(log.file, log.size):
        if isinstance(item, Run):
            yield from item.entries()
        else:
            yield item


def _signer_note(key: Key) -> str:
    why = "a PEM has no name" if key.name is None else "no --ak-parent was given"
    return f"the signer's name was not checked: {why}"


def _judge_notes(judge: Judge, replay: Replay) -> Iterator[str]:
    for kind, count in sorted(judge.tolerated.items()):
        yield f"the policy lets pass: {kind}, {count} entries"
    if judge.known(replay.reached) and not judge.last_beats(replay.reached):
        yield "the log has no ctr-beat: that the measurer was there all the time is not known"
    yield from judge.roster.doubted(replay.reached)
    for where in judge.boots[1:]:
        yield f"another boot_aggregate, so the log was carried over a kexec: {where}"


def _digest_size(answer: Quote) -> int:
    return hashlib.new(answer.signature.hash_alg).digest_size


def _goal(bundle: Bundle, attest: Attest, algorithm: str, selection: Selection) -> tuple[Goal, list[str]]:
    """Return what the log must lead to; the attester's PCR values help only if the quote bears them out."""
    values = bundle.pcr_values
    if values is not None and not _borne_out(values, selection, algorithm, attest.digest):
        note = "the bundle's pcr_values are not what was quoted; the log was searched for one prefix instead"
        return Goal(quoted=None, algorithm=algorithm, composite=attest.digest), [note]
    quoted = None if values is None else {pcr: values[pcr] for pcr in selection.pcrs}
    return Goal(quoted=quoted, algorithm=algorithm, composite=attest.digest), []


def _borne_out(values: Mapping[int, bytes], selection: Selection, algorithm: str, composite: bytes) -> bool:
    """Each value must have the bank's size: else bytes could move from one PCR to its neighbour under one hash."""
    size = BANKS[selection.bank]
    if any(len(values.get(pcr, b"")) != size for pcr in selection.pcrs):
        return False
    return hashlib.new(algorithm, b"".join(values[pcr] for pcr in selection.pcrs)).digest() == composite


def _replay_findings(replay: Replay) -> list[Finding]:
    findings = [replay.broken.finding()] if replay.broken and replay.pending else []
    quoted = replay.goal.quoted
    if replay.pending and quoted is None:
        pcrs = ", ".join(map(str, sorted(replay.pending)))
        findings.append(_mismatch(f"PCRs {pcrs}", "a prefix of the log whose PCR values have the quote's hash", "none"))
    elif quoted is not None:
        findings += [_unreached(replay, pcr, quoted[pcr]) for pcr in sorted(replay.pending)]
    if replay.first_foreign is not None:
        where = replay.first_foreign.where
        findings.append(_mismatch(where, "entries of quoted PCRs", f"{replay.foreign} of others, this the first"))
    return findings


def _unreached(replay: Replay, pcr: int, quoted: bytes) -> Finding:
    if replay.seen[pcr] or replay.broken:
        got = f"{replay.values[pcr].hex()} at the end of the log"
        return _mismatch(f"PCR {pcr} of {replay.bank}", quoted.hex(), got)
    expected = f"entries that lead to {quoted.hex()}"
    return Finding(kind=FindingKind.LOG_MISSING, where=f"ima.bin: PCR {pcr}", expected=expected, got="no entry")


def _rule_findings(log: Log, replay: Replay, judge: Judge) -> tuple[Finding, ...]:
    """Say what attested measurements with a namespace in their name bind; with the plain ones of the same paths."""
    lines = [line for pcr, line in judge.namespaced if pcr in replay.reached]
    if not lines:
        return ()
    wanted = {rules.path_of(line.name) for line in lines}
    # In the log's order: of a path with very many digests, the first ones are tried.
    known: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
    for entry in take(_entries(log), replay.reached):
        try:
            fields = parse_fields(entry)
        except BadEvidence:
            continue  # judged when it was read
        if not entry.violation and fields.buf is None and fields.name in wanted:
            known[fields.name][fields.digest] = None
    return rules.audit(lines, known).findings


def _unattested(log: Log, replay: Replay) -> Iterator[Finding]:
    """Say what lies past the quoted state, and nothing of what it says: it is not evidence."""
    tail = log.size - replay.boundary if replay.complete else 0
    if not replay.unattested and tail <= 0:
        return
    got = f"{replay.unattested} entries past their PCR's quoted value, {tail} bytes past the last that counts"
    if replay.complete and replay.broken:
        got += f"; not all of it can be parsed ({replay.broken.where})"
    where = f"ima.bin: byte {replay.boundary}" if replay.complete else "ima.bin"
    expected = "nothing past the quoted state"
    yield Finding(kind=FindingKind.UNATTESTED, where=where, expected=expected, got=got)


def _mismatch(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.REPLAY_MISMATCH, where=where, expected=expected, got=got)

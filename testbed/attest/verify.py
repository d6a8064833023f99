"""From a bundle to a verdict: quote, then the log, entry by entry. Pure: files in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from testbed.attest import quote
from testbed.attest.bundle import Bundle, Log, log_format, open_log, read_bundle, unchanged
from testbed.attest.causes import cause_notes
from testbed.attest.finding import BadEvidence, Finding, FindingKind, counted
from testbed.attest.hashes import BANKS
from testbed.attest.judge import Judge
from testbed.attest.log.ima import Entry
from testbed.attest.quote import Attest, Quote, Selection
from testbed.attest.registers import pcr_register, resettable_findings
from testbed.attest.replay import Mark, Replay, find_goal, replay_findings, take
from testbed.attest.saved import resume
from testbed.attest.saved.state import State
from testbed.attest.tpm import Key, load_key
from testbed.attest.verdict import Verdict
from testbed.attest.walk import log_entries, walk
from testbed.attest.whole import ima_findings, log_findings, register_notes, rule_findings

if TYPE_CHECKING:  # a policy needs pydantic, which is slow to import
    from testbed.attest.policy.reference import Policy

DEFAULT_PCRS = "sha256:10,11"
# The kernel's default of CONFIG_IMA_MEASURE_PCR_IDX.
IMA_PCR = 10
_BOOTS_SHOWN = 10
_DOUBTS_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """The verifier's arguments; see ``verify``. ``begin``: where the replay begins."""

    key: Key
    nonce: bytes
    demanded: Selection
    parent: bytes | None
    firmware: int | None
    padded: bool
    policy: Policy | None
    begin: Mark
    ima_pcr: int
    log_digest: str | None
    byte_order: str | None
    resettable: Mapping[int, str]
    since: State | None
    recheck: bool
    rejudge: bool
    make_state: bool
    processes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """A quote that a log can be compared with, and the bundle that it came in."""

    bundle: Bundle
    quote: Quote
    attest: Attest
    selection: Selection


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
    ima_pcr: int = IMA_PCR,
    log_digest: str | None = None,
    byte_order: str | None = None,
    resettable: Mapping[int, str] = MappingProxyType({}),
    since: State | None = None,
    recheck: bool = False,
    rejudge: bool = False,
    make_state: bool = True,
    processes: int | None = 1,
) -> Verdict:
    """Judge the evidence in ``directory``.

    ``ak``: a PEM or a TPM2B_PUBLIC. ``nonce``, ``pcrs``: what this verifier asked for, never what the bundle says.
    ``ak_parent``: the qualified name of the key's parent. ``firmware``: the TPM's firmwareVersion, if it is pinned.
    ``starts``: what PCRs held before the log's first entry, where it is not the value after a start of the machine.
    ``padded_sha1``: the kernel is older than 5.8 and extends other banks with SHA-1 and zeros. ``ima_pcr``: the PCR
    that the kernel's IMA extends. ``log_digest``, ``byte_order``: how the log is written (``LogFormat``), if not as the
    bundle says. ``resettable``: PCRs that are relied on although somebody can reset them, each with
    the reason. ``since``: what an earlier verification attested; this one continues there. ``recheck``: hash the log
    before it too. ``rejudge``: judge the log before it again; the policy may differ from the earlier one.
    ``make_state``: whether the verdict has the state that a later verification needs; it costs one more hash of the
    log. ``processes``: how many check entries at once; ``None``: one for each 16 MiB of log, at most one for each
    processor. Raises ``SpecError`` for wrong arguments, never for evidence.
    """
    key, demanded = load_key(ak), quote.parse_selection(pcrs)
    question = _Question(
        key=key,
        nonce=nonce,
        demanded=demanded,
        parent=ak_parent,
        firmware=firmware,
        padded=since.padded_sha1 if since is not None else padded_sha1,
        policy=policy,
        begin=resume.begin(
            key, demanded, starts or {}, since, policy=None if policy is None else policy.sha256, rejudge=rejudge
        ),
        ima_pcr=ima_pcr,
        log_digest=log_digest,
        byte_order=byte_order,
        resettable={**(policy.resettable if policy is not None else {}), **resettable},
        since=since,
        recheck=recheck,
        rejudge=rejudge,
        make_state=make_state,
        processes=processes,
    )
    try:
        verdict = _judge_bundle(directory, question)
    except BadEvidence as error:
        verdict = Verdict(findings=(error.finding(),))
    return replace(verdict, notes=(*_signer_notes(question), *verdict.notes, *cause_notes(verdict)))


def _judge_bundle(directory: Path, question: _Question) -> Verdict:
    """Judge the quote, then the log that it covers. Raises ``BadEvidence`` if a file cannot be read."""
    bundle = read_bundle(directory)
    answer = quote.check(
        bundle.attest,
        bundle.sig,
        key=question.key,
        nonce=question.nonce,
        demanded=question.demanded,
        parent=question.parent,
        firmware=question.firmware,
    )
    if answer.attest is None or answer.selection is None or len(answer.attest.digest) != _digest_size(answer):
        return Verdict(
            findings=answer.findings, notes=("the log was not replayed: there is no quoted value to compare it with",)
        )
    if later := resume.quote_findings(question.since, answer.attest) if question.since is not None else []:
        note = "the log was not replayed: this quote does not follow the saved state; verify again without --since"
        return Verdict(findings=(*answer.findings, *later), notes=(note,))
    signed = _Signed(bundle=bundle, quote=answer, attest=answer.attest, selection=answer.selection)
    if missing := resume.chunk_findings(
        bundle.log.offset, question.since, from_start=question.recheck or question.rejudge
    ):
        note = "the log was not replayed: a part of it is missing"
        return Verdict(findings=(*answer.findings, *missing), notes=(note,))
    form = log_format(bundle.log, question.log_digest, question.byte_order)
    resume.same_form(question.since, form)
    with open_log(directory, bundle.log.offset, form) as log:
        verdict = _judge_log(log, question, signed)
        unchanged(log)
    return verdict


def _judge_log(log: Log, question: _Question, signed: _Signed) -> Verdict:
    """Replay and judge a log against a quote. Raises ``BadEvidence`` if it cannot be read."""
    begin, since, selection = question.begin, question.since, signed.selection
    continued = None if question.rejudge else since
    if selection != question.demanded:
        # This is a finding already. These PCRs are replayed nevertheless; start values and states are of the demanded
        # PCRs.
        begin, since = resume.begin(question.key, selection, {}, None), None
        continued = None
    goal, notes = find_goal(signed.bundle.pcr_values, signed.attest, signed.quote.signature.hash_alg, selection)
    replay = Replay(
        bank=selection.bank,
        goal=goal,
        values=dict(begin.values),
        counts=dict(begin.counts),
        padded=question.padded,
        entries=begin.entries,
        boundary=begin.offset,
    )
    judge = resume.judge(question.policy, continued)
    past = resume.past_findings(log, since, recheck=question.recheck)
    # With a hash that is not accepted a signature is not verified, as if it were wrong.
    unsigned = {FindingKind.QUOTE_SIGNATURE, FindingKind.QUOTE_DIGEST_ALG}
    signature = any(finding.kind in unsigned for finding in signed.quote.findings)
    walk(log, replay, None if signature else judge, question.processes)
    registers = (pcr_register(index, selection.bank) for index in question.demanded.pcrs)
    resettable, accepted = resettable_findings(registers, question.resettable)
    before = (
        *signed.quote.findings,
        *resettable,
        *past,
        *replay_findings(replay),
        *ima_findings(replay, ima_pcr=question.ima_pcr, continued=continued is not None),
        *resume.progress_findings(replay, log, since),
    )
    notes = [*accepted, *notes, *register_notes(replay, ima_pcr=question.ima_pcr)]
    if signature:
        notes.append("the entries were replayed but not judged, because the quote's signature is not good")
    verdict = _verdict(log, replay, judge, before, notes, judged=not signature)
    if not verdict.ok or not question.make_state:
        return verdict
    saved = resume.next_state(
        question.key,
        signed.attest,
        replay,
        judge,
        log,
        starts=begin.values if since is None else since.starts,
        since=None if question.recheck else continued,
    )
    return replace(verdict, state=saved)


def _verdict(
    log: Log, replay: Replay, judge: Judge, before: tuple[Finding, ...], notes: Sequence[str], *, judged: bool
) -> Verdict:
    """Combine the judgement of a log; ``before``: the findings that come before those of its entries."""
    return Verdict(
        findings=(
            *before,
            *judge.findings(replay.reached),
            *(log_findings(judge, replay.reached) if judged else ()),
            *rule_findings(log, replay, judge),
            *_unattested(log, replay),
        ),
        omitted=judge.found.omitted(replay.reached),
        entries=replay.entries,
        unattested=replay.unattested,
        pcrs={pcr: replay.values[pcr].hex() for pcr in replay.reached},
        attested=replay.reached,
        containers=judge.roster.containers(replay.reached),
        notes=(*notes, *_judge_notes(judge, replay)),
    )


def attested_entries(directory: Path, verdict: Verdict) -> Iterator[Entry]:
    """Yield the entries that the quote covers, for a comparison with ground truth.

    Raises ``BadEvidence``, also for a bundle that has only a part of the log.
    """
    claim = read_bundle(directory).log
    if claim.offset:
        raise BadEvidence("bundle.json: log.offset", "a whole log", f"one from byte {claim.offset} on")
    with open_log(directory, form=log_format(claim, None, None)) as log:
        yield from take(log_entries(log), verdict.attested)


def _signer_notes(question: _Question) -> Iterator[str]:
    if question.parent is None:
        why = "a PEM does not contain it" if question.key.name is None else "no --ak-parent was given"
        yield f"the signer's name was not checked: {why}"


def _judge_notes(judge: Judge, replay: Replay) -> Iterator[str]:
    for kind, count in sorted(judge.tolerated.items()):
        yield f"tolerated by the policy: {counted(count, f'{kind} entry', f'{kind} entries')}"
    for pcr in sorted(judge.unjudged.keys() & replay.reached.keys()):
        buffers = counted(judge.unjudged[pcr], "buffer")
        yield f"not judged, because there is no policy: {buffers} of the kernel on PCR {pcr} (keys, critical data)"
    if any(judge.roster.attested(replay.reached)) and not judge.last_beats(replay.reached):
        yield "the log has no ctr-beat: nothing proves that the measurer was always attached"
    doubted = list(judge.roster.doubted(replay.reached))
    yield from doubted[:_DOUBTS_SHOWN]
    if len(doubted) > _DOUBTS_SHOWN:
        yield f"{len(doubted) - _DOUBTS_SHOWN} more ids of containers were ignored"
    for where in judge.boots[1:_BOOTS_SHOWN]:
        yield f"the log was carried over a kexec: it has another boot_aggregate at {where}"


def _digest_size(answer: Quote) -> int:
    return BANKS[answer.signature.hash_alg]


def _unattested(log: Log, replay: Replay) -> Iterator[Finding]:
    """Report how much of the log comes after the quoted state. Its content is not checked: it is not evidence."""
    tail = log.size - replay.boundary if replay.complete else 0
    if not replay.unattested and tail <= 0:
        return
    got = f"{counted(replay.unattested, 'entry', 'entries')} after the quoted state"
    if tail > 0:
        got += f", {counted(tail, 'byte')} after the last attested entry"
    if replay.complete and replay.broken:
        got += f"; not all of them can be parsed ({replay.broken.where})"
    where = f"ima.bin: byte {replay.boundary}" if replay.complete else "ima.bin"
    expected = "nothing after the quoted state"
    yield Finding(kind=FindingKind.UNATTESTED, where=where, expected=expected, got=got)

"""From a bundle to a verdict: quote, then replay, then each attested entry. Pure: files in, values out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed.attest import quote
from testbed.attest.bundle import LIMITS, Bundle, read_bundle, read_file
from testbed.attest.finding import BadEvidence, Finding, FindingKind, Verdict
from testbed.attest.ima import Entry
from testbed.attest.judge import judge
from testbed.attest.quote import Quote, Selection
from testbed.attest.replay import Replay, replay, search, start_value, take
from testbed.attest.tpm import Key, load_key

DEFAULT_PCRS = "sha256:10,11"


def verify(
    directory: Path, *, ak: bytes, nonce: bytes, pcrs: str = DEFAULT_PCRS, ak_parent: bytes | None = None
) -> Verdict:
    """Judge the evidence in ``directory``.

    ``ak``: a PEM or a TPM2B_PUBLIC. ``nonce``, ``pcrs``: what this verifier asked for, never what the bundle says.
    ``ak_parent``: the qualified name of the key's parent. Raises ``SpecError`` for these; evidence never raises.
    """
    key, demanded = load_key(ak), quote.parse_selection(pcrs)
    notes = () if ak_parent is not None else (_signer_note(key),)
    try:
        bundle = read_bundle(directory)
        answer = quote.check(bundle.attest, bundle.sig, key=key, nonce=nonce, demanded=demanded, parent=ak_parent)
    except BadEvidence as error:
        return Verdict(findings=(error.finding(),), notes=notes)
    if answer.attest is None or answer.selection is None or len(answer.attest.digest) != _digest_size(answer):
        return Verdict(findings=answer.findings, notes=(*notes, "the log was not replayed: nothing to compare with"))
    found, values, log_notes = _replay(bundle, answer, answer.selection, answer.attest.digest)
    judged = judge(bundle.log, found)
    return Verdict(
        findings=(
            *answer.findings,
            *_replay_findings(found, values, answer.selection.bank),
            *judged.findings,
            *_unattested(bundle.log, found),
        ),
        entries=found.entries,
        unattested=found.unattested,
        pcrs={pcr: values[pcr].hex() for pcr in found.reached},
        attested=found.reached,
        containers={str(seq): one for seq, one in judged.containers.items()},
        notes=(*notes, *log_notes),
    )


def attested_entries(directory: Path, verdict: Verdict) -> Iterator[Entry]:
    """Yield the entries that the quote covers, for a comparison with ground truth. Raises ``BadEvidence``."""
    return take(read_file(directory, "ima.bin", LIMITS["ima.bin"]), dict(verdict.attested))


def _signer_note(key: Key) -> str:
    why = "a PEM has no name" if key.name is None else "no --ak-parent was given"
    return f"the signer's name was not checked: {why}"


def _digest_size(answer: Quote) -> int:
    return hashlib.new(answer.signature.hash_alg).digest_size


def _replay(
    bundle: Bundle, answer: Quote, selection: Selection, composite: bytes
) -> tuple[Replay, Mapping[int, bytes], tuple[str, ...]]:
    """Find what the quote covers; the attester's PCR values help only if the quote bears them out."""
    values, notes = bundle.pcr_values, []
    if values is not None and not _borne_out(values, selection, answer.signature.hash_alg, composite):
        values = None
        notes.append("the bundle's pcr_values are not what was quoted; the log was searched for one prefix instead")
    if values is None:
        values = search(bundle.log, selection.bank, selection.pcrs, answer.signature.hash_alg, composite) or {}
    quoted = {pcr: values[pcr] for pcr in selection.pcrs if pcr in values}
    return replay(bundle.log, selection.bank, selection.pcrs, quoted), quoted, tuple(notes)


def _borne_out(values: Mapping[int, bytes], selection: Selection, algorithm: str, composite: bytes) -> bool:
    """Each value must have the bank's size: else bytes could move from one PCR to its neighbour under one hash."""
    size = len(start_value(0, selection.bank))
    if any(len(values.get(pcr, b"")) != size for pcr in selection.pcrs):
        return False
    return hashlib.new(algorithm, b"".join(values[pcr] for pcr in selection.pcrs)).digest() == composite


def _replay_findings(found: Replay, quoted: Mapping[int, bytes], bank: str) -> list[Finding]:
    findings = [found.broken.finding()] if found.broken and not found.complete else []
    if found.last and not quoted:
        pcrs = ", ".join(map(str, found.last))
        findings.append(_mismatch(f"PCRs {pcrs}", "a prefix of the log whose PCR values have the quote's hash", "none"))
    for pcr, last in found.last.items() if quoted else ():
        if not found.seen[pcr] and not found.broken:
            place, expected = f"ima.bin: PCR {pcr}", f"entries that lead to {quoted[pcr].hex()}"
            findings.append(Finding(kind=FindingKind.LOG_MISSING, where=place, expected=expected, got="no entry"))
        else:
            findings.append(_mismatch(f"PCR {pcr} of {bank}", quoted[pcr].hex(), f"{last.hex()} at the end of the log"))
    if found.first_foreign is not None:
        where = found.first_foreign.where
        findings.append(_mismatch(where, "entries of quoted PCRs", f"{found.foreign} of others, this the first"))
    return findings


def _unattested(log: bytes, found: Replay) -> list[Finding]:
    """Say what lies past the quoted state, and nothing of what it says: it is not evidence."""
    tail = len(log) - found.boundary if found.complete else 0
    if not found.unattested and not tail:
        return []
    got = f"{found.unattested} entries past their PCR's quoted value, {tail} bytes past the last that counts"
    if found.complete and found.broken:
        got += f"; not all of it can be parsed ({found.broken.where})"
    expected = "nothing past the quoted state"
    where = f"ima.bin: byte {found.boundary}" if found.complete else "ima.bin"
    return [Finding(kind=FindingKind.UNATTESTED, where=where, expected=expected, got=got)]


def _mismatch(where: str, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.REPLAY_MISMATCH, where=where, expected=expected, got=got)

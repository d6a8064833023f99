"""Entry by entry: are its hashes those of its content, is it something that this verifier can judge?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from testbed.attest import entries
from testbed.attest.finding import BadEvidence, Container, Finding, FindingKind, UnsupportedEvidence
from testbed.attest.ima import Entry, Fields, parse_fields, template_digest
from testbed.attest.replay import Replay, take


@dataclass(slots=True, kw_only=True)
class Judged:
    """Findings and containers, gathered entry by entry."""

    findings: list[Finding] = field(default_factory=list)
    containers: dict[int, Container] = field(default_factory=dict)


def judge(log: bytes, found: Replay) -> Judged:
    """Judge each entry that the quote covers, and each of a PCR whose value was not reached: any may be the wrong one.

    Only the former say something about containers.
    """
    judged = Judged()
    for entry in take(log, dict(found.reached) | dict.fromkeys(found.last)):
        if entry.violation:
            # Its template data are in no PCR: not even the name can be believed.
            expected = "a measurement"
            got = f"a violation, said to be of {_unproven_name(entry)}"
            judged.findings.append(Finding(kind=FindingKind.VIOLATION, where=entry.where, expected=expected, got=got))
            continue
        if (expected_hash := template_digest(entry)) != entry.digest:
            judged.findings.append(_template_hash(entry, expected_hash.hex(), entry.digest.hex()))
        try:
            fields = parse_fields(entry)
            if fields.buf is not None:
                _buffer(judged, entry, fields, fields.buf, counts=entry.pcr in found.reached)
        except BadEvidence as error:
            judged.findings.append(error.finding(entry.where))
    return judged


def _buffer(judged: Judged, entry: Entry, fields: Fields, buf: bytes, *, counts: bool) -> None:
    """Judge an ``ima-buf`` entry. Raises ``BadEvidence``."""
    digest = hashlib.new(fields.algorithm, buf).digest()
    if digest != fields.digest:
        got = f"{fields.digest.hex()} in field d-ng"
        judged.findings.append(_template_hash(entry, f"{digest.hex()}, the {fields.algorithm} of field buf", got))
    if fields.name == entries.VIOLATION:
        expected, got = "measurements", "an entry that says that one was not possible"
        judged.findings.append(Finding(kind=FindingKind.VIOLATION, where=entry.where, expected=expected, got=got))
        return
    if fields.name not in entries.KINDS:
        raise UnsupportedEvidence("event", f"one of {', '.join(map(bytes.decode, entries.KINDS))}", ascii(fields.name))
    payload = entries.parse_payload(fields.name, buf)
    if counts:
        _count(judged, entry, payload)


def _count(judged: Judged, entry: Entry, payload: entries.FileEntry | entries.StartEntry) -> None:
    """Put an entry to its container; the first of each must be its only ``ctr-start``."""
    who = payload.container
    known = judged.containers.get(who.seq)
    got = None
    if isinstance(payload, entries.StartEntry) == (known is not None):
        got = "a second ctr-start" if known else "none before this entry"
        judged.findings.append(_broken_rule(entry, who.seq, "one ctr-start, before its container's other entries", got))
    if known is None:
        known = Container(seq=who.seq, mntns=who.mntns, cgroup=who.cgroup, started=who.started)
    elif (known.mntns, known.cgroup, known.started) != (who.mntns, who.cgroup, who.started):
        expected = f"mntns {known.mntns}, cgroup {known.cgroup}, started {known.started}"
        got = f"mntns {who.mntns}, cgroup {who.cgroup}, started {who.started}"
        judged.findings.append(_broken_rule(entry, who.seq, expected, got))
    if isinstance(payload, entries.StartEntry) and not known.entries:
        path = payload.cgroup_path.decode(errors="backslashreplace")
        known = replace(known, cgroup_path=path, runtime_id=entries.runtime_id(payload.cgroup_path))
    judged.containers[who.seq] = replace(known, entries=known.entries + 1)


def _broken_rule(entry: Entry, seq: int, expected: str, got: str) -> Finding:
    where = f"{entry.where}: container {seq}"
    return Finding(kind=FindingKind.MALFORMED, where=where, expected=expected, got=got, container=str(seq))


def _template_hash(entry: Entry, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.TEMPLATE_HASH, where=entry.where, expected=expected, got=got)


def _unproven_name(entry: Entry) -> str:
    try:
        return ascii(parse_fields(entry).name)
    except BadEvidence:
        return "something that cannot be parsed"

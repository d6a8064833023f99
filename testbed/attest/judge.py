"""Entry by entry: are its hashes those of its content, may it be there, can this verifier judge it at all?"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from testbed.attest import entries, rules
from testbed.attest.beats import Beat, Beats
from testbed.attest.finding import BadEvidence, Container, Finding, FindingKind, UnsupportedEvidence
from testbed.attest.ima import Entry, Fields, parse_fields, template_digest
from testbed.attest.launch import OUTCOMES
from testbed.attest.policy import Complaint, Policy
from testbed.attest.stream import Run

# An ordinary file's `d-ng|n-ng`. A name that begins with a digit may be one that a measurer put a namespace before.
_ORDINARY = re.compile(rb"(?s)\x28\0\0\0sha256:\0.{32}(....)([^\x000-9][^\0]*\0)")
_BOOT = b"boot_aggregate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A container as judged so far.

    ``pcr``: where its entries are, ``None`` if they were attested by an earlier verification. ``images``: what it may
    be, of those of a policy. ``launched``: its ``ctr-launch`` was seen.
    """

    pcr: int | None
    container: Container
    images: tuple[str, ...] = ()
    launched: bool = False


@dataclass(slots=True, kw_only=True)
class Judge:
    """Findings and containers, gathered entry by entry.

    Which PCRs come to their quoted value is known at the end only, so what counts for those alone is kept by PCR.
    ``trees``: digests of images whose ``ctr-image`` was seen, with its PCR, ``None`` if in an earlier verification.
    ``beats``: by PCR. ``namespaced``: measurements whose names tell a namespace, on whichever PCR. ``boots``: where a
    log began.
    """

    policy: Policy | None = None
    containers: dict[int, Known] = field(default_factory=dict)
    trees: set[tuple[int | None, bytes]] = field(default_factory=set)
    beats: dict[int, Beats] = field(default_factory=dict)
    namespaced: list[tuple[int, rules.Measured]] = field(default_factory=list)
    boots: list[str] = field(default_factory=list)
    tolerated: Counter[FindingKind] = field(default_factory=Counter)
    _findings: list[tuple[int | None, Finding]] = field(default_factory=list)

    def findings(self, reached: Collection[int]) -> list[Finding]:
        """Return what was found, given the PCRs that came to their quoted value."""
        found = [finding for pcr, finding in self._findings if pcr is None or pcr in reached]
        found += [finding for pcr, beats in self.beats.items() if pcr in reached for finding in beats.end()]
        return [*found, *self._unlaunched(reached)]

    def known(self, reached: Collection[int]) -> dict[str, Known]:
        """Return the containers, by ``seq``, that attested entries speak of."""
        return {str(seq): one for seq, one in self.containers.items() if one.pcr is None or one.pcr in reached}

    def last_beats(self, reached: Collection[int]) -> dict[int, Beat]:
        """Return the last beat of each PCR, if attested."""
        return {pcr: one.last for pcr, one in self.beats.items() if one.last is not None and pcr in reached}

    def known_trees(self, reached: Collection[int]) -> set[bytes]:
        """Return the digests of images that attested entries speak of."""
        return {digest for pcr, digest in self.trees if pcr is None or pcr in reached}

    def step(self, entry: Entry) -> None:
        """Judge one entry."""
        if entry.violation:
            # Its template data are in no PCR: not even the name can be believed.
            expected, got = "a measurement", f"a violation, said to be of {_unproven_name(entry)}"
            self._violation(entry.where, expected, got)
            return
        if (expected_hash := template_digest(entry)) != entry.digest:
            self._add(_template_hash(entry, expected_hash.hex(), entry.digest.hex()))
        try:
            fields = parse_fields(entry)
            if fields.buf is None:
                self._file(entry, fields)
            else:
                self._buffer(entry, fields, fields.buf)
        except BadEvidence as error:
            self._add(error.finding(entry.where))

    def _file(self, entry: Entry, fields: Fields) -> None:
        """Judge IMA's own measurement of a file."""
        if fields.name == _BOOT:
            self.boots.append(entry.where)
        if rules.is_namespaced(fields.name):
            line = rules.Measured(
                where=entry.where,
                pcr=entry.pcr,
                name=fields.name,
                algorithm=fields.algorithm,
                digest=fields.digest,
            )
            self.namespaced.append((entry.pcr, line))
        elif self.policy is not None:
            self._complain(self.policy.judge_host(fields), entry, _said(fields.name, fields.digest))

    def _buffer(self, entry: Entry, fields: Fields, buf: bytes) -> None:
        """Judge an ``ima-buf`` entry. Raises ``BadEvidence``."""
        digest = hashlib.new(fields.algorithm, buf).digest()
        if digest != fields.digest:
            got = f"{fields.digest.hex()} in field d-ng"
            self._add(_template_hash(entry, f"{digest.hex()}, the {fields.algorithm} of field buf", got))
        if fields.name in entries.KINDS:
            self._ours(entry, entries.parse_payload(fields.name, buf))
            return
        if self.policy is None or fields.name.startswith(entries.PREFIX):
            known = ", ".join(map(bytes.decode, entries.KINDS))
            raise UnsupportedEvidence("event", f"one of {known}", ascii(fields.name))
        self._complain(self.policy.judge_buffer(fields), entry, _said(fields.name, fields.digest))

    def _ours(self, entry: Entry, payload: entries.Payload) -> None:
        """Judge an entry of the measurer."""
        if isinstance(payload, entries.BeatEntry):
            found = self.beats.setdefault(entry.pcr, Beats()).step(entry.where, payload)
            self._findings += [(entry.pcr, finding) for finding in found]
            return
        if isinstance(payload, entries.ImageEntry):
            if not payload.outcome:
                self.trees.add((entry.pcr, payload.digest))
            return
        self._count(entry, payload)
        if isinstance(payload, entries.FileEntry):
            self._container_file(entry, payload)
        elif isinstance(payload, entries.LaunchEntry):
            self._launch(entry, payload)
        elif isinstance(payload, entries.ViolationEntry):
            seq = payload.container.seq
            self._violation(_of(entry, seq), "code that nobody can change while it is used", _changeable(payload), seq)

    def _container_file(self, entry: Entry, payload: entries.FileEntry) -> None:
        """Look a container's file up in the images that it may be, never in the host's list."""
        if self.policy is None:
            return
        known = self.containers[payload.container.seq]
        images, complaint = self.policy.judge_file(known.images, payload.path, payload.digest)
        image = " or ".join(images)
        self.containers[payload.container.seq] = replace(
            known, images=images, container=replace(known.container, image=image)
        )
        self._complain(complaint, entry, _said(payload.path, payload.digest), str(payload.container.seq))

    def _launch(self, entry: Entry, payload: entries.LaunchEntry) -> None:
        """Judge how a container was started: once, with an image that was digested and may be the container's."""
        seq = payload.container.seq
        known = self.containers[seq]
        if known.launched:
            self._broken_rule(entry, seq, "one ctr-launch", "a second one")
            return
        tree = None if payload.outcome else payload.image
        if tree is None:
            got = f"none: {OUTCOMES[payload.outcome]}"
            self._about(entry, seq, FindingKind.NO_CONTENT, "a digest of the container's whole image", got)
        elif not {(entry.pcr, tree), (None, tree)} & self.trees:
            self._broken_rule(entry, seq, "a ctr-image before it, with its image's digest", f"none with {tree.hex()}")
        images, complaint, got = known.images, None, ""
        if self.policy is not None:
            images, complaint, got = self.policy.judge_launch(images, tree, payload.config)
        told = replace(known.container, image=" or ".join(images), image_digest=tree.hex() if tree else "")
        self.containers[seq] = replace(known, container=told, images=images, launched=True)
        self._complain(complaint, entry, got, str(seq))

    def _unlaunched(self, reached: Collection[int]) -> Iterator[Finding]:
        """Name the containers without a launch, where whatever image they are of must have one that agrees."""
        for seq, one in self.known(reached).items():
            if self.policy is None or one.launched or not (expected := self.policy.demands(one.images)):
                continue
            got = "no ctr-launch"
            where = f"ima.bin: container {seq}"
            yield Finding(kind=FindingKind.WRONG_DIGEST, where=where, expected=expected, got=got, container=seq)

    def _count(self, entry: Entry, payload: entries.OfContainer) -> None:
        """Put an entry to its container; the first of each must be its only ``ctr-start``."""
        who = payload.container
        known = self.containers.get(who.seq)
        one = Container(seq=who.seq, mntns=who.mntns, cgroup=who.cgroup, started=who.started)
        if isinstance(payload, entries.StartEntry) == (known is not None):
            got = "a second ctr-start" if known else "none before this entry"
            self._broken_rule(entry, who.seq, "one ctr-start, before its container's other entries", got)
        if known is not None:
            one = known.container
            if (one.mntns, one.cgroup, one.started) != (who.mntns, who.cgroup, who.started):
                expected = f"mntns {one.mntns}, cgroup {one.cgroup}, started {one.started}"
                got = f"mntns {who.mntns}, cgroup {who.cgroup}, started {who.started}"
                self._broken_rule(entry, who.seq, expected, got)
        if isinstance(payload, entries.StartEntry) and not one.entries:
            path = payload.cgroup_path.decode(errors="backslashreplace")
            one = replace(one, cgroup_path=path, runtime_id=entries.runtime_id(payload.cgroup_path))
        one = replace(one, entries=one.entries + 1)
        if known is None:
            images = self.policy.images_of(one) if self.policy is not None else ()
            known = Known(pcr=entry.pcr, container=replace(one, image=" or ".join(images)), images=images)
        else:
            known = replace(known, container=one)
        self.containers[who.seq] = known

        if isinstance(payload, entries.StartEntry) and payload.flags & entries.BEFORE:
            got = "one that ran before: what it got until then is not known"
            self._about(entry, who.seq, FindingKind.UNKNOWN_WINDOW, "a container that began under the measurer", got)

    def _broken_rule(self, entry: Entry, seq: int, expected: str, got: str) -> None:
        self._about(entry, seq, FindingKind.MALFORMED, expected, got)

    def _about(self, entry: Entry, seq: int, kind: FindingKind, expected: str, got: str) -> None:
        """Only for attested entries: among others any may be the one that was put there."""
        finding = Finding(kind=kind, where=_of(entry, seq), expected=expected, got=got, container=str(seq))
        self._findings.append((entry.pcr, finding))

    def _violation(self, where: str, expected: str, got: str, seq: int | None = None) -> None:
        if self.policy is not None and self.policy.tolerates_violations:
            self.tolerated[FindingKind.VIOLATION] += 1
            return
        container = None if seq is None else str(seq)
        self._add(Finding(kind=FindingKind.VIOLATION, where=where, expected=expected, got=got, container=container))

    def _complain(self, complaint: Complaint | None, entry: Entry, got: str, container: str | None = None) -> None:
        if complaint is None:
            return
        if complaint.tolerated:
            self.tolerated[complaint.kind] += 1
            return
        expected = complaint.expected
        self._add(Finding(kind=complaint.kind, where=entry.where, expected=expected, got=got, container=container))

    def _add(self, finding: Finding) -> None:
        self._findings.append((None, finding))


def ordinary(run: Run, policy: Policy | None) -> bool:
    """Whether ``Judge.step`` has nothing to say of any entry of a run: digests as they must be, and accepted names."""
    digests = [hashlib.sha1(data).digest() for data in run.data]  # noqa: S324 - the log's format
    if b"".join(digests) != b"".join(run.shown):
        return False
    if policy is not None:
        return policy.accepted.issuperset(run.fields)
    matches = [_ORDINARY.fullmatch(one) for one in run.fields]
    return all(match and int.from_bytes(match[1], "little") == len(match[2]) for match in matches)


def _template_hash(entry: Entry, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.TEMPLATE_HASH, where=entry.where, expected=expected, got=got)


def _of(entry: Entry, seq: int) -> str:
    return f"{entry.where}: container {seq}"


def _changeable(payload: entries.ViolationEntry) -> str:
    """Say which file and why; a file whose path could not be built has its number."""
    major, minor = payload.device
    why = "executed or mapped while open for writing"
    if payload.violation == entries.TOMTOU:
        why = "opened for writing while it was in use"
    return f"{ascii(payload.path)[1:]}, inode {payload.inode} of device {major}:{minor}: {why}"


def _said(name: bytes, digest: bytes) -> str:
    return f"{ascii(name)[1:]}, {digest.hex()}"


def _unproven_name(entry: Entry) -> str:
    try:
        return ascii(parse_fields(entry).name)
    except BadEvidence:
        return "something that cannot be parsed"

"""Judge a log entry by entry: do its hashes fit, is the entry allowed, can this verifier judge it at all?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.attest import hashes
from testbed.attest.beats import Beat, Beats
from testbed.attest.entries import parse, words
from testbed.attest.entries.launch import DIGEST_KINDS, DRIFT, OUTCOMES
from testbed.attest.entries.payload import parse_header
from testbed.attest.finding import BadEvidence, Finding, FindingKind, Findings, UnsupportedEvidence
from testbed.attest.log import rules
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import BOOT_AGGREGATES, Entry, template_digest
from testbed.attest.policy.image import NO_PROGRAMS, Complaint, Narrowed
from testbed.attest.roster import MOST, Roster

if TYPE_CHECKING:  # a policy needs pydantic, which is slow to import
    from testbed.attest.policy.reference import Policy

# What root of the attested machine could log without end; what comes after is counted as a finding, not judged.
MOST_TREES = MOST_NAMESPACED = MOST_BUFFERS = 1 << 16
MOST_PARTS = 1000
MOST_BOOTS = 1000


@dataclass(slots=True, kw_only=True)
class Judge:
    """The findings and containers so far.

    ``found``: the findings about entries. ``trees``: digests of images whose ``ctr-image`` was seen, with its PCR,
    ``None`` if in an earlier verification; ``parts``: likewise the parts of the measurer, and where they were seen.
    ``kinds``: what the digests of ``trees`` are, if seen in this verification. ``beats``: by PCR. ``namespaced``: lines
    whose names contain a namespace, with their PCR. ``boots``: where each boot aggregate is. ``unjudged``: number of
    kernel buffers, by PCR. ``stopped``: the byte from which on no entry was judged, because there were too many
    findings or other things to keep.
    """

    policy: Policy | None = None
    roster: Roster = field(default_factory=Roster)
    trees: set[tuple[int | None, bytes]] = field(default_factory=set)
    kinds: dict[bytes, str] = field(default_factory=dict)
    parts: dict[tuple[int | None, str, bytes], str] = field(default_factory=dict)
    beats: dict[int, Beats] = field(default_factory=dict)
    namespaced: list[tuple[int, rules.Measured]] = field(default_factory=list)
    boots: list[str] = field(default_factory=list)
    unjudged: Counter[int] = field(default_factory=Counter)
    tolerated: Counter[FindingKind] = field(default_factory=Counter)
    found: Findings = field(default_factory=Findings)
    stopped: int | None = None

    def __post_init__(self) -> None:
        self.roster.policy = self.policy

    def findings(self, reached: Collection[int]) -> list[Finding]:
        """Return the findings about entries that were kept, given the PCRs that reached their quoted value."""
        ends = (finding for pcr, beats in self.beats.items() if pcr in reached for finding in beats.end())
        return [*self.found.kept(reached), *ends]

    def last_beats(self, reached: Collection[int]) -> dict[int, Beat]:
        """Return the last beat of each PCR, if attested."""
        return {pcr: beats.last for pcr, beats in self.beats.items() if beats.last is not None and pcr in reached}

    def known_trees(self, reached: Collection[int]) -> set[bytes]:
        """Return the image digests in attested entries."""
        return {digest for pcr, digest in self.trees if pcr is None or pcr in reached}

    def known_parts(self, reached: Collection[int]) -> dict[tuple[str, bytes], str]:
        """Return the measurer's parts in attested entries, and where they are."""
        return {key[1:]: where for key, where in self.parts.items() if key[0] is None or key[0] in reached}

    def step(self, entry: Entry) -> None:
        """Judge one entry."""
        if self.found.full:
            if self.stopped is None:
                self.stopped = entry.offset
            return
        if entry.violation:
            # No PCR covers its template data, so not even the name is proven.
            expected, got = "a measurement", f"a violation; the (unproven) name is {_unproven_name(entry)}"
            self._or_noted(FindingKind.VIOLATION, entry.where, expected, got)
            return
        if (expected_hash := template_digest(entry)) != entry.digest:
            self._add(_template_hash(entry, expected_hash.hex(), entry.digest.hex()))
        try:
            fields = parse_fields(entry)
            if fields.of_file and (fields.buf is None or not fields.name.startswith(parse.PREFIX)):
                self._file(entry, fields)
            else:
                self._buffer(entry, fields, fields.buf or b"")
        except BadEvidence as error:
            self._add(error.finding(entry.where, container=self._container_of(entry)))

    def _container_of(self, entry: Entry) -> str | None:
        """Return the container that a malformed entry names, if its header can be read: only that one is affected."""
        try:
            fields = parse_fields(entry)
            seq = 0 if fields.buf is None else parse_header(fields.name, fields.buf).container.seq
        except BadEvidence:
            return None
        return f"{seq}" if seq in self.roster else None

    def _file(self, entry: Entry, fields: Fields) -> None:
        """Judge IMA's own measurement of a file."""
        if fields.name in BOOT_AGGREGATES and self._room(entry, len(self.boots), MOST_BOOTS, "boot_aggregate entries"):
            self.boots.append(entry.where)
        if rules.is_namespaced(fields.name):
            if not self._room(entry, len(self.namespaced), MOST_NAMESPACED, "lines with a namespace"):
                return
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
        if (digest := hashes.digest(fields.algorithm, buf)) != fields.digest:
            got = f"{fields.digest.hex()} in field d-ng"
            self._add(_template_hash(entry, f"{digest.hex()}, the {fields.algorithm} of field buf", got))
        if fields.name in parse.KINDS:
            self._ours(entry, parse.parse_payload(fields.name, buf))
            return
        if fields.name.startswith(parse.PREFIX):
            raise UnsupportedEvidence("event", f"one of {b', '.join(parse.KINDS).decode()}", ascii(fields.name))
        if self.policy is None:
            if self._room(entry, self.unjudged.total(), MOST_BUFFERS, "buffers of the kernel that are not judged"):
                self.unjudged[entry.pcr] += 1
        else:
            self._complain(self.policy.judge_buffer(fields), entry, _said(fields.name, fields.digest))

    def _ours(self, entry: Entry, payload: parse.Payload) -> None:
        """Judge an entry of the measurer."""
        if isinstance(payload, parse.OfNone):
            self._of_none(entry, payload)
            return
        seq = payload.container.seq
        if not self.roster.has_room(seq):
            self._room(entry, MOST, MOST, "containers")
            return
        for expected, got in self.roster.count(entry.pcr, payload):
            self._broken_rule(entry, seq, expected, got)
        if isinstance(payload, parse.FileEntry):
            self._container_file(entry, payload)
        elif isinstance(payload, parse.LaunchEntry):
            self._launch(entry, payload)
        elif isinstance(payload, parse.MountsEntry):
            self._narrow(entry, seq, lambda policy, images: policy.judge_mounts(images, payload))
        elif isinstance(payload, parse.ProgramEntry):
            self._program(entry, payload)
        else:
            self._doubt(entry, payload)

    def _doubt(self, entry: Entry, payload: parse.OfContainer) -> None:
        """Report what makes it uncertain which code a container got or ran."""
        seq = payload.container.seq
        if isinstance(payload, parse.ViolationEntry):
            wanted = "code that cannot change while it is used"
            self._or_noted(FindingKind.VIOLATION, _of(entry, seq), wanted, words.changeable(payload), seq)
        elif isinstance(payload, parse.LossEntry):
            wanted = "an entry for each piece of code of this container"
            self._about(entry, seq, FindingKind.UNKNOWN_WINDOW, wanted, words.lost(payload))
        elif isinstance(payload, parse.StartEntry) and payload.flags & parse.BEFORE:
            got = "the container started before the measurer; its earlier code is unknown"
            self._about(entry, seq, FindingKind.UNKNOWN_WINDOW, "a container that started under the measurer", got)

    def _of_none(self, entry: Entry, payload: parse.OfNone) -> None:
        """Judge an entry that is about no container."""
        if isinstance(payload, parse.BeatEntry):
            beats, roster = self.beats.setdefault(entry.pcr, Beats()), self.roster
            for finding in beats.step(entry.where, payload, started=roster.highest, lossy=roster.lossy):
                self.found.add(finding, entry.pcr)
        elif isinstance(payload, parse.MeasurerEntry):
            if self._room(entry, len(self.parts), MOST_PARTS, "parts of the measurer"):
                self.parts.setdefault((entry.pcr, payload.part, payload.digest), entry.where)
        elif not payload.outcome and self._room(entry, len(self.trees), MOST_TREES, "digests of images"):
            self.trees.add((entry.pcr, payload.digest))
            self.kinds[payload.digest] = DIGEST_KINDS[payload.tree_version]

    def _container_file(self, entry: Entry, payload: parse.FileEntry) -> None:
        """Look up a container's file in the images that the container can be of, never in the host's list."""
        seq = payload.container.seq
        if payload.flags & parse.NOT_BOUND:
            expected = "a file whose content cannot change"
            name = f"{_said_file(payload)}, which does not bind the code that runs"
            self._or_noted(FindingKind.NOT_BOUND, _of(entry, seq), expected, name, seq)
        if self.policy is None:
            return
        drift = self.roster.get(seq).container.drift
        possible, path, digest = self.roster.images(seq), payload.path, payload.digest
        images, complaint = self.policy.judge_file(possible, path, digest, verity=payload.verity, drift=drift)
        self.roster.narrow(seq, images)
        self._complain(complaint, entry, _said_file(payload), str(seq))

    def _launch(self, entry: Entry, payload: parse.LaunchEntry) -> None:
        """Judge how a container was started: once, from an image that has a digest and that the policy allows."""
        seq = payload.container.seq
        if self.roster.get(seq).launched:
            self._broken_rule(entry, seq, "one ctr-launch", "a second one")
            return
        tree = None if payload.outcome else payload.image
        if tree is None:
            got = f"none: {OUTCOMES[payload.outcome]}"
            self._about(entry, seq, FindingKind.NO_CONTENT, "a digest of the container's whole image", got)
        elif not {(entry.pcr, tree), (None, tree)} & self.trees:
            self._broken_rule(entry, seq, "an earlier ctr-image with its image's digest", f"none with {tree.hex()}")
        self.roster.launched(seq, tree.hex() if tree else "", drift=bool(payload.flags & DRIFT))
        kind = self.kinds.get(payload.image)
        self._narrow(entry, seq, lambda policy, images: policy.judge_launch(images, payload, kind))

    def _program(self, entry: Entry, payload: parse.ProgramEntry) -> None:
        """Judge code that a container loaded into the kernel; it can affect the measurement of all containers."""
        seq = payload.container.seq
        images = self.roster.images(seq)
        if self.policy is not None and images:
            left, complaint = self.policy.judge_program(images, payload)
            if complaint is None:
                self.roster.narrow(seq, left)
                return
        kind, got = FindingKind.UNKNOWN_FILE, words.program(payload)
        self._add(Finding(kind=kind, where=_of(entry, seq), expected=NO_PROGRAMS, got=got))

    def _narrow(self, entry: Entry, seq: int, judge: Callable[[Policy, tuple[str, ...]], Narrowed]) -> None:
        """Leave a container only the images that fit an entry."""
        if self.policy is None:
            return
        images, complaint = judge(self.policy, self.roster.images(seq))
        self.roster.narrow(seq, images)
        if complaint is not None:
            self._complain(complaint, entry, "", str(seq))

    def _broken_rule(self, entry: Entry, seq: int, expected: str, got: str) -> None:
        self._about(entry, seq, FindingKind.MALFORMED, expected, got)

    def _about(self, entry: Entry, seq: int, kind: FindingKind, expected: str, got: str) -> None:
        """Report it only if the entry is attested: anybody may have added an unattested one."""
        finding = Finding(kind=kind, where=_of(entry, seq), expected=expected, got=got, container=str(seq))
        self.found.add(finding, entry.pcr)

    def _or_noted(self, kind: FindingKind, where: str, expected: str, got: str, seq: int | None = None) -> None:
        """Report a finding, or count it if the policy tolerates it."""
        if self.policy is not None and self.policy.tolerates(kind):
            self.tolerated[kind] += 1
            return
        container = None if seq is None else str(seq)
        self._add(Finding(kind=kind, where=where, expected=expected, got=got, container=container))

    def _complain(self, complaint: Complaint | None, entry: Entry, got: str, container: str | None = None) -> None:
        if complaint is not None and complaint.tolerated:
            self.tolerated[complaint.kind] += 1
        elif complaint is not None:
            kind, expected, got = complaint.kind, complaint.expected, ", ".join(filter(None, (got, complaint.got)))
            self._add(Finding(kind=kind, where=entry.where, expected=expected, got=got, container=container))

    def _add(self, finding: Finding) -> None:
        self.found.add(finding)

    def _room(self, entry: Entry, have: int, most: int, what: str) -> bool:
        """Whether one more can be kept. If not, this is a finding, and no further entry is judged."""
        if have < most:
            return True
        self.found.full = True
        expected, got = f"at most {most} {what}", "one more; this entry and all later ones are not judged"
        self._add(Finding(kind=FindingKind.TOO_MANY, where=entry.where, expected=expected, got=got))
        return False


def _template_hash(entry: Entry, expected: str, got: str) -> Finding:
    return Finding(kind=FindingKind.TEMPLATE_HASH, where=entry.where, expected=expected, got=got)


def _of(entry: Entry, seq: int) -> str:
    return f"{entry.where}: container {seq}"


def _said_file(file: parse.FileEntry) -> str:
    """Name a container's file; its digest has a kind in front if that is not the usual one."""
    return f"{ascii(file.path)[1:]}, {'verity:sha256:' if file.verity else ''}{file.digest.hex()}"


def _said(name: bytes, digest: bytes) -> str:
    return f"{ascii(name)[1:]}, {digest.hex()}"


def _unproven_name(entry: Entry) -> str:
    try:
        return ascii(parse_fields(entry).name)
    except BadEvidence:
        return "unreadable"

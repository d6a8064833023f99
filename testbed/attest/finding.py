"""What a judge says: ``Finding`` and ``Verdict``. A wrong digest is a value, not an exception."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.errors import EvidenceError

if TYPE_CHECKING:
    from testbed.attest.state import State  # which sees findings itself

SCHEMA = 1


class FindingKind(enum.StrEnum):
    """The words that an attack's ``expect``, every report and ``testbed verify --json`` use."""

    QUOTE_MAGIC = "quote-magic"
    QUOTE_TYPE = "quote-type"
    QUOTE_SIGNATURE = "quote-signature"
    QUOTE_NONCE = "quote-nonce"
    QUOTE_SIGNER = "quote-signer"
    QUOTE_SELECTION = "quote-selection"
    QUOTE_DIGEST_ALG = "quote-digest-alg"
    QUOTE_CLOCK = "quote-clock"
    QUOTE_RESET = "quote-reset"
    REPLAY_MISMATCH = "replay-mismatch"
    LOG_MISSING = "log-missing"
    TEMPLATE_HASH = "template-hash"
    VIOLATION = "violation"
    UNATTESTED = "unattested"
    UNKNOWN_FILE = "unknown-file"
    WRONG_DIGEST = "wrong-digest"
    WRONG_LAUNCH = "wrong-launch"
    NOT_BOUND = "not-bound"
    AMBIGUOUS_IDENTITY = "ambiguous-identity"
    MISSING = "missing"
    GHOST = "ghost"
    MISATTRIBUTED = "misattributed"
    STALE = "stale"
    WEAK_BINDING = "weak-binding"
    NO_CONTENT = "no-content"
    UNKNOWN_WINDOW = "unknown-window"
    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"


INFORMATIVE = frozenset({FindingKind.UNATTESTED})


class Judgement(enum.StrEnum):
    """The three words of the contract; ``exit_status`` is what ``testbed verify`` returns for each."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"

    @property
    def exit_status(self) -> int:
        return {Judgement.TRUSTED: 0, Judgement.UNTRUSTED: 1, Judgement.MALFORMED: EvidenceError.exit_status}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be. ``container`` is the ``seq`` of the container it is about, as text."""

    kind: FindingKind
    where: str
    expected: str
    got: str
    container: str | None = None

    @property
    def informative(self) -> bool:
        return self.kind in INFORMATIVE

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind.value, "where": self.where, "expected": self.expected, "got": self.got}


class BadEvidence(EvidenceError):
    """Bytes that are not what they must be: an ``EvidenceError`` that can be written down as a finding."""

    kind = FindingKind.MALFORMED

    def __init__(self, where: str, expected: str, got: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.where = where
        self.expected = expected
        self.got = got

    def finding(self, where: str = "", container: str | None = None) -> Finding:
        """Write it down; ``where`` goes before the place that the error names."""
        place = f"{where}: {self.where}" if where else self.where
        return Finding(kind=self.kind, where=place, expected=self.expected, got=self.got, container=container)


class UnsupportedEvidence(BadEvidence):
    """Well formed, as far as can be told, but of a kind or version that this verifier cannot judge."""

    kind = FindingKind.UNSUPPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the attested log says of one container.

    ``runtime_id`` is read off its cgroup's path, where possible; a container in a container has none, as the outer one
    can name that cgroup as it likes. ``parent``: the ``seq`` of the container that started it, 0 for the host.
    ``image_digest``: of its image's tree as its launch tells it, hex, empty without one.
    """

    seq: int
    mntns: int
    cgroup: int
    started: int
    cgroup_path: str = ""
    runtime_id: str | None = None
    image: str = ""
    image_digest: str = ""
    entries: int = 0
    parent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one bundle.

    ``entries``: whole entries in the log; ``unattested``: those of them past the quoted state.
    ``pcrs``: the values that the replay reached, hex. ``attested``: how many entries of each such PCR the quote covers.
    ``containers``: by ``seq`` as text, from attested entries only. ``notes``: what was not checked, for people.
    ``state``: what a later verification can go on from; only of a trusted one.
    """

    findings: tuple[Finding, ...]
    entries: int = 0
    unattested: int = 0
    pcrs: Mapping[int, str] = field(default_factory=dict)
    attested: Mapping[int, int] = field(default_factory=dict)
    containers: Mapping[str, Container] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    state: State | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing but informative findings was found."""
        return all(finding.informative for finding in self.findings)

    @property
    def judgement(self) -> Judgement:
        return _judge(self.findings)

    def container_judgement(self, key: str) -> Judgement:
        """Judge one container: by the evidence as a whole and its own entries; its neighbours' do not count."""
        return _judge(tuple(f for f in self.findings if f.container in {None, key}))

    def as_json(self) -> dict[str, Any]:
        """Return the object of the contract, schema 1."""
        return {
            "schema": SCHEMA,
            "verdict": self.judgement.value,
            "findings": [finding.as_json() for finding in self.findings],
            "entries": self.entries,
            "unattested": self.unattested,
            "pcrs": {str(pcr): value for pcr, value in sorted(self.pcrs.items())},
            "containers": {key: self._container_json(key, one) for key, one in self.containers.items()},
        }

    def _container_json(self, key: str, container: Container) -> dict[str, Any]:
        return {
            "verdict": self.container_judgement(key).value,
            "image": container.image,
            "image_digest": container.image_digest,
            "runtime_id": container.runtime_id,
            "parent": container.parent,
            "entries": container.entries,
            "findings": [finding.as_json() for finding in self.findings if finding.container == key],
        }


def _judge(findings: tuple[Finding, ...]) -> Judgement:
    if any(finding.kind is FindingKind.MALFORMED for finding in findings):
        return Judgement.MALFORMED
    return Judgement.TRUSTED if all(finding.informative for finding in findings) else Judgement.UNTRUSTED

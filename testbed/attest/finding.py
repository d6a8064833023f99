"""What a judge finds, and what the log says about a container. A wrong digest is a value, not an exception."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from testbed.errors import EvidenceError


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


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its word: ``1 entry``, ``2 entries``. ``several``: the plural, if it does not end in s."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as expected. ``container``: the ``seq`` of the container that it is about, as text."""

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
    """Bytes that are not as expected: an ``EvidenceError`` that can be reported as a finding."""

    kind = FindingKind.MALFORMED

    def __init__(self, where: str, expected: str, got: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.where = where
        self.expected = expected
        self.got = got

    def finding(self, where: str = "", container: str | None = None) -> Finding:
        """Return it as a finding; ``where`` goes before the location that the error names."""
        place = f"{where}: {self.where}" if where else self.where
        return Finding(kind=self.kind, where=place, expected=self.expected, got=self.got, container=container)


class UnsupportedEvidence(BadEvidence):
    """Well formed, as far as can be checked, but of a kind or version that this verifier cannot judge."""

    kind = FindingKind.UNSUPPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the attested log says of one container.

    ``runtime_id`` is read from its cgroup's path, where possible. A container in a container has no id, because the
    outer one can choose that cgroup's name. ``parent``: the ``seq`` of the container that started it, 0 for the host.
    ``image_digest``: of its image's tree, from its launch, hex; empty without a launch.
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

"""What a judge finds, and what the log says about a container. A wrong digest is a value, not an exception."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

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
    NO_MEASUREMENT = "no-measurement"
    REGISTER_RESETTABLE = "register-resettable"
    TEMPLATE_HASH = "template-hash"
    VIOLATION = "violation"
    UNATTESTED = "unattested"
    UNKNOWN_FILE = "unknown-file"
    WRONG_DIGEST = "wrong-digest"
    BAD_SIGNATURE = "bad-signature"
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
    TOO_MANY = "too-many"
    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"


INFORMATIVE = frozenset({FindingKind.UNATTESTED})
# How many findings of one kind are kept. A log can cause one with each of its entries; the others are only counted.
KEPT = 1000
# After so many in all, entries are not judged any more: to judge one takes longer than to replay it.
_ENOUGH = 50_000


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


# Findings that were counted and not kept: their number, by kind and container.
Omitted = Mapping[tuple[FindingKind, str | None], int]


@dataclass(slots=True)
class Findings:
    """The findings about entries, in order: the first ``KEPT`` of each kind and PCR, and the number of the others.

    ``full``: there are so many that further entries need not be judged.

    Which PCRs reach their quoted value is known only at the end, so a finding that depends on it is added with its PCR.
    """

    _kept: list[tuple[int | None, Finding]] = field(default_factory=list)
    _room: dict[tuple[int | None, FindingKind], int] = field(default_factory=dict)
    _omitted: Counter[tuple[int | None, FindingKind, str | None]] = field(default_factory=Counter)
    _added: int = 0
    full: bool = False

    def add(self, finding: Finding, pcr: int | None = None) -> None:
        """Add a finding; with ``pcr``, one that counts only if that PCR reaches its quoted value."""
        self._added += 1
        if self._added == _ENOUGH:
            self.full = True
            expected, got = f"fewer than {_ENOUGH} findings", "as many; the entries after them are not judged"
            self._kept.append(
                (None, Finding(kind=FindingKind.TOO_MANY, where=finding.where, expected=expected, got=got))
            )
        room = self._room.get((pcr, finding.kind), KEPT)
        if room:
            self._room[pcr, finding.kind] = room - 1
            self._kept.append((pcr, finding))
        else:
            self._omitted[pcr, finding.kind, finding.container] += 1

    def kept(self, reached: Collection[int]) -> Iterator[Finding]:
        """Yield the findings that were kept, given the PCRs that reached their quoted value."""
        return (finding for pcr, finding in self._kept if pcr is None or pcr in reached)

    def omitted(self, reached: Collection[int]) -> Omitted:
        """Return how many findings were not kept, given the PCRs that reached their quoted value."""
        numbers: Counter[tuple[FindingKind, str | None]] = Counter()
        for (pcr, kind, container), number in self._omitted.items():
            if pcr is None or pcr in reached:
                numbers[kind, container] += number
        return numbers


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
    ``image_digest``: of its image's tree, from its launch, hex; empty without a launch. ``drift``: its launch says that
    unchanged files of the image have no entries, so each file that has one is code beside the image.
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
    drift: bool = False

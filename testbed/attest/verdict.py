"""The judgement of a whole bundle: ``Verdict``, in one of the three words of ``Judgement``."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.attest.finding import INFORMATIVE, Container, Finding, FindingKind, Omitted
from testbed.attest.saved.state import State
from testbed.errors import EvidenceError

# 2: `omitted`: findings can be counted instead of listed.
SCHEMA = 2


class Judgement(enum.StrEnum):
    """The three words of the interface; ``exit_status`` is what ``testbed verify`` returns for each."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"

    @property
    def exit_status(self) -> int:
        return {Judgement.TRUSTED: 0, Judgement.UNTRUSTED: 1, Judgement.MALFORMED: EvidenceError.exit_status}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one bundle.

    ``entries``: complete entries in the log; ``unattested``: those past the quoted state.
    ``pcrs``: the values that the replay reached, hex. ``attested``: how many entries of each such PCR the quote covers.
    ``containers``: by ``seq`` as text, from attested entries only. ``notes``: what was not checked, for people.
    ``state``: where a later verification can continue; only for a trusted bundle. ``omitted``: findings that are
    counted and not in ``findings``, by kind and container.
    """

    findings: tuple[Finding, ...]
    omitted: Omitted = field(default_factory=dict)
    entries: int = 0
    unattested: int = 0
    pcrs: Mapping[int, str] = field(default_factory=dict)
    attested: Mapping[int, int] = field(default_factory=dict)
    containers: Mapping[str, Container] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    state: State | None = None

    @property
    def kinds(self) -> frozenset[FindingKind]:
        """All kinds of findings, also of those that are only counted."""
        return frozenset(kind for kind, _ in self._by_kind)

    @property
    def ok(self) -> bool:
        """Whether all findings are informative."""
        return self.kinds <= INFORMATIVE

    @property
    def judgement(self) -> Judgement:
        return _judge(self.kinds)

    def container_judgement(self, key: str) -> Judgement:
        """Judge one container: by the evidence as a whole and its own entries; not by others' entries."""
        return self.container_judgements([key])[key]

    def container_judgements(self, keys: Iterable[str]) -> dict[str, Judgement]:
        """Judge several containers at once."""
        kinds: defaultdict[str | None, set[FindingKind]] = defaultdict(set)
        for kind, container in self._by_kind:
            kinds[container].add(kind)
        return {key: _judge(kinds[None] | kinds.get(key, set())) for key in keys}

    @property
    def _by_kind(self) -> set[tuple[FindingKind, str | None]]:
        return {(finding.kind, finding.container) for finding in self.findings} | self.omitted.keys()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the interface, schema 2."""
        findings, omitted = self._of_containers()
        judgements = self.container_judgements(self.containers)
        numbers: Counter[str] = Counter()
        for (kind, _), number in self.omitted.items():
            numbers[kind.value] += number
        return {
            "schema": SCHEMA,
            "verdict": self.judgement.value,
            "findings": [finding.as_json() for finding in self.findings],
            "omitted": dict(sorted(numbers.items())),
            "entries": self.entries,
            "unattested": self.unattested,
            "pcrs": {str(pcr): value for pcr, value in sorted(self.pcrs.items())},
            "containers": {
                key: {
                    "verdict": judgements[key].value,
                    "image": container.image,
                    "image_digest": container.image_digest,
                    "drift": container.drift,
                    "runtime_id": container.runtime_id,
                    "parent": container.parent,
                    "entries": container.entries,
                    "findings": [finding.as_json() for finding in findings[key]],
                    "omitted": dict(sorted(omitted[key].items())),
                }
                for key, container in self.containers.items()
            },
            "notes": list(self.notes),
        }

    def _of_containers(self) -> tuple[defaultdict[str, list[Finding]], defaultdict[str, dict[str, int]]]:
        """Return the findings of each container, and the numbers of those that are only counted."""
        findings: defaultdict[str, list[Finding]] = defaultdict(list)
        omitted: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for finding in self.findings:
            if finding.container is not None:
                findings[finding.container].append(finding)
        for (kind, container), number in self.omitted.items():
            if container is not None:
                omitted[container][kind.value] = number
        return findings, omitted


def _judge(kinds: Collection[FindingKind]) -> Judgement:
    if FindingKind.MALFORMED in kinds:
        return Judgement.MALFORMED
    return Judgement.TRUSTED if INFORMATIVE.issuperset(kinds) else Judgement.UNTRUSTED

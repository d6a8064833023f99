"""The judgement of a whole bundle: ``Verdict``, in one of the three words of ``Judgement``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.attest.finding import Container, Finding, FindingKind
from testbed.attest.saved.state import State
from testbed.errors import EvidenceError

SCHEMA = 1


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
    ``state``: where a later verification can continue; only for a trusted bundle.
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
        """Whether all findings are informative."""
        return all(finding.informative for finding in self.findings)

    @property
    def judgement(self) -> Judgement:
        return _judge(self.findings)

    def container_judgement(self, key: str) -> Judgement:
        """Judge one container: by the evidence as a whole and its own entries; not by others' entries."""
        return _judge(tuple(f for f in self.findings if f.container in {None, key}))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the interface, schema 1."""
        return {
            "schema": SCHEMA,
            "verdict": self.judgement.value,
            "findings": [finding.as_json() for finding in self.findings],
            "entries": self.entries,
            "unattested": self.unattested,
            "pcrs": {str(pcr): value for pcr, value in sorted(self.pcrs.items())},
            "containers": {key: self._container_json(key, container) for key, container in self.containers.items()},
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

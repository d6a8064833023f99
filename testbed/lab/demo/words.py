"""A verdict in plain words: what each kind of finding means to somebody who has not read docs/verify.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from testbed.attest.finding import Finding, FindingKind, counted
from testbed.attest.verdict import Verdict

# Of a trusted verdict by a policy that lists the image's files and requires the measurer.
GOOD = (
    "The quote is signed by this machine's TPM and answers the nonce that was just made.",
    "The log leads to exactly the PCR values that were signed: no entry is missing, added or changed.",
    "Each file that ran in a container is a file of its image, with the content that it has in the image.",
)
MEANS: Mapping[FindingKind, str] = {
    FindingKind.VIOLATION: "A file was opened for writing while containers were running code from it.",
    FindingKind.WRONG_DIGEST: "A container ran a file whose content differs from that in its image.",
    FindingKind.UNKNOWN_FILE: "Something ran that the policy does not list.",
    FindingKind.REPLAY_MISMATCH: "The entries of the log do not lead to the PCR value that the TPM signed.",
    FindingKind.LOG_MISSING: "A PCR was extended, and the log has no entry for it.",
    FindingKind.NO_MEASUREMENT: "No entry that the TPM vouches for shows that the measurer was there.",
    FindingKind.UNKNOWN_WINDOW: "For a part of the time nothing shows that the measurer was attached.",
    FindingKind.QUOTE_NONCE: "The quote does not answer the nonce that was asked for.",
    FindingKind.QUOTE_SIGNATURE: "The quote is not signed by this machine's TPM.",
    FindingKind.MALFORMED: "The evidence cannot be read.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """All findings of one kind: what they mean, how many there are, and the last one as the verifier wrote it."""

    kind: FindingKind
    means: str
    count: int
    example: Finding | None

    @property
    def title(self) -> str:
        """The kind, and how often it was found if that was more than once."""
        return self.kind.value if self.count == 1 else f"{self.kind.value} ({self.count})"


def reasons(verdict: Verdict) -> tuple[Reason, ...]:
    """Return why a verdict is not trusted, in the order in which the verifier found it. Nothing if it is trusted."""
    numbers: Counter[FindingKind] = Counter(finding.kind for finding in verdict.findings if not finding.informative)
    for (kind, _), number in verdict.omitted.items():
        numbers[kind] += number
    last = {finding.kind: finding for finding in verdict.findings}
    return tuple(
        Reason(
            kind=kind, means=MEANS.get(kind, "The evidence is not as expected."), count=count, example=last.get(kind)
        )
        for kind, count in numbers.items()
    )


def why(verdict: Verdict, result: str = "") -> str:
    """Return in one text why the verdict is as it is, after what came of an act."""
    means = [reason.means for reason in reasons(verdict)] or ["The log leads to the signed PCR values."]
    return " ".join([result, *means] if result else means)


def extent(verdict: Verdict) -> tuple[str, ...]:
    """Return how much of the log the quote covers, and the verdict about each container in that part."""
    covered = sum(verdict.attested.values())
    judgements = verdict.container_judgements(verdict.containers)
    return (
        f"log: {counted(verdict.entries, 'entry', 'entries')}, of which the quote covers {covered}",
        *(
            f"container {key} ({(container.runtime_id or 'no id')[:12]}): {judgements[key]}, "
            f"{counted(container.entries, 'entry', 'entries')}"
            for key, container in verdict.containers.items()
        ),
    )


def kinds(verdict: Verdict) -> str:
    """Return the verdict with the kinds of its findings, on one line."""
    found = ", ".join(reason.kind for reason in reasons(verdict))
    return f"{verdict.judgement} ({found})" if found else f"{verdict.judgement}"

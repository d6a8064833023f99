"""What an attack on evidence is: what it is made from, what it makes, and what the verifier must report."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from testbed.attest.log.ima import Entry
from testbed.attest.quote import Attest, Signature

# Not a kind of finding: the verifier's own argument (a policy, a state) must be refused, exit status 2.
REFUSED = "refused"
FILES = ("bundle.json", "quote.attest", "quote.sig", "ima.bin")
IMA_PCR, CONTAINER_PCR = 10, 11


class Power(enum.StrEnum):
    """What the attacker has.

    ``files``: the evidence in transit, without key and TPM. ``root``: the machine; it can have the TPM do whatever a
    TPM does. It does not have the private part of the attestation key, so it cannot sign a forged TPMS_ATTEST.
    """

    FILES = "files"
    ROOT = "root"


class Odd(enum.Enum):
    """What may lie where a plain file should."""

    FIFO = "FIFO"
    DIRECTORY = "directory"
    HUGE = "a sparse file of 2 GiB and one byte"


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link where a plain file should be."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """Evidence that the verifier trusts, taken apart. ``values`` and ``attested`` (entries): by PCR, as quoted."""

    files: Mapping[str, bytes]
    entries: tuple[Entry, ...]
    attest: Attest
    signature: Signature
    ak: bytes
    nonce: bytes
    pcrs: str
    values: Mapping[int, bytes]
    attested: Mapping[int, int]

    def places(self, pcr: int) -> list[int]:
        """Return the indices in ``entries`` of the attested ones of a PCR."""
        every = [index for index, entry in enumerate(self.entries) if entry.pcr == pcr]
        return every[: self.attested.get(pcr, 0)]

    def covered(self) -> list[Entry]:
        """Return what the quote covers, in the order of the log."""
        return [self.entries[index] for index in sorted(self.covered_places())]

    def covered_places(self) -> set[int]:
        """Return the indices in ``entries`` of all that are attested."""
        return {index for pcr in self.attested for index in self.places(pcr)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """Files for a verifier, and the arguments that it would be called with, as in ``verify``.

    ``policy``: bytes of a policy file. ``since``: the evidence after whose verification the state was saved.
    """

    files: Mapping[str, bytes | Odd | Link]
    ak: bytes
    nonce: bytes
    pcrs: str
    ak_parent: bytes | None = None
    policy: bytes | None = None
    since: Forged | None = None
    recheck: bool = False
    starts: Mapping[int, bytes] = field(default_factory=dict)
    padded_sha1: bool = False
    firmware: int | None = None
    ima_pcr: int = IMA_PCR
    log_digest: str | None = None
    resettable: Mapping[int, str] = field(default_factory=dict)
    rejudge: bool = False


def always(_: Honest) -> str | None:
    """Return no reason: the attack applies to any evidence."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceAttack:
    """One attack. ``catalogue``: its row there.

    ``expect``: exactly the expected kinds of findings; empty where nothing can be detected, so nothing may be reported.
    ``unattested``, which is informative, counts only where it is expected. ``applies`` says why the attack cannot be
    made from some evidence.
    """

    name: str
    catalogue: str
    summary: str
    power: Power
    expect: frozenset[str]
    forge: Callable[[Honest], Forged]
    applies: Callable[[Honest], str | None] = always


def by_files(
    name: str,
    catalogue: str,
    summary: str,
    forge: Callable[[Honest], Forged],
    *expect: str,
    applies: Callable[[Honest], str | None] = always,
) -> EvidenceAttack:
    """Return a row for an attacker who can rewrite the files."""
    return EvidenceAttack(
        name=name,
        catalogue=catalogue,
        summary=summary,
        power=Power.FILES,
        expect=frozenset(map(str, expect)),
        forge=forge,
        applies=applies,
    )


def by_root(
    name: str,
    catalogue: str,
    summary: str,
    forge: Callable[[Honest], Forged],
    *expect: str,
    applies: Callable[[Honest], str | None],
) -> EvidenceAttack:
    """Return a row for root of the machine, whose TPM quotes what is there."""
    return replace(by_files(name, catalogue, summary, forge, *expect, applies=applies), power=Power.ROOT)

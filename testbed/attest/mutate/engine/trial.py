"""Make an attack's evidence from an honest bundle, let the verifier judge it, and compare the findings."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.log.ima import read_entries
from testbed.attest.mutate.engine.model import FILES, REFUSED, EvidenceAttack, Forged, Honest, Link, Odd
from testbed.attest.mutate.engine.standin import extended
from testbed.attest.policy.reference import parse_policy
from testbed.attest.quote import parse_attest, parse_signature
from testbed.attest.rivals import verifiers
from testbed.attest.saved.state import State
from testbed.attest.verdict import Judgement, Verdict
from testbed.attest.verify import DEFAULT_PCRS, verify
from testbed.errors import EvidenceError, SpecError

# The opinions of other verifiers about the same files, by name.
Rivals = Callable[[Path, Forged], Mapping[str, str]]
_UNATTESTED = frozenset({FindingKind.UNATTESTED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackOutcome:
    """One attack and its result. ``got``: kinds of findings; ``skipped``: why it could not be made, or nothing.

    ``rivals``: the opinion of each other verifier about the same files, by name.
    """

    attack: EvidenceAttack
    got: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    skipped: str = ""
    rivals: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the findings are exactly the expected ones. ``unattested`` counts only where it is expected."""
        expect = self.attack.expect
        return bool(self.skipped) or (self.got - _UNATTESTED == expect - _UNATTESTED and expect <= self.got)


def read_honest(directory: Path, *, ak: bytes, nonce: bytes, pcrs: str = DEFAULT_PCRS) -> Honest:
    """Read evidence to attack.

    Raises ``SpecError`` if it is not trusted, because an attack on it would show nothing. Raises ``EvidenceError`` if
    it is malformed, or if the verifier trusts it although the attested entries do not lead to the quoted values. The
    reason: a verifier that treats too few entries as attested would leave nothing to attack, and pass.
    """
    verdict = verify(directory, ak=ak, nonce=nonce, pcrs=pcrs)
    if not verdict.ok:
        first = next(finding for finding in verdict.findings if not finding.informative)
        got = f"{verdict.judgement}: {first.kind} at {first.where}"
        hint = "give the key and the nonce of this bundle; `testbed verify` shows all findings"
        error = EvidenceError if verdict.judgement is Judgement.MALFORMED else SpecError
        raise error(f"{directory}: expected evidence that is trusted before an attack, got {got}", hint)
    files = {name: (directory / name).read_bytes() for name in FILES}
    attest = parse_attest(files["quote.attest"])
    assert attest is not None
    honest = Honest(
        files=files,
        entries=tuple(_whole_entries(files["ima.bin"])),
        attest=attest,
        signature=parse_signature(files["quote.sig"]),
        ak=ak,
        nonce=nonce,
        pcrs=pcrs,
        values={pcr: bytes.fromhex(value) for pcr, value in verdict.pcrs.items()},
        attested=verdict.attested,
    )
    _check_quoted(directory, honest)
    return honest


def _check_quoted(directory: Path, honest: Honest) -> None:
    """Replay what the verifier calls attested, by code other than the verifier's."""
    bank, _, _ = honest.pcrs.partition(":")
    together = b"".join(extended(honest.covered(), pcr, bank) for pcr in sorted(honest.attested))
    digest = hashlib.new(honest.signature.hash_alg, together).digest()
    if digest != honest.attest.digest:
        said = ", ".join(f"{count} of PCR {pcr}" for pcr, count in sorted(honest.attested.items())) or "none"
        expected = f"entries that lead to the quoted {honest.attest.digest.hex()}"
        hint = "this verifier has a fault: its results for attacks mean nothing"
        raise EvidenceError(f"{directory}: attested entries: expected {expected}, got {said}", hint)


def judge(forged: Forged, directory: Path) -> Verdict:
    """Write the forged evidence into a new directory and judge it. Raises ``SpecError`` as ``verify`` does."""
    write_files(forged, directory)
    before = directory.with_name(f"{directory.name}-before")
    return verify(directory, ak=forged.ak, nonce=forged.nonce, pcrs=forged.pcrs, **arguments(forged, before))


def arguments(forged: Forged, scratch: Path) -> dict[str, Any]:
    """Return further arguments of ``verify`` (not key, nonce, PCRs). Raises ``SpecError`` for those to be rejected."""
    given: dict[str, Any] = {
        name: getattr(forged, name)
        for name in (
            *("ak_parent", "starts", "padded_sha1", "firmware", "ima_pcr", "resettable"),
            *("recheck", "rejudge", "log_digest"),
        )
    }
    if forged.policy is not None:
        given["policy"] = parse_policy(forged.policy, "policy.json")
    if forged.since is not None:
        given["since"] = saved_state(forged.since, scratch)
    return given


def saved_state(first: Forged, scratch: Path) -> State:
    """Return the state that is saved after ``first`` was verified, below a directory that does not exist yet."""
    state = judge(first, scratch).state
    assert state is not None, "an attack on a saved state begins with evidence that is trusted"
    return state


def strike(attack: EvidenceAttack, honest: Honest, directory: Path, ask: Rivals | None = None) -> AttackOutcome:
    """Forge, judge and compare, in a directory that does not exist yet."""
    if reason := attack.applies(honest):
        return AttackOutcome(attack=attack, skipped=reason)
    forged = attack.forge(honest)
    try:
        findings = judge(forged, directory).findings
    except SpecError:
        kinds, findings = frozenset({REFUSED}), ()
    else:
        kinds = frozenset(finding.kind.value for finding in findings)
    # If the verifier rejects its own argument, there is nothing that others could judge.
    opinions = ask(directory, forged) if ask is not None and REFUSED not in kinds else {}
    return AttackOutcome(attack=attack, got=kinds, findings=findings, rivals=opinions)


def matrix(
    directory: Path,
    attacks: Sequence[EvidenceAttack],
    *,
    ak: bytes,
    nonce: bytes,
    pcrs: str = DEFAULT_PCRS,
    ask: Rivals | None = None,
    advance: Callable[[AttackOutcome], None] = lambda _: None,
) -> list[AttackOutcome]:
    """Make each attack out of the evidence in ``directory`` and judge it; ``advance`` is called after each.

    No files remain, even after an interrupt. Raises ``SpecError`` for wrong arguments or evidence that is not
    trusted to begin with, ``EvidenceError`` if that is malformed.
    """
    honest = read_honest(directory, ak=ak, nonce=nonce, pcrs=pcrs)
    rows = []
    for attack in attacks:
        with tempfile.TemporaryDirectory(prefix="testbed-audit-") as scratch:
            row = strike(attack, honest, Path(scratch) / "bundle", ask)
        rows.append(row)
        advance(row)
    return rows


def ask_rivals(names: Sequence[str]) -> Rivals:
    """Return what asks these other verifiers (``verifiers.available``).

    They are not asked about anything but plain files: on a FIFO they would wait, and on a device they could fill the
    disk. They are not asked either where only an argument of this verifier is wrong.
    """

    def ask(directory: Path, forged: Forged) -> Mapping[str, str]:
        if forged.policy is not None or forged.since is not None:
            return {}
        if any(isinstance(file, Odd | Link) for file in forged.files.values()):
            return dict.fromkeys(names, verifiers.Says.CANNOT.value)
        return {
            name: verifiers.judge(name, directory, ak=forged.ak, nonce=forged.nonce, pcrs=forged.pcrs).verdict.value
            for name in names
        }

    return ask


def write_files(forged: Forged, directory: Path) -> None:
    """Write the bundle's files, or what replaces them."""
    directory.mkdir(parents=True)
    for name, content in forged.files.items():
        path = directory / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        elif content is Odd.FIFO:
            os.mkfifo(path)
        elif content is Odd.HUGE:
            path.touch()
            os.truncate(path, (1 << 31) + 1)
        else:
            path.mkdir()


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Yield a directory that is renamed to ``target`` once complete. Raises ``SpecError`` if ``target`` exists."""
    if os.path.lexists(target):
        raise SpecError(f"{target}: expected no such file or directory yet, got one", "name a new directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name[:32]}.", dir=target.parent))
    try:
        yield scratch / "new"
        (scratch / "new").rename(target)
    finally:
        shutil.rmtree(scratch)


def _whole_entries(log: bytes) -> Iterator[Any]:
    """Yield the entries; a tail that cannot be parsed is not evidence and takes no part in an attack."""
    try:
        yield from read_entries(log)
    except BadEvidence:
        return

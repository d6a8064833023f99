"""Judge one run by what lies in its campaign: its evidence against the nonce, then its log against ground truth."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from testbed import plugins
from testbed.analysis.judged.checks import Judge, Judged, absent
from testbed.attest import observed, truth
from testbed.attest.finding import BadEvidence, Finding, FindingKind
from testbed.attest.image import ground_truth
from testbed.attest.quote import parse_nonce
from testbed.attest.verdict import Verdict
from testbed.attest.verify import attested_entries, verify
from testbed.errors import TestbedError
from testbed.measurers import LAUNCHING, Claimed, Executed, Launched, Measurer, Ran
from testbed.plan import Cell
from testbed.record import Record
from testbed.rundir import Campaign, bundle_of

# The file is not what it should be. Any other error is of this machine, and no finding.
_ABSENT = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
# Of an image, a workload and the container's role in it.
Executions = Callable[[str, str, int], frozenset[Executed]]
# Of the same: the digest of the image's tree, and the arguments that the first program finds.
Launches = Callable[[str, str, int], tuple[str, tuple[str, ...]]]


def judge_of(campaign: Campaign) -> Judge:
    """Return the judge of this campaign's runs. It reads each image once; the archives are beside the runs."""

    @functools.cache
    def digest(image: str) -> str:
        return archive_digest(campaign.image_path(image))

    @functools.cache
    def executions(image: str, workload: str, role: int) -> frozenset[Executed]:
        programs = plugins.workload(workload).roles[role].executes
        return ground_truth.executed(campaign.image_path(image), "", programs, verity=True)

    @functools.cache
    def tree(image: str) -> str:
        return ground_truth.image_tree(campaign.image_path(image))

    @functools.cache
    def launch(image: str, workload: str, role: int) -> tuple[str, tuple[str, ...]]:
        argv = plugins.workload(workload).roles[role].argv
        return tree(image), ground_truth.arguments(campaign.image_path(image), argv)

    def judge(cell: Cell, path: Path, record: Record) -> Judged:
        measurer = plugins.measurer(cell.measurer)
        verdict = authentic(path, record)
        executed: frozenset[Executed] = frozenset()
        launched: frozenset[Launched] = frozenset()
        if measurer.promises:
            try:
                _same_images(record, digest)
                executed = executed_of(record, executions)
                if measurer.mode in LAUNCHING:
                    launched = launched_of(record, launch)
            except TestbedError as error:
                return Judged(verdict=_with(verdict, [_no_truth(error)]), promises=True)
        ran: frozenset[Ran] = executed | launched
        claimed = measurer.claim(ran)
        return Judged(
            verdict=_with(verdict, truthful(path, record, verdict, claimed, executed, measurer=measurer)),
            promises=measurer.promises,
            promised=len(claimed),
        )

    return judge


def archive_digest(archive: Path) -> str:
    """Return the digest of the one manifest in an OCI archive, as its index says it.

    Raises ``BadEvidence``. ``ground_truth.executed`` checks the manifest and its layers against it.
    """
    try:
        with tarfile.open(archive, "r:") as outer:
            file = outer.extractfile("index.json")
            (manifest,) = json.loads(file.read() if file else b"")["manifests"]
            return str(manifest["digest"])
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _ABSENT:
            raise
        raise BadEvidence(f"images/{archive.name}", "an OCI archive of one image", str(error)) from error


def authentic(path: Path, record: Record) -> Verdict:
    """Verify a run's evidence; what was not collected is malformed, never a pass.

    Raises ``PermissionError`` if this user may not read it: that says nothing about the evidence.
    """
    evidence, nonce = record.evidence, record.facts.get("nonce")
    bundle = bundle_of(path, record)
    if bundle is None:
        return absent(str(evidence.bundle or "evidence"), "an evidence bundle")
    if not evidence.ak or not (path / evidence.ak).is_file():
        return absent(str(evidence.ak or "the attestation key"), "the public attestation key")
    if not isinstance(nonce, str):
        return absent("record.json: facts.nonce", "the nonce that was sent")
    for file in (path / evidence.ak, *bundle.iterdir()):
        _may_read(file)
    try:
        return verify(bundle, ak=(path / evidence.ak).read_bytes(), nonce=parse_nonce(nonce))
    except TestbedError as error:
        # A key or a nonce that cannot be read is an argument's fault on the command line; here it is the record's.
        where = f"{evidence.ak}, record.json: facts.nonce"
        finding = Finding(kind=FindingKind.MALFORMED, where=where, expected="a key and a nonce", got=error.message)
        return Verdict(findings=(finding,))


def _may_read(path: Path) -> None:
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def executed_of(record: Record, executions: Executions) -> frozenset[Executed]:
    """Return what ran in the containers that the harness started. Raises ``BuildError`` if the image cannot say."""
    if not record.containers:
        raise BadEvidence("record.json: containers", "the containers that ran", "none")
    return frozenset(
        dataclasses.replace(execution, container=started.id, verity=execution.verity if record.with_verity else "")
        for started in record.containers
        for execution in executions(started.image, started.workload, started.role)
    )


def launched_of(record: Record, launch: Launches) -> frozenset[Launched]:
    """Return how the containers that the harness started began. Raises ``BuildError`` if an image cannot be read."""
    begun = ((started.id, *launch(started.image, started.workload, started.role)) for started in record.containers)
    return frozenset(Launched(container=name, image=tree, argv=argv) for name, tree, argv in begun)


def truthful(
    path: Path,
    record: Record,
    verdict: Verdict,
    claimed: frozenset[Claimed],
    executed: frozenset[Executed],
    *,
    measurer: Measurer,
) -> list[Finding]:
    """Compare the attested entries, and the measurer's own log if it has one, with the claims.

    Claims on a PCR whose value the log does not lead to are not looked up: why it does not is found already, and what
    that log says of them is no evidence.
    """
    if verdict.attested or verdict.ok:
        reached = claimed if verdict.ok else frozenset(claim for claim in claimed if claim.pcr in verdict.attested)
        try:
            entries = list(attested_entries(path / str(record.evidence.bundle), verdict))
            foreign = observed.observe_foreign(measurer, entries, _own_log(path, record))
        except BadEvidence as error:
            return [error.finding()]
        return truth.compare(entries, reached, verdict.containers, executed, foreign=foreign)
    return []


def _own_log(path: Path, record: Record) -> bytes:
    name = record.evidence.measurer_log
    try:
        return (path / name).read_bytes() if name else b""
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        raise BadEvidence(str(name), "the measurer's own log", str(error)) from error


def _same_images(record: Record, digest: Callable[[str], str]) -> None:
    """Raise ``BadEvidence`` if an archive is not the image that ran: its files would be no ground truth."""
    images = record.facts.get("images") or {}
    for image in sorted({started.image for started in record.containers}):
        ran, here = str(images.get(image, "not stated in the record")), digest(image)
        if ran.rpartition("@")[2] != here:
            raise BadEvidence(f"images/{image}.oci.tar", f"the image that ran, {ran}", here)


def _no_truth(error: TestbedError) -> Finding:
    if isinstance(error, BadEvidence):
        return Finding(kind=FindingKind.UNSUPPORTED, where=error.where, expected=error.expected, got=error.got)
    expected = "the files that ran, to compare the log with"
    return Finding(kind=FindingKind.UNSUPPORTED, where="ground truth", expected=expected, got=error.message)


def _with(verdict: Verdict, findings: list[Finding]) -> Verdict:
    return dataclasses.replace(verdict, findings=(*verdict.findings, *findings))

"""Logs of live containers: a run's evidence, decoded, with what each entry binds by the rule that made its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.analysis.judged import judging
from testbed.analysis.paper.slides import Pick
from testbed.attest.decoded.decode import FILE, DecodedEntry, decode_bundle
from testbed.attest.entries.parse import PREFIX
from testbed.attest.finding import INFORMATIVE, BadEvidence
from testbed.attest.log.rules import Measured, Rule, infer, is_namespaced
from testbed.attest.verdict import Judgement
from testbed.plan import Cell
from testbed.record import Record, Status
from testbed.rundir import LoadedCampaign, bundle_of

IMA_PCR, MEASURER_PCR = 10, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEntry:
    """One entry and what it binds.

    ``rule``: by which its digest was made; for entries of this project's measurer their kind. ``bits``: of the content,
    ``None`` if that is not known. ``namespaced``: whether it names a container or a namespace; ``bound``: whether its
    digest binds that.
    """

    entry: DecodedEntry
    rule: str
    bits: int | None
    namespaced: bool
    bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLog:
    """The log of one run of ``measurer`` with the verdict on it: ``kinds`` are those of its findings that count."""

    run: str
    measurer: str
    workload: str
    containers: int
    judgement: Judgement
    kinds: tuple[str, ...]
    entries: tuple[LiveEntry, ...]

    @property
    def measured(self) -> tuple[LiveEntry, ...]:
        """The entries on PCR 11, which the measurer made."""
        return tuple(one for one in self.entries if one.entry.pcr == MEASURER_PCR)

    def picked(self, pick: Pick, most: int) -> tuple[LiveEntry, ...]:
        """Return the entries that stand beside a listing, at most so many."""
        if pick is Pick.LAST:
            return self.entries[-most:]
        if pick is Pick.MEASURER:
            return self.measured[:most]
        return self._of_one_container()[:most]

    def _of_one_container(self) -> tuple[LiveEntry, ...]:
        """Return what the log says of its first container, and the entry of the image before it, if there is one."""
        first = next((one.entry.container for one in self.measured if one.entry.container is not None), None)
        images = tuple(one for one in self.measured if one.entry.kind == f"{PREFIX.decode()}image")[:1]
        mine = tuple(one for one in self.measured if first is not None and one.entry.container == first)
        return tuple(sorted((*images, *mine), key=lambda one: one.entry.number))


def logs(loaded: LoadedCampaign) -> dict[str, LiveLog]:
    """Return the log of one run of each measurer: of the good ones with evidence here, the first by its name.

    Raises ``BadEvidence`` if the log of a run that was verified cannot be decoded.
    """
    found: dict[str, LiveLog] = {}
    for path, record in loaded.current:
        cell = loaded.cells.get(record.cell_id)
        if cell is None or cell.measurer in found or record.status is not Status.OK or cell.attack != "none":
            continue
        if (bundle := bundle_of(path, record)) is not None:
            found[cell.measurer] = _log(path, bundle, record, cell)
    return found


def _log(path: Path, bundle: Path, record: Record, cell: Cell) -> LiveLog:
    verdict = judging.authentic(path, record)
    # Evidence that is malformed before its log cannot be decoded. The claims then say that it cannot be judged.
    try:
        decoded = tuple(decode_bundle(bundle, verdict.attested))
    except BadEvidence:
        decoded = ()
    known = _plain(decoded)
    return LiveLog(
        run=path.name,
        measurer=cell.measurer,
        workload=cell.workload,
        containers=len(record.containers),
        judgement=verdict.judgement,
        kinds=tuple(sorted(str(kind) for kind in verdict.kinds - INFORMATIVE)),
        entries=tuple(_entry(entry, known) for entry in decoded),
    )


def _plain(entries: tuple[DecodedEntry, ...]) -> dict[bytes, list[bytes]]:
    known: dict[bytes, list[bytes]] = {}
    for entry in entries:
        if entry.kind == FILE and entry.pcr == IMA_PCR:
            known.setdefault(entry.name.encode(), []).append(bytes.fromhex(entry.digest))
    return known


def _entry(entry: DecodedEntry, known: Mapping[bytes, list[bytes]]) -> LiveEntry:
    if entry.kind.startswith(PREFIX.decode()):
        # The digest of such an entry is that of its whole payload, which the judge of entries has checked.
        named = entry.container is not None
        return LiveEntry(entry=entry, rule=entry.kind, bits=4 * len(entry.digest), namespaced=named, bound=named)
    name = entry.name.encode()
    if entry.kind != FILE:
        return LiveEntry(entry=entry, rule=entry.kind, bits=None, namespaced=False, bound=False)
    digest = bytes.fromhex(entry.digest)
    measured = Measured(where="", pcr=entry.pcr, name=name, algorithm=entry.algorithm, digest=digest)
    inferred = infer(measured, known)
    # A name that no rule reads as namespaced is a plain file, whatever the PCR.
    named = is_namespaced(name)
    bits = inferred.bits if inferred.rule is not Rule.UNKNOWN else None
    return LiveEntry(entry=entry, rule=inferred.rule.value, bits=bits, namespaced=named, bound=inferred.namespace_bound)

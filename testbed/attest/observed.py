"""What the entries of a log, and of a foreign measurer's own log, say about containers and files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from testbed.attest.entries import parse as payloads
from testbed.attest.entries.launch import ARGS_CUT, NO_RUNTIME
from testbed.attest.finding import BadEvidence, Container
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry
from testbed.measurers import ForeignLog, LogEntry, Measurer, Seen, What, arguments_text
from testbed.measurers._verity import VERITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A file, an image or a launch that an entry is about, as a measurer reports it.

    ``digest``: of its content, as a claim has it; ``bound``: the entry's own digest, hex. ``container``: the runtime's
    id, or ``seq N`` where the cgroup's path has none; ``None`` where the entry has none. ``seq``: only in entries of
    this project's measurer. ``pcr``: ``None`` for a line that no PCR vouches for. ``lacks``: what a launch must contain
    and does not.
    """

    where: str
    pcr: int | None
    container: str | None
    seq: str | None
    path: str
    digest: str
    bound: str
    what: What = What.FILE
    lacks: str = ""

    @property
    def one_to_one(self) -> bool:
        """Whether each entry must be claimed: its measurer distinguishes containers, and logs nothing else."""
        return self.container is not None or self.what is not What.FILE


def observe(entries: Iterable[Entry], containers: Mapping[str, Container]) -> Iterator[Observed]:
    """Yield what each entry is about: a file, image or launch. ``verify`` has reported entries that cannot be read."""
    for entry in entries:
        try:
            seen = None if entry.violation else _observed(entry, containers)
        except BadEvidence:
            continue
        if seen is not None:
            yield seen


def observe_foreign(measurer: Measurer, entries: Iterable[Entry], own: bytes) -> tuple[Observed, ...]:
    """Return what a measurer with its own ``observe`` recorded; nothing for other measurers.

    ``entries``: the attested entries of the IMA log; ``own``: the measurer's own log.

    Raises ``BadEvidence`` if its ``observe`` cannot read them.
    """
    if measurer.observe is None:
        return ()
    log = ForeignLog(entries=tuple(_log_entries(entries)), own=own)
    try:
        return tuple(_foreign(said) for said in measurer.observe(log))
    except (ValueError, LookupError) as error:
        raise BadEvidence(f"measurer {measurer.name}: observe", "a log that it can read", repr(error)) from error


def _log_entries(entries: Iterable[Entry]) -> Iterator[LogEntry]:
    for entry in entries:
        if entry.violation:
            continue
        try:
            fields = parse_fields(entry)
        except BadEvidence:
            continue
        yield LogEntry(where=entry.where, pcr=entry.pcr, name=fields.name, digest=fields.digest, buf=fields.buf)


def _observed(entry: Entry, containers: Mapping[str, Container]) -> Observed | None:
    fields = parse_fields(entry)
    bound = fields.digest.hex()
    if fields.of_file:
        path = os.fsdecode(fields.name)
        where = entry.where
        return Observed(where=where, pcr=entry.pcr, container=None, seq=None, path=path, digest=bound, bound=bound)
    payload = payloads.parse_payload(fields.name, fields.buf or b"")
    observed = partial(Observed, where=entry.where, pcr=entry.pcr, bound=bound)
    if isinstance(payload, payloads.ImageEntry):
        return observed(container=None, seq=None, path="", digest=payload.digest.hex(), what=What.IMAGE)
    if not isinstance(payload, payloads.FileEntry | payloads.LaunchEntry):
        return None
    seq = str(payload.container.seq)
    known = containers.get(seq)
    name = known.runtime_id if known is not None and known.runtime_id is not None else f"seq {seq}"
    if isinstance(payload, payloads.FileEntry):
        path, digest = os.fsdecode(payload.path), payload.digest.hex()
        content = VERITY + digest if payload.verity else digest
        return observed(container=name, seq=seq, path=path, digest=content)
    text = arguments_text(payload.arguments, cut_of=payload.args if payload.flags & ARGS_CUT else None)
    lacks = "the digest of the program that executed it" if payload.flags & NO_RUNTIME else ""
    return observed(container=name, seq=seq, path=text, digest=payload.image.hex(), what=What.LAUNCH, lacks=lacks)


def _foreign(said: Seen) -> Observed:
    return Observed(
        where=said.where,
        pcr=said.pcr,
        container=said.container,
        seq=None,
        path=said.path,
        digest=said.digest,
        bound=said.digest,
    )

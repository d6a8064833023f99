"""A log entry by entry for people: what each one says, whether the quote covers it, and what its PCR then holds.

Nothing here judges: ``verify`` does. All text comes from the attested machine, so a reader that shows it must escape it
for its own medium; control characters are escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.attest.bundle import log_format, open_log, read_bundle
from testbed.attest.decoded.as_text import escaped, payload_text, summary
from testbed.attest.entries.parse import PREFIX, parse_payload
from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import HASHES
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import BOOT_AGGREGATES, Entry, extension
from testbed.attest.registers import PCRS, pcr_register
from testbed.attest.walk import log_entries

FILE, BOOT, VIOLATION, BUFFER, UNREADABLE = "file", "boot aggregate", "violation", "buffer", "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedEntry:
    """One entry of an IMA log.

    ``number``: from 1; ``offset``: byte of the log. ``kind``: ``file``, ``boot aggregate``, ``violation``, ``buffer``,
    ``unreadable``, or the name of an entry of this project's measurer (``ctr-file``...). ``name``: the field ``n-ng``.
    ``algorithm``, ``digest``: what the entry binds, hex; ``template_digest``: as logged, hex.

    ``container``: its ``seq`` as text, ``None`` for none. ``says``: the entry in one line. ``fields``: further fields.
    ``attested``: whether the quote covers it, ``None`` if there is no verdict. ``extension``: what its PCR is extended
    with, ``value``: what that PCR holds afterwards, both hex in ``bank``; empty for a PCR that no TPM has.
    """

    number: int
    offset: int
    pcr: int
    template: str
    template_digest: str
    kind: str
    name: str
    algorithm: str
    digest: str
    says: str
    bank: str
    extension: str
    value: str
    container: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    attested: bool | None = None


def decode_bundle(
    directory: Path,
    attested: Mapping[int, int] | None = None,
    *,
    bank: str = "sha256",
    starts: Mapping[int, bytes] | None = None,
    padded_sha1: bool = False,
) -> Iterator[DecodedEntry]:
    """Yield the entries of a bundle's log.

    ``attested``: how many entries of each PCR the quote covers (``Verdict.attested``). ``starts``: what PCRs held
    before the first entry, where it is not the value after a start of the machine. Raises ``BadEvidence`` for a log
    that cannot be read, after the entries before that place.
    """
    claim = read_bundle(directory).log
    with open_log(directory, claim.offset, log_format(claim, None, None)) as log:
        yield from decode(log_entries(log, claim.offset), attested, bank=bank, starts=starts, padded_sha1=padded_sha1)


def decode(
    entries: Iterable[Entry],
    attested: Mapping[int, int] | None = None,
    *,
    bank: str = "sha256",
    starts: Mapping[int, bytes] | None = None,
    padded_sha1: bool = False,
) -> Iterator[DecodedEntry]:
    """Decode entries in the order of their log; see ``decode_bundle``."""
    left = dict(attested or {})
    values = {pcr: pcr_register(pcr, bank).start for pcr in range(PCRS)} | dict(starts or {})
    for entry in entries:
        extended = b""
        if entry.pcr in values:
            extended = extension(entry, bank, padded=padded_sha1)
            values[entry.pcr] = HASHES[bank](values[entry.pcr] + extended).digest()
        covered = None if attested is None else left.get(entry.pcr, 0) > 0
        if covered:
            left[entry.pcr] -= 1
        yield _decoded(entry, bank, extended.hex(), values.get(entry.pcr, b"").hex(), attested=covered)


def _decoded(entry: Entry, bank: str, extended: str, value: str, *, attested: bool | None) -> DecodedEntry:
    kind, name, algorithm, digest, container = UNREADABLE, "", "", "", None
    said: tuple[tuple[str, str], ...] = ()
    try:
        fields = parse_fields(entry)
        name, algorithm, digest = escaped(fields.name), fields.algorithm, fields.digest.hex()
        kind, says = _kind(entry, fields), name
        if kind == name:
            payload = parse_payload(fields.name, fields.buf or b"")
            says, said = summary(payload), payload_text(payload)
            who = getattr(payload, "container", None)
            container = None if who is None else f"{who.seq}"
            if who is not None:
                said = (*((key, f"{number}") for key, number in who._asdict().items()), *said)
        else:
            said = _others(fields)
    except BadEvidence as error:
        kind, says = VIOLATION if entry.violation else UNREADABLE, error.message
    return DecodedEntry(
        number=entry.number,
        offset=entry.offset,
        pcr=entry.pcr,
        template=entry.template.decode(errors="backslashreplace"),
        template_digest=entry.digest.hex(),
        kind=kind,
        name=name,
        algorithm=algorithm,
        digest=digest,
        says=says,
        bank=bank,
        extension=extended,
        value=value,
        container=container,
        fields=said,
        attested=attested,
    )


def _kind(entry: Entry, fields: Fields) -> str:
    """Return the kind; an entry of the measurer has its name as its kind."""
    if entry.violation:
        return VIOLATION
    if fields.buf is not None and fields.name.startswith(PREFIX):
        return escaped(fields.name)
    if fields.of_file:
        return BOOT if fields.name in BOOT_AGGREGATES else FILE
    return BUFFER


def _others(fields: Fields) -> tuple[tuple[str, str], ...]:
    shown = {"digest_type": fields.digest_type.encode()} if fields.digest_type != "ima" else {}
    texts = [(key, escaped(value)) for key, value in shown.items()]
    texts += [(key, value.hex()) for key, value in (("sig", fields.sig), ("buf", fields.buf or b"")) if value]
    return (*texts, *((key, value.hex()) for key, value in fields.others.items() if value))

"""Ground truth: what ran in a container, out of its image, and whether the log says so."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from testbed.attest import entries as payloads
from testbed.attest.archive import Image, open_image
from testbed.attest.finding import BadEvidence, Container, Finding, FindingKind
from testbed.attest.ima import Entry, parse_fields
from testbed.attest.loader import mapped_files
from testbed.measurers import ANY_NAMESPACE, Claimed, Executed

_IMA_PCR = 10  # CONFIG_IMA_MEASURE_PCR_IDX: IMA's own, which knows of no containers
_NAMESPACED = re.compile(r"(\d+):(/.*)", re.DOTALL)
_NUMBER = re.compile(r"\A\d+(?=:/|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A file that an entry speaks of. ``digest``: of its content, hex; ``bound``: the entry's own digest, hex.

    ``container``: the runtime's id, or ``seq N`` where the cgroup's path has none; ``None`` where the entry has none.
    """

    where: str
    pcr: int
    container: str | None
    seq: str | None
    path: str
    digest: str
    bound: str


def executed(archive: Path, container: str, programs: Iterable[str]) -> frozenset[Executed]:
    """Return every file whose code ran when ``container`` ran ``programs`` (absolute paths) of an OCI archive.

    Each program or script, its interpreter and the libraries that the loader would take; what they open by dlopen is
    not in their files and not here. Raises ``BuildError`` if a file is not there.
    """
    with open_image(archive) as image:
        paths = {path for program in programs for path in mapped_files(image, os.fsencode(program))}
        return frozenset(_executed(image, container, path) for path in paths)


def _executed(image: Image, container: str, path: bytes) -> Executed:
    content = image.read(b"/" + path) or b""
    digest = hashlib.sha256(content).hexdigest()
    return Executed(container=container, path=PurePosixPath("/" + os.fsdecode(path)), digest=digest, size=len(content))


def observe(entries: Iterable[Entry], containers: Mapping[str, Container]) -> Iterator[Observed]:
    """Yield the file of each entry that speaks of one. What cannot be read has been reported by ``verify``."""
    for entry in entries:
        try:
            seen = None if entry.violation else _observed(entry, containers)
        except BadEvidence:
            continue
        if seen is not None:
            yield seen


def compare(
    entries: Iterable[Entry],
    claimed: frozenset[Claimed],
    containers: Mapping[str, Container],
    executed: Collection[Executed] = (),
    former: Collection[Executed] = (),
) -> list[Finding]:
    """Compare the attested entries with what a measurer claims to have recorded.

    ``containers``: the verdict's, by ``seq``. ``executed``: the truth behind the claims, which shows two contents under
    one value. ``former``: what files held before they were changed: a claim met by that alone is stale. Entries on
    IMA's own PCR are looked up by path and digest: other processes' entries are there too.
    """
    old = {(str(one.path), one.digest) for one in former}
    observed = list(observe(entries, containers))
    findings: list[Finding] = []
    for pcr in sorted({claim.pcr for claim in claimed} | {seen.pcr for seen in observed if seen.seq is not None}):
        wanted = {claim for claim in claimed if claim.pcr == pcr}
        by_path = {claim for claim in wanted if claim.container is None}
        here = [seen for seen in observed if seen.pcr == pcr]
        findings += _compare_paths(by_path, [seen for seen in here if seen.seq is None], old)
        findings += _compare_containers(wanted - by_path, [seen for seen in here if seen.seq is not None], old)
    return [*findings, *_weak_bindings(observed, executed)]


def _observed(entry: Entry, containers: Mapping[str, Container]) -> Observed | None:
    fields = parse_fields(entry)
    bound = fields.digest.hex()
    if fields.buf is None:
        path = os.fsdecode(fields.name)
        where = entry.where
        return Observed(where=where, pcr=entry.pcr, container=None, seq=None, path=path, digest=bound, bound=bound)
    payload = payloads.parse_payload(fields.name, fields.buf)
    if not isinstance(payload, payloads.FileEntry):
        return None
    seq = str(payload.container.seq)
    known = containers.get(seq)
    name = known.runtime_id if known is not None and known.runtime_id is not None else f"seq {seq}"
    return Observed(
        where=entry.where,
        pcr=entry.pcr,
        container=name,
        seq=seq,
        path=os.fsdecode(payload.path),
        digest=payload.digest.hex(),
        bound=bound,
    )


def _compare_paths(claimed: set[Claimed], observed: list[Observed], old: set[tuple[str, str]]) -> Iterator[Finding]:
    """Look each claim up by path and digest; IMA writes a space in a path as an underscore."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for seen in observed:
        digests[seen.path].add(seen.digest)
        digests[_NUMBER.sub(ANY_NAMESPACE, seen.path, count=1)].add(seen.digest)
    for claim in _sorted(claimed):
        got = digests.get(claim.path.replace(" ", "_"), set())
        if claim.digest not in got:
            yield _unmet(claim, got, old, None)


def _compare_containers(
    claimed: set[Claimed], observed: list[Observed], old: set[tuple[str, str]]
) -> Iterator[Finding]:
    """Match claims and entries one to one by container, path and digest; then say what each that is left over means."""
    keys = {(claim.container, claim.path, claim.digest) for claim in claimed}
    got = {(seen.container, seen.path, seen.digest) for seen in observed}
    seqs = {seen.container: seen.seq for seen in observed}
    left = [seen for seen in observed if (seen.container, seen.path, seen.digest) not in keys]
    elsewhere = {(seen.path, seen.digest) for seen in left}
    for claim in _sorted(claimed):
        # What another container has instead is told below, where the entry is.
        if (claim.container, claim.path, claim.digest) in got or (claim.path, claim.digest) in elsewhere:
            continue
        others = {s.digest for s in left if (s.container, s.path) == (claim.container, claim.path)}
        yield _unmet(claim, others, old, seqs.get(claim.container))
    unmet = [claim for claim in claimed if (claim.container, claim.path, claim.digest) not in got]
    for seen in left:
        owners = sorted(str(c.container) for c in unmet if (c.path, c.digest) == (seen.path, seen.digest))
        same_file = [c for c in claimed if (c.container, c.path) == (seen.container, seen.path)]
        if owners:
            yield _about(FindingKind.MISATTRIBUTED, seen, f"container {' or '.join(owners)}")
        elif all((c.container, c.path, c.digest) in got for c in same_file):
            kind = FindingKind.WRONG_DIGEST if same_file else FindingKind.GHOST
            expected = " or ".join(sorted(c.digest for c in same_file)) or "no entry: this was never executed there"
            yield _about(kind, seen, expected)


def _unmet(claim: Claimed, got: Collection[str], old: set[tuple[str, str]], seq: str | None) -> Finding:
    place = f"PCR {claim.pcr}: {claim.path!a}" + (f" in container {claim.container}" if claim.container else "")
    kind = FindingKind.WRONG_DIGEST if got else FindingKind.MISSING
    if got and all((claim.path, digest) in old for digest in got):
        kind = FindingKind.STALE
    return Finding(
        kind=kind, where=place, expected=claim.digest, got=" and ".join(sorted(got)) or "no entry", container=seq
    )


def _about(kind: FindingKind, seen: Observed, expected: str) -> Finding:
    got = f"{seen.path!a}, {seen.digest}, in container {seen.container}"
    return Finding(kind=kind, where=seen.where, expected=expected, got=got, container=seen.seq)


def _weak_bindings(observed: list[Observed], executed: Collection[Executed]) -> Iterator[Finding]:
    """Report an entry digest that stands for two containers or two contents, on a PCR that should tell them."""
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for truth in executed:
        contents[str(truth.path)].add(truth.digest)
    meanings: defaultdict[str, dict[tuple[str | None, str], str]] = defaultdict(dict)
    for seen in observed:
        if seen.pcr == _IMA_PCR:
            continue
        match = _NAMESPACED.fullmatch(seen.path)
        who, path = (match[1], match[2]) if match and seen.seq is None else (seen.container, seen.path)
        true = contents[path] if seen.seq is None else set()
        content = next(iter(true)) if len(true) == 1 else seen.digest
        meanings[seen.bound].setdefault((who, content), f"{seen.path!a} in {who} ({seen.where})")
    for bound, said in sorted(meanings.items()):
        if len(said) > 1:
            places = "; ".join(said.values())
            expected = "one digest for each container and content"
            yield Finding(kind=FindingKind.WEAK_BINDING, where=f"digest {bound}", expected=expected, got=places)


def _sorted(claimed: Iterable[Claimed]) -> list[Claimed]:
    return sorted(claimed, key=lambda c: (c.pcr, c.container or "", c.path, c.digest))

"""Ground truth: what ran in a container, out of its image, how it was started, and whether the log says so."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from testbed.attest.entries import parse as payloads
from testbed.attest.entries.launch import ARGS_CUT, NO_RUNTIME
from testbed.attest.finding import BadEvidence, Container, Finding, FindingKind
from testbed.attest.image.archive import OpenImage, open_image
from testbed.attest.image.loader import found_arguments, mapped_files
from testbed.attest.image.tree import tree_digest
from testbed.attest.log.ima import Entry, parse_fields
from testbed.measurers import ANY_NAMESPACE, Claimed, Executed, What, arguments_text

_IMA_PCR = 10  # CONFIG_IMA_MEASURE_PCR_IDX: IMA's own, which knows of no containers
_SHOWN = 200
_NAMESPACED = re.compile(r"(\d+):(/.*)", re.DOTALL)
_NUMBER = re.compile(r"\A\d+(?=:/|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A file, an image or a launch that an entry speaks of, as a measurer claims it.

    ``digest``: of its content, hex; ``bound``: the entry's own digest, hex. ``container``: the runtime's id, or
    ``seq N`` where the cgroup's path has none; ``None`` where the entry has none. ``lacks``: what a launch must tell
    and does not.
    """

    where: str
    pcr: int
    container: str | None
    seq: str | None
    path: str
    digest: str
    bound: str
    what: What = What.FILE
    lacks: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is an entry of the measurer that knows containers."""
        return self.seq is not None or self.what is not What.FILE


def executed(archive: Path, container: str, programs: Iterable[str]) -> frozenset[Executed]:
    """Return every file whose code ran when ``container`` ran ``programs`` (absolute paths) of an OCI archive.

    Each program or script, its interpreter and the libraries that the loader would take; what they open by dlopen is
    not in their files and not here. Raises ``BuildError`` if a file is not there.
    """
    with open_image(archive) as image:
        paths = {path for program in programs for path in mapped_files(image, os.fsencode(program))}
        return frozenset(_executed(image, container, path) for path in paths)


def arguments(archive: Path, argv: Iterable[str]) -> tuple[str, ...]:
    """Return what the program that runs first finds as its arguments when ``argv`` of an OCI archive is started.

    Of a script these are its interpreter's. Raises ``BuildError`` if the archive cannot be read.
    """
    with open_image(archive) as image:
        return tuple(map(os.fsdecode, found_arguments(image, [os.fsencode(word) for word in argv])))


def image_tree(archive: Path) -> str:
    """Return the digest of an OCI archive's tree, hex (docs/formats.md, section 3). Raises ``BuildError``."""
    with open_image(archive) as image:
        return tree_digest(image.nodes).hex()


def _executed(image: OpenImage, container: str, path: bytes) -> Executed:
    content = image.read(b"/" + path) or b""
    digest = hashlib.sha256(content).hexdigest()
    return Executed(container=container, path=PurePosixPath("/" + os.fsdecode(path)), digest=digest, size=len(content))


def observe(entries: Iterable[Entry], containers: Mapping[str, Container]) -> Iterator[Observed]:
    """Yield what each entry speaks of: a file, image or launch. What cannot be read has been reported by ``verify``."""
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
    old = {(str(executed.path), executed.digest) for executed in former}
    observed = list(observe(entries, containers))
    findings: list[Finding] = []
    for pcr in sorted({claim.pcr for claim in claimed} | {seen.pcr for seen in observed if seen.ours}):
        wanted = {claim for claim in claimed if claim.pcr == pcr}
        by_path = {claim for claim in wanted if claim.container is None and claim.what is What.FILE}
        here = [seen for seen in observed if seen.pcr == pcr]
        findings += _compare_paths(by_path, [seen for seen in here if not seen.ours], old)
        ours = [seen for seen in here if seen.ours]
        findings += _compare_containers(wanted - by_path, _without_unknown(wanted, ours), old)
        findings += _lacking(ours)
    return [*findings, *_weak_bindings(observed, executed)]


def _observed(entry: Entry, containers: Mapping[str, Container]) -> Observed | None:
    fields = parse_fields(entry)
    bound = fields.digest.hex()
    if fields.buf is None:
        path = os.fsdecode(fields.name)
        where = entry.where
        return Observed(where=where, pcr=entry.pcr, container=None, seq=None, path=path, digest=bound, bound=bound)
    payload = payloads.parse_payload(fields.name, fields.buf)
    observed = partial(Observed, where=entry.where, pcr=entry.pcr, bound=bound)
    if isinstance(payload, payloads.ImageEntry):
        return observed(container=None, seq=None, path="", digest=payload.digest.hex(), what=What.IMAGE)
    if not isinstance(payload, payloads.FileEntry | payloads.LaunchEntry):
        return None
    seq = str(payload.container.seq)
    known = containers.get(seq)
    name = known.runtime_id if known is not None and known.runtime_id is not None else f"seq {seq}"
    if isinstance(payload, payloads.FileEntry):
        path = os.fsdecode(payload.path)
        return observed(container=name, seq=seq, path=path, digest=payload.digest.hex())
    text = arguments_text(payload.arguments, cut_of=payload.args if payload.flags & ARGS_CUT else None)
    lacks = "the digest of the program that executed it" if payload.flags & NO_RUNTIME else ""
    return observed(container=name, seq=seq, path=text, digest=payload.image.hex(), what=What.LAUNCH, lacks=lacks)


def _without_unknown(claimed: Collection[Claimed], observed: list[Observed]) -> list[Observed]:
    """Leave out the arguments of launches of which a claim says nothing."""
    unknown = {claim.container for claim in claimed if claim.what is What.LAUNCH and not claim.path}
    return [
        replace(seen, path="") if seen.what is What.LAUNCH and seen.container in unknown else seen for seen in observed
    ]


def _lacking(observed: list[Observed]) -> Iterator[Finding]:
    for seen in observed:
        if seen.lacks:
            where = f"{seen.where}: container {seen.container}"
            yield Finding(kind=FindingKind.MISSING, where=where, expected=seen.lacks, got="none", container=seen.seq)


def _compare_paths(claimed: set[Claimed], observed: list[Observed], old: set[tuple[str, str]]) -> Iterator[Finding]:
    """Look each claim up by path and digest; IMA writes a space in a path as an underscore."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for seen in observed:
        digests[seen.path].add(seen.digest)
        digests[_NUMBER.sub(ANY_NAMESPACE, seen.path, count=1)].add(seen.digest)
    for claim in _sorted(claimed):
        logged = digests.get(claim.path.replace(" ", "_"), set())
        if claim.digest not in logged:
            yield _unmet(claim, logged, old, None)


def _compare_containers(
    claimed: set[Claimed], observed: list[Observed], old: set[tuple[str, str]]
) -> Iterator[Finding]:
    """Match claims and entries one to one by container, path and digest; then say what each that is left over means."""
    keys, logged = set(map(_key, claimed)), set(map(_key, observed))
    seqs = {seen.container: seen.seq for seen in observed}
    left = [seen for seen in observed if _key(seen) not in keys]
    elsewhere = set(map(_content, left))
    for claim in _sorted(claimed):
        # What another container has instead is told below, where the entry is.
        if _key(claim) in logged or _content(claim) in elsewhere:
            continue
        others = {s.digest for s in left if _place(s) == _place(claim)}
        yield _unmet(claim, others, old, seqs.get(claim.container))
    unmet = [claim for claim in claimed if _key(claim) not in logged]
    for seen in left:
        owners = sorted(str(c.container) for c in unmet if _content(c) == _content(seen))
        same_file = [c for c in claimed if _place(c) == _place(seen)]
        if owners:
            yield _about(FindingKind.MISATTRIBUTED, seen, f"container {' or '.join(owners)}")
        elif all(_key(c) in logged for c in same_file):
            # Images have no place that two could be at.
            wrong = same_file and seen.what is not What.IMAGE
            kind = FindingKind.WRONG_DIGEST if wrong else FindingKind.GHOST
            never = "no entry: this was never executed there"
            yield _about(kind, seen, " or ".join(sorted(c.digest for c in same_file)) if wrong else never)


def _key(item: Claimed | Observed) -> tuple[What, str | None, str, str]:
    return item.what, item.container, item.path, item.digest


def _place(item: Claimed | Observed) -> tuple[What, str | None, str]:
    return item.what, item.container, item.path


def _content(item: Claimed | Observed) -> tuple[What, str, str]:
    return item.what, item.path, item.digest


def _unmet(claim: Claimed, logged: Collection[str], old: set[tuple[str, str]], seq: str | None) -> Finding:
    place = f"PCR {claim.pcr}: {_name(claim)}" + (f" in container {claim.container}" if claim.container else "")
    kind = FindingKind.WRONG_DIGEST if logged else FindingKind.MISSING
    if logged and claim.what is What.FILE and all((claim.path, digest) in old for digest in logged):
        kind = FindingKind.STALE
    return Finding(
        kind=kind, where=place, expected=claim.digest, got=" and ".join(sorted(logged)) or "no entry", container=seq
    )


def _about(kind: FindingKind, seen: Observed, expected: str) -> Finding:
    where = f", in container {seen.container}" if seen.container else ""
    got = f"{_name(seen)}, {seen.digest}{where}"
    return Finding(kind=kind, where=seen.where, expected=expected, got=got, container=seen.seq)


def _name(item: Claimed | Observed) -> str:
    """Name a file by its path, a launch by its arguments: the beginning of these, as scripts may be long."""
    if item.what is What.FILE:
        return f"{item.path!a}"
    text = item.path if len(item.path) <= _SHOWN else f"{item.path[:_SHOWN]}..."
    return f"{item.what}" + (f" of {text!a}" if item.path else "")


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
    return sorted(claimed, key=lambda c: (c.pcr, c.container or "", c.what, c.path, c.digest))

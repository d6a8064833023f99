"""Compare what a log says with what its measurer claims, given the ground truth."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from testbed.attest.finding import Container, Finding, FindingKind
from testbed.attest.log.ima import Entry
from testbed.attest.observed import Observed, observe
from testbed.measurers import ANY_NAMESPACE, Claimed, Executed, What
from testbed.measurers._verity import content

_IMA_PCR = 10  # CONFIG_IMA_MEASURE_PCR_IDX: IMA's own PCR; its entries do not name containers
_SHOWN = 200
_NAMESPACED = re.compile(r"(\d+):(/.*)", re.DOTALL)
_NUMBER = re.compile(r"\A\d+(?=:/|\Z)")


def compare(
    entries: Iterable[Entry],
    claimed: frozenset[Claimed],
    containers: Mapping[str, Container],
    executed: Collection[Executed] = (),
    *,
    former: Collection[Executed] = (),
    foreign: Collection[Observed] = (),
) -> list[Finding]:
    """Compare the attested entries with what a measurer claims to have recorded.

    ``containers``: the verdict's, by ``seq``. ``executed``: the truth behind the claims, which reveals two contents
    under one value. ``former``: what files held before they were changed: a claim that only these contents meet is
    stale. Entries on IMA's own PCR are looked up by path and digest: other processes' entries are there too.
    """
    old = {(str(executed.path), digest) for executed in former for digest in (executed.digest, content(executed))}
    # An entry that the measurer's own `observe` reads is not read here too.
    theirs = {entry.where for entry in foreign}
    observed = [entry for entry in observe(entries, containers) if entry.where not in theirs] + [*foreign]
    findings: list[Finding] = []
    judged = {claim.pcr for claim in claimed} | {entry.pcr for entry in observed if entry.one_to_one}
    for pcr in sorted(judged, key=_order):
        wanted = {claim for claim in claimed if claim.pcr == pcr}
        by_path = {claim for claim in wanted if claim.container is None and claim.what is What.FILE}
        here = [entry for entry in observed if entry.pcr == pcr]
        findings += _compare_paths(by_path, [entry for entry in here if not entry.one_to_one], old)
        bound = [entry for entry in here if entry.one_to_one]
        findings += _compare_containers(wanted - by_path, _without_unknown(wanted, bound), old)
        findings += _lacking(bound)
    return [*findings, *_weak_bindings(observed, executed)]


def _order(pcr: int | None) -> int:
    return -1 if pcr is None else pcr


def _without_unknown(claimed: Collection[Claimed], observed: list[Observed]) -> list[Observed]:
    """Drop the arguments of launches whose claim does not state them."""
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
    """Match claims and entries one to one by container, path and digest; then report what each remaining one means."""
    keys, logged = set(map(_key, claimed)), set(map(_key, observed))
    seqs = {seen.container: seen.seq for seen in observed}
    left = [seen for seen in observed if _key(seen) not in keys]
    elsewhere = set(map(_content, left))
    for claim in _sorted(claimed):
        # If another container has it instead, that is reported below, at the entry.
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
            # Images belong to no container, so none can be in the wrong one.
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
    log = "the measurer's own log" if claim.pcr is None else f"PCR {claim.pcr}"
    place = f"{log}: {_name(claim)}" + (f" in container {claim.container}" if claim.container else "")
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
    """Name a file by its path, a launch by the beginning of its arguments, because scripts may be long."""
    if item.what is What.FILE:
        return f"{item.path!a}"
    text = item.path if len(item.path) <= _SHOWN else f"{item.path[:_SHOWN]}..."
    return f"{item.what}" + (f" of {text!a}" if item.path else "")


def _weak_bindings(observed: list[Observed], executed: Collection[Executed]) -> Iterator[Finding]:
    """Report an entry digest that stands for two containers or two contents, on a PCR that should distinguish them.

    Lines that no PCR vouches for bind nothing in any case.
    """
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for truth in executed:
        contents[str(truth.path)].add(truth.digest)
    meanings: defaultdict[str, dict[tuple[str | None, str], str]] = defaultdict(dict)
    for seen in observed:
        if seen.pcr in (None, _IMA_PCR):
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
    return sorted(claimed, key=lambda c: (_order(c.pcr), c.container or "", c.what, c.path, c.digest))

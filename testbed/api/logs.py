"""Measurers, from outside: what the digests in a log bind, what a log must contain, what is wrong with a foreign one.

Source: ``testbed.attest``, ``testbed.measurers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from testbed import plugins
from testbed.api.given import PathLike, content, directory, one_of
from testbed.attest.finding import Finding
from testbed.attest.image.claims import Claims, claims, parse_claims
from testbed.attest.image.digested import Digested, measure
from testbed.attest.image.platform import Platform
from testbed.attest.image.unpack import DRIVERS
from testbed.attest.log.semantics import Semantics, read_semantics
from testbed.attest.log.text import TEXT_MAX
from testbed.attest.observed import observe_foreign
from testbed.attest.truth import compare as compare_log
from testbed.errors import SpecError
from testbed.measurers import Executed


def semantics(*logs: PathLike) -> Semantics:
    """Infer what the digests in logs bind, from the logs alone; text and binary logs, pasted ones too.

    ``findings``: what is wrong; ``lines``: each namespaced line with the bits that its digest binds; ``as_json()``:
    everything. Nothing is verified: there is no quote.

    Raises ``SpecError`` for no log and for a file that cannot be read, ``EvidenceError`` for one without an entry.
    Source: ``testbed semantics``, docs/semantics.md.

    >>> said = semantics("tests/golden/slides/namespaced-files.txt")
    >>> said.clean, sorted({str(finding.kind) for finding in said.findings})
    (False, ['unsupported', 'weak-binding'])
    """
    if not logs:
        raise SpecError("semantics: expected one or more logs, got none", "name a file")
    return read_semantics(Path(log).expanduser() for log in logs)


def rules(said: Semantics) -> pd.DataFrame:
    """Return the rules by which digests were made: a row for each PCR, rule and number of bits.

    ``bits``: of the file's or the image's digest that the logged digest binds, missing if unknown; ``entries``: how
    many; ``namespaced``: whether their names show a container; ``namespace_bound``: whether the digests bind it.

    >>> table = rules(semantics("tests/golden/slides/image-digest.txt"))
    >>> table[table["rule"] == "prototype-image"][["bits", "entries"]].to_numpy().tolist()
    [[0, 1]]
    """
    listed = [
        (group.pcr, str(group.rule), bits, count, group.namespaced, group.namespace_bound if group.namespaced else None)
        for group in said.audit.groups
        for bits, count in group.bits.items()
    ]
    table = pd.DataFrame(listed, columns=["pcr", "rule", "bits", "entries", "namespaced", "namespace_bound"])
    return table.astype({"bits": "Int64", "namespace_bound": "boolean"})


def image_digest(
    image: PathLike, *, tree: bool = False, platform: str | None = None, driver: str | None = None
) -> Digested:
    """Digest the tree of a container image: ``digest`` is SHA-256 in hex, as launch entries and policies have it.

    ``image``: an archive of one image, an OCI layout, or a directory that holds a tree; ``tree``: it holds one,
    whatever is in it. ``platform``: ``OS/ARCHITECTURE``; ``driver``: the storage driver that counts.

    Raises ``SpecError`` if it is no image, ``HostError`` if this machine cannot read it. Source: ``testbed
    image-digest``, docs/formats.md section 3.

    >>> image_digest("nonesuch.tar")
    Traceback (most recent call last):
    testbed.errors.SpecError: nonesuch.tar: the image cannot be read: no such file...
    """
    try:
        wanted = None if platform is None else Platform.parse(platform)
    except ValueError as error:
        raise SpecError(f"platform: {error}") from error
    if driver is not None:
        one_of("driver", driver, DRIVERS)
    return measure(Path(image).expanduser(), as_tree=tree, platform=wanted, driver=driver)


def claim(measurer: str, workload: str, image: PathLike, *, measurer_path: PathLike | None = None) -> Claims:
    """Compute what a measurer must log when a workload runs, from the archive of the container's image.

    ``truth_rows()``: each file whose code runs, and how; ``claimed_rows()``: what must be in the log. Containers are
    named by role: ``container-0``. ``measurer_path``: a directory with further measurers, whose code is run.

    Raises ``SpecError`` for an unknown name, ``BuildError`` for an archive that cannot be read or misses a file.
    Source: ``testbed claim``.
    """
    with _measurers(measurer_path):
        return claims(plugins.measurer(measurer), plugins.workload(workload), Path(image).expanduser())


def read_claim(path: PathLike) -> Claims:
    """Read what ``testbed claim --json`` printed. Raises ``SpecError`` if it cannot be read or is something else.

    >>> said = read_claim("examples/measurer/claims/shell-script.json")
    >>> len(said.truth), len(said.claimed)
    (22, 14)
    """
    return parse_claims(content("claim", path, TEXT_MAX), f"{path}")


def check_log(
    measurer: str,
    log: bytes | PathLike,
    claimed: Claims,
    containers: Mapping[str, str],
    *,
    measurer_path: PathLike | None = None,
) -> tuple[Finding, ...]:
    """Compare a foreign measurer's own log with what it claims: what is missing, extra, old or in the wrong container.

    ``log``: its bytes, or a file. ``containers``: for each container that was started, the runtime's id, the role in
    ``claimed`` that it has (``container-0``). Nothing is verified: no PCR vouches for such a log.

    Raises ``SpecError`` for an unknown measurer, one without ``observe`` and an unknown role, ``EvidenceError`` if its
    ``observe`` cannot read the log. Source: ``attest.truth.compare``.
    """
    with _measurers(measurer_path):
        chosen = plugins.measurer(measurer)
        if chosen.observe is None:
            raise SpecError(f"{measurer}: expected a measurer with a log of its own, got one without `observe`")
        ran = _renamed(claimed, containers)
        foreign = observe_foreign(chosen, (), content("log", log, TEXT_MAX))
        executed = [fact for fact in ran.truth if isinstance(fact, Executed)]
        return tuple(compare_log((), ran.claimed, {}, executed, foreign=foreign))


def _renamed(claimed: Claims, containers: Mapping[str, str]) -> Claims:
    """Return the claims on real containers: each has what its role has."""
    roles = {fact.container for fact in claimed.truth}
    for role in containers.values():
        one_of("containers", role, roles)
    truth, wanted = claimed.truth, claimed.claimed
    pairs = list(containers.items())
    facts = [replace(fact, container=name) for name, role in pairs for fact in truth if fact.container == role]
    ours = [replace(one, container=name) for name, role in pairs for one in wanted if one.container == role]
    return Claims(truth=tuple(facts), claimed=frozenset((*ours, *(one for one in wanted if one.container is None))))


def _measurers(measurer_path: PathLike | None) -> AbstractContextManager[None]:
    return plugins.measurers_from([] if measurer_path is None else [directory("measurer_path", measurer_path)])

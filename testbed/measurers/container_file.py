"""Every file from which a container gets code: PCR 11, one entry for each container and content (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.measurers import BASELINE, Claimed, Measurer, Ran, Step, files
from testbed.measurers._verity import content

PCR = 11


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise one entry for each container, path and content, and none for the host."""
    return frozenset(Claimed(pcr=PCR, container=e.container, path=str(e.path), digest=content(e)) for e in files(ran))


MEASURER = Measurer(
    name="container-file",
    summary="files that containers execute or map as code, on PCR 11, bound to the container",
    policy=(f"measure func=CRITICAL_DATA label=testbed pcr={PCR} template=ima-buf",),
    mode="file",
    pcr=PCR,
    claim=claim,
    rung=40,
    steps=(
        Step(
            name="file",
            title="files of containers",
            arm="container-file",
            over=("hooks-only", BASELINE),
            terms=("bytes", "files", "lookups", "extends"),
        ),
        Step(
            name="content",
            title="files of containers, seen first",
            arm="container-file",
            over=("hooks-only", BASELINE),
            terms=("bytes", "files", "lookups", "extends"),
            first=True,
        ),
    ),
)

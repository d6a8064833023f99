"""Plain IMA for executed code, on PCR 10. It does not distinguish containers."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.measurers import BASELINE, Claimed, Measurer, Ran, Step, files

PCR = 10


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise one entry for each path and content: IMA does not log a content again if another container had it."""
    return frozenset(Claimed(pcr=PCR, container=None, path=str(e.path), digest=e.digest) for e in files(ran))


MEASURER = Measurer(
    name="ima-exec",
    summary="plain IMA: executed files and executable mappings on PCR 10",
    policy=("measure func=BPRM_CHECK", "measure func=MMAP_CHECK mask=MAY_EXEC"),
    pcr=PCR,
    claim=claim,
    rung=20,
    steps=(
        Step(
            name="ima",
            title="plain IMA",
            arm="ima-exec",
            over=(BASELINE,),
            terms=("bytes", "files", "lookups"),
            native=False,
        ),
    ),
)

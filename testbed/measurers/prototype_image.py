"""The digest rule of the public prototype `container-integrity-measurement` (commit 2db127b) for a fresh overlay.

It walks the tree's part of the dentry cache. For an overlay that was just mounted this is empty, so the image's digest
is that of zero bytes. Beside it plain IMA on PCR 10, as in the slides' logs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from testbed.measurers import ANY_NAMESPACE, Claimed, Measurer, Ran, files, ima_exec

PCR = 11
_NOTHING = hashlib.sha256(bytes(8)).hexdigest()


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise plain IMA's entries, and a line of no content for some namespace."""
    executed = list(files(ran))
    line = Claimed(pcr=PCR, container=None, path=ANY_NAMESPACE, digest=_NOTHING)
    return ima_exec.claim(executed) | frozenset([line] if executed else [])


MEASURER = Measurer(
    name="prototype-image",
    summary="the rule of the prototype container-integrity-measurement: an image digest that covers nothing",
    policy=(*ima_exec.MEASURER.policy, f"measure func=CRITICAL_DATA label=testbed pcr={PCR} template=ima-ng"),
    mode="prototype-image",
    pcr=PCR,
    claim=claim,
    expect=frozenset({"no-content", "weak-binding"}),
)

"""The digest rule of the public prototype `container-ima` (commit 1429fd0): names with a namespace, 64 bits bound.

Beside it plain IMA on PCR 10, as in the slides' logs. The rule, not the code: its memory errors are not reproduced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from testbed.measurers import ANY_NAMESPACE, Claimed, Executed, Measurer, Ran, files, ima_exec

PCR = 11
# As many bytes of the digest as a pointer has are hashed.
_POINTER = 8


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise plain IMA's entries, and a line for each path and content in some namespace.

    Not promised: the line of a file whose digest has a zero byte among those that are hashed. What follows that byte
    is then the namespace's number, which nobody knows in advance.
    """
    executed = list(files(ran))
    lines = (_line(file) for file in executed if 0 not in bytes.fromhex(file.digest)[:_POINTER])
    return ima_exec.claim(executed) | frozenset(lines)


def _line(file: Executed) -> Claimed:
    digest = hashlib.sha256(bytes.fromhex(file.digest)[:_POINTER]).hexdigest()
    return Claimed(pcr=PCR, container=None, path=f"{ANY_NAMESPACE}:{file.path}", digest=digest)


MEASURER = Measurer(
    name="prototype-file",
    summary="the rule of the prototype container-ima: mapped code as namespace:path, 64 bits of its digest bound",
    policy=(*ima_exec.MEASURER.policy, f"measure func=CRITICAL_DATA label=testbed pcr={PCR} template=ima-ng"),
    mode="prototype-file",
    pcr=PCR,
    claim=claim,
    expect=frozenset({"weak-binding"}),
)

"""An example of a measurer that is not part of the testbed: a BPF program that logs each execve in a container.

Its log is a file of its own: no PCR vouches for it. It sees what is executed, not what is mapped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.guest import Guest
from testbed.measurers import Claimed, ForeignLog, Measurer, Ran, Route, Seen, bring, files, load_policy

_SEEN = frozenset({Route.EXEC, Route.SCRIPT, Route.INTERPRETER})
_PROGRAM = "/opt/testbed/execlog/execlog"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def claim(ran: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise one line for each container, path and content that execve saw."""
    return frozenset(
        Claimed(pcr=None, container=file.container, path=str(file.path), digest=file.digest)
        for file in files(ran)
        if file.route in _SEEN
    )


def observe(log: ForeignLog) -> Iterator[Seen]:
    """Read the lines of ``execlog log``: SHA-256, container, path with octal escapes."""
    for number, line in enumerate(log.own.decode("ascii").splitlines(), 1):
        digest, container, path = line.split(" ")
        name = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), path)
        yield Seen(where=f"measurer.log: line {number}", container=container, path=name, digest=digest)


@contextmanager
def attach(measurer: Measurer, guest: Guest) -> Iterator[None]:
    """Hold the program in the guest."""
    load_policy(measurer, guest)
    what = f"{measurer.name}: the guest refused the BPF program"
    bring(guest, (_PROGRAM, "attach"), what, "it needs CONFIG_BPF_LSM and `bpf` in the `lsm=` list")
    try:
        yield
    finally:
        guest.run((_PROGRAM, "detach"), check=False)


def read_log(guest: Guest) -> bytes:
    """Return the lines that ``observe`` reads."""
    return guest.run((_PROGRAM, "log")).out


def count(_: Measurer, guest: Guest) -> dict[str, int]:
    """Return how many lines there are, and how many executions are not among them."""
    return {str(name): int(value) for name, value in json.loads(guest.run((_PROGRAM, "count")).out).items()}


MEASURER = Measurer(
    name="execlog",
    summary="a BPF program that logs each execve in a container, in a file that no PCR vouches for",
    # bpf_ima_file_hash() returns what IMA measured.
    policy=("measure func=BPRM_CHECK",),
    claim=claim,
    attach=attach,
    count=count,
    source=Path(__file__).parent / "src",
    read_log=read_log,
    observe=observe,
)

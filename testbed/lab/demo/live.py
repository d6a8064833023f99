"""The log of a running machine, entry by entry as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from testbed.attest.decoded.decode import DecodedEntry, decode
from testbed.attest.log.ima import read_entries
from testbed.errors import DeadlineExceeded
from testbed.guest import Guest

LOG = "/sys/kernel/security/ima/binary_runtime_measurements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An entry, and when it was first seen: ``seconds`` of host time since the reading began."""

    seconds: float
    entry: DecodedEntry


def follow(
    guest: Guest, done: Callable[[DecodedEntry], bool], count: int, *, check: Callable[[], None], timeout: float
) -> Iterator[Arrival]:
    """Yield the entries as they arrive, until ``done`` was true of ``count`` of them and nothing more arrives.

    ``check`` is called after each reading, and raises if it is no use to wait any longer. Raises ``DeadlineExceeded``
    after ``timeout`` seconds.
    """
    begun = time.monotonic()
    seen, ended = 0, 0
    while True:
        new = list(islice(decode(read_entries(guest.get(LOG))), seen, None))
        now = time.monotonic() - begun
        for entry in new:
            ended += done(entry)
            yield Arrival(seconds=now, entry=entry)
        seen += len(new)
        if ended >= count and not new:
            return
        if now > timeout:
            raise DeadlineExceeded(f"guest: {count} containers were to finish within {timeout:g} s, {ended} did")
        check()


def path_of(entry: DecodedEntry) -> str:
    """Return the path of an entry of a file in a container, nothing for other entries."""
    return dict(entry.fields).get("path", "") if entry.kind == "ctr-file" else ""

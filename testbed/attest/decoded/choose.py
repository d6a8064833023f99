"""Which entries of a decoded log are wanted, and what two logs have that the other has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.attest.decoded.as_text import OF_VERITY
from testbed.attest.decoded.decode import UNREADABLE, VIOLATION, DecodedEntry
from testbed.attest.entries.identity import find_place, id_in
from testbed.attest.log.rules import path_of

_START = "ctr-start"
# So many characters of a runtime's id are enough: engines show twelve.
ID_LEAST = 6
# The fields of the measurer's entries that say what an entry binds: a name, and a digest.
_BINDS: Mapping[str, tuple[str, str]] = {
    "ctr-file": ("path", "digest"),
    "ctr-image": ("", "digest"),
    "ctr-launch": ("arguments", "image"),
    "ctr-violation": ("path", ""),
    "ctr-measurer": ("part", "digest"),
    "ctr-program": ("what", "digest"),
}


class Binding(NamedTuple):
    """What an entry binds: its kind, the name of a file or another thing, and a digest; either may be empty."""

    kind: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are wanted; an empty collection wants all. ``containers``: a ``seq``, or a runtime's id."""

    containers: Collection[str] = ()
    pcrs: Collection[int] = ()
    kinds: Collection[str] = ()


@dataclass(slots=True)
class RuntimeIds:
    """The runtime's id of each container, learned from the ``ctr-start`` entries that were seen so far, by ``seq``."""

    of: dict[str, str] = field(default_factory=dict)

    def see(self, entry: DecodedEntry) -> str | None:
        """Learn from an entry; return the id of its container, ``None`` if it has none."""
        if entry.kind == _START and entry.container is not None:
            fields = dict(entry.fields)
            path = fields.get("cgroup_path", "")
            found = id_in(path, int(fields.get("parent", 0))) if find_place(path) else None
            if found is not None:
                self.of[entry.container] = found
        return None if entry.container is None else self.of.get(entry.container)


def choose(entries: Iterable[DecodedEntry], wanted: Wanted, ids: RuntimeIds) -> Iterator[DecodedEntry]:
    """Yield the entries that are wanted. ``ids`` learns from all of them."""
    for entry in entries:
        runtime_id = ids.see(entry)
        if (
            (not wanted.pcrs or entry.pcr in wanted.pcrs)
            and (not wanted.kinds or entry.kind in wanted.kinds)
            and (not wanted.containers or _of_container(entry.container, runtime_id, wanted.containers))
        ):
            yield entry


def _of_container(seq: str | None, runtime_id: str | None, wanted: Iterable[str]) -> bool:
    return any(
        name == seq or (runtime_id is not None and len(name) >= ID_LEAST and runtime_id.startswith(name))
        for name in wanted
    )


def binding(entry: DecodedEntry, *, exact: bool = False) -> Binding:
    """Return what an entry binds, without its container; with ``exact`` the whole entry, by its template digest.

    A violation and an entry that cannot be read bind no content. A namespace's number before a path is left out.
    """
    if exact:
        name = f"PCR {entry.pcr} {entry.template} {entry.name}" + (f": {entry.says}" if entry.container else "")
        return Binding(entry.kind, name, entry.template_digest)
    if entry.kind in _BINDS:
        fields, (name, digest) = dict(entry.fields), _BINDS[entry.kind]
        kind = "verity:" if OF_VERITY in fields.get("flags", "").split(", ") else ""
        return Binding(entry.kind, fields.get(name, ""), kind + fields.get(digest, ""))
    if entry.container is not None or entry.kind == entry.name:
        return Binding(entry.kind, "", "")
    if entry.kind == UNREADABLE:
        return Binding(entry.kind, entry.says, entry.template_digest)
    path = path_of(entry.name.encode())
    name = entry.name if path is None else path.decode()
    return Binding(
        entry.kind, name or entry.says, "" if entry.kind == VIOLATION else f"{entry.algorithm}:{entry.digest}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One thing that one log has more often than the other: ``count`` times, in the ``first`` or the second."""

    binding: Binding
    first: bool
    count: int


def differences(
    first: Iterable[DecodedEntry], second: Iterable[DecodedEntry], *, exact: bool = False
) -> Iterator[Differing]:
    """Yield what one log has and the other has not, in the order of the logs, the first one first.

    By what entries bind, once or more often is the same; with ``exact`` each entry counts.
    """
    ours, theirs = (Counter(binding(entry, exact=exact) for entry in log) for log in (first, second))
    for mine, others, is_first in ((ours, theirs, True), (theirs, ours, False)):
        for bound, count in mine.items():
            more = count - others[bound] if exact else count * (bound not in others)
            if more > 0:
                yield Differing(binding=bound, first=is_first, count=more)

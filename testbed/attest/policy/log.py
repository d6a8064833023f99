"""Make a reference policy from a log (trust on first use)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from testbed.attest.entries import parse as payloads
from testbed.attest.entries.identity import Place, believed, find_place
from testbed.attest.entries.launch import DIGEST_KINDS, DRIFT, TREE
from testbed.attest.finding import BadEvidence
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import BOOT_AGGREGATES, Entry
from testbed.attest.policy.image import kind_text, of_kind
from testbed.attest.policy.keys import KINDS
from testbed.attest.policy.make import ANY, Files, MadePolicy, document, union
from testbed.attest.policy.paths import escape_path, is_host_name

_NESTED = "/*"


def from_entries(entries: Iterable[Entry]) -> MadePolicy:
    """List all that a log contains: files and buffers of the host, and each container's files."""
    log = _Log()
    for entry in entries:
        try:
            if entry.violation:
                log.left_out["violations, which prove nothing"] += 1
            else:
                log.add(parse_fields(entry))
        except BadEvidence as error:
            log.left_out[f"entries that cannot be judged ({error.where})"] += 1
    notes = tuple(f"left out: {count} {what}" for what, count in sorted(log.left_out.items()))
    return MadePolicy(document=log.document(), notes=notes)


class _Log:
    """The content of a log, collected entry by entry."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._files: dict[str, set[str]] = {}
        self._buffers: dict[str, set[str]] = {}
        self._aggregates: set[str] = set()
        self._starts: dict[int, payloads.StartEntry] = {}
        self._containers: dict[int, dict[str, set[str]]] = {}
        self._kinds: dict[bytes, str] = {}
        self._trees: dict[int, tuple[str, str]] = {}
        # What containers got beside their image, of those whose launch says that the image's files have no entries.
        self._drift: dict[int, dict[str, set[str]]] = {}

    def add(self, fields: Fields) -> None:
        """Add an entry. Raises ``BadEvidence`` for a malformed entry of the measurer."""
        kind = f"verity:{fields.algorithm}" if fields.digest_type == "verity" else fields.algorithm
        digest = f"{kind}:{fields.digest.hex()}"
        if fields.buf is not None and fields.name.startswith(payloads.PREFIX):
            self._add_payload(payloads.parse_payload(fields.name, fields.buf))
        elif kind not in KINDS:
            self.left_out[f"digests of {kind}, which a policy cannot have"] += 1
        elif not fields.of_file and fields.name:
            _put(self._buffers, fields.name, digest)
        elif fields.name in BOOT_AGGREGATES:
            self._aggregates.add(digest)
        elif not is_host_name(fields.name):
            self.left_out["names that a policy cannot have"] += 1
        else:
            _put(self._files, fields.name, digest)

    def _add_payload(self, payload: payloads.Payload) -> None:
        if isinstance(payload, payloads.ImageEntry):
            self._kinds[payload.digest] = DIGEST_KINDS[payload.tree_version]
        if isinstance(payload, payloads.OfNone):
            return
        seq = payload.container.seq
        if isinstance(payload, payloads.StartEntry):
            self._starts.setdefault(seq, payload)
        elif isinstance(payload, payloads.ViolationEntry):
            self.left_out["violations, which prove nothing"] += 1
        elif isinstance(payload, payloads.LaunchEntry):
            if not payload.outcome:
                self._trees.setdefault(seq, (self._kinds.get(payload.image, TREE), payload.image.hex()))
            if payload.flags & DRIFT:
                self._drift.setdefault(seq, {})
        elif isinstance(payload, payloads.FileEntry):
            if payload.path.startswith(b"/"):
                table = self._drift[seq] if seq in self._drift else self._containers.setdefault(seq, {})
                _put(table, payload.path, kind_text(of_kind(payload.digest, verity=payload.verity)))
            else:
                self.left_out["files in containers without a path"] += 1

    def document(self) -> dict[str, Any]:
        """Return what was collected. A container without a known runtime's id can be any (`*`)."""
        images: dict[str, Any] = {}
        containers: dict[str, list[str]] = {}
        cgroups: set[str] = set()
        for seq in sorted(self._starts.keys() | self._containers.keys() | self._drift.keys()):
            key, name, above = self._place(seq)
            files = images.setdefault(name, {"files": {}})["files"]
            files |= union(files, _sorted(self._containers.get(seq, {})))
            if seq in self._trees:
                kind, digest = self._trees[seq]
                images[name] |= {"digest": digest} if kind == TREE else {"roots": {kind: [digest]}}
            if beside := self._drift.get(seq):
                images[name]["drift"] = union(images[name].get("drift", {}), _sorted(beside))
            containers.setdefault(key, []).append(name)
            cgroups |= above
        return document(
            files=_sorted(self._files),
            boot_aggregate=sorted(self._aggregates),
            buffers=_sorted(self._buffers),
            images=images,
            containers={key: sorted(set(names)) for key, names in containers.items()},
            cgroups=sorted(cgroups),
        )

    def _place(self, seq: int) -> tuple[str, str, set[str]]:
        """Return the key of ``containers`` and the image's name for a container, and where its cgroup was.

        The key of a container that runs inside others is that of the outermost with `/*`.
        """
        outermost, seen = seq, {seq}
        while (start := self._starts.get(outermost)) is not None and start.parent and start.parent not in seen:
            outermost = start.parent
            seen.add(outermost)
        place = self._cgroup(outermost)
        if outermost != seq or (place is not None and place.inside):
            return (place.id if place else ANY) + _NESTED, f"container-{seq}", set()
        if place is None:
            return ANY, f"container-{seq}", set()
        return place.id, place.id, set() if believed(place) or not place.above else {place.above}

    def _cgroup(self, seq: int) -> Place | None:
        start = self._starts.get(seq)
        return None if start is None else find_place(start.cgroup_path.decode(errors="backslashreplace"))


def _put(table: dict[str, set[str]], name: bytes, digest: str) -> None:
    table.setdefault(escape_path(name), set()).add(digest)


def _sorted(table: Mapping[str, set[str]]) -> Files:
    return {key: sorted(values) for key, values in sorted(table.items())}

"""The containers of a log: the identity of each, the container that it runs inside, and the images that judge it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from testbed.attest.entries import parse
from testbed.attest.entries.identity import Place, find_place, own_id
from testbed.attest.finding import Container, Finding, FindingKind

if TYPE_CHECKING:  # a policy needs pydantic, which is slow to import
    from testbed.attest.policy.reference import Policy


# Containers of one log. Each takes a kilobyte here, and root of the attested machine can log any number of them.
MOST = 1 << 16
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedContainer:
    """A container as judged so far.

    ``pcr``: where its entries are, ``None`` if they were attested by an earlier verification. ``images``: the policy's
    images that it can have been started from. ``counts_as``: the container whose ``images`` judge it: itself, or the
    outermost one that it runs inside. ``before``: it started before the measurer. ``launched``: its ``ctr-launch`` was
    seen.
    """

    pcr: int | None
    container: Container
    counts_as: int
    images: tuple[str, ...] = ()
    before: bool = False
    launched: bool = False


@dataclass(slots=True, kw_only=True)
class Roster:
    """All containers, by ``seq``.

    ``highest``: the highest ``seq`` with a ``ctr-start``. ``lossy``: a container has a ``ctr-loss``. ``_entries``: the
    number of entries of each. ``_holders``: the container that was last started under a runtime's id. ``_overtaken``:
    those with an entry after that, so that two containers with one id ran at the same time. ``_unmet``: containers that
    an entry named before they had an entry of their own, by ``seq``: the PCR of the first such entry, what it says, and
    its container.
    """

    policy: Policy | None = None
    highest: int = 0
    lossy: bool = False
    _known: dict[int, JudgedContainer] = field(default_factory=dict)
    _entries: Counter[int] = field(default_factory=Counter)
    _holders: dict[str, int] = field(default_factory=dict)
    _overtaken: set[int] = field(default_factory=set)
    _unmet: dict[int, tuple[int, str, int]] = field(default_factory=dict)

    def adopt(self, saved: JudgedContainer) -> None:
        """Add a container of a saved state. A state is continued only under the policy that it was saved under."""
        self.highest = max(self.highest, saved.container.seq)
        self._entries[saved.container.seq] = saved.container.entries
        self._known[saved.container.seq] = saved
        if saved.container.runtime_id is not None:
            self._holders[saved.container.runtime_id] = saved.container.seq

    def get(self, seq: int) -> JudgedContainer:
        return self._known[seq]

    def images(self, seq: int) -> tuple[str, ...]:
        """Return the images that judge a container."""
        return self._known[self._known[seq].counts_as].images

    def narrow(self, seq: int, images: tuple[str, ...]) -> None:
        """Limit the images of the container that judges this one to these."""
        judge = self._known[seq].counts_as
        self._known[judge] = replace(self._known[judge], images=images)

    def __contains__(self, seq: object) -> bool:
        return seq in self._known

    def has_room(self, seq: int) -> bool:
        """Whether a container is known, or can be added."""
        return seq in self._known or len(self._known) < MOST

    def launched(self, seq: int, image_digest: str, *, drift: bool) -> None:
        known = self._known[seq]
        container = replace(known.container, image_digest=image_digest, drift=drift)
        self._known[seq] = replace(known, container=container, launched=True)

    def attested(self, reached: Collection[int]) -> Iterator[JudgedContainer]:
        """Yield the containers of attested entries."""
        return (known for known in self._known.values() if known.pcr is None or known.pcr in reached)

    def containers(self, reached: Collection[int]) -> dict[str, Container]:
        """Return what the log says of each container of attested entries, with the images that judge it."""
        return {
            f"{seq}": replace(known.container, image=" or ".join(self.images(seq)), entries=self._entries[seq])
            for known in self.attested(reached)
            for seq in [known.container.seq]
        }

    def count(self, pcr: int, payload: parse.OfContainer) -> Iterator[tuple[str, str]]:
        """Count an entry for its container; yield what was expected and what was found if it breaks a rule."""
        who = payload.container
        known = self._known.get(who.seq)
        if isinstance(payload, parse.StartEntry) == (known is not None):
            got = "a second ctr-start" if known else "no ctr-start before this entry"
            yield "one ctr-start, before the other entries of its container", got
        self.lossy = self.lossy or isinstance(payload, parse.LossEntry)
        if isinstance(payload, parse.StartEntry):
            self.highest = max(self.highest, who.seq)
            self._name(pcr, payload.parent, f"the parent of container {who.seq}", who.seq)
            if payload.parent >= who.seq:
                yield f"a parent with a seq below {who.seq}, because a parent starts first", f"parent {payload.parent}"
        elif isinstance(payload, parse.JoinEntry):
            self._name(pcr, payload.origin, f"of which a task joined container {who.seq}", who.seq)
        self._entries[who.seq] += 1
        if known is None:
            self._known[who.seq] = self._first(pcr, payload)
            return
        container = known.container
        if (container.mntns, container.cgroup, container.started) != (who.mntns, who.cgroup, who.started):
            expected = f"mntns {container.mntns}, cgroup {container.cgroup}, started {container.started}"
            yield expected, f"mntns {who.mntns}, cgroup {who.cgroup}, started {who.started}"
        # A loss may be reported after its container has ended.
        holder = who.seq if container.runtime_id is None else self._holders[container.runtime_id]
        if holder != who.seq and not isinstance(payload, parse.LossEntry):
            self._overtaken.add(who.seq)

    def absent(self, reached: Collection[int]) -> Iterator[Finding]:
        """Yield a finding for each container that others name and that never started."""
        for seq, (pcr, says, other) in self._unmet.items():
            if pcr in reached and seq not in self._known:
                yield Finding(
                    kind=FindingKind.MISSING,
                    where=f"ima.bin: container {other}",
                    expected=f"a ctr-start of container {seq}, {says}",
                    got="no entry",
                    container=str(other),
                )

    def _name(self, pcr: int, seq: int, says: str, other: int) -> None:
        if seq and seq not in self._known and len(self._unmet) < MOST:
            self._unmet.setdefault(seq, (pcr, says, other))

    def ambiguous(self, reached: Collection[int]) -> Iterator[tuple[bool, Finding]]:
        """Yield a finding for each container whose runtime id another container has too.

        With each comes whether it can be a restart. An engine restarts a container with the same id and the same cgroup
        path, and the ended container has no later entry. If the measurer is attached again, it lists the running
        containers again: that is one container with two numbers, and no finding.
        """
        sharing: defaultdict[str, list[JudgedContainer]] = defaultdict(list)
        for known in self.attested(reached):
            if known.container.runtime_id is not None:
                sharing[known.container.runtime_id].append(known)
        for runtime_id, those in sharing.items():
            if len({(known.container.mntns, known.container.cgroup, known.container.started) for known in those}) < 2:
                continue
            seqs = [known.container.seq for known in those]
            again = len({known.container.cgroup_path for known in those}) == 1 and self._overtaken.isdisjoint(seqs)
            for seq in seqs:
                # Of any number of containers with one id, a few are enough for a message.
                few = [other for other in seqs[: _SHOWN + 1] if other != seq][:_SHOWN]
                more = len(seqs) - 1 - len(few)
                others = ", ".join(f"container {other}" for other in few) + (f" and {more} more" if more else "")
                yield (
                    again,
                    Finding(
                        kind=FindingKind.AMBIGUOUS_IDENTITY,
                        where=f"ima.bin: container {seq}",
                        expected=f"one container with runtime id {runtime_id} in a boot",
                        got=f"{others} with the same id" + ("" if again else ", in another cgroup or at the same time"),
                        container=str(seq),
                    ),
                )

    def doubted(self, reached: Collection[int]) -> Iterator[str]:
        """Yield a note on each container whose id is ignored because of where its cgroup is."""
        if self.policy is None:
            return
        for known in self.attested(reached):
            place, runtime_id = find_place(known.container.cgroup_path), known.container.runtime_id
            if place is None or runtime_id is None:
                continue
            if self.policy.key_of(known.container, before=known.before) == runtime_id:
                continue
            why = f"no engine uses the cgroup path {place.above or '/'!a}, and `cgroups` does not list it"
            if known.before and self.policy.key_of(known.container) == runtime_id:
                why = "it started before the measurer, so its id counts only directly below a path in `cgroups`"
            yield f"container {known.container.seq}: id {runtime_id} ignored: {why}"

    def _first(self, pcr: int, payload: parse.OfContainer) -> JudgedContainer:
        """Return the container whose first entry this is."""
        who = payload.container
        if not isinstance(payload, parse.StartEntry):
            container = Container(seq=who.seq, mntns=who.mntns, cgroup=who.cgroup, started=who.started)
            return self._placed(JudgedContainer(pcr=pcr, container=container, counts_as=who.seq), None)
        path = payload.cgroup_path.decode(errors="backslashreplace")
        place = find_place(path)
        inside = payload.parent != 0 or (place is not None and place.inside)
        runtime_id = own_id(place, payload.parent)
        container = Container(
            seq=who.seq,
            mntns=who.mntns,
            cgroup=who.cgroup,
            started=who.started,
            cgroup_path=path,
            runtime_id=runtime_id,
            parent=payload.parent,
        )
        if runtime_id is not None:
            self._holders[runtime_id] = who.seq
        before = bool(payload.flags & parse.BEFORE)
        return self._placed(
            JudgedContainer(pcr=pcr, container=container, counts_as=who.seq, before=before),
            place if inside else None,
            inside=inside,
        )

    def _placed(self, known: JudgedContainer, place: Place | None, *, inside: bool = False) -> JudgedContainer:
        """Find the images of a container: those named for its id, or those of the outermost container around it."""
        if self.policy is None:
            return known
        if not inside:
            return replace(
                known, images=self.policy.images_of(self.policy.key_of(known.container, before=known.before))
            )
        outer = self._outermost(known.container.parent, place)
        if outer is None:
            return replace(known, images=self.policy.nested_images("") or ())
        key = self.policy.key_of(outer.container, before=outer.before)
        images = self.policy.nested_images(key)
        if images is None:
            return replace(known, counts_as=outer.counts_as)
        return replace(known, images=images)

    def _outermost(self, parent: int, place: Place | None) -> JudgedContainer | None:
        """Return the outermost container that a container runs inside; ``None`` if the log does not say."""
        if parent == 0 and place is not None:
            parent = self._holders.get(place.id, 0)
        outer = None
        seen: set[int] = set()
        while parent in self._known and parent not in seen:
            seen.add(parent)
            outer = self._known[parent]
            parent = outer.container.parent
        return outer if parent == 0 else None

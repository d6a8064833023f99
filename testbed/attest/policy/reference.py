"""The reference policy: which files may run on the host, and in the containers of which image (docs/policy.md).

Look-ups use exactly the bytes that the kernel hashes, so a good entry costs one look-up in a set.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from testbed.attest.entries.identity import believed, find_place
from testbed.attest.entries.integrity import PARTS, ProgramEntry
from testbed.attest.entries.launch import DRIFT, LaunchEntry
from testbed.attest.entries.mounts import MountsEntry
from testbed.attest.finding import Container, FindingKind
from testbed.attest.log.fields import Fields
from testbed.attest.log.ima import BOOT_AGGREGATES
from testbed.attest.log.signatures import Keyring, SignatureCheck, check
from testbed.attest.policy import file as policy_file
from testbed.attest.policy.exclude import Excludes
from testbed.attest.policy.image import (
    NO_IMAGE,
    Complaint,
    ImageReference,
    Narrowed,
    image_reference,
    judge_drift,
    judge_file,
    launch_checks,
    launch_demands,
    mounts_check,
    narrow,
    of_kind,
    program_check,
    sha256_bytes,
    some,
)
from testbed.attest.policy.keys import KINDS, Document, On
from testbed.attest.policy.paths import is_host_name, path_bytes, shorten, wrong
from testbed.attest.policy.signers import keyring, why_not
from testbed.attest.policy.steps import RefusedError
from testbed.errors import SpecError

_ANY = "*"
_BOOT_NAMES = tuple(map(bytes.decode, BOOT_AGGREGATES))
_LENGTH = struct.Struct("<I")
# The field `d-ng` or `d-ngv2` up to the digest, and how long the digest is in hex, by what a policy writes before it.
_HEADS = {kind: (_LENGTH.pack(len(kind) + 2 + size) + kind.encode() + b":\0", 2 * size) for kind, size in KINDS.items()}
_EXPECTED = f"digests, ALGORITHM:HEX (lower case; {', '.join(KINDS)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that has been checked.

    ``accepted``: template data of the template `ima-ng` (`d-ng|n-ng`) of each file of the host and boot aggregate, as
    the kernel writes them (the latter under the first of its names); ``verity``: the same with `d-ngv2` of fs-verity
    digests, kept separate because no `ima-ng` entry has them. Names are as IMA logs them: with an underscore for each
    space. ``signers``: keys; a file that is not listed is accepted if one of them signed it. ``cgroups``: paths that
    only the host makes cgroups at. ``measurer``: digests of its parts, by their names; empty: any measurer. ``noted``:
    kinds of findings that are noted; an unknown file, a violation, a file that is not bound, a second container of an
    id. ``resettable``: PCRs that are relied on although they can be reset, with the reason. ``sha256``: of the policy's
    file, hex; empty for a policy that was not read from one.
    """

    accepted: frozenset[bytes]
    verity: frozenset[bytes]
    buffers: Mapping[bytes, frozenset[str]]
    exclude: Excludes
    signers: Keyring
    images: Mapping[str, ImageReference]
    containers: Mapping[str, tuple[str, ...]]
    cgroups: tuple[str, ...]
    measurer: Mapping[str, frozenset[bytes]]
    noted: frozenset[FindingKind]
    requires_measurer: bool = False
    resettable: Mapping[int, str] = field(default_factory=dict)
    sha256: str = ""
    _by_name: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def judge_host(self, fields: Fields) -> Complaint | None:
        """Judge an entry of a file on the host, in any template; ``None`` if it is accepted."""
        checked = check(fields, self.signers) if self.signers else SignatureCheck()
        if checked.bad:
            expected = f"a signature by key {checked.bad}, which the entry names, over this file's digest"
            return Complaint(kind=FindingKind.BAD_SIGNATURE, expected=expected, got=checked.why)
        typed = fields.digest_type == "verity"
        kind = f"verity:{fields.algorithm}" if typed else fields.algorithm
        name = BOOT_AGGREGATES[0] if fields.name in BOOT_AGGREGATES else fields.name
        if _template(kind, fields.digest, name) in (self.verity if typed else self.accepted):
            return None
        known = self._digests(name)
        if known:
            return Complaint(kind=FindingKind.WRONG_DIGEST, expected=some(known))
        unsigned = why_not(checked, fields.name)
        if unsigned is None or self.exclude.match(name):
            return None
        more = ", or that one of its keys signed" if self.signers else ""
        return self._unknown(f"a file that the policy lists for the host{more}", got=unsigned)

    def judge_buffer(self, fields: Fields) -> Complaint | None:
        """Judge an `ima-buf` entry of the host that is not one of this project's; ``None`` if it is accepted."""
        known = self.buffers.get(fields.name)
        if known is None:
            return self._unknown("an event that the policy lists among its buffers")
        if f"{fields.algorithm}:{fields.digest.hex()}" in known:
            return None
        return Complaint(kind=FindingKind.WRONG_DIGEST, expected=some(sorted(known)))

    def key_of(self, container: Container, *, before: bool = False) -> str:
        """Return the key of ``containers`` for a container of the host: its id if that is believed, or `*`."""
        place = find_place(container.cgroup_path)
        if container.runtime_id is None or place is None or not believed(place, self.cgroups, before=before):
            return _ANY
        return container.runtime_id

    def images_of(self, key: str) -> tuple[str, ...]:
        """Return the possible images of a container that the host started, or else those of all others (`*`)."""
        return self.containers.get(key, self.containers.get(_ANY, ()))

    def nested_images(self, key: str) -> tuple[str, ...] | None:
        """Return the images of containers in the container of this key; ``None``: they count as that container."""
        return self.containers.get(f"{key}/*", self.containers.get(f"{_ANY}/*"))

    def judge_file(
        self, images: tuple[str, ...], path: bytes, digest: bytes, *, verity: bool = False, drift: bool = False
    ) -> tuple[tuple[str, ...], Complaint | None]:
        """Judge a file of a container that is of one of ``images``; ``digest``: SHA-256, or that of fs-verity.

        ``drift``: the image's digest stands for the image's own files, and this is not one of them. Returns the images
        that have this file and digest, or all of them, and the reason. The host's files and excludes do not count here.
        """
        judge = judge_drift if drift else judge_file
        left, complaint = judge(self.images, images, path, of_kind(digest, verity=verity))
        if complaint is not None and complaint.kind is FindingKind.UNKNOWN_FILE:
            complaint = replace(complaint, tolerated=self.tolerates(complaint.kind))
        return left, complaint

    def judge_launch(self, images: tuple[str, ...], launch: LaunchEntry, kind: str | None = None) -> Narrowed:
        """Judge how a container was started, in the same way. ``kind``: of its image's digest, if that is known."""
        if not images and launch.flags & DRIFT:
            return images, self._unknown(NO_IMAGE)  # it may get no entry of a file, which would say so
        return narrow(self.images, images, launch_checks(launch, kind))

    def judge_mounts(self, images: tuple[str, ...], listed: MountsEntry) -> tuple[tuple[str, ...], Complaint | None]:
        """Judge a container's later mounts in the same way."""
        mounts = listed.mounts if listed.whole else None
        return narrow(self.images, images, [mounts_check(mounts, of_other_root=listed.of_other_root)])

    def judge_program(self, images: tuple[str, ...], loaded: ProgramEntry) -> tuple[tuple[str, ...], Complaint | None]:
        """Judge what a container loads into the kernel, in the same way. `on.unknown` never excuses it."""
        return narrow(self.images, images, [program_check(loaded)])

    def demands(self, images: tuple[str, ...]) -> str:
        """Return what a launch of a container of one of ``images`` must have; empty if it needs none."""
        if not all(self.images[name].demands_launch for name in images):
            return ""
        return some([f"{demand} (image {name})" for name in images for demand in launch_demands(self.images[name])])

    def tolerates(self, kind: FindingKind) -> bool:
        """Whether a finding of this kind is only noted."""
        return kind in self.noted

    def _unknown(self, expected: str, got: str = "") -> Complaint:
        tolerated = self.tolerates(FindingKind.UNKNOWN_FILE)
        return Complaint(kind=FindingKind.UNKNOWN_FILE, expected=expected, got=got, tolerated=tolerated)

    def _digests(self, name: bytes) -> list[str]:
        """Return what is accepted under a name. Few entries need it: the files are sorted on first use."""
        if not self._by_name:
            self._by_name.extend(sorted((*self.accepted, *self.verity), key=_name_of))
        first = bisect_left(self._by_name, name, key=_name_of)
        onward = (self._by_name[at] for at in range(first, len(self._by_name)))
        same = takewhile(lambda item: _name_of(item) == name, onward)
        return sorted(map(_digest_of, same))


def load_policy(path: Path) -> Policy:
    """Read a policy. Raises ``SpecError``."""
    return parse_policy(policy_file.read_policy_file(path), str(path))


def parse_policy(data: bytes, where: str) -> Policy:
    """Read the bytes of a policy; ``where`` is its name in errors. Raises ``SpecError`` and nothing else."""
    policy = build_policy(policy_file.parse_document(data, where), where)
    return replace(policy, sha256=hashlib.sha256(data).hexdigest())


def build_policy(document: Document, where: str) -> Policy:
    """Convert a policy's document into the form for look-ups. Raises ``SpecError``."""
    accepted = [_template(*_kind_and_digest(digest), BOOT_AGGREGATES[0]) for digest in document.host.boot_aggregate]
    verity: list[bytes] = []
    _add_host_files(document.host.files, where, accepted, verity)
    return Policy(
        accepted=frozenset(accepted),
        verity=frozenset(verity),
        buffers=_buffers(document.host.buffers, where),
        exclude=_excludes(document.host.exclude, where),
        signers=keyring(document.host.signed_by, where),
        images={name: image_reference(image, where, f"images.{name}") for name, image in document.images.items()},
        containers={key: tuple(names) for key, names in document.containers.items()},
        cgroups=tuple(document.cgroups),
        measurer=_measurer(document),
        noted=frozenset(kind for kind, word in _noted(document.on) if word == "note"),
        requires_measurer=document.require_measurer,
        resettable={int(pcr): reason for pcr, reason in document.resettable.items()},
    )


def _noted(on: On) -> Iterator[tuple[FindingKind, str]]:
    yield FindingKind.VIOLATION, on.violation
    yield FindingKind.UNKNOWN_FILE, on.unknown
    yield FindingKind.NOT_BOUND, on.not_bound
    yield FindingKind.AMBIGUOUS_IDENTITY, on.restart


def _measurer(document: Document) -> dict[str, frozenset[bytes]]:
    if document.measurer is None:
        return {}
    good = {part: getattr(document.measurer, part) for part in PARTS.values()}
    return {part: frozenset(map(sha256_bytes, digests)) for part, digests in good.items()}


def _add_host_files(files: Mapping[str, list[str]], where: str, accepted: list[bytes], verity: list[bytes]) -> None:
    for text, digests in files.items():
        name = _host_name(text, where)
        tail = _LENGTH.pack(len(name) + 1) + name + b"\0"
        if type(digests) is not list or not digests:
            raise wrong(where, f"host.files.{text}", _EXPECTED, digests)
        for digest in digests:
            head = _digest_field(digest)
            if head is None:
                raise wrong(where, f"host.files.{text}", _EXPECTED, digest)
            (verity if digest.startswith("verity") else accepted).append(head + tail)


def _host_name(text: str, where: str) -> bytes:
    """Return a path as IMA logs it."""
    name = path_bytes(text, where, "host.files").replace(b" ", b"_")
    if not is_host_name(name):
        others = f"{' and '.join(_BOOT_NAMES)} are `host.boot_aggregate`, and the number of a namespace is no file"
        hint = f"begin the path with /; {others}"
        raise wrong(where, "host.files", "whole paths, or names of files without a path", text, hint)
    return name


def _digest_field(text: str) -> bytes | None:
    """Return the field of template data in which this digest is, with its length; ``None`` if it is not a digest."""
    try:
        kind, _, value = text.rpartition(":")
        head, size = _HEADS[kind]
        raw = bytes.fromhex(value)
    except (AttributeError, KeyError, ValueError):
        return None
    return head + raw if len(value) == size and raw.hex() == value else None


def _buffers(buffers: Mapping[str, list[str]], where: str) -> dict[bytes, frozenset[str]]:
    digests_of: dict[bytes, frozenset[str]] = {}
    for text, digests in buffers.items():
        name = path_bytes(text, where, "host.buffers").replace(b" ", b"_")
        digests_of[name] = digests_of.get(name, frozenset()) | frozenset(digests)
    return digests_of


def _excludes(patterns: list[str], where: str) -> Excludes:
    excludes = Excludes()
    for at, pattern in enumerate(patterns):
        try:
            excludes.add(pattern)
        except RefusedError as refused:
            hint = "a pattern must name a location and match in linear time; docs/policy.md has the rules"
            rejected = f"{where}: key 'host.exclude.{at}': {shorten(pattern, 200)} is rejected: {refused}"
            raise SpecError(rejected, hint) from None
    return excludes


def _template(kind: str, digest: bytes, name: bytes) -> bytes:
    """Return template data as the kernel writes them; with an algorithm that no policy has, they are in no set."""
    head = kind.encode() + b":\0"
    return b"".join((_LENGTH.pack(len(head) + len(digest)), head, digest, _LENGTH.pack(len(name) + 1), name, b"\0"))


def _kind_and_digest(text: str) -> tuple[str, bytes]:
    kind, _, value = text.rpartition(":")
    return kind, bytes.fromhex(value)


def _name_of(item: bytes) -> bytes:
    return item[8 + item[0] : -1]  # the first field is shorter than 256 bytes


def _digest_of(item: bytes) -> str:
    kind, _, digest = item[4 : 4 + item[0]].partition(b":\0")
    return f"{kind.decode()}:{digest.hex()}"

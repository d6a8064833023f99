"""The reference policy: which files may run on the host, and in the containers of which image (docs/policy.md).

Looked up by the very bytes that the kernel hashes, so that a good entry costs one look into a set.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from testbed.attest import policy_file
from testbed.attest.finding import Container, FindingKind
from testbed.attest.ima import Fields
from testbed.attest.policy_file import BOOT_AGGREGATE, KINDS, Document, is_host_name, shorten, unescape_path, wrong
from testbed.attest.policy_lint import NAME_MAX, compile_pattern, lint
from testbed.errors import SpecError

_ANY = "*"
_SHOWN = 3
_LENGTH = struct.Struct("<I")
# The field `d-ng` or `d-ngv2` up to the digest, and how long the digest is in hex, by what a policy writes before it.
_HEADS = {kind: (_LENGTH.pack(len(kind) + 2 + size) + kind.encode() + b":\0", 2 * size) for kind, size in KINDS.items()}
_IMAGE_EXPECTED = "digests, sha256:HEX (lower case; entries of containers have no others)"
_EXPECTED = f"digests, ALGORITHM:HEX (lower case; {', '.join(KINDS)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Why an entry is not accepted. ``tolerated``: the policy says to note it and go on."""

    kind: FindingKind
    expected: str
    tolerated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """An image's tree digest, hex, where it is known; and the SHA-256 of each of its files.

    ``config``: the digests of ``config.json`` of which a launch must claim one; none: it may claim anything.
    """

    digest: str | None
    files: Mapping[bytes, tuple[bytes, ...]]
    config: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that has been checked.

    ``accepted``: template data of the template `ima-ng` (`d-ng|n-ng`) of each file of the host and boot_aggregate, as
    the kernel writes them; ``verity``: the same with `d-ngv2` of fs-verity digests, kept apart as no `ima-ng` entry has
    them. Names are as IMA logs them: with an underscore for each space.
    """

    accepted: frozenset[bytes]
    verity: frozenset[bytes]
    buffers: Mapping[bytes, frozenset[str]]
    exclude: tuple[re.Pattern[bytes], ...]
    images: Mapping[str, ImageReference]
    containers: Mapping[str, tuple[str, ...]]
    tolerates_violations: bool
    tolerates_unknown: bool
    _by_name: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def judge_host(self, fields: Fields) -> Complaint | None:
        """Judge an entry of a file on the host, of whatever template; ``None`` if it is accepted."""
        typed = fields.digest_type == "verity"
        kind = f"verity:{fields.algorithm}" if typed else fields.algorithm
        if _template(kind, fields.digest, fields.name) in (self.verity if typed else self.accepted):
            return None
        known = self._digests(fields.name)
        if known:
            return Complaint(kind=FindingKind.WRONG_DIGEST, expected=_some(known))
        if self._excluded(fields.name):
            return None
        return self._unknown("a file that the policy lists for the host")

    def judge_buffer(self, fields: Fields) -> Complaint | None:
        """Judge an `ima-buf` entry of the host that is not one of this project's; ``None`` if it is accepted."""
        known = self.buffers.get(fields.name)
        if known is None:
            return self._unknown("an event that the policy lists among its buffers")
        if f"{fields.algorithm}:{fields.digest.hex()}" in known:
            return None
        return Complaint(kind=FindingKind.WRONG_DIGEST, expected=_some(sorted(known)))

    def images_of(self, container: Container) -> tuple[str, ...]:
        """Return the images that a container may be of: by the runtime's id, else those of all others (`*`)."""
        named = self.containers.get(container.runtime_id or _ANY)
        return self.containers.get(_ANY, ()) if named is None else named

    def judge_file(
        self, images: tuple[str, ...], path: bytes, digest: bytes
    ) -> tuple[tuple[str, ...], Complaint | None]:
        """Judge a file of a container that is of one of ``images``; ``digest``: SHA-256.

        Returns those of them that it can still be of: they have this file. If none has, all of them, and why. Neither
        the host's files nor its excludes count here.
        """
        if not images:
            return images, self._unknown("a container for which the policy names an image")
        listed = {name: self.images[name].files.get(path, ()) for name in images}
        consistent = tuple(name for name, digests in listed.items() if digest in digests)
        if consistent:
            return consistent, None
        known = [f"sha256:{one.hex()} (image {name})" for name, digests in listed.items() for one in digests]
        if known:
            return images, Complaint(kind=FindingKind.WRONG_DIGEST, expected=_some(known))
        return images, self._unknown(f"a file of image {_some(images)}")

    def judge_launch(
        self, images: tuple[str, ...], tree: bytes | None, config: bytes
    ) -> tuple[tuple[str, ...], Complaint | None, str]:
        """Judge how a container of one of ``images`` was started; ``tree``: its image's digest, if there is one.

        Returns those of them that it can still be of, else why it can be of none, and what it has instead.
        """
        for what, digest, wanted in (
            ("tree", None if tree is None else tree.hex(), {name: self._trees(name) for name in images}),
            ("config", config.hex(), {name: self.images[name].config for name in images}),
        ):
            left = tuple(name for name in images if digest is None or not wanted[name] or digest in wanted[name])
            if images and not left:
                expected = _some([f"{what} {one} (image {n})" for n in images for one in sorted(wanted[n])])
                got = f"{what} {digest}" if what == "tree" or any(config) else "no config claimed"
                return images, Complaint(kind=FindingKind.WRONG_DIGEST, expected=expected), got
            images = left
        return images, None, ""

    def demands(self, images: tuple[str, ...]) -> str:
        """Say what a launch must claim that a container of one of ``images`` must have; nothing if it need not."""
        if not all(self.images[name].config for name in images):
            return ""
        return _some([f"config {one} (image {name})" for name in images for one in sorted(self.images[name].config)])

    def _trees(self, name: str) -> frozenset[str]:
        digest = self.images[name].digest
        return frozenset() if digest is None else frozenset([digest])

    def _unknown(self, expected: str) -> Complaint:
        return Complaint(kind=FindingKind.UNKNOWN_FILE, expected=expected, tolerated=self.tolerates_unknown)

    def _excluded(self, name: bytes) -> bool:
        """Whether a pattern excuses a name. The kernel logs no name that goes up again: one that does is made up."""
        if len(name) > NAME_MAX or b".." in name.split(b"/"):
            return False
        return any(pattern.fullmatch(name) for pattern in self.exclude)

    def _digests(self, name: bytes) -> list[str]:
        """Return what is accepted under a name. Honest evidence never asks, so the files are sorted on first use."""
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
    """Read the bytes of a policy; ``where`` is what errors call it. Raises ``SpecError`` and nothing else."""
    return build_policy(policy_file.parse_document(data, where), where)


def build_policy(document: Document, where: str) -> Policy:
    """Put a policy's document into the form that is looked up. Raises ``SpecError``."""
    name = BOOT_AGGREGATE.encode()
    accepted = [_template(*_kind_and_digest(digest), name) for digest in document.host.boot_aggregate]
    verity: list[bytes] = []
    _add_host_files(document.host.files, where, accepted, verity)
    return Policy(
        accepted=frozenset(accepted),
        verity=frozenset(verity),
        buffers=_buffers(document.host.buffers, where),
        exclude=tuple(_patterns(document.host.exclude, where)),
        images={
            name: ImageReference(
                digest=image.digest,
                files=_image_files(image.files, where, f"images.{name}.files"),
                config=frozenset(image.config or ()),
            )
            for name, image in document.images.items()
        },
        containers={key: tuple(names) for key, names in document.containers.items()},
        tolerates_violations=document.on.violation == "note",
        tolerates_unknown=document.on.unknown == "note",
    )


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
    name = _path(text, where, "host.files").replace(b" ", b"_")
    if not is_host_name(name):
        hint = "begin the path with /; boot_aggregate has a key of its own beside `files`"
        raise wrong(where, "host.files", "whole paths, or names of files without a path", text, hint)
    return name


def _image_files(files: Mapping[str, list[str]], where: str, key: str) -> dict[bytes, tuple[bytes, ...]]:
    found = {}
    for text, digests in files.items():
        path = _path(text, where, key)
        if not path.startswith(b"/"):
            raise wrong(where, key, "whole paths", text, "begin the path with /")
        if type(digests) is not list or not digests:
            raise wrong(where, f"{key}.{text}", _IMAGE_EXPECTED, digests)
        for digest in digests:
            if _digest_field(digest) is None or not digest.startswith("sha256:"):
                raise wrong(where, f"{key}.{text}", _IMAGE_EXPECTED, digest)
        found[path] = tuple(bytes.fromhex(digest.removeprefix("sha256:")) for digest in digests)
    return found


def _path(text: str, where: str, key: str) -> bytes:
    try:
        return unescape_path(text)
    except ValueError as error:
        hint = "write each byte that is no valid UTF-8, and % itself, as % and two upper-case hex digits, nothing else"
        raise wrong(where, key, "paths that are not empty and have one spelling", text, hint) from error


def _digest_field(text: str) -> bytes | None:
    """Return the field of template data in which this digest is, with its length; ``None`` if it is no digest."""
    try:
        kind, _, value = text.rpartition(":")
        head, size = _HEADS[kind]
        raw = bytes.fromhex(value)
    except (AttributeError, KeyError, ValueError):
        return None
    return head + raw if len(value) == size and raw.hex() == value else None


def _buffers(buffers: Mapping[str, list[str]], where: str) -> dict[bytes, frozenset[str]]:
    found: dict[bytes, frozenset[str]] = {}
    for text, digests in buffers.items():
        name = _path(text, where, "host.buffers").replace(b" ", b"_")
        found[name] = found.get(name, frozenset()) | frozenset(digests)
    return found


def _patterns(exclude: list[str], where: str) -> Iterator[re.Pattern[bytes]]:
    for at, pattern in enumerate(exclude):
        reason = lint(pattern)
        if reason is not None:
            hint = "it must name where the files are and match in linear time; docs/policy.md has the rules"
            raise SpecError(f"{where}: key 'host.exclude.{at}': {shorten(pattern, 200)} is refused: {reason}", hint)
        yield compile_pattern(pattern)


def _template(kind: str, digest: bytes, name: bytes) -> bytes:
    """Return template data as the kernel writes them; those of an algorithm that no policy has are in no set."""
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


def _some(values: Sequence[str]) -> str:
    more = f" or {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return " or ".join(values[:_SHOWN]) + more

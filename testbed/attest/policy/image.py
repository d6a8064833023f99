"""What a policy allows for an image, and which of several images can still be a container's (docs/policy.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.attest.entries.integrity import COMMAND, ProgramEntry
from testbed.attest.entries.launch import ARGS_CUT, COMPOSEFS, DIGEST_KINDS, DM_VERITY, DRIFT, TREE, LaunchEntry
from testbed.attest.entries.mounts import Mount
from testbed.attest.finding import FindingKind
from testbed.attest.policy.mounts import MountRules, mount_rules, show
from testbed.attest.policy.paths import path_bytes, wrong
from testbed.measurers import arguments_text

if TYPE_CHECKING:  # pydantic is slow to import
    from testbed.attest.policy.keys import Image

_EXPECTED = "digests, sha256:HEX or verity:sha256:HEX (lower case; entries of containers have no others)"
_DIGEST = re.compile("(verity:)?sha256:[0-9a-f]{64}")
_VERITY = "verity:"
_SHOWN = 3
_LONG = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Why an entry is not accepted. ``got``: what else it has. ``tolerated``: the policy says `note`."""

    kind: FindingKind
    expected: str
    got: str = ""
    tolerated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """An image's digests, where they are known; and the digests of each of its files (``of_kind``).

    ``digests``: those that a launch can have, kind (of ``DIGEST_KINDS``) and hex; any if empty.
    ``drift``: likewise the files that its containers may get beside the image, where the digest stands for ``files``.
    ``config``: digests of ``config.json``; a launch must claim one of them, or anything if this is empty.
    ``arguments``, ``mounts``: how its containers may be started; ``None``: in any way. ``programs``: what they may load
    into the kernel, in the policy's notation.
    """

    digests: tuple[tuple[str, str], ...]
    files: Mapping[bytes, tuple[bytes, ...]]
    drift: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    config: frozenset[str] = frozenset()
    arguments: frozenset[tuple[bytes, ...]] | None = None
    mounts: MountRules | None = None
    programs: frozenset[str] = frozenset()

    @property
    def demands_launch(self) -> bool:
        """Whether a container of this image must have a launch that agrees."""
        return bool(self.config) or self.arguments is not None or self.mounts is not None


def image_reference(image: Image, where: str, key: str) -> ImageReference:
    """Convert an image's part of a policy file into the form for look-ups. Raises ``SpecError``."""
    arguments = None
    if image.arguments is not None:
        arguments = frozenset(tuple(_words(line, where, f"{key}.arguments")) for line in image.arguments)
    return ImageReference(
        digests=_digests(image),
        files=_files(image.files, where, f"{key}.files"),
        drift=_files(image.drift or {}, where, f"{key}.drift"),
        config=frozenset(image.config or ()),
        arguments=arguments,
        mounts=None if image.mounts is None else mount_rules(image.mounts, where, f"{key}.mounts"),
        programs=frozenset(image.programs or ()),
    )


def _digests(image: Image) -> tuple[tuple[str, str], ...]:
    listed: dict[str, Sequence[str]] = {TREE: [image.digest] if image.digest else []}
    if image.roots is not None:
        listed[DIGEST_KINDS[COMPOSEFS]] = image.roots.composefs or []
        listed[DIGEST_KINDS[DM_VERITY]] = image.roots.dm_verity or []
    return tuple((kind, digest) for kind, digests in listed.items() for digest in digests)


def _words(line: Sequence[str], where: str, key: str) -> Iterator[bytes]:
    """Yield the arguments of one line; a word may be empty, which a path may not."""
    for word in line:
        yield path_bytes(word, where, key) if word else b""


def _files(files: Mapping[str, list[str]], where: str, key: str) -> dict[bytes, tuple[bytes, ...]]:
    digests_by_path = {}
    for text, digests in files.items():
        path = path_bytes(text, where, key)
        if not path.startswith(b"/"):
            raise wrong(where, key, "whole paths", text, "begin the path with /")
        if type(digests) is not list or not digests:
            raise wrong(where, f"{key}.{text}", _EXPECTED, digests)
        for digest in digests:
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                raise wrong(where, f"{key}.{text}", _EXPECTED, digest)
        digests_by_path[path] = tuple(map(_of_kind, digests))
    return digests_by_path


def _of_kind(text: str) -> bytes:
    return of_kind(sha256_bytes(text.removeprefix(_VERITY)), verity=text.startswith(_VERITY))


def of_kind(digest: bytes, *, verity: bool) -> bytes:
    """Return a file's digest with its kind: no fs-verity digest equals a SHA-256 of content.

    Whoever makes a file of the bytes that an fs-verity digest is computed of has a content with that SHA-256.
    """
    return _VERITY.encode() + digest if verity else digest


def kind_text(digest: bytes) -> str:
    """Return a digest with its kind as a policy writes it."""
    plain = digest.removeprefix(_VERITY.encode())
    return f"{_VERITY if plain != digest else ''}sha256:{plain.hex()}"


def sha256_bytes(text: str) -> bytes:
    """Return the digest that a policy writes as `sha256:HEX`."""
    return bytes.fromhex(text.removeprefix("sha256:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One thing that an image demands. ``wanted``: what it accepts, in words. ``got``: what was found."""

    kind: FindingKind
    fits: Callable[[ImageReference], bool]
    wanted: Callable[[ImageReference], Sequence[str]]
    got: Callable[[ImageReference], str]


# The images that a container can still be of, and the reason if an entry fits none of them.
Narrowed = tuple[tuple[str, ...], Complaint | None]


def narrow(references: Mapping[str, ImageReference], names: tuple[str, ...], checks: Sequence[_Check]) -> Narrowed:
    """Return the images of ``names`` that pass all checks; if a check rejects all, those left before it, and why."""
    left = names
    for check in checks:
        passed = tuple(name for name in left if check.fits(references[name]))
        if left and not passed:
            wanted = [f"{wish} (image {name})" for name in left for wish in check.wanted(references[name])]
            return left, Complaint(kind=check.kind, expected=some(wanted), got=check.got(references[left[0]]))
        left = passed
    return left, None


def judge_file(
    references: Mapping[str, ImageReference], images: tuple[str, ...], path: bytes, digest: bytes
) -> Narrowed:
    """Judge a file of a container of one of ``images``: it must be among their files."""
    if not images:
        return images, Complaint(kind=FindingKind.UNKNOWN_FILE, expected=NO_IMAGE)
    listed = {name: references[name].files.get(path, ()) for name in images}
    consistent = tuple(name for name, digests in listed.items() if digest in digests)
    if consistent:
        return consistent, None
    if known := _shown(listed):
        return images, Complaint(kind=FindingKind.WRONG_DIGEST, expected=some(known))
    return images, Complaint(kind=FindingKind.UNKNOWN_FILE, expected=f"a file of image {some(images)}")


def judge_drift(
    references: Mapping[str, ImageReference], images: tuple[str, ...], path: bytes, digest: bytes
) -> Narrowed:
    """Judge a file of a container whose image's digest stands for the image's own files: this is not one of them.

    So only what the policy lists beside the image accepts it. A copy of a file of the image is unknown, and other
    content at the path of one is a wrong digest.
    """
    if not images:
        return images, Complaint(kind=FindingKind.UNKNOWN_FILE, expected=NO_IMAGE)
    listed = {name: references[name].drift.get(path, ()) for name in images}
    consistent = tuple(name for name, digests in listed.items() if digest in digests)
    if consistent:
        return consistent, None
    own = {name: references[name].files.get(path, ()) for name in images}
    known = [*_shown(listed), *_shown(own)]
    if known and not any(digest in digests for digests in own.values()):
        return images, Complaint(kind=FindingKind.WRONG_DIGEST, expected=some(known))
    expected = f"a file that the policy lists beside image {some(images)} (`drift`)"
    return images, Complaint(kind=FindingKind.UNKNOWN_FILE, expected=expected)


def _shown(listed: Mapping[str, tuple[bytes, ...]]) -> list[str]:
    """Return in words the digests that images have for one path."""
    return [f"{kind_text(digest)} (image {name})" for name, digests in listed.items() for digest in digests]


def launch_checks(launch: LaunchEntry, kind: str | None = None) -> list[_Check]:
    """Return the checks of a launch. ``kind``: of its image's digest; ``None``: not known, it can be of any."""
    tree = None if launch.outcome else launch.image.hex()
    kinds = DIGEST_KINDS.values() if kind is None else (kind,)
    # Where the digest stands for the files, an image without one would leave them unjudged.
    needs_digest = bool(launch.flags & DRIFT)
    config = launch.config.hex()
    whole = None if launch.flags & ARGS_CUT else launch.arguments
    arguments = arguments_text(launch.arguments, cut_of=launch.args if launch.flags & ARGS_CUT else None)
    return [
        _Check(
            kind=FindingKind.WRONG_DIGEST,
            fits=lambda image: (
                tree is None
                or any((one, tree) in image.digests for one in kinds)
                or not (image.digests or needs_digest)
            ),
            wanted=lambda image: [" ".join(one) for one in image.digests] or ["an image whose digest the policy has"],
            got=lambda _: f"{kind or TREE} {tree}",
        ),
        _Check(
            kind=FindingKind.WRONG_DIGEST,
            fits=lambda image: not image.config or config in image.config,
            wanted=lambda image: [f"config {value}" for value in sorted(image.config)],
            got=lambda _: f"config {config}" if any(launch.config) else "no config claimed",
        ),
        _Check(
            kind=FindingKind.WRONG_LAUNCH,
            fits=lambda image: image.arguments is None or whole in image.arguments,
            wanted=lambda image: [f"arguments {_short(value)}" for value in sorted(image.arguments or ())],
            got=lambda _: f"arguments {ascii(arguments)[:_LONG]}",
        ),
        mounts_check(launch.mounts if launch.whole_mounts else None),
    ]


def mounts_check(mounts: Sequence[Mount] | None, *, of_other_root: bool = False) -> _Check:
    """Return the checks of a list of mounts; ``None``: not every mount is listed, so nothing is known.

    ``of_other_root``: it is seen from a root other than that of the launch.
    """

    def refused(image: ImageReference) -> Mount | None:
        return (
            image.mounts.refused(mounts, of_other_root=of_other_root)
            if image.mounts is not None and mounts is not None
            else None
        )

    def got(image: ImageReference) -> str:
        bad = refused(image)
        return "an incomplete list" if bad is None else show(bad)

    return _Check(
        kind=FindingKind.WRONG_LAUNCH,
        fits=lambda image: image.mounts is None or (mounts is not None and refused(image) is None),
        wanted=lambda _: [MOUNTS],
        got=got,
    )


def program_check(program: ProgramEntry) -> _Check:
    """Return the checks of code that a container loads into the kernel."""
    name = program_name(program)
    return _Check(
        kind=FindingKind.UNKNOWN_FILE,
        fits=lambda image: name in image.programs,
        wanted=lambda _: [NO_PROGRAMS],
        got=lambda _: name,
    )


def launch_demands(image: ImageReference) -> list[str]:
    """Return what a launch of this image must have."""
    demands = [f"config {value}" for value in sorted(image.config)]
    demands += [f"arguments {_short(value)}" for value in sorted(image.arguments or ())]
    return demands if image.mounts is None else [*demands, MOUNTS]


NO_IMAGE = "a container for which the policy names an image"
MOUNTS = "mounts that the policy allows"
NO_PROGRAMS = "only code for the kernel that the policy lists"


def program_name(program: ProgramEntry) -> str:
    """Return the policy's name of a program, a module or a command."""
    return f"bpf:{program.command}" if program.what == COMMAND else f"sha256:{program.digest.hex()}"


def some(values: Sequence[str]) -> str:
    """Join the first few of what was expected."""
    more = f" or {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return " or ".join(values[:_SHOWN]) + more


def _short(arguments: tuple[bytes, ...]) -> str:
    return ascii(arguments_text(arguments))[:_LONG]

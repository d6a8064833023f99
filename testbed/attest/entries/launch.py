"""``ctr-image`` and ``ctr-launch``: what a container began with, how it was started (docs/formats.md, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.attest.entries.mounts import LIST_MAX, Mount, mount_records, mount_table
from testbed.attest.entries.payload import (
    NO_DIGEST,
    Header,
    Identity,
    body,
    body_and_rest,
    digest_if,
    sha256_only,
    zero,
)
from testbed.attest.finding import BadEvidence, UnsupportedEvidence

# Why a tree's digest is missing, by `outcome`.
OUTCOMES = (
    "complete",
    "over the limit of files",
    "over the limit of depth",
    "over the limit of bytes",
    "a file could not be read",
    "the container was killed meanwhile",
    "no memory",
)
ARGS_CUT, MOUNTS_CUT, NO_RUNTIME, CONFIG, MAPS_CUT, NO_ENVIRONMENT, NO_MOUNTS, DRIFT = 1, 2, 4, 8, 16, 32, 64, 128
# What a digest of an image is: of the tree by its version, or one that the kernel has of the root's file system.
TREE_1, TREE_2, COMPOSEFS, DM_VERITY = 1, 2, 256, 257
# What people call them, and policies.
TREE = "tree"
DIGEST_KINDS = {TREE_1: TREE, TREE_2: TREE, COMPOSEFS: "composefs", DM_VERITY: "dm-verity"}
_TREES = {1: (TREE_1,), 2: (TREE_2,), 3: (TREE_2, COMPOSEFS, DM_VERITY)}
ARGS_MAX = 4096
RANGES_MAX = 64
_IMAGE = struct.Struct("<HHIQQ32s")
_LAUNCH = struct.Struct("<HHIIIIIIIII32s32s32s32sQQQQ")
_ROOT = struct.Struct("<II32s")
_RANGE = struct.Struct("<III")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """``ctr-image``: a tree with which containers begin. ``digest``: 32 zero bytes unless ``outcome`` is 0.

    ``files``, ``size`` (bytes): 0 if the digest is ``COMPOSEFS`` or ``DM_VERITY``.
    """

    tree_version: int
    outcome: int
    files: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """A range of a user namespace's map. ``outside``: in the initial user namespace."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The container's root directory itself, which the image's digest does not cover.

    ``mode``: its permission bits. ``user``, ``group``: as the container sees them. ``xattrs``: SHA-256 of its extended
    attributes, 32 zero bytes for none.
    """

    mode: int
    user: int
    group: int
    xattrs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEntry:
    """``ctr-launch``: how a container was started.

    ``args``: how many arguments there were, ``arguments`` those that are in the entry, the last one cut where
    ``ARGS_CUT`` says so. ``root``: ``None`` in version 1, which does not contain it. ``config`` is a claim of an OCI
    hook; all else is what the kernel saw.
    """

    version: int
    container: Identity
    flags: int
    outcome: int
    user: int
    group: int
    args: int
    arguments: tuple[bytes, ...]
    uid_map: tuple[IdRange, ...]
    gid_map: tuple[IdRange, ...]
    mounts: tuple[Mount, ...]
    image: bytes
    environment: bytes
    runtime: bytes
    config: bytes
    cap_permitted: int
    cap_bounding: int
    cap_inheritable: int
    cap_ambient: int
    root: Root | None = None

    @property
    def whole_mounts(self) -> bool:
        """Whether every mount is listed: version 1 lists only those that are on the root's own files."""
        return self.version > 1 and not self.flags & (MOUNTS_CUT | NO_MOUNTS)


def parse_image(header: Header, payload: bytes) -> ImageEntry:
    """Read the payload of a ``ctr-image`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    version, hash_alg, outcome, files, size, digest = _IMAGE.unpack(body(payload, _IMAGE))
    if version not in _TREES[header.version]:
        raise UnsupportedEvidence("tree_version", f"one of {list(_TREES[header.version])}", f"{version}")
    sha256_only(hash_alg)
    _check_outcome(outcome, "digest", digest)
    if version in {COMPOSEFS, DM_VERITY}:
        zero("files", files)
        zero("bytes", size)
    elif not outcome and not files:
        raise BadEvidence("files", "1 or more: the root is one", "0")
    return ImageEntry(tree_version=version, outcome=outcome, files=files, size=size, digest=digest)


def parse_launch(header: Header, payload: bytes) -> LaunchEntry:
    """Read the payload of a ``ctr-launch`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    fixed, rest = body_and_rest(payload, _LAUNCH)
    (hash_alg, outcome, user, group, args, args_len, uid_maps, gid_maps, mounts, mounts_len, mode, *others) = (
        _LAUNCH.unpack(fixed)
    )
    image, environment, runtime, config, permitted, bounding, inheritable, ambient = others
    flags = header.flags
    sha256_only(hash_alg)
    root, rest = _root(header.version, mode, rest)
    _check_outcome(outcome, "image", image)
    if flags & DRIFT and outcome:
        raise BadEvidence("flags", "DRIFT only with outcome 0", f"0x{flags:x}, outcome {outcome}")
    digest_if("environment", environment, absent=bool(flags & NO_ENVIRONMENT))
    digest_if("runtime", runtime, absent=bool(flags & NO_RUNTIME))
    digest_if("config", config, absent=not flags & CONFIG)
    _check_sizes(header, args_len, uid_maps, gid_maps, mounts_len, len(rest))
    uid_end = args_len + uid_maps * _RANGE.size
    gid_end = uid_end + gid_maps * _RANGE.size
    return LaunchEntry(
        version=header.version,
        container=header.container,
        flags=flags,
        outcome=outcome,
        user=user,
        group=group,
        args=args,
        arguments=_arguments(rest[:args_len], args, cut=bool(flags & ARGS_CUT)),
        uid_map=tuple(_ranges("uid_map", rest[args_len:uid_end])),
        gid_map=tuple(_ranges("gid_map", rest[uid_end:gid_end])),
        mounts=_mounts(header, rest[gid_end:], mounts),
        image=image,
        environment=environment,
        runtime=runtime,
        config=config,
        cap_permitted=permitted,
        cap_bounding=bounding,
        cap_inheritable=inheritable,
        cap_ambient=ambient,
        root=root,
    )


def _root(version: int, mode: int, rest: bytes) -> tuple[Root | None, bytes]:
    """Return what a launch says about the root directory, and the bytes after it."""
    if version == 1:
        zero("reserved", mode)
        return None, rest
    if len(rest) < _ROOT.size:
        raise BadEvidence("payload", f"{_ROOT.size} bytes of the root and more", f"{len(rest)}")
    if mode & ~0o7777:
        raise BadEvidence("root_mode", "permission bits only, 07777", f"0{mode:o}")
    user, group, xattrs = _ROOT.unpack_from(rest)
    return Root(mode=mode, user=user, group=group, xattrs=xattrs), rest[_ROOT.size :]


def _mounts(header: Header, said: bytes, count: int) -> tuple[Mount, ...]:
    if header.version == 1:
        return mount_records(said, count)
    return mount_table(said, count, absent=bool(header.flags & NO_MOUNTS))


def _check_outcome(outcome: int, field: str, digest: bytes) -> None:
    if outcome >= len(OUTCOMES):
        raise BadEvidence("outcome", f"0 to {len(OUTCOMES) - 1}", f"{outcome}")
    if bool(outcome) != (digest == NO_DIGEST):
        expected = "32 zero bytes, because the outcome is not 0" if outcome else "a digest, as the outcome is 0"
        raise BadEvidence(field, expected, f"{digest.hex()}, outcome {outcome}")


def _check_sizes(header: Header, args_len: int, uid_maps: int, gid_maps: int, mounts_len: int, got: int) -> None:  # noqa: PLR0917
    for field, value, most in (
        ("args_len", args_len, ARGS_MAX),
        ("uid_maps", uid_maps, RANGES_MAX),
        ("gid_maps", gid_maps, RANGES_MAX),
        ("mounts_len", mounts_len, LIST_MAX[header.version]),
    ):
        if value > most:
            raise BadEvidence(field, f"at most {most}", f"{value}")
    if header.flags & MAPS_CUT and max(uid_maps, gid_maps) != RANGES_MAX:
        raise BadEvidence("flags", f"MAPS_CUT only with {RANGES_MAX} ranges", f"{uid_maps} and {gid_maps} ranges")
    announced = args_len + (uid_maps + gid_maps) * _RANGE.size + mounts_len
    if announced != got:
        raise BadEvidence("args_len, uid_maps, gid_maps, mounts_len", f"{got} bytes, which follow", f"{announced}")


def _arguments(said: bytes, count: int, *, cut: bool) -> tuple[bytes, ...]:
    """Split the arguments. If they are cut, the last one may have no end, and any number may be missing."""
    whole = said.count(b"\0")
    if cut:
        if whole > count:
            raise BadEvidence("arguments", f"at most {count} zero bytes", f"{whole}")
    elif whole != count or not said.endswith(b"\0" * bool(said)):
        raise BadEvidence("arguments", f"{count} of them, each with its zero byte", ascii(said[-80:]))
    parts = said.split(b"\0")
    return tuple(parts if parts[-1] else parts[:-1])


def _ranges(field: str, said: bytes) -> Iterator[IdRange]:
    for inside, outside, count in _RANGE.iter_unpack(said):
        if not count:
            raise BadEvidence(field, "ranges of 1 or more", "0")
        yield IdRange(inside=inside, outside=outside, count=count)

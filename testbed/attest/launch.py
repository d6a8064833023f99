"""``ctr-image`` and ``ctr-launch``: what a container began with, how it was started (docs/formats.md, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.payload import NO_DIGEST, Identity, body, body_and_rest, sha256_only, zero
from testbed.attest.tree import VERSION

# Why a tree's digest is not there, by `outcome`.
OUTCOMES = (
    "complete",
    "over the limit of files",
    "over the limit of depth",
    "over the limit of bytes",
    "a file could not be read",
    "the container was killed meanwhile",
    "no memory",
)
ARGS_CUT, MOUNTS_CUT, NO_RUNTIME, CONFIG, MAPS_CUT, NO_ENVIRONMENT = 1, 2, 4, 8, 16, 32
ARGS_MAX = MOUNTS_MAX = 4096
RANGES_MAX = 64
MOUNT_FLAGS = 0xFF
_IMAGE = struct.Struct("<HHIQQ32s")
_LAUNCH = struct.Struct("<HHIIIIIIIII32s32s32s32sQQQQ")
_RANGE = struct.Struct("<III")
_MOUNT = struct.Struct("<III")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """``ctr-image``: a tree with which containers begin. ``digest``: 32 zero bytes unless ``outcome`` is 0."""

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
class Mount:
    """A mount on the container's root. ``flags``: bits 0 to 7 of the kernel's ``mnt_flags``."""

    flags: int
    path: bytes
    type: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEntry:
    """``ctr-launch``: how a container was started.

    ``args``: how many arguments there were, ``arguments`` those that are in the entry, the last one cut where
    ``ARGS_CUT`` says so. All but ``config``, which an OCI hook claims, is what the kernel saw.
    """

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


def parse_image(payload: bytes) -> ImageEntry:
    """Read the payload of a ``ctr-image`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    version, hash_alg, outcome, files, size, digest = _IMAGE.unpack(body(payload, _IMAGE))
    if version != VERSION:
        raise UnsupportedEvidence("tree_version", f"{VERSION}", f"{version}")
    sha256_only(hash_alg)
    _check_outcome(outcome, "digest", digest)
    if not outcome and not files:
        raise BadEvidence("files", "1 or more: the root is one", "0")
    return ImageEntry(outcome=outcome, files=files, size=size, digest=digest)


def parse_launch(container: Identity, flags: int, payload: bytes) -> LaunchEntry:
    """Read the payload of a ``ctr-launch`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    fixed, rest = body_and_rest(payload, _LAUNCH)
    (hash_alg, outcome, user, group, args, args_len, uid_maps, gid_maps, mounts, mounts_len, reserved, *others) = (
        _LAUNCH.unpack(fixed)
    )
    image, environment, runtime, config, permitted, bounding, inheritable, ambient = others
    sha256_only(hash_alg)
    zero("reserved", reserved)
    _check_outcome(outcome, "image", image)
    _check_flag("environment", environment, absent=bool(flags & NO_ENVIRONMENT))
    _check_flag("runtime", runtime, absent=bool(flags & NO_RUNTIME))
    _check_flag("config", config, absent=not flags & CONFIG)
    _check_sizes(flags, args_len, uid_maps, gid_maps, mounts_len, len(rest))
    uid_end = args_len + uid_maps * _RANGE.size
    gid_end = uid_end + gid_maps * _RANGE.size
    return LaunchEntry(
        container=container,
        flags=flags,
        outcome=outcome,
        user=user,
        group=group,
        args=args,
        arguments=_arguments(rest[:args_len], args, cut=bool(flags & ARGS_CUT)),
        uid_map=tuple(_ranges("uid_map", rest[args_len:uid_end])),
        gid_map=tuple(_ranges("gid_map", rest[uid_end:gid_end])),
        mounts=_mounts(rest[gid_end:], mounts),
        image=image,
        environment=environment,
        runtime=runtime,
        config=config,
        cap_permitted=permitted,
        cap_bounding=bounding,
        cap_inheritable=inheritable,
        cap_ambient=ambient,
    )


def _check_outcome(outcome: int, field: str, digest: bytes) -> None:
    if outcome >= len(OUTCOMES):
        raise BadEvidence("outcome", f"0 to {len(OUTCOMES) - 1}", f"{outcome}")
    if bool(outcome) != (digest == NO_DIGEST):
        expected = "32 zero bytes, as there was an outcome but 0" if outcome else "a digest, as the outcome is 0"
        raise BadEvidence(field, expected, f"{digest.hex()}, outcome {outcome}")


def _check_flag(field: str, digest: bytes, *, absent: bool) -> None:
    if absent != (digest == NO_DIGEST):
        raise BadEvidence(field, f"{'32 zero bytes' if absent else 'a digest'}, as the flag says", digest.hex())


def _check_sizes(flags: int, args_len: int, uid_maps: int, gid_maps: int, mounts_len: int, got: int) -> None:  # noqa: PLR0917
    for field, value, most in (
        ("args_len", args_len, ARGS_MAX),
        ("uid_maps", uid_maps, RANGES_MAX),
        ("gid_maps", gid_maps, RANGES_MAX),
        ("mounts_len", mounts_len, MOUNTS_MAX),
    ):
        if value > most:
            raise BadEvidence(field, f"at most {most}", f"{value}")
    if flags & MAPS_CUT and max(uid_maps, gid_maps) != RANGES_MAX:
        raise BadEvidence("flags", f"MAPS_CUT only with {RANGES_MAX} ranges", f"{uid_maps} and {gid_maps} ranges")
    announced = args_len + (uid_maps + gid_maps) * _RANGE.size + mounts_len
    if announced != got:
        raise BadEvidence("args_len, uid_maps, gid_maps, mounts_len", f"{got} bytes, which follow", f"{announced}")


def _arguments(said: bytes, count: int, *, cut: bool) -> tuple[bytes, ...]:
    """Take arguments apart. Of cut ones the last may lack its end, and any number may be missing."""
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


def _mounts(said: bytes, count: int) -> tuple[Mount, ...]:
    found: list[Mount] = []
    at = 0
    while at < len(said):
        if len(said) - at < _MOUNT.size:
            raise BadEvidence("mount_list", f"{_MOUNT.size} bytes of a mount", f"{len(said) - at}")
        flags, path_len, type_len = _MOUNT.unpack_from(said, at)
        at += _MOUNT.size
        path, kind = said[at : at + path_len], said[at + path_len : at + path_len + type_len]
        at += path_len + type_len
        if at > len(said):
            raise BadEvidence("mount_list", "a path and a type of the lengths that it says", f"{len(said)} bytes")
        if flags & ~MOUNT_FLAGS:
            raise BadEvidence("mnt_flags", f"no bits but 0x{MOUNT_FLAGS:x}", f"0x{flags:x}")
        if not path.startswith(b"/") or not kind or b"\0" in path + kind:
            raise BadEvidence("mount_list", "a whole path and a type", f"{path[:80]!a}, {kind[:80]!a}")
        found.append(Mount(flags=flags, path=path, type=kind))
    if len(found) != count:
        raise BadEvidence("mounts", f"{len(found)}, those that follow", f"{count}")
    return tuple(found)

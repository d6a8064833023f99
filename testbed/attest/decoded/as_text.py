"""The fields of the measurer's entries as text for people: names as in docs/formats.md, numbers with their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from typing import Any

from testbed.attest.entries import launch, words
from testbed.attest.entries.integrity import (
    ASKED,
    ATTACHED,
    DETACHED,
    HOOKS,
    PERIODIC,
    REASONS,
    BeatEntry,
    LossEntry,
    MeasurerEntry,
    ProgramEntry,
    names,
)
from testbed.attest.entries.launch import DIGEST_KINDS, OUTCOMES, TREE, IdRange, ImageEntry, LaunchEntry, Root
from testbed.attest.entries.mounts import MOUNTS_CUT, MOUNTS_NONE, OTHER_ROOT, Mount, MountsEntry
from testbed.attest.entries.parse import (
    ANON_FILE,
    BEFORE,
    EXECVE,
    KERNEL_READ,
    LATE,
    MMAP,
    MPROTECT,
    NO_CGROUP_PATH,
    NO_PATH,
    NOT_BOUND,
    RUNNING,
    UNLINKED,
    VERITY,
    FileEntry,
    JoinEntry,
    Payload,
    StartEntry,
    ViolationEntry,
)

# Which event made an entry of a file (``route``).
ROUTES = {
    EXECVE: "executed",
    MMAP: "mapped as code",
    KERNEL_READ: "read by the kernel",
    MPROTECT: "made executable after it was mapped",
    RUNNING: "already mapped when the measurer or the container was first seen",
}
_EVENTS = {ATTACHED: "attached", PERIODIC: "periodic", ASKED: "requested", DETACHED: "detached"}
# The flag of an entry whose digest is of another kind.
OF_VERITY = "digest of fs-verity"
_FLAGS: Mapping[type, Mapping[int, str]] = {
    FileEntry: {
        NO_PATH: "no path",
        UNLINKED: "removed from its directory",
        ANON_FILE: "of no file system",
        LATE: "measured late",
        NOT_BOUND: "content not bound",
        VERITY: OF_VERITY,
    },
    StartEntry: {NO_CGROUP_PATH: "no cgroup path", BEFORE: "started before the measurer"},
    LaunchEntry: {
        launch.ARGS_CUT: "arguments cut",
        launch.MOUNTS_CUT: "mounts cut",
        launch.NO_RUNTIME: "no digest of the runtime",
        launch.CONFIG: "config claimed",
        launch.MAPS_CUT: "id maps cut",
        launch.NO_ENVIRONMENT: "no environment",
        launch.NO_MOUNTS: "no mounts",
        launch.DRIFT: "no entries for unchanged files of the image",
    },
    ViolationEntry: {NO_PATH: "no path", UNLINKED: "removed from its directory", ANON_FILE: "of no file system"},
    MountsEntry: {MOUNTS_CUT: "list cut", MOUNTS_NONE: "no list", OTHER_ROOT: "seen from another root"},
}
_PATHS = frozenset({"path", "cgroup_path"})


def payload_text(payload: Payload) -> tuple[tuple[str, str], ...]:
    """Return each field of an entry, but for its container, as (name, text). Bytes that are no text are escaped."""
    return tuple(
        (name, _text(payload, name, value))
        for name, value in _slots(payload)
        if name not in {"container", "version"} and value is not None
    )


def summary(payload: Payload) -> str:
    """Return in one line what an entry says."""
    for kind, say in _SUMMARIES.items():
        if isinstance(payload, kind):
            return say(payload)
    return ""


def escaped(value: bytes) -> str:
    """Return bytes as printable text on one line: UTF-8 where they are, with escapes for all that cannot be printed."""
    return printable(value.decode(errors="backslashreplace"))


def printable(text: str) -> str:
    """Return text with an escape for each character that is not seen: controls, marks of direction, line breaks."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _slots(payload: Payload) -> Iterator[tuple[str, Any]]:
    if is_dataclass(payload):
        yield from ((one.name, getattr(payload, one.name)) for one in dataclass_fields(payload))
    else:
        yield from payload._asdict().items()


def _text(payload: Payload, name: str, value: Any) -> str:
    if name == "flags":
        known = _FLAGS.get(type(payload), {})
        return ", ".join(word for bit, word in known.items() if value & bit) or "none"
    if name in _BY_NAME:
        return _BY_NAME[name](value)
    if isinstance(value, bytes):
        return escaped(value) if name in _PATHS else value.hex()
    return f"{value}"


def _mount(mount: Mount) -> str:
    source = "" if mount.source is None else f" from {escaped(mount.source)}"
    inside = "" if mount.root in {None, b"/"} else f" (its {escaped(mount.root or b'')})"
    return f"{escaped(mount.target)}: {escaped(mount.type)}{source}{inside}, {','.join(mount.options)}"


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts) or "none"


def _ranges(ranges: tuple[IdRange, ...]) -> str:
    return _lines(f"{one.inside} is {one.outside} outside, {one.count} ids" for one in ranges)


def _root(root: Root) -> str:
    attributes = f", extended attributes {root.xattrs.hex()}" if any(root.xattrs) else ""
    return f"mode {root.mode:04o}, user {root.user}, group {root.group}{attributes}"


def _outcome(outcome: int) -> str:
    return OUTCOMES[outcome] if outcome else "digest complete"


_BY_NAME: Mapping[str, Callable[[Any], str]] = {
    "route": lambda route: ROUTES[route],
    "event": lambda event: _EVENTS.get(event, f"{event}"),
    "device": lambda device: "{}:{}".format(*device),
    "arguments": lambda arguments: _lines(map(escaped, arguments)),
    "mounts": lambda mounts: _lines(map(_mount, mounts)),
    "uid_map": _ranges,
    "gid_map": _ranges,
    "root": _root,
    "outcome": _outcome,
    "reasons": lambda reasons: _lines(names(reasons, REASONS)),
    "proved": lambda proved: ", ".join(names(proved, HOOKS)) or "none",
    "cap_permitted": hex,
    "cap_bounding": hex,
    "cap_inheritable": hex,
    "cap_ambient": hex,
}


def _image(image: ImageEntry) -> str:
    if image.outcome:
        return OUTCOMES[image.outcome]
    kind = DIGEST_KINDS[image.tree_version]
    of = f"an image of {image.files} files, " if kind == TREE else "an image whose root the kernel checks, "
    return f"{of}{kind} {image.digest.hex()}"


def _beat(beat: BeatEntry) -> str:
    return f"beat {beat.number}, {_EVENTS[beat.event]}; {beat.lost} events without an entry"


_SUMMARIES: Mapping[type, Callable[[Any], str]] = {
    FileEntry: lambda file: f"{escaped(file.path) or 'a file without a path'}, {ROUTES[file.route]}",
    StartEntry: lambda start: f"started in {escaped(start.cgroup_path) or 'an unknown cgroup'}",
    ImageEntry: _image,
    LaunchEntry: lambda begun: f"launched: {' '.join(map(escaped, begun.arguments))}",
    ViolationEntry: words.changeable,
    JoinEntry: lambda join: f"a task joined from {f'container {join.origin}' if join.origin else 'the host'}",
    LossEntry: words.lost,
    MountsEntry: lambda listed: f"{len(listed.mounts)} mounts",
    ProgramEntry: words.program,
    MeasurerEntry: lambda part: f"{part.part} of the measurer, {part.size} bytes",
    BeatEntry: _beat,
}

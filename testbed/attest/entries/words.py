"""Entries of the measurer, in words for findings."""

from __future__ import annotations

from testbed.attest.entries.integrity import BPF, COMMAND, REASONS, LossEntry, ProgramEntry, names
from testbed.attest.entries.parse import CHANGED, LAYER, OPEN_WRITERS, TAIL, TOMTOU, UNSETTLED, ViolationEntry
from testbed.attest.finding import counted
from testbed.attest.policy.image import program_name

_VIOLATIONS = {
    OPEN_WRITERS: "executed or mapped while open for writing",
    TOMTOU: "opened for writing while it was in use",
    CHANGED: "changed between becoming executable and being hashed",
    TAIL: "its last page has bytes after the end of the file, which are mapped too",
    UNSETTLED: "some of its pages could not be written back and dropped, so they may still be changed",
    LAYER: "a layer of the container's root was changed after the launch",
}


def changeable(payload: ViolationEntry) -> str:
    """Return which file can change and why; the inode names a file whose path could not be built."""
    major, minor = payload.device
    why = _VIOLATIONS[payload.violation]
    return f"{ascii(payload.path)[1:]}, inode {payload.inode} of device {major}:{minor}: {why}"


def lost(payload: LossEntry) -> str:
    """Return how much of a container's code has no entry, and why."""
    pieces = counted(payload.lost, "piece of code", "pieces of code")
    return f"{pieces} without an entry so far: {', '.join(names(payload.reasons, REASONS))}"


def program(payload: ProgramEntry) -> str:
    """Return what a container loaded into the kernel, by the name that a policy has for it."""
    what = {BPF: "a BPF program", COMMAND: "another command of bpf()"}.get(payload.what, "a kernel module")
    return f"{what}: {program_name(payload)}"

"""What entries of the measurer say, in words for findings."""

from __future__ import annotations

from testbed.attest.entries.integrity import BPF, COMMAND, REASONS, LossEntry, ProgramEntry, names
from testbed.attest.entries.parse import CHANGED, OPEN_WRITERS, TAIL, TOMTOU, UNSETTLED, ViolationEntry
from testbed.attest.policy.image import program_name

_VIOLATIONS = {
    OPEN_WRITERS: "executed or mapped while open for writing",
    TOMTOU: "opened for writing while it was in use",
    CHANGED: "changed between becoming executable and being hashed",
    TAIL: "with bytes behind its end in its last page, which are mapped with it",
    UNSETTLED: "with pages that could not be written back and dropped, so somebody may still change them",
}


def changeable(payload: ViolationEntry) -> str:
    """Say which file and why; a file whose path could not be built has its number."""
    major, minor = payload.device
    why = _VIOLATIONS[payload.violation]
    return f"{ascii(payload.path)[1:]}, inode {payload.inode} of device {major}:{minor}: {why}"


def lost(payload: LossEntry) -> str:
    """Say how much of a container's code has no entry, and why."""
    return f"{payload.lost} without one so far: {', '.join(names(payload.reasons, REASONS))}"


def program(payload: ProgramEntry) -> str:
    """Say what a container gave the kernel, by the name that a policy has for it."""
    what = {BPF: "a BPF program", COMMAND: "another command of bpf()"}.get(payload.what, "a kernel module")
    return f"{what}: {program_name(payload)}"

"""Entries of the measurer about itself and about what could change it: beats, losses, programs, its own parts.

The bytes are those of docs/formats.md, section 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from testbed.attest.entries.payload import Header, Identity, body, digest_if, sha256_only, zero
from testbed.attest.finding import BadEvidence

ATTACHED, PERIODIC, ASKED, DETACHED = 1, 2, 3, 4
# By the bits of `proved`, from bit 0: the hooks that a beat has seen at work.
HOOKS = (
    "task_alloc",
    "bprm_check_security",
    "bprm_committed_creds",
    "mmap_file",
    "file_mprotect",
    "file_open",
    "inode_setattr",
    "kernel_read_file",
    "kernel_load_data",
    "bpf",
)
OPEN_PROVED, ALL_PROVED = 1 << HOOKS.index("file_open"), (1 << len(HOOKS)) - 1
# By the bits of `reasons`, from bit 0: why a container got code without an entry.
REASONS = (
    "code that could not be read",
    "no memory",
    "too many files waiting to be measured",
    "code that the kernel loaded from memory",
    "a violation that could not be logged",
    "code in use that is no longer watched, so a change would not be seen",
    "more entries than one container may write",
)
BPF, COMMAND, KERNEL_MODULE = 1, 2, 3
PROG_LOAD = 5  # BPF_PROG_LOAD of enum bpf_cmd
PARTS = {1: "module", 2: "object", 3: "loader"}
_BEAT = struct.Struct("<QQIIQQQ")
_LOSS = struct.Struct("<QII")
_PROGRAM = struct.Struct("<HHIQ32s")
_MEASURER = struct.Struct("<HHIQ32s")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatEntry:
    """``ctr-beat``: the measurer was there.

    ``time`` and ``interval`` in nanoseconds, ``lost``: events without an entry, ``containers``: highest ``seq``.
    ``proved``: hooks that were seen at work, by the bits of ``HOOKS``; ``None`` in version 1, which does not contain
    it.
    """

    number: int
    time: int
    event: int
    interval: int
    lost: int
    containers: int
    proved: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossEntry:
    """``ctr-loss``: a container got code that the log does not show, ``lost`` times so far. ``reasons``: bits."""

    container: Identity
    lost: int
    reasons: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEntry:
    """``ctr-program``: a container loaded code into the kernel, or used bpf(). ``digest``: zeros for a ``COMMAND``."""

    container: Identity
    what: int
    command: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurerEntry:
    """``ctr-measurer``: a part of the measurer itself, by the words of ``PARTS``. ``size`` in bytes."""

    part: str
    size: int
    digest: bytes


def parse_beat(header: Header, payload: bytes) -> BeatEntry:
    """Read the payload of a ``ctr-beat`` behind its header. Raises ``BadEvidence``."""
    number, time, event, proved, interval, lost, containers = _BEAT.unpack(body(payload, _BEAT))
    if number == 0:
        raise BadEvidence("number", "1 or more", "0")
    if event not in {ATTACHED, PERIODIC, ASKED, DETACHED}:
        raise BadEvidence("event", f"{ATTACHED} to {DETACHED}", f"{event}")
    if header.version == 1:
        zero("reserved", proved)
    elif proved & ~ALL_PROVED:
        raise BadEvidence("proved", f"no bits but 0x{ALL_PROVED:x}", f"0x{proved:x}")
    return BeatEntry(
        number=number,
        time=time,
        event=event,
        interval=interval,
        lost=lost,
        containers=containers,
        proved=None if header.version == 1 else proved,
    )


def parse_loss(header: Header, payload: bytes) -> LossEntry:
    """Read the payload of a ``ctr-loss`` behind its header. Raises ``BadEvidence``."""
    lost, reasons, reserved = _LOSS.unpack(body(payload, _LOSS))
    zero("reserved", reserved)
    if lost == 0:
        raise BadEvidence("lost", "1 or more", "0")
    if reasons == 0 or reasons >> len(REASONS):
        raise BadEvidence("reasons", f"one or more of the bits 0x{(1 << len(REASONS)) - 1:x}", f"0x{reasons:x}")
    return LossEntry(container=header.container, lost=lost, reasons=reasons)


def parse_program(header: Header, payload: bytes) -> ProgramEntry:
    """Read the payload of a ``ctr-program`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    what, hash_alg, command, size, digest = _PROGRAM.unpack(body(payload, _PROGRAM))
    if what not in {BPF, COMMAND, KERNEL_MODULE}:
        raise BadEvidence("what", f"{BPF} to {KERNEL_MODULE}", f"{what}")
    if what == COMMAND:
        zero("hash_alg", hash_alg)
        zero("size", size)
    else:
        sha256_only(hash_alg)
    digest_if("digest", digest, absent=what == COMMAND)
    good = {BPF: command == PROG_LOAD, COMMAND: command != PROG_LOAD, KERNEL_MODULE: command == 0}
    if not good[what]:
        expected = f"{PROG_LOAD} of a program that is loaded, another of another command, 0 of a module"
        raise BadEvidence("command", expected, f"{command}, what {what}")
    return ProgramEntry(container=header.container, what=what, command=command, size=size, digest=digest)


def parse_measurer(payload: bytes) -> MeasurerEntry:
    """Read the payload of a ``ctr-measurer`` behind its header. Raises ``BadEvidence``, ``UnsupportedEvidence``."""
    part, hash_alg, reserved, size, digest = _MEASURER.unpack(body(payload, _MEASURER))
    if part not in PARTS:
        raise BadEvidence("part", f"one of {sorted(PARTS)}", f"{part}")
    sha256_only(hash_alg)
    zero("reserved", reserved)
    digest_if("digest", digest, absent=False)
    return MeasurerEntry(part=PARTS[part], size=size, digest=digest)


def names(bits: int, words: tuple[str, ...]) -> list[str]:
    """Return the words whose bits are set."""
    return [word for at, word in enumerate(words) if bits >> at & 1]

"""Runs in the guest, with the guest's Python: how often each BPF program ran, and for how long.

The kernel counts while ``kernel.bpf_stats_enabled`` is 1, which costs two clock readings per run. Standard output:
``{"bpf_runs_NAME": n, "bpf_ns_NAME": ns, ...}`` in counts and nanoseconds. Programs that never ran are left out.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import struct
import sys
from collections.abc import Iterator

_BPF = 321  # number of bpf(2) on x86-64
# enum bpf_cmd, include/uapi/linux/bpf.h
_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD = 11, 13, 15
# struct bpf_prog_info: where the name is, and how many bytes are asked for.
_NAME_AT, _NAME_SIZE, _INFO_SIZE = 64, 16, 80


def main() -> None:
    """Print the counts of all programs."""
    counted: dict[str, int] = {}
    for number in _ids():
        program = _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
        if program >= 0:
            _count(program, counted)
            os.close(program)
    json.dump(counted, sys.stdout)


def _count(program: int, counted: dict[str, int]) -> None:
    lines = pathlib.Path(f"/proc/self/fdinfo/{program}").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    runs, spent = int(fields.get("run_cnt", 0)), int(fields.get("run_time_ns", 0))
    if runs:
        name = _name(program)
        counted[f"bpf_runs_{name}"] = counted.get(f"bpf_runs_{name}", 0) + runs
        counted[f"bpf_ns_{name}"] = counted.get(f"bpf_ns_{name}", 0) + spent


def _ids() -> Iterator[int]:
    attribute = ctypes.create_string_buffer(struct.pack("=III", 0, 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.syscall(_BPF, _PROG_GET_NEXT_ID, attribute, 12) == 0:
        _, number, _ = struct.unpack("=III", attribute.raw[:12])
        yield number
        struct.pack_into("=I", attribute, 0, number)


def _bpf(command: int, attribute: bytes) -> int:
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    return int(ctypes.CDLL(None, use_errno=True).syscall(_BPF, command, buffer, len(attribute)))


def _name(program: int) -> str:
    info = ctypes.create_string_buffer(_INFO_SIZE)
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program, _INFO_SIZE, ctypes.addressof(info)))
    return info.raw[_NAME_AT : _NAME_AT + _NAME_SIZE].split(b"\0")[0].decode() or "unnamed"


if __name__ == "__main__":
    main()

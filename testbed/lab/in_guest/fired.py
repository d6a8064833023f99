"""Runs in the guest, with the guest's Python: how many BPF programs run at one event of the host.

Arguments: a program, a directory, how often an event is repeated, then names of events. The program makes an event N
times (``again DIRECTORY EVENT N``), twice as often the second time; what runs besides the events themselves, at the
start of the program for example, is the same both times, so the difference is the events' own.

Standard output: a line ``EVENT RUNS`` for each event, the runs of all programs at so many events. The kernel counts
them while ``kernel.bpf_stats_enabled`` is 1, which this sets for as long as it runs.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import struct
import subprocess
import sys

_SWITCH = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
_BPF = 321  # number of bpf(2) on x86-64
_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID = 11, 13  # enum bpf_cmd, include/uapi/linux/bpf.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Print the runs of each event."""
    program, directory, times, *events = sys.argv[1:]
    _SWITCH.write_text("1")
    try:
        held = _programs()
        for event in events:
            once, twice = (
                _runs_of((program, "again", directory, event, str(count)), held)
                for count in (int(times), 2 * int(times))
            )
            sys.stdout.write(f"{event} {twice - once}\n")
    finally:
        _SWITCH.write_text("0")


def _runs_of(argv: tuple[str, ...], held: list[int]) -> int:
    before = _runs(held)
    subprocess.run(argv, check=True)
    return _runs(held) - before


def _runs(held: list[int]) -> int:
    texts = [pathlib.Path(f"/proc/self/fdinfo/{program}").read_text() for program in held]
    return sum(int(line.split(":")[1]) for text in texts for line in text.splitlines() if line.startswith("run_cnt:"))


def _programs() -> list[int]:
    held = []
    attribute = ctypes.create_string_buffer(struct.pack("=III", 0, 0, 0))
    while _LIBC.syscall(_BPF, _PROG_GET_NEXT_ID, attribute, 12) == 0:
        number = struct.unpack("=III", attribute.raw[:12])[1]
        wanted = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0))
        program = _LIBC.syscall(_BPF, _PROG_GET_FD_BY_ID, wanted, 12)
        if program >= 0:
            os.set_inheritable(program, False)
            held.append(program)
        struct.pack_into("=I", attribute, 0, number)
    return held


if __name__ == "__main__":
    main()

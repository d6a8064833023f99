"""Each program of a small Debian, executed once: its size, and what that costs.

The question is that of the slides' author: each program of ``/usr/bin`` once, its size beside the time that it takes.
What is wanted is the cost of an execution, not of what a program does, so each program runs with
``LD_TRACE_LOADED_OBJECTS``: its dynamic linker maps the libraries, lists them and ends before the program's first
instruction. A script's interpreter ends in the same way. All libraries have been mapped before, so that the first
execution of a program costs what the program costs, and the second shows what a known one costs.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Value, Workload, WorkloadFailed

# Scripts come last: their interpreters are programs of the image too, and known by then.
_PROGRAMS = """
[ arch b2sum base32 base64 basename basenc bash cat chcon chgrp chmod choom chown chrt clear clear_console cmp comm cp
csplit cut dash date dd df diff diff3 dir dircolors dirname dmesg dpkg dpkg-deb dpkg-divert dpkg-query dpkg-realpath
dpkg-split dpkg-statoverride dpkg-trigger du echo env expand expr factor fallocate false find findmnt flock fmt fold
getconf getent getopt grep groups gzip hardlink head hostid hostname iconv id infocmp install ionice ipcmk ipcrm ipcs
ischroot join link ln locale localedef logname ls lsblk lscpu lsipc lslocks lsmem lsns mawk mcookie mkdir mkfifo mknod
mktemp more mount mountpoint mv namei nice nl nohup nproc nsenter numfmt od partx paste pathchk perl pldd pr printenv
printf prlimit ptx pwd python3.13 readlink realpath rename.ul renice rev rm rmdir run-parts runcon script scriptlive
scriptreplay sdiff sed seq setarch setpriv setsid setterm shred shuf sleep sort split stat stdbuf stty sync tabs tac
tail tar taskset tee tempfile test tic timeout toe touch tput tr true truncate tset tsort tty uclampset umount uname
unexpand uniq unlink unshare update-alternatives vdir wc wdctl whereis whoami xargs yes zdump
"""
PROGRAMS = tuple(_PROGRAMS.split())
_SCRIPTS = """
bashbug dpkg-maintscript-helper egrep fgrep gunzip gzexe ldd rgrep savelog tzselect which.debianutils zcat zcmp zdiff
zegrep zfgrep zforce zgrep zless zmore znew
"""
SCRIPTS = tuple(_SCRIPTS.split())
# Each program has three metrics: these, with its name behind.
BYTES, FIRST, AGAIN = "exec_bytes/", "exec_first/", "exec_again/"
_RUNNER = PurePosixPath("/sizes/sizes")
_LINE = re.compile(r"(?P<name>\S+) (?P<bytes>\d+) (?P<first>\d+) (?P<again>\d+)")


def parse(output: str) -> Output:
    """Expect a line for each program, in order: its bytes, and what its first and its second execution took."""
    names, lines = (*PROGRAMS, *SCRIPTS), output.splitlines()
    values = [value for name, line in zip(names, lines, strict=False) for value in _values(name, line)]
    if len(lines) != len(names):
        raise WorkloadFailed(f"expected {len(names)} lines, got {len(lines)}")
    return Output(operations=2 * len(names), values=tuple(values))


def _values(name: str, line: str) -> tuple[Value, ...]:
    match = _LINE.fullmatch(line)
    if match is None or match["name"] != name or not all(int(match[n]) > 0 for n in ("bytes", "first", "again")):
        raise WorkloadFailed(f"expected {f'{name} BYTES FIRST AGAIN'!r}, got {line!r}")
    return (
        Value(metric=BYTES + name, unit="B", value=int(match["bytes"])),
        Value(metric=FIRST + name, unit="s", value=int(match["first"]) / 1e6),
        Value(metric=AGAIN + name, unit="s", value=int(match["again"]) / 1e6),
    )


WORKLOAD = Workload(
    name="sizes",
    summary=f"each of {len(PROGRAMS) + len(SCRIPTS)} programs of a small Debian executed twice, in one container",
    image="sizes",
    argv=(str(_RUNNER), *PROGRAMS, *SCRIPTS),
    executes=(_RUNNER, *(PurePosixPath("/usr/bin") / name for name in (*PROGRAMS, *SCRIPTS))),
    parse=parse,
    operation="exec",
)

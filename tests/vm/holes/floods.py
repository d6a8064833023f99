"""So much code that what is remembered of other code gives way, and containers that call themselves like others."""

from __future__ import annotations

import os
from pathlib import Path

from holes.memory import EVIL, EXEC, READ, call, checked, function, map_file, pause, unmap
from stress import (
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    PAGE,
    child,
    inside,
    libc,
    long_path,
    map_code,
    mount,
    nest,
    program,
    write,
)

CLONE_NEWNS = 0x20000


def held(place: str) -> dict[str, object]:
    """Map code, say so by the pipe ``asked``, keep it until the pipe ``release`` says so."""
    write(f"{place}/it", function(EVIL))
    code = map_file(f"{place}/it", READ | EXEC)
    pause(place)
    return {"ran": call(code)}


def flood(place: str, count: int, length: int) -> dict[str, object]:
    """Map so many files as code, with paths of a length."""
    base = f"{place}/flood"
    directory = nest(base, long_path(base, length - 4))
    with inside(directory):
        for number in range(count):
            write(f"{number:05}", (b"flood %05d" % number).ljust(PAGE))
            file = os.open(f"{number:05}", os.O_RDONLY)
            map_code(file)
            os.close(file)
    return {"mapped": count}


def flooded(place: str, count: int, length: int) -> dict[str, object]:
    """As ``flood``, and live on until the pipe ``release`` says so."""
    said = flood(place, count, length)
    pause(place)
    return said


def changes(place: str, count: int) -> dict[str, object]:
    """Open so many files for writing while they are mapped as code."""
    for number in range(count):
        path = f"{place}/{number}"
        write(path, function(number))
        code = map_file(path, READ | EXEC)
        os.close(os.open(path, os.O_WRONLY))
        unmap(code)
    return {"opened": count}


def nested(place: str, name: str) -> dict[str, object]:
    """Execute a program in a container in this container, whose cgroup has a name of this one's choice."""
    root = f"{place}/root"
    Path(f"{root}/bin").mkdir(parents=True)
    write(f"{root}/bin/nested", program(b"nested", EVIL))
    return {"ran": _enter(root, name, ["/bin/nested"])}


def nested_flood(place: str, group: str, count: int, length: int) -> dict[str, object]:
    """Map so many files as code in a container in this container."""
    root = f"{place}/root"
    for name in ("usr", "volume"):
        mount(f"/{name}", f"{root}/{name}", "", MS_BIND)
    for name in ("lib", "lib64"):
        Path(f"{root}/{name}").symlink_to(f"usr/{name}")
    words = f"from holes import floods; floods.flood({place!r}, {count}, {length})"
    assert _enter(root, group, ["/usr/bin/python3", "-c", words]) == 0
    return {"mapped": count}


def _enter(root: str, name: str, argv: list[str]) -> int:
    """Execute a program with another root, in a mount namespace and a cgroup of its own; return its status."""
    group = Path(f"/sys/fs/cgroup/{name}")
    group.mkdir()

    def work() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        checked(libc.unshare(CLONE_NEWNS), "unshare")
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        os.chroot(root)
        os.chdir("/")
        os.execv(argv[0], argv)

    return os.waitstatus_to_exitcode(os.waitpid(child(work), 0)[1])

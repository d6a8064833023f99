"""What remains when a `testbed` process was killed (SIGKILL, power): how it is found again and cleaned up.

Code that creates something that outlives its process (a machine, a directory) keeps a record of it meanwhile.
``collect`` looks for records whose owner is gone. A process belongs to a record if it is one of ``PROGRAMS``, runs as
this user and names one of the record's directories among its arguments; each directory's name is random, so no other
process names it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import select
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import host_error
from testbed.files import write_plain
from testbed.lab import places

log = logging.getLogger(__name__)

PROGRAMS = frozenset({"qemu-system-x86_64", "swtpm", "swtpm_setup", "setpriv"})
Destroy = Callable[[str, str], bool]
"""Ends a machine, given libvirt's URI and its UUID; ``False`` if it cannot be known whether it is gone."""

_OUR_NAME = re.compile("tb-[0-9a-f]{8}")  # only directories of such names are ever removed
_END_SECONDS = 5
_START_FIELD = 19  # of /proc/PID/stat, counted after the program's name: field 22 of proc(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, distinguished from later ones with its number. ``start``: clock ticks since the host's boot."""

    pid: int
    start: int
    boot_id: str
    host: str
    pid_namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What must not outlive its owner: a directory, and perhaps the machine (libvirt's UUID) that works in it."""

    owner: Owner
    directory: Path
    uri: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of this host, as /proc shows it."""

    pid: int
    start: int
    uid: int
    argv: tuple[str, ...]


def private_name() -> str:
    """Return a name for a directory that nobody else uses."""
    return f"tb-{secrets.token_hex(4)}"


def state_directory() -> Path:
    """Return where this program keeps what is neither a result nor a cache (``places.state``)."""
    return places.state().path


def record_directory() -> Path:
    """Return where the records lie."""
    return state_directory() / "live"


@contextmanager
def holding(directory: Path, *, uri: str = "", domain: str = "") -> Iterator[Path]:
    """Make ``directory`` (its name from ``private_name``) and hold it with a record; both are gone afterwards."""
    record = Holding(owner=ourselves(), directory=directory.absolute(), uri=uri, domain=domain)
    path = record_directory() / f"{directory.name}-{os.getpid()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_plain(path, json.dumps(asdict(record), default=str).encode())
    except OSError as error:
        raise host_error(error, places.state().remedy) from error
    try:
        directory.mkdir(parents=True)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        path.unlink(missing_ok=True)


def collect(destroy: Destroy, home: Path | None = None) -> list[str]:
    """Clean up after owners that are gone; return what was done, a line each. ``destroy`` ends a machine of a daemon.

    A record goes only when nothing is left of what it names.
    """
    done: list[str] = []
    for path in sorted((home or record_directory()).glob("[!.]*.json")):
        try:
            record = read_record(path)
        except FileNotFoundError:
            continue  # its owner removed it meanwhile
        except (OSError, ValueError, KeyError, TypeError) as error:
            done.append(f"left in place: {path} is not a record ({error!r})")
            continue
        if not elsewhere(record.owner) and not alive(record.owner):
            said, clean = _clean(record, destroy)
            done += said
            if clean:
                path.unlink(missing_ok=True)
    return done


def read_record(path: Path) -> Holding:
    """Read a record. Raises ``ValueError``, ``KeyError`` or ``TypeError`` if it is not one."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Holding(**fields | {"owner": Owner(**fields["owner"]), "directory": Path(fields["directory"])})


def ourselves() -> Owner:
    """Return this process as an owner."""
    me = read_process(os.getpid())
    assert me is not None
    return Owner(
        pid=me.pid,
        start=me.start,
        boot_id=host_boot_id(),
        host=platform.node(),
        pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
    )


def host_boot_id() -> str:
    """Return the random id of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def elsewhere(owner: Owner) -> bool:
    """Return whether this process cannot see ``owner``: on another host, or in another container with this home."""
    here = ourselves()
    return owner.host != here.host or (owner.boot_id == here.boot_id and owner.pid_namespace != here.pid_namespace)


def alive(owner: Owner) -> bool:
    """Return whether exactly that process still runs, as far as this user may know."""
    try:
        process = read_process(owner.pid)
    except PermissionError:
        return True
    return owner.boot_id == host_boot_id() and process is not None and process.start == owner.start


def read_process(pid: int) -> Process | None:
    """Return what /proc says about a process, ``None`` if it does not exist (any more).

    Raises ``PermissionError`` where /proc shows only one's own (``hidepid``).
    """
    proc = Path(f"/proc/{pid}")
    try:
        # The program's name in it is any bytes.
        stat = (proc / "stat").read_text(encoding="utf-8", errors="backslashreplace")
        argv = (proc / "cmdline").read_bytes().split(b"\0")
        uid = proc.stat().st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    words = tuple(os.fsdecode(word) for word in argv if word)
    return Process(pid=pid, start=int(fields[_START_FIELD]), uid=uid, argv=words)


def belongs(process: Process, directory: Path) -> bool:
    """Return whether a process is one of the testbed's that works in ``directory``."""
    ours = bool(process.argv) and Path(process.argv[0]).name in PROGRAMS and process.uid == os.getuid()
    return ours and any(f"{directory}/" in f"{word}/" for word in process.argv[1:])


def _clean(record: Holding, destroy: Destroy) -> tuple[list[str], bool]:
    # Returns what was done, and whether nothing is left.
    done: list[str] = []
    # An embedded driver died with its process: its machines are processes without a master.
    if record.domain and not record.uri.startswith("qemu:///embed"):
        if not destroy(record.uri, record.domain):
            return [f"left in place: machine {record.domain}, because {record.uri} cannot be reached"], False
        done.append(f"machine {record.domain} at {record.uri} is gone")
    for process in _processes():
        if belongs(process, record.directory):
            if not _end(process):
                return [*done, f"left running: {process.argv[0]} (process {process.pid}) does not end"], False
            done.append(f"ended {process.argv[0]} (process {process.pid}), whose owner {record.owner.pid} is gone")
    if _OUR_NAME.fullmatch(record.directory.name) and record.directory.is_dir():
        _remove(record.directory)
        done.append(f"removed {record.directory}")
    return done, True


def _processes() -> Iterator[Process]:
    """Yield every process that this user may see; one of another user does not belong to a record."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(PermissionError):
                if process := read_process(int(path.name)):
                    yield process


def _remove(directory: Path) -> None:
    # Another process may clean up after the same owner at the same time: what it removed is not found here.
    while directory.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)


def _end(process: Process) -> bool:
    # A pidfd names exactly this process: its number cannot become another process between the check and the signal.
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if read_process(process.pid) != process:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        with suppress(ProcessLookupError):
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(fd, number)
                if poll.poll(_END_SECONDS * 1000):
                    return True
        return bool(poll.poll(0))
    finally:
        os.close(fd)

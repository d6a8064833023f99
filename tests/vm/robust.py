"""Containers that put a strain on the measurer, run by crun in a guest, and what the log says of them."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from booted import Saves, changes, complaints

from testbed import measurers, plugins
from testbed.attest import verify
from testbed.attest.entries import parse
from testbed.attest.entries.parse import FileEntry, Payload, StartEntry
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry, read_entries
from testbed.attest.verdict import Verdict
from testbed.guest import Completed, Guest
from testbed.lab import attestation
from testbed.lab.block import Parts, deploy
from testbed.lab.machines.machine import Machine
from testbed.runtimes import Start, Steps

MEASURER = plugins.measurer("container-file")
VOLUME = "/volume"
CGROUP = "/testbed"
LOG = "/sys/kernel/security/ima/binary_runtime_measurements"
# Two containers at once are two at once only with as many processors.
PROCESSORS = 2
# What a container has that is trusted to mount things.
_MORE = ("CAP_SYS_ADMIN", "CAP_MKNOD")
_HERE = Path(__file__).parent
_SECONDS = 300
# Runs in the guest: all containers are prepared, then all are started, then all are waited for. With an argument the
# first is killed: after a word from it, once it has read (or the kernel for it) so many bytes more.
_START = """
import json, os, subprocess, sys, time
def pid_of(start):
    (found,) = open("/sys/fs/cgroup" + start["cgroup"] + "/cgroup.procs").read().split()
    return int(found)
def read_by(pid):
    return int(open(f"/proc/{pid}/io").read().split()[1])
def kill(start, process, size):
    process.stdout.readline()
    pid = pid_of(start)
    begun = read_by(pid)
    while read_by(pid) < begun + size:
        time.sleep(0.01)
    os.kill(pid, 9)
    print(process.wait())
starts = json.load(sys.stdin)
for start in starts:
    for path, text in start["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text)
    for command in start["before"]:
        subprocess.run(command, check=True)
size = int(sys.argv[1])
running = [subprocess.Popen(start["run"], stdout=subprocess.PIPE if size else None) for start in starts]
if size:
    kill(starts[0], running[0], size)
codes = [one.wait() for one in running]
for command in [command for start in starts for command in start["after"]]:
    subprocess.run(command, check=True)
assert size or not any(codes), codes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """A container: ``id`` is the runtime's, ``root`` the directory of the guest below its overlay.

    ``rights``: capabilities beside those that all have here. ``changes``: what else is changed in its ``config.json``.
    """

    argv: tuple[str, ...]
    root: str = "/"
    rights: tuple[str, ...] = ()
    changes: tuple[Callable[[dict[str, Any]], None], ...] = ()
    id: str = field(default_factory=lambda: secrets.token_hex(32))

    def steps(self) -> Steps:
        """Return what starts it: as ``plugins.runtime("crun")`` does, with more rights, and with the volume."""
        made = plugins.runtime("crun").steps(Start(id=self.id, image=self.root, argv=self.argv, cgroup=CGROUP))
        return dataclasses.replace(
            made, files={path: self._more(json.loads(text)) for path, text in made.files.items()}
        )

    def _more(self, config: dict[str, Any]) -> str:
        process = config["process"]
        more = (*_MORE, *self.rights)
        process["capabilities"] = {kind: [*held, *more] for kind, held in process["capabilities"].items()}
        process["env"] += [f"PYTHONPATH={VOLUME}", "PYTHONDONTWRITEBYTECODE=1"]
        volume = {"destination": VOLUME, "type": "bind", "source": f"/root{VOLUME}", "options": ["bind"]}
        config["mounts"].append(volume)
        for change in self.changes:
            change(config)
        return json.dumps(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A booted machine with its measurer attached."""

    machine: Machine
    ak: bytes
    directory: Path
    fetched: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def guest(self) -> Guest:
        return self.machine.guest

    def start(
        self, *containers: Contained, kill_after: int = 0, check: bool = True, seconds: float = _SECONDS
    ) -> Completed:
        """Run containers, all at the same time, to their ends; or kill the only one when it has read so many bytes.

        Raises ``DeployError`` if ``check`` and one of them failed.
        """
        steps = [dataclasses.asdict(one.steps()) | {"cgroup": f"{CGROUP}/{one.id}"} for one in containers]
        argv = ("python3", "-c", _START, str(kill_after))
        return self.guest.run(argv, input=json.dumps(steps).encode(), timeout=seconds, check=check)

    def play(self, call: str) -> tuple[list[FileEntry], str]:
        """Run one of ``scenarios`` in a container; return the entries of its files and what it printed."""
        one = scenario(call)
        said = self.start(one).text
        return self.files(one), said

    def prepare(self, source: str) -> None:
        """Run a script on the guest itself, with everything of ``stress`` at hand: its trees for containers' roots."""
        words = f"import os, sys; sys.path.insert(0, '/root{VOLUME}'); from stress import *; {source}"
        self.guest.run(("python3", "-c", words), timeout=_SECONDS)

    def place(self, name: str) -> str:
        """Make a directory on the volume; return its path in containers."""
        self.guest.run(("mkdir", f"/root{VOLUME}/{name}"))
        return f"{VOLUME}/{name}"

    def log(self) -> list[Entry]:
        # It only grows, to tens of megabytes: what is known already is not fetched again.
        more = self.guest.run(("tail", "-c", f"+{len(self.fetched) + 1}", LOG), timeout=_SECONDS)
        self.fetched.extend(more.out)
        return [entry for entry in read_entries(bytes(self.fetched)) if entry.pcr == MEASURER.pcr]

    def files(self, container: Contained) -> list[FileEntry]:
        """Return the entries of a container's files. It must have exactly one start, and nothing before it."""
        payloads = [payload_of(entry) for entry in self.log()]
        (start,) = [one for one in payloads if _is_start(one, container)]
        theirs = [one for one in payloads if isinstance(one, FileEntry) and one.container.seq == start.container.seq]
        assert {one.container for one in theirs} <= {start.container}
        assert not theirs or payloads.index(start) < payloads.index(theirs[0])
        return theirs

    def counters(self) -> dict[str, int]:
        return measurers.counters(MEASURER, self.guest)

    @contextmanager
    def counting(self, **expected: int) -> Iterator[None]:
        """Check that no ``unmeasured_*`` counter changes meanwhile but as expected, and others that are named."""
        with changes(MEASURER, self.guest) as changed:
            yield
        told = {name: n for name, n in changed.items() if name.startswith("unmeasured_") or name in expected}
        assert told == expected, changed

    def judged(self) -> tuple[list[Entry], Verdict]:
        """Quote and verify; return what PCR 11 attests."""
        where = self.directory / secrets.token_hex(4)
        measurers.beat(MEASURER, self.guest)
        got = attestation.collect(self.guest, (10, 11), secrets.token_bytes(32), self.machine.clone_id, where)
        verdict = verify.verify(where, ak=self.ak, nonce=got.nonce)
        return [e for e in verify.attested_entries(where, verdict) if e.pcr == MEASURER.pcr], verdict

    def splats(self) -> list[str]:
        """Return the lines by which the kernel complains of itself since the measurer is there."""
        return complaints(self.guest)


def scenario(call: str) -> Contained:
    """Return a container that runs Python, the guest's own."""
    return Contained(argv=("/usr/bin/python3", "-c", f"from scenarios import *; {call}"))


def payload_of(entry: Entry) -> Payload:
    fields = parse_fields(entry)
    return parse.parse_payload(fields.name, fields.buf or b"")


def below(files: Sequence[FileEntry], place: str) -> list[FileEntry]:
    return [one for one in files if one.path.startswith(place.encode() + b"/")]


def sources() -> Iterator[tuple[Path, str]]:
    """Yield what containers import, and what it is called on the volume."""
    for path in (_HERE / "stress.py", _HERE / "scenarios.py", *sorted(_HERE.glob("holes/*.py"))):
        yield path, str(path.relative_to(_HERE))


@contextmanager
def subject(saves: Saves, part: Parts, directory: Path) -> Iterator[Subject]:
    """Hold a machine whose measurer is attached, with the scenarios on a volume that its containers share."""

    def bring(guest: Guest) -> None:
        deploy(guest, part.bundle)
        for path, name in sources():
            guest.put(path.read_bytes(), f"/root{VOLUME}/{name}")

    spec = dataclasses.replace(part.machine, vcpus=PROCESSORS)
    with saves.restored(spec, directory, "scenarios", bring) as (machine, ak), MEASURER.attach(MEASURER, machine.guest):
        yield Subject(machine=machine, ak=ak, directory=directory)


def _is_start(payload: Payload, container: Contained) -> TypeGuard[StartEntry]:
    return isinstance(payload, StartEntry) and parse.runtime_id(payload.cgroup_path) == container.id

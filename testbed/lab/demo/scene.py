"""The two containers of the demo: what they run, how they are started, and the library that they share."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass

from testbed import plugins
from testbed.errors import DeployError, LabError
from testbed.guest import Guest
from testbed.lab.build import store
from testbed.lab.iterate import CGROUP, DRIVER
from testbed.measurers import Measurer
from testbed.runtimes import Start

IMAGE = "tools"
RUNTIME = "crun"
MEASURER: Measurer = plugins.measurer("container-image")
LIBRARY = "/usr/lib/x86_64-linux-gnu/libc.so.6"
# The last program of each script, which goes on running: its entry says that the script came to its end.
WAITING = "/usr/bin/tail"
AGAIN = "/usr/bin/ls"
# On the guest's disk: a file in memory would not be bound, and the disk of images is read-only.
LAYERS = "/var/lib/testbed/demo"
_PLACE = "/run/testbed/demo"
_START_SECONDS = 60.0
_COPY_SECONDS = 300.0

# In the background: its containers start while somebody reads the log. The status is there when all were started.
_BACKGROUND = f"""
mkdir -p {_PLACE}
rm -f {_PLACE}/status
cat >{_PLACE}/steps
(python3 {DRIVER} begin <{_PLACE}/steps >{_PLACE}/said 2>&1; echo $? >{_PLACE}/status) >/dev/null 2>&1 </dev/null &
"""
_STATUS = f"cat {_PLACE}/status 2>/dev/null && cat {_PLACE}/said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One container. ``programs``: what its shell runs one after the other, before it waits."""

    name: str
    programs: tuple[str, ...]

    @property
    def id(self) -> str:
        """What the runtime calls it: 64 hex digits, as engines choose them."""
        return hashlib.sha256(f"demo/{self.name}".encode()).hexdigest()

    @property
    def argv(self) -> tuple[str, ...]:
        """The container's first program, with a pause before each further one so that a reader can follow."""
        steps = [f"sleep 0.5; {program} >/dev/null" for program in self.programs]
        return ("/usr/bin/bash", "-c", "; ".join([*steps, f"exec {WAITING} -f /dev/null"]))


ACTORS = (
    Actor(name="first", programs=(f"{AGAIN} /", "sha256sum /etc/passwd", "sort /etc/passwd")),
    Actor(name="second", programs=("grep -c root /etc/passwd", "sed -n 1p /etc/passwd")),
)


def unpack(guest: Guest, reference: str) -> str:
    """Copy an image from the disk of images to where root on the host can change it.

    Return its layers as ``Start.image`` wants them. Raises ``DeployError``.
    """
    for words in store.mount_words():
        guest.run(words)
    guest.run(("mkdir", "-p", LAYERS))
    layers = plugins.runtime(RUNTIME).locate(guest, reference).split(":")
    guest.run(("cp", "-a", "--", *layers, LAYERS), timeout=_COPY_SECONDS)
    return ":".join(f"{LAYERS}/{layer.rpartition('/')[2]}" for layer in layers)


def start(guest: Guest, image: str) -> None:
    """Start all containers, one after the other, in the background; ``check_started`` says how that went.

    ``image``: what ``unpack`` returned.
    """
    runtime = plugins.runtime(RUNTIME)
    if runtime.detached is None:
        raise LabError(f"runtime {RUNTIME} cannot start containers that stay alive", "use crun or runc")
    starts = (Start(id=actor.id, image=image, argv=actor.argv, cgroup=f"{CGROUP}/containers") for actor in ACTORS)
    steps = json.dumps([asdict(runtime.detached(one)) for one in starts]).encode()
    guest.run(("sh", "-ec", _BACKGROUND), input=steps, timeout=_START_SECONDS)


def check_started(guest: Guest) -> None:
    """Raise ``DeployError`` if a container could not be started; nothing is said while they start."""
    status, _, said = guest.run(("sh", "-c", _STATUS), check=False).text.partition("\n")
    if status not in {"", "0"}:
        raise DeployError(f"the guest could not start the containers: {said.strip()}", "look at the image and crun")


def find(guest: Guest, image: str, path: str) -> str:
    """Return where the topmost layer of an image that has the file at ``path`` has it. Raises ``LabError``."""
    for layer in image.split(":"):
        if guest.run(("test", "-f", f"{layer}{path}"), check=False).code == 0:
            return f"{layer}{path}"
    raise LabError(f"guest: no layer of the image has {path}", "use an image with Debian's C library")


def execute(actor: Actor, *words: str) -> tuple[str, ...]:
    """Return the command that runs a program in a container that is alive."""
    return (RUNTIME, "exec", actor.id, *words)


def shown(argv: tuple[str, ...]) -> str:
    """Write a command as people paste it, with long ids cut."""
    return "# " + " ".join(
        f"{word[:12]}…" if word in {actor.id for actor in ACTORS} else shlex.quote(word) for word in argv
    )

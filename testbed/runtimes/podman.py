"""podman with crun: a container as podman's users start it.

podman is a Go program: the work of Go's scheduler and garbage collector differs from run to run by several per cent of
a start, also under icount. For small workloads measure an OCI runtime alone (``crun``).
"""

from __future__ import annotations

from testbed.guest import Guest
from testbed.runtimes import Runtime, Start, Steps

LOAD = ("podman", "load", "--quiet", "--input")
# The cgroupfs manager puts conmon and the container below one parent, so that one `cpu.stat` counts both.
_RUN = ("podman", "--cgroup-manager=cgroupfs", "--runtime=crun", "--log-level=error", "run")
# It is removed after the timed part, as with every runtime. With --rm podman also removes the file with the id.
_REMOVE = ("podman", "--cgroup-manager=cgroupfs", "--log-level=error", "rm", "--force")
_ALONE = ("--network=none", "--pull=never", "--log-driver=none")


def _locate(_: Guest, reference: str) -> str:
    return reference


def _steps(start: Start) -> Steps:
    cidfile = f"/run/testbed/{start.id}.cid"
    where = (f"--cgroup-parent={start.cgroup}", f"--cidfile={cidfile}", f"--name={start.id}")
    return Steps(
        run=(*_RUN, *_ALONE, *where, start.image, *start.argv),
        after=((*_REMOVE, start.id), ("rm", "-f", cidfile)),
        cidfile=cidfile,
    )


RUNTIME = Runtime(name="podman", summary="podman with crun", load=LOAD, locate=_locate, steps=_steps)

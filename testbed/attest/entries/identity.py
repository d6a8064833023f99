"""Which container is it? What a cgroup's path proves about a runtime's id, and what it only claims.

A container can make cgroups only below its own, with any names. So the host chose the first id in a path. An id that
follows another one was chosen by the container with the first id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_HEX = "[0-9a-f]{64}"
_ENGINES = "libpod-payload|libpod|docker|nerdctl|crio|cri-containerd|crun|runc"
# podman, docker, CRI-O and containerd put their name before the id; an OCI runtime called directly need not.
_PART = re.compile(rf"(?:({_ENGINES})-)?({_HEX})(?:\.scope)?")
# OCI runtimes use any cgroup that their caller names, so these names can be anywhere.
_PLAIN = frozenset({"", "crun", "runc"})
_USER = r"/user\.slice/user-\d+\.slice/user@\d+\.service"
_KUBE = (
    r"/kubepods\.slice(?:/kubepods-(?:burstable|besteffort)\.slice)?/kubepods(?:-burstable|-besteffort)?-pod\w+\.slice"
)
_KUBE_FS = r"/kubepods(?:/(?:burstable|besteffort))?/pod[0-9a-f-]+"
# Where engines put a container's cgroup, by the name before the id: with systemd, then without, rootful and rootless.
_PODMAN = (
    rf"/machine\.slice(?:/machine-libpod_pod_{_HEX}\.slice)?",
    rf"{_USER}/user\.slice(?:/user-libpod_pod_{_HEX}\.slice)?",
    rf"(?:{_USER}/[^/]+)?/libpod_parent(?:/{_HEX})?",
)
_SERVICES = (r"/system\.slice/[^/]+\.service", rf"{_USER}/[^/]+\.slice/[^/]+\.service")  # `--cgroups=split`
_SYSTEM = (r"/system\.slice", rf"{_USER}/user\.slice")
_KUBERNETES = (_KUBE, _KUBE_FS)
_PLACES: dict[str, re.Pattern[str]] = {
    engine: re.compile("|".join(places))
    for engine, places in {
        "libpod": _PODMAN,
        "libpod-payload": _SERVICES,
        "docker": _SYSTEM,
        "nerdctl": _SYSTEM,
        "crio": (*_KUBERNETES, r"/machine\.slice", r"/system\.slice"),
        "cri-containerd": (*_KUBERNETES, r"/system\.slice"),
        "crun": (*_SYSTEM, r"/machine\.slice"),
        "runc": (*_SYSTEM, r"/machine\.slice"),
        "": ("/docker", "/default", _KUBE_FS),
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a cgroup's path the first id is.

    ``engine``: the name before the id, if any. ``above``: the path before it, nothing for the root of all. ``inside``:
    another id follows, so this is the cgroup of a container inside the one that has the first id.
    """

    id: str
    engine: str
    above: str
    inside: bool


def find_place(cgroup_path: str) -> Place | None:
    """Return where the first id of a runtime is in a path; ``None`` if there is none."""
    parts = cgroup_path.split("/")
    ids = [(at, match) for at, part in enumerate(parts) if (match := _PART.fullmatch(part))]
    if not ids:
        return None
    # podman's cgroupfs manager has a pod's containers below a cgroup that is called by the pod's bare id.
    if len(ids) > 1 and not ids[0][1][1] and ids[1][1][1] == "libpod" and ids[1][0] == ids[0][0] + 1:
        del ids[0]
    at, match = ids[0]
    return Place(id=match[2], engine=match[1] or "", above="/".join(parts[:at]), inside=len(ids) > 1)


def id_in(cgroup_path: str, parent: int) -> str | None:
    """Return the runtime's id of a container, as ``own_id`` does, by its cgroup's path."""
    return own_id(find_place(cgroup_path), parent)


def own_id(place: Place | None, parent: int) -> str | None:
    """Return the runtime's id of a container; ``None`` for one inside another, which can choose its cgroup's name.

    ``parent``: the ``seq`` of the container that started it, 0 for the host.
    """
    return None if place is None or place.inside or parent else place.id


def believed(place: Place, prefixes: Iterable[str] = (), *, before: bool = False) -> bool:
    """Whether only the host can have made this cgroup, so that its id is the runtime's.

    ``prefixes``: further paths that only the host makes cgroups at. ``before``: the container ran before the measurer,
    so the measurer did not see who started it. Then an id is believed only where no container can make cgroups.
    """
    above = place.above
    for prefix in prefixes:
        top = prefix.rstrip("/")
        if above == top or (not before and above.startswith(f"{top}/")):
            return True
    if _PLACES[place.engine].fullmatch(above):
        return True
    return not before and place.engine in _PLAIN

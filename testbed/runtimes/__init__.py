"""A container runtime: how the guest starts a container with it.

To add one, write ``runtimes/NAME.py`` with a module-level ``RUNTIME``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from testbed.guest import Guest

Argv = tuple[str, ...]

# Where a guest has its disk of unpacked images, if it has one (``lab.build.store`` says what is on it).
STORE = "/var/lib/testbed/store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One container to start. ``id``: a unique name; ``image``: what ``Runtime.locate`` returned.

    Everything that is started must stay below ``cgroup`` (a path below the cgroup2 root), whose CPU time is measured.
    ``pod``: name of the pod that it belongs to, empty for none; the first container of a pod (``leads``) makes the
    namespaces that all of them share.
    """

    id: str
    image: str
    argv: Argv
    cgroup: str
    pod: str = ""
    leads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the guest does for one start: ``files`` are written, ``before`` is run, ``run`` is timed, then ``after``.

    ``cidfile``: where the runtime writes its own id of the container; empty: the id is ``Start.id``.
    """

    run: Argv
    files: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Argv, ...] = ()
    after: tuple[Argv, ...] = ()
    cidfile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One way to start a container.

    ``load``: the words that bring an OCI archive, whose path is added, into its own store. ``unpacked``: whether it
    also takes images from the disk at ``STORE``, so that it needs no load if the guest has that disk. ``locate`` asks
    the guest for the name or path of an image, given its digest, that ``steps`` must use. ``pods``: whether it starts
    pods. ``detached``: as ``steps``, but ``run`` returns when the container has started, and leaves it alive; ``None``
    if it cannot.
    """

    name: str
    summary: str
    load: Argv
    locate: Callable[[Guest, str], str]
    steps: Callable[[Start], Steps]
    unpacked: bool = False
    pods: bool = False
    detached: Callable[[Start], Steps] | None = None

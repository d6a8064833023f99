"""An OCI runtime called directly on a bundle: no engine, no monitor. Its images are already unpacked.

The bundle (OCI runtime specification 1.0, ``config.json``) asks for the same as podman: own namespaces, the default
capabilities, ``/proc``, ``/sys`` and ``/dev`` of its own; the root is a fresh overlay on the image's layers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from testbed.errors import DeployError
from testbed.guest import Guest
from testbed.runtimes import STORE, Runtime, Start, Steps
from testbed.runtimes.podman import LOAD

_BUNDLES = "/run/testbed/bundles"
_PODS = "/run/testbed/pods"
# What the containers of a pod share, by its name in config.json and in unshare(1).
_SHARED = {"network": "net", "ipc": "ipc", "uts": "uts"}
_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
]
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_HIDDEN = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def runtime(program: str) -> Runtime:
    """Return the OCI runtime of this name, called directly."""
    return Runtime(
        name=program,
        summary=f"{program} alone, on a bundle",
        load=LOAD,
        locate=locate,
        steps=lambda start: steps(program, start),
        unpacked=True,
        pods=True,
        detached=lambda start: detached(program, start),
    )


def locate(guest: Guest, reference: str) -> str:
    """Return the image's layers, the topmost first, as ``lowerdir`` of an overlay wants them.

    They are on the disk of images, or else in podman's store. Raises ``DeployError`` if neither has the image.
    """
    listed = guest.run(("cat", f"{STORE}/images/{reference.rpartition(':')[2]}"), check=False)
    if listed.code == 0:
        return ":".join(f"{STORE}/layers/{layer}" for layer in listed.text.split())
    said = guest.run(("podman", "image", "inspect", reference))
    data = json.loads(said.out)[0]["GraphDriver"]["Data"]
    layers = [data[key] for key in ("UpperDir", "LowerDir") if data.get(key)]
    if not layers:
        raise DeployError(f"podman lists no layers of {reference}: {data}", "its store must use the overlay driver")
    return ":".join(layers)


def steps(program: str, start: Start) -> Steps:
    """Return the steps to start one container: bundle and overlay are made before the timed part, removed after it."""
    bundle = f"{_BUNDLES}/{start.id}"
    root = f"{bundle}/rootfs"
    layers = f"lowerdir={start.image},upperdir={bundle}/upper,workdir={bundle}/work"
    return Steps(
        files={f"{bundle}/config.json": json.dumps(config(start))},
        # Without the variable an option has at most 256 bytes, which two or three layers exceed (fsconfig(2)).
        before=(
            *_pod_begins(start),
            ("mkdir", "-p", root, f"{bundle}/upper", f"{bundle}/work"),
            ("env", "LIBMOUNT_FORCE_MOUNT2=always", "mount", "-t", "overlay", "overlay", "-o", layers, root),
        ),
        run=(program, "run", "--bundle", bundle, start.id),
        after=(("umount", root), ("rm", "-rf", bundle), *_pod_ends(start)),
    )


def detached(program: str, start: Start) -> Steps:
    """Return the steps that start one container and leave it alive."""
    run = (program, "run", "--detach", "--bundle", f"{_BUNDLES}/{start.id}", start.id)
    return replace(steps(program, start), run=run)


def _pod_begins(start: Start) -> tuple[tuple[str, ...], ...]:
    """Return the steps to make a pod's namespaces: a mount on a file keeps each alive, so no process must stay."""
    if not (start.pod and start.leads):
        return ()
    files = {kind: f"{_PODS}/{start.pod}/{kind}" for kind in _SHARED}
    kept = (f"--{option}={files[kind]}" for kind, option in _SHARED.items())
    return (
        ("mkdir", "-p", f"{_PODS}/{start.pod}"),
        ("touch", *files.values()),
        ("unshare", *kept, "sh", "-c", f"hostname {start.pod} && exec busybox ip link set lo up"),
    )


def _pod_ends(start: Start) -> tuple[tuple[str, ...], ...]:
    if not (start.pod and start.leads):
        return ()
    pod = f"{_PODS}/{start.pod}"
    return (("umount", *(f"{pod}/{kind}" for kind in _SHARED)), ("rm", "-r", pod))


def _namespaces(start: Start) -> list[dict[str, str]]:
    shared = {kind: {"path": f"{_PODS}/{start.pod}/{kind}"} for kind in _SHARED} if start.pod else {}
    return [{"type": kind} | shared.get(kind, {}) for kind in _NAMESPACES]


def config(start: Start) -> dict[str, Any]:
    """Return the bundle's ``config.json``."""
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(start.argv),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
            "cwd": "/",
            "capabilities": dict.fromkeys(sets, _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        # The pod's UTS namespace already has the pod's name; a runtime refuses to set it again.
        **({} if start.pod else {"hostname": start.id}),
        "mounts": _mounts(),
        "linux": {
            "cgroupsPath": f"{start.cgroup}/{start.id}",
            "namespaces": _namespaces(start),
            "maskedPaths": list(_HIDDEN),
            "readonlyPaths": list(_READ_ONLY),
        },
    }


def _mounts() -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    rows: tuple[tuple[str, str, list[str]], ...] = (
        ("/proc", "proc", quiet),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", [*quiet, "mode=1777", "size=65536k"]),  # noqa: S108 - a mount
        ("/dev/mqueue", "mqueue", quiet),
        ("/sys", "sysfs", [*quiet, "ro"]),
        ("/sys/fs/cgroup", "cgroup", [*quiet, "relatime", "ro"]),
    )
    return [{"destination": at, "type": kind, "source": kind, "options": options} for at, kind, options in rows]

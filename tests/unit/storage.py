"""The oracle for images: skopeo unpacks them with containers/storage, the library of podman."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from testbed import shell
from testbed.attest.image.tree import Node, read_node

ROOT = os.geteuid() == 0
UMOCI_NAME = {"org.opencontainers.image.ref.name": "x"}


def needs(program: str) -> None:
    """Skip a test whose program is missing, but not in CI: ``setup/apt-packages.txt`` lists the package."""
    if shell.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is missing, though setup/apt-packages.txt lists its package: run `make setup`")
        pytest.skip(f"no {program} on this machine (package {program})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What skopeo unpacked: ``top`` is its directory, ``None`` where it failed; ``said``: its error."""

    top: Path | None
    said: str = ""


def unpack(image: str, work: Path, driver: str = "vfs") -> Unpacked:
    """Copy an image (`TRANSPORT:PATH`) into a fresh store in ``work``."""
    store = f"containers-storage:[{driver}@{work}/graph+{work}/run]image"
    copy = ["skopeo", "--insecure-policy", "--tmpdir", str(work), "copy", "--quiet", image, store]
    # The mounts that skopeo makes end with their namespace.
    done = subprocess.run(["unshare", "--mount", *copy], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        return Unpacked(top=None, said=done.stderr)
    layers = {one["id"]: one for one in json.loads((work / f"graph/{driver}-layers/layers.json").read_text())}
    (only,) = json.loads((work / f"graph/{driver}-images/images.json").read_text())
    chain, layer = [], only["layer"]
    while layer:
        chain.append(layer)
        layer = layers[layer].get("parent")
    if driver == "vfs":
        return Unpacked(top=work / "graph/vfs/dir" / chain[0])
    lower = ":".join(f"{work}/graph/overlay/{one}/diff" for one in chain)
    for name in ("merged", "upper", "work"):
        (work / name).mkdir()
    options = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(work / "merged")]
    subprocess.run(mount, env=os.environ | {"LIBMOUNT_FORCE_MOUNT2": "always"}, check=True)
    return Unpacked(top=work / "merged")


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for stores, in memory if there is such a place: skopeo syncs every file."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="testbed-store-", dir=memory if os.access(memory, os.W_OK) else None
    ) as name:
        try:
            yield Path(name)
        finally:
            if (Path(name) / "merged").is_mount():
                subprocess.run(["umount", f"{name}/merged"], check=True)


def kept(top: Path) -> dict[bytes, Node]:
    """Read a tree with all contents, so that its directory may go.

    In a directory that is not merged, overlay shows a whiteout's name, which leads to nothing: that is no file.
    """
    nodes, waiting = {}, [b""]
    while waiting:
        path = waiting.pop()
        try:
            node = read_node(os.fsencode(top) + b"/" + path)
        except FileNotFoundError:
            continue
        nodes[path] = node
        if node.type == stat.S_IFDIR:
            names = os.listdir(os.fsencode(top) + b"/" + path)  # noqa: PTH208 - names are bytes, a Path is text
            waiting += [path + b"/" + name if path else name for name in names]
        elif node.open is not None:
            with node.open() as file:
                nodes[path] = replace(node, open=partial(BytesIO, file.read()))
    return nodes


def umoci(layout: Path, bundle: Path) -> dict[bytes, Node] | None:
    """The tree that umoci unpacks of the image ``x`` of a layout; ``None`` if it cannot."""
    done = subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", str(bundle)], capture_output=True, check=False)
    return kept(bundle / "rootfs") if done.returncode == 0 else None


def described(nodes: Mapping[bytes, Node]) -> dict[bytes, tuple[object, ...]]:
    """Everything of a tree that the digest covers, to be compared and read; the root's own fields do not count."""
    found = {}
    for path, node in nodes.items():
        content = b""
        if node.open is not None:
            with node.open() as file:
                content = file.read()
        rdev = node.rdev if node.type in {stat.S_IFCHR, stat.S_IFBLK} else None
        mode = oct(stat.S_IMODE(node.mode)) if node.type != stat.S_IFLNK else ""
        kept = {name: value for name, value in node.xattrs.items() if not name.startswith(b"trusted.overlay.")}
        found[path] = (node.type >> 12, mode, node.uid, node.gid, rdev, kept, node.target, content)
    return {path: one for path, one in found.items() if path}

"""Make a reference policy: of container images, of a root file system, or of what a log says (trust on first use)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from testbed.attest import entries as payloads
from testbed.attest.archive import Image, open_image
from testbed.attest.finding import BadEvidence
from testbed.attest.ima import Entry, Fields, parse_fields
from testbed.attest.policy_file import BOOT_AGGREGATE, KINDS, Document, escape_path, is_host_name
from testbed.attest.policy_file import Image as ImageValues
from testbed.attest.tree import tree_digest
from testbed.errors import SpecError, TestbedError

ANY = "*"
_REF_NAME = "org.opencontainers.image.ref.name"
_NOT_IN_NAMES = re.compile(r"[^!-~]")
_SHOWN = 5

Files = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A policy's document as JSON has it, and what the person should know about it."""

    document: dict[str, Any]
    notes: tuple[str, ...] = ()


def from_images(archives: Sequence[Path]) -> Made:
    """List every regular file of OCI archives, by image. Raises ``SpecError``."""
    images: dict[str, Any] = {}
    for archive in archives:
        try:
            with open_image(archive) as image:
                name = image_name(archive)
                made = {"digest": tree_digest(image.nodes).hex(), "files": _image_files(image)}
        except (TestbedError, OSError, EOFError, tarfile.TarError) as error:
            raise SpecError(f"{archive}: no image that can be read: {error}") from error
        if images.setdefault(name, made) != made:
            hint = "make two policies, or give the archives names of their own"
            raise SpecError(f"{archive}: expected another image's name, got {name!r} for a second image", hint)
    return Made(document=_document(images=images, containers={ANY: sorted(images)}))


def image_name(archive: Path) -> str:
    """Return the name that an archive's index gives its image, else that of the file."""
    with tarfile.open(archive, "r:") as outer:
        member = outer.extractfile("index.json")
        index = json.load(member) if member else {}
    name = (index["manifests"][0].get("annotations") or {}).get(_REF_NAME)
    if not isinstance(name, str) or not name:
        name = archive.name.removesuffix(".tar").removesuffix(".oci")
    return _NOT_IN_NAMES.sub("_", name)[:255]


def from_rootfs(top: Path, track: Callable[[list[bytes]], Iterable[bytes]] = iter) -> Made:
    """List every regular file below ``top``, on its file system. ``track`` is handed the paths and yields them.

    No symbolic link is followed. Raises ``SpecError`` if anything cannot be read: it would be missing.
    """
    files: Files = {}
    failed: list[str] = []
    base = os.fsencode(top)
    paths, mounts = _walk(base, failed)
    for path in track(paths):
        try:
            digest = _hash(base + path)
        except OSError as error:
            failed.append(_failure(path, error))
        else:
            if digest is not None:
                files[escape_path(path)] = [digest]
    if failed:
        shown = "\n".join(f"  {line}" for line in failed[:_SHOWN])
        more = f"\n  and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        hint = "run it as a user who may read all of it, or remove what no machine needs"
        raise SpecError(f"{top}: {len(failed)} files or directories cannot be read:\n{shown}{more}", hint)
    notes = tuple(f"not entered: {escape_path(mount)} is another file system" for mount in mounts)
    return Made(document=_document(files=files), notes=notes)


def from_entries(entries: Iterable[Entry]) -> Made:
    """List what a log says that it measured, as it is: files and buffers of the host, and each container's files."""
    log = _Log()
    for entry in entries:
        try:
            if entry.violation:
                log.left_out["violations, which vouch for nothing"] += 1
            else:
                log.add(parse_fields(entry))
        except BadEvidence as error:
            log.left_out[f"entries that cannot be judged ({error.where})"] += 1
    notes = tuple(f"left out: {count} {what}" for what, count in sorted(log.left_out.items()))
    return Made(document=log.document(), notes=notes)


def merge(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Add what ``new`` lists to ``base``. Raises ``SpecError`` for an image that is another in each."""
    for name in base["images"].keys() & new["images"].keys():
        if base["images"][name] != new["images"][name]:
            hint = "take it out of the policy first, or give the new one another name"
            raise SpecError(f"image {name!r} is in the policy already and is another one", hint)
    host = {key: _union(base["host"][key], new["host"][key]) for key in ("files", "buffers")}
    aggregates = sorted({*base["host"]["boot_aggregate"], *new["host"]["boot_aggregate"]})
    return {
        "schema": 1,
        "host": host | {"boot_aggregate": aggregates, "exclude": base["host"]["exclude"]},
        "images": base["images"] | new["images"],
        "containers": _union(base["containers"], new["containers"]),
        "on": base["on"],
    }


def as_json(document: Document) -> dict[str, Any]:
    """Return a document that was read as what can be merged and written."""
    host, on = document.host, document.on
    return {
        "schema": 1,
        "host": {
            "files": host.files,
            "boot_aggregate": host.boot_aggregate,
            "buffers": host.buffers,
            "exclude": host.exclude,
        },
        "images": {name: _image_json(one) for name, one in document.images.items()},
        "containers": document.containers,
        "on": {"violation": on.violation, "unknown": on.unknown},
    }


def _image_json(image: ImageValues) -> dict[str, Any]:
    told = {"digest": image.digest, "config": image.config}
    return {key: value for key, value in told.items() if value} | {"files": image.files}


class _Log:
    """What a log says, gathered entry by entry."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._files: dict[str, set[str]] = {}
        self._buffers: dict[str, set[str]] = {}
        self._aggregates: set[str] = set()
        self._names: dict[int, str | None] = {}
        self._containers: dict[int, dict[str, set[str]]] = {}
        self._trees: dict[int, str] = {}

    def add(self, fields: Fields) -> None:
        """Add an entry. Raises ``BadEvidence`` for one of ours that is none."""
        kind = f"verity:{fields.algorithm}" if fields.digest_type == "verity" else fields.algorithm
        digest = f"{kind}:{fields.digest.hex()}"
        if fields.buf is not None and fields.name.startswith(payloads.PREFIX):
            self._add_payload(payloads.parse_payload(fields.name, fields.buf))
        elif kind not in KINDS:
            self.left_out[f"digests of {kind}, which no policy has"] += 1
        elif fields.buf is not None and fields.name:
            _put(self._buffers, fields.name, digest)
        elif fields.name == BOOT_AGGREGATE.encode():
            self._aggregates.add(digest)
        elif not is_host_name(fields.name):
            self.left_out["names that no policy has"] += 1
        else:
            _put(self._files, fields.name, digest)

    def _add_payload(self, payload: payloads.Payload) -> None:
        if isinstance(payload, payloads.BeatEntry | payloads.ImageEntry | payloads.JoinEntry):
            return
        seq = payload.container.seq
        if isinstance(payload, payloads.StartEntry):
            self._names.setdefault(seq, payloads.runtime_id(payload.cgroup_path))
        elif isinstance(payload, payloads.ViolationEntry):
            self.left_out["violations, which vouch for nothing"] += 1
        elif isinstance(payload, payloads.LaunchEntry):
            if not payload.outcome:
                self._trees.setdefault(seq, payload.image.hex())
        elif payload.path.startswith(b"/"):
            _put(self._containers.setdefault(seq, {}), payload.path, f"sha256:{payload.digest.hex()}")
        else:
            self.left_out["files in containers that have no path"] += 1

    def document(self) -> dict[str, Any]:
        """Return what was gathered. A container that no runtime's id is known of can be any (`*`)."""
        images: dict[str, Any] = {}
        containers: dict[str, list[str]] = {}
        for seq in sorted(self._names.keys() | self._containers.keys()):
            runtime_id = self._names.get(seq)
            name = runtime_id or f"container-{seq}"
            files = images.setdefault(name, {"files": {}})["files"]
            files |= _union(files, _sorted(self._containers.get(seq, {})))
            if seq in self._trees:
                images[name]["digest"] = self._trees[seq]
            containers.setdefault(runtime_id or ANY, []).append(name)
        return _document(
            files=_sorted(self._files),
            boot_aggregate=sorted(self._aggregates),
            buffers=_sorted(self._buffers),
            images=images,
            containers={key: sorted(set(names)) for key, names in containers.items()},
        )


def _document(
    *,
    files: Files | None = None,
    boot_aggregate: Sequence[str] = (),
    buffers: Files | None = None,
    images: Mapping[str, Any] | None = None,
    containers: Files | None = None,
) -> dict[str, Any]:
    host = {"files": files or {}, "boot_aggregate": [*boot_aggregate], "buffers": buffers or {}, "exclude": []}
    on = {"violation": "reject", "unknown": "reject"}
    return {"schema": 1, "host": host, "images": {**(images or {})}, "containers": containers or {}, "on": on}


def _image_files(image: Image) -> Files:
    files: Files = {}
    for path, node in image.nodes.items():
        if node.open is not None:
            with node.open() as file:
                files[escape_path(b"/" + path)] = [_sha256(file)]
    return files


def _walk(base: bytes, failed: list[str]) -> tuple[list[bytes], list[bytes]]:
    """Return the regular files below ``base`` and the directories of other file systems, as paths from there."""
    files: list[bytes] = []
    mounts: list[bytes] = []
    waiting = [b""]
    try:
        device = Path(os.fsdecode(base)).stat().st_dev
    except OSError as error:
        failed.append(_failure(b"/", error))
        return [], []
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(base + above + b"/") as listing:
                for one in listing:
                    path = above + b"/" + one.name
                    status = one.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        files.append(path)
                    elif stat.S_ISDIR(status.st_mode):
                        (waiting if status.st_dev == device else mounts).append(path)
        except OSError as error:
            failed.append(_failure(above or b"/", error))
    return sorted(files), sorted(mounts)


def _hash(path: bytes) -> str | None:
    """Return a file's digest; ``None`` if it has become something else than a regular file since it was listed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _sha256(file)


def _sha256(file: BinaryIO) -> str:
    return f"sha256:{hashlib.file_digest(cast('io.BufferedReader', file), 'sha256').hexdigest()}"


def _failure(path: bytes, error: OSError) -> str:
    return f"{escape_path(path)}: {os.strerror(error.errno or 0)}"


def _put(table: dict[str, set[str]], name: bytes, digest: str) -> None:
    table.setdefault(escape_path(name), set()).add(digest)


def _sorted(table: Mapping[str, set[str]]) -> Files:
    return {key: sorted(values) for key, values in sorted(table.items())}


def _union(one: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> Files:
    return {key: sorted({*one.get(key, ()), *other.get(key, ())}) for key in sorted(one.keys() | other.keys())}

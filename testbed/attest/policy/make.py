"""Make a reference policy from container images or a root file system (from a log: ``policy.log``)."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from testbed import progress
from testbed.attest.image.archive import OpenImage, open_image
from testbed.attest.image.platform import Platform
from testbed.attest.image.tree import tree_digest
from testbed.attest.image.verity import digests_of
from testbed.attest.policy.keys import Document
from testbed.attest.policy.keys import Image as ImageValues
from testbed.attest.policy.paths import escape_path
from testbed.attest.policy.signers import key_text
from testbed.errors import BuildError, SpecError
from testbed.files import NotPlainFile, open_plain, reason

ANY = "*"
_NESTED = "/*"
_NAME_MAX = 255
_NOT_IN_NAMES = re.compile(r"[^!-~]")
_SHOWN = 5

Files = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePolicy:
    """A policy's document as JSON has it, and notes for the user."""

    document: dict[str, Any]
    notes: tuple[str, ...] = ()


def from_images(
    archives: Sequence[Path],
    names: Sequence[str] = (),
    *,
    platform: Platform | None = None,
    driver: str | None = None,
    roots: Callable[[OpenImage], Mapping[str, list[str]]] | None = None,
) -> MadePolicy:
    """List every regular file of images. ``names``: theirs in the policy, empty: as the archive says.

    ``platform`` and ``driver``: as for ``open_image``. ``roots``: gives the key of that name. Raises ``SpecError``, and
    ``HostError`` if this machine cannot read an image.
    """
    images: dict[str, Any] = {}
    notes: list[str] = []
    for archive, given in zip(archives, names or [""] * len(archives), strict=True):
        try:
            with open_image(archive, platform=platform, driver=driver) as image:
                name = _given_name(given, archive) if given else image_name(image, archive)
                made = {"digest": tree_digest(image.nodes).hex()} | ({"roots": roots(image)} if roots else {})
                made |= {"files": _image_files(image)}
                notes += [*image.notes, *_driver_notes(image, archive, driver)]
        except BuildError as error:
            raise SpecError(error.message, error.hint) from error
        if images.setdefault(name, made) != made:
            hint = f"name the images yourself: NAME={archive}"
            raise SpecError(f"{archive}: expected another image's name, got {name!r} for a second image", hint)
    return MadePolicy(document=document(images=images, containers={ANY: sorted(images)}), notes=tuple(notes))


def image_name(image: OpenImage, archive: Path) -> str:
    """Return the name that an archive gives its image, else that of the file."""
    name = image.reference or archive.name.removesuffix(".tar").removesuffix(".oci")
    return _NOT_IN_NAMES.sub("_", name)[:_NAME_MAX]


def _given_name(name: str, archive: Path) -> str:
    if len(name) > _NAME_MAX or _NOT_IN_NAMES.search(name):
        hint = "use letters, digits and punctuation of ASCII"
        raise SpecError(f"{archive}: expected a name of at most {_NAME_MAX} such characters, got {name[:80]!r}", hint)
    return name


def _driver_notes(image: OpenImage, archive: Path, only: str | None) -> list[str]:
    """Say which other trees the image can have: a policy has the digest of one."""
    platform = [f"{archive}: this is the image for {image.platform}"] if image.several else []
    others = [] if only else image.other_trees()
    return platform + [
        f"{archive}: the storage driver {driver} makes another tree, {tree_digest(nodes).hex()}; "
        f"the policy has that of {image.driver} (--driver)"
        for driver, nodes in others
    ]


def _counted(paths: list[bytes]) -> Iterable[bytes]:
    return progress.each(paths, "hashing", unit="files")


def from_rootfs(top: Path, track: Callable[[list[bytes]], Iterable[bytes]] = _counted) -> MadePolicy:
    """List every regular file below ``top``, on its file system. ``track`` gets the paths and yields them.

    No symbolic link is followed. Raises ``SpecError`` if anything cannot be read, because it would be missing in the
    policy.
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
        hint = "run it as a user who may read all files, or remove files that no machine needs"
        raise SpecError(f"{top}: {len(failed)} files or directories cannot be read:\n{shown}{more}", hint)
    notes = tuple(f"not entered: {escape_path(mount)} is another file system" for mount in mounts)
    return MadePolicy(document=document(files=files), notes=notes)


def from_keys(paths: Sequence[Path]) -> MadePolicy:
    """Accept what the keys in some files, certificates or public keys, have signed. Raises ``SpecError``."""
    return MadePolicy(document=document(keys=list(dict.fromkeys(key_text(path) for path in paths))))


def merge(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Add what ``new`` lists to ``base``. Raises ``SpecError`` for an image that has different content in the two."""
    for name in base["images"].keys() & new["images"].keys():
        if base["images"][name] != new["images"][name]:
            hint = "remove it from the policy first, or give the new one another name"
            raise SpecError(f"image {name!r} is in the policy already, with other content", hint)
    host = {key: union(base["host"][key], new["host"][key]) for key in ("files", "buffers")}
    aggregates = sorted({*base["host"]["boot_aggregate"], *new["host"]["boot_aggregate"]})
    cgroups = sorted({*base.get("cgroups", ()), *new.get("cgroups", ())})
    host |= {"boot_aggregate": aggregates, "exclude": base["host"]["exclude"]} | _signers(base["host"], new["host"])
    return {
        **base,
        "host": host,
        "images": base["images"] | new["images"],
        "containers": union(base["containers"], new["containers"]),
    } | ({"cgroups": cgroups} if cgroups else {})


def _signers(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both hosts; one that is in the base stays as it is there, with its paths."""
    signers = base.get("signed-by", [])
    known = {signer["key"] for signer in signers}
    signers = [*signers, *(signer for signer in new.get("signed-by", ()) if signer["key"] not in known)]
    return {"signed-by": signers} if signers else {}


def as_json(document: Document) -> dict[str, Any]:
    """Return a document that was read in the form that can be merged and written."""
    host = document.host
    signers = [signer.model_dump(exclude_none=True) for signer in host.signed_by]
    made = {
        "schema": 1,
        "host": {
            "files": host.files,
            "boot_aggregate": host.boot_aggregate,
            "buffers": host.buffers,
            "exclude": host.exclude,
        }
        | ({"signed-by": signers} if signers else {}),
        "images": {name: _image_json(image) for name, image in document.images.items()},
        "containers": document.containers,
        "on": document.on.model_dump(by_alias=True, exclude_unset=True)
        | {"violation": document.on.violation, "unknown": document.on.unknown},
    }
    more = {"cgroups": document.cgroups, "measurer": document.measurer and document.measurer.model_dump()}
    return made | {key: value for key, value in more.items() if value}


def _image_json(image: ImageValues) -> dict[str, Any]:
    """Return an image's keys without those that were left out: an empty list of mounts would allow no mount."""
    demands = image.model_dump(exclude={"files"}, exclude_none=True, by_alias=True)
    return demands | {"files": image.files}


def document(
    *,
    files: Files | None = None,
    boot_aggregate: Sequence[str] = (),
    buffers: Files | None = None,
    images: Mapping[str, Any] | None = None,
    containers: Files | None = None,
    cgroups: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> dict[str, Any]:
    host: dict[str, Any] = {"files": files or {}, "boot_aggregate": [*boot_aggregate], "buffers": buffers or {}}
    host |= {"exclude": []} | ({"signed-by": [{"key": key} for key in keys]} if keys else {})
    on = {"violation": "reject", "unknown": "reject"}
    made = {"schema": 1, "host": host, "images": {**(images or {})}, "containers": containers or {}, "on": on}
    return made | ({"cgroups": [*cgroups]} if cgroups else {})


def _image_files(image: OpenImage) -> Files:
    files: Files = {}
    for path, node in progress.each(image.nodes.items(), "policy", unit="files"):
        if node.open is not None:
            with node.open() as file:
                digests = digests_of(file)
                files[escape_path(b"/" + path)] = [f"sha256:{digests.sha256}", f"verity:sha256:{digests.verity}"]
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
                for item in listing:
                    path = above + b"/" + item.name
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        files.append(path)
                    elif stat.S_ISDIR(status.st_mode):
                        (waiting if status.st_dev == device else mounts).append(path)
        except OSError as error:
            failed.append(_failure(above or b"/", error))
    return sorted(files), sorted(mounts)


def _hash(path: bytes) -> str | None:
    """Return a file's digest; ``None`` if it is no longer a regular file."""
    try:
        with open_plain(path, follow=False) as file:
            return _sha256(file)
    except NotPlainFile:
        return None


def _sha256(file: BinaryIO) -> str:
    return f"sha256:{hashlib.file_digest(cast('Any', file), 'sha256').hexdigest()}"


def _failure(path: bytes, error: OSError) -> str:
    return f"{escape_path(path)}: {reason(error)}"


def union(first: Mapping[str, list[str]], second: Mapping[str, list[str]]) -> Files:
    return {key: sorted({*first.get(key, ()), *second.get(key, ())}) for key in sorted(first.keys() | second.keys())}

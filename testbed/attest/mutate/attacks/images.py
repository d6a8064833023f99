"""Honest evidence, with policies that do not list some of its files for the container's image."""

from __future__ import annotations

from functools import partial

from testbed.attest.entries.parse import runtime_id
from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.attacks.policies import EVIL, GOOD, IMAGE, Document, Edit, setting, victim_name, with_policy
from testbed.attest.mutate.engine.lines import needs_containers, payload, start_places
from testbed.attest.mutate.engine.model import Honest, by_files


def _lists_for_host(honest: Honest, document: Document) -> None:
    """Move a container's file to the host's list."""
    name = victim_name(honest)
    document["host"]["files"][name] = document["images"][IMAGE]["files"].pop(name)


def _lists_for_other_image(honest: Honest, document: Document) -> None:
    name = victim_name(honest)
    moved = document["images"][IMAGE]["files"].pop(name)
    document["images"]["other"] = {"files": {name: moved}}


def _excludes_for_container(honest: Honest, document: Document) -> None:
    name = victim_name(honest)
    del document["images"][IMAGE]["files"][name]
    document["host"]["exclude"] = ["".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in name)]


def _two_images(honest: Honest, document: Document) -> None:
    """List one file in one image only, and all the others in another image only."""
    name = victim_name(honest)
    document["images"]["other"] = {"files": {name: document["images"][IMAGE]["files"].pop(name)}}
    document["containers"]["*"].append("other")


def _by_id(honest: Honest, document: Document, image: str) -> None:
    """Name each container's image by the container's runtime id, and name no image for others."""
    ids = {runtime_id(payload(honest.entries[place])[72:]) for place in start_places(honest)}
    document["images"]["other"] = {"files": {EVIL: [GOOD]}}
    document["containers"] = {key: [image] for key in ids if key}


_POLICIES: tuple[tuple[str, str, str, Edit, tuple[str, ...]], ...] = (
    ("honest", "T05", "no attack: all files are listed", lambda _honest, _document: None, ()),
    (
        "host-list-for-container",
        "T05",
        "a container's file is in the host's list only",
        _lists_for_host,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "image-of-another",
        "T05",
        "a container's file is in another image only",
        _lists_for_other_image,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "exclude-for-container",
        "T70",
        "a container's file is excluded, which counts for the host only",
        _excludes_for_container,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "images-mixed",
        "T05",
        "a container that can be of two images runs files of both",
        _two_images,
        (Kind.UNKNOWN_FILE,),
    ),
    ("image-by-id", "T05", "no attack: each container's image is named by its id", partial(_by_id, image=IMAGE), ()),
    (
        "image-by-id-other",
        "T05",
        "another image is named by each container's id",
        partial(_by_id, image="other"),
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "container-without-image",
        "T05",
        "no image is named for the containers",
        setting(containers={}),
        (Kind.UNKNOWN_FILE,),
    ),
)
_files = partial(by_files, applies=needs_containers)

ATTACKS = tuple(
    _files(f"policy-{name}", row, f"with a policy: {summary}", partial(with_policy, edit=edit), *expect)
    for name, row, summary, edit, expect in _POLICIES
)

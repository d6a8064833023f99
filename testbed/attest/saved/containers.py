"""The containers of a saved state: a row each, with the image digests and sets of images that they share in tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from testbed.attest.entries.identity import id_in
from testbed.attest.finding import Container
from testbed.attest.saved.strict import Object

_U64 = (1 << 64) - 1
_DIGESTS, _IMAGES, _ROWS = KEYS = ("image_digests", "image_sets", "containers")
# The containers whose launch says that files of their image have no entries. Left out if there are none.
DRIFT = "drift"
# `digest`, `images`: places in the tables; no place (-1): none.
_ROW = ("seq", "mntns", "cgroup", "started", "parent", "counts_as", "entries", "digest", "images", "cgroup_path")
_NONE = -1
Key = TypeVar("Key", str, tuple[str, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedContainer:
    """A container of the attested log.

    ``images``: the policy's images that it may still have been started from, sorted. ``counts_as``: the container whose
    images judge it.
    """

    container: Container
    counts_as: int
    images: tuple[str, ...] = ()


def flatten(containers: Iterable[SavedContainer]) -> dict[str, Any]:
    """Return the JSON values of ``KEYS`` and perhaps ``DRIFT``: the same for the same containers in any order."""
    ordered = sorted(containers, key=lambda saved: saved.container.seq)
    drift = [saved.container.seq for saved in ordered if saved.container.drift]
    digests = _places(saved.container.image_digest for saved in ordered)
    images = _places(tuple(sorted(saved.images)) for saved in ordered)
    return {
        _DIGESTS: list(digests),
        _IMAGES: [list(names) for names in images],
        _ROWS: [_flat(saved, digests, images) for saved in ordered],
    } | ({DRIFT: drift} if drift else {})


def parse(top: Object) -> tuple[SavedContainer, ...]:
    """Read what ``flatten`` returns. Raises ``SpecError``."""
    digests = top.digests(_DIGESTS, 32)
    images = tuple(top.texts_each(_IMAGES))
    drift = frozenset(top.integers(DRIFT) if top.has(DRIFT) else ())
    containers = tuple(_container(row, digests, images, drift) for row in top.rows(_ROWS, _ROW))
    with_image = {saved.container.seq for saved in containers if saved.container.image_digest}
    top.demand(DRIFT, drift <= with_image, "containers with an image digest", sorted(drift))
    used = _places(saved.container.image_digest for saved in containers), _places(saved.images for saved in containers)
    top.demand(_DIGESTS, tuple(used[0]) == digests, "those of the rows, each once and in order", list(digests))
    top.demand(_IMAGES, tuple(used[1]) == images, "those of the rows, each once and in order", list(images))
    return containers


def _places(keys: Iterable[Key]) -> dict[Key, int]:
    """Return a number for each different key that is not empty, in order."""
    return {key: place for place, key in enumerate(sorted({key for key in keys if key}))}


def _flat(saved: SavedContainer, digests: dict[str, int], images: dict[tuple[str, ...], int]) -> list[int | str]:
    one = saved.container
    places = (digests.get(one.image_digest, _NONE), images.get(tuple(sorted(saved.images)), _NONE))
    return [
        *(one.seq, one.mntns, one.cgroup, one.started, one.parent, saved.counts_as, one.entries),
        *places,
        one.cgroup_path,
    ]


def _container(
    row: Object, digests: Sequence[str], images: Sequence[tuple[str, ...]], drift: Collection[int]
) -> SavedContainer:
    digest = row.integer("digest", least=_NONE, most=len(digests) - 1)
    names = row.integer("images", least=_NONE, most=len(images) - 1)
    path, parent = row.text("cgroup_path"), row.integer("parent", most=_U64)
    seq = row.integer("seq", least=1, most=_U64)
    container = Container(
        seq=seq,
        mntns=row.integer("mntns", most=_U64),
        cgroup=row.integer("cgroup", most=_U64),
        started=row.integer("started", most=_U64),
        cgroup_path=path,
        runtime_id=id_in(path, parent),
        image_digest="" if digest == _NONE else digests[digest],
        entries=row.integer("entries", least=1),
        parent=parent,
        drift=seq in drift,
    )
    counts_as = row.integer("counts_as", least=1, most=_U64)
    return SavedContainer(container=container, images=() if names == _NONE else images[names], counts_as=counts_as)

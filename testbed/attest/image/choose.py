"""Which of the images in an archive or a directory is meant, and where its layers are.

Formats: OCI image layout 1.0 (``index.json``), the archive of ``docker save`` (``manifest.json`` is a list), and the
directory of skopeo's transport ``dir`` (``manifest.json`` is one manifest). An index may list other indexes, images of
several platforms, and what is not an image: attestations, signatures, lists of packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.attest.image.content import Piece
from testbed.attest.image.platform import DEFAULT, Platform, best
from testbed.attest.image.source import BadImage, Source, a_list, an_object, parse_json

_REF_NAME = "org.opencontainers.image.ref.name"
_DOCKER_REFERENCE = "vnd.docker.reference.type"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_DEEPEST, _MOST = 5, 1000
ONE = "give one image, as `podman save`, `docker save`, `skopeo copy` or the lab writes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One image. ``layers``: the lowest first. ``diff_ids``: digests of the plain layers, if nothing else binds them.

    ``several``: whether it was chosen among those of several platforms.
    """

    layers: Sequence[Piece]
    diff_ids: Sequence[str] | None = None
    reference: str = ""
    platform: Platform | None = None
    several: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """A manifest that an index lists. ``top``: number of the entry of ``index.json`` through which it was found."""

    digest: str
    platform: Platform | None
    reference: str
    top: int


def choose(source: Source, wanted: Platform | None) -> Choice:
    """Return the one image, for ``wanted`` or the default platform. Raises ``BadImage``."""
    index = source.value("index.json")
    if index is not None:
        return _of_index(source, an_object(index, "index.json"), wanted)
    listed = source.value("manifest.json")
    if isinstance(listed, list):
        return _of_docker(source, listed, wanted)
    if listed is not None:
        manifest = an_object(listed, "manifest.json")
        if "manifests" in manifest:
            return _of_index(source, manifest, wanted)
        return _checked(_of_manifest(source, manifest), wanted)
    raise BadImage("neither index.json nor manifest.json is in it", ONE)


def is_layout(source: Source) -> bool:
    """Whether a directory holds an image's files, and is not itself the tree of one."""
    index = source.find("index.json")
    if index is not None and (source.find("oci-layout") is not None or (source.top / "blobs").is_dir()):
        return True
    version = source.find("version")
    if version is not None and version.read(0, 27) == b"Directory Transport Version":
        return source.find("manifest.json") is not None
    try:
        listed = source.value("manifest.json")
    except BadImage:
        return False
    return isinstance(listed, list) and any(
        isinstance(one, dict) and {"Config", "Layers"} <= one.keys() for one in listed
    )


def _of_index(source: Source, index: Mapping[str, Any], wanted: Platform | None) -> Choice:
    options: dict[str, _Option] = {}
    for one in _options(source, index):
        options.setdefault(one.digest, one)
    if not options:
        raise BadImage("its index lists no image", ONE)
    several = len(options) > 1
    left = list(options.values())
    if several:
        left = _for_platform(source, left, wanted or DEFAULT)
    if len({one.top for one in left}) > 1:
        names = ", ".join(ascii(one.reference or one.digest) for one in left[:8])
        hint = "copy the one that you mean into an archive of its own, with `skopeo copy` or `podman save`"
        raise BadImage(f"expected one image, got {len(left)}: {names}", hint)
    option = left[0]
    made = _of_manifest(source, _manifest(source, option.digest))
    platform = option.platform or made.platform
    choice = Choice(layers=made.layers, reference=option.reference, platform=platform, several=several)
    return choice if several else _checked(choice, wanted)


def _options(
    source: Source, index: Mapping[str, Any], depth: int = 0, above: _Option | None = None
) -> Iterator[_Option]:
    """Yield the images that an index lists, also those in indexes that it lists."""
    listed = a_list(index.get("manifests"), "manifests of the index")
    if depth > _DEEPEST or len(listed) > _MOST:
        raise BadImage(f"an index lists more than {_MOST} images, or indexes in more than {_DEEPEST} levels")
    for number, one in enumerate(listed):
        descriptor = an_object(one, "an entry of the index")
        annotations = _part(descriptor, "annotations")
        platform = Platform.of(_part(descriptor, "platform"))
        artifact = descriptor.get("artifactType") or _CONFIGS[0]
        if _DOCKER_REFERENCE in annotations or artifact not in _CONFIGS or (platform and platform.is_unknown):
            continue
        name = annotations.get(_REF_NAME)
        option = _Option(
            digest=str(descriptor.get("digest")),
            platform=platform,
            reference=above.reference if above else name if isinstance(name, str) else "",
            top=above.top if above else number,
        )
        kind = descriptor.get("mediaType")
        inner = _manifest(source, option.digest) if kind in (*_INDEXES, None) else {}
        if kind in _INDEXES or "manifests" in inner:
            yield from _options(source, inner, depth + 1, option)
        else:
            yield option


def _for_platform(source: Source, options: Sequence[_Option], wanted: Platform) -> list[_Option]:
    """Return the options of a platform; a manifest that does not name one is asked, through its configuration."""
    platforms = [one.platform or _platform_of(source, one.digest) for one in options]
    chosen = best(platforms, wanted)
    if not chosen:
        known = ", ".join(dict.fromkeys(str(one) for one in platforms if one)) or "no platform that is named"
        raise BadImage(f"expected an image for {wanted}, got: {known}", "name one of these with --platform")
    return [option for option, platform in zip(options, platforms, strict=True) if platform == chosen]


def _platform_of(source: Source, digest: str) -> Platform | None:
    blob = source.blob(digest)
    return None if blob is None else _config_platform(source, an_object(parse_json(blob, digest), digest))


def _config_platform(source: Source, manifest: Mapping[str, Any]) -> Platform | None:
    digest = _part(manifest, "config").get("digest")
    blob = source.blob(digest) if digest is not None else None
    return None if blob is None else Platform.of(an_object(parse_json(blob, "its configuration"), "its configuration"))


def _manifest(source: Source, digest: str) -> Mapping[str, Any]:
    blob = source.blob(digest)
    if blob is None:
        raise BadImage(f"the manifest {digest} is missing in it")
    return an_object(parse_json(blob, f"the manifest {digest}"), f"the manifest {digest}")


def _of_manifest(source: Source, manifest: Mapping[str, Any]) -> Choice:
    kind = _part(manifest, "config").get("mediaType")
    if "fsLayers" in manifest:
        raise BadImage("its manifest has schema 1, expected 2", "save the image again with a tool of this decade")
    for artifact in (manifest.get("artifactType") or _CONFIGS[0], kind or _CONFIGS[0]):
        if artifact not in _CONFIGS:
            raise BadImage(f"expected a container image, got an artifact of type {ascii(artifact)[:80]}", ONE)
    layers = []
    for number, one in enumerate(a_list(manifest.get("layers"), "layers of the manifest"), 1):
        descriptor = an_object(one, f"layer {number}")
        media = descriptor.get("mediaType", ".tar")
        if not isinstance(media, str) or ".tar" not in media or media.endswith("encrypted"):
            raise BadImage(f"layer {number} is of type {ascii(media)[:80]}, expected a tar file that is not encrypted")
        blob = source.blob(descriptor.get("digest"))
        if blob is None:
            where = "; it lies elsewhere (`urls`)" if descriptor.get("urls") else ""
            raise BadImage(f"layer {number}, {descriptor.get('digest')}, is missing in it{where}", ONE)
        layers.append(blob)
    return Choice(layers=layers, platform=_config_platform(source, manifest))


def _of_docker(source: Source, listed: Sequence[Any], wanted: Platform | None) -> Choice:
    """Choose from the list of an archive by ``docker save`` (moby, ``image/tarexport``)."""
    images: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for one in listed:
        entry = an_object(one, "manifest.json")
        name = str(entry.get("Config"))
        config = source.value(name)
        if config is None:
            raise BadImage(f"the configuration {name!a} is missing in it", ONE)
        images.setdefault(name, (entry, an_object(config, ascii(name))))
    platforms = {name: Platform.of(config) for name, (_, config) in images.items()}
    left = list(images)
    several = len(set(platforms.values())) > 1
    if several:
        chosen = best(list(platforms.values()), wanted or DEFAULT)
        left = [name for name in images if platforms[name] == chosen and chosen is not None]
    if len(left) != 1:
        names = ", ".join(ascii(images[name][0].get("RepoTags") or name) for name in left[:8]) or "none"
        raise BadImage(f"expected one image for {wanted or DEFAULT}, got {len(left)}: {names}", ONE)
    entry, config = images[left[0]]
    layers = list(_docker_layers(source, entry))
    stated = a_list(_part(config, "rootfs").get("diff_ids"), "diff_ids of the configuration")
    if len(stated) != len(layers):
        raise BadImage(f"expected {len(stated)} layers, as in its configuration, got {len(layers)}")
    choice = Choice(
        layers=layers,
        diff_ids=[str(one) for one in stated],
        reference=next((tag for tag in entry.get("RepoTags") or () if isinstance(tag, str)), ""),
        platform=platforms[left[0]],
        several=several,
    )
    return choice if several else _checked(choice, wanted)


def _docker_layers(source: Source, entry: Mapping[str, Any]) -> Iterator[Piece]:
    for number, name in enumerate(a_list(entry.get("Layers"), "Layers of manifest.json"), 1):
        found = source.find(name) if isinstance(name, str) else None
        if found is None:
            raise BadImage(f"layer {number}, {name!a}, is missing in it", ONE)
        yield found


def _checked(choice: Choice, wanted: Platform | None) -> Choice:
    """Return the only image, if it is for the platform that was asked for."""
    if wanted is not None and best([choice.platform], wanted) is None:
        raise BadImage(f"expected an image for {wanted}, got: {choice.platform or 'no platform that is named'}")
    return choice


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = value.get(key)
    return part if isinstance(part, dict) else {}

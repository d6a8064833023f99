"""Images for tests: layers byte by byte, and every format in which tools write an image."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {"file": b"0", "hard": b"1", "link": b"2", "chr": b"3", "blk": b"4", "dir": b"5", "fifo": b"6", "global": b"g"}
OCI = "application/vnd.oci.image"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer. ``kind``: a word of ``KINDS``, or the type's byte; ``records``: of a PAX header."""

    name: bytes
    kind: str = "file"
    content: bytes = b""
    link: bytes = b""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    records: Mapping[bytes, bytes] = field(default_factory=dict)


def member(name: str | bytes, kind: str = "file", what: bytes | str = b"", **more: Any) -> Member:
    """``what``: a file's content, or what a link leads to."""
    name, what = (one.encode() if isinstance(one, str) else one for one in (name, what))
    if kind in {"link", "hard"}:
        return Member(name=name, kind=kind, link=what, **more)
    return Member(name=name, kind=kind, content=what, **more)


def tar(members: Iterable[Member]) -> bytes:
    return b"".join(map(entry, members)) + bytes(1024)


def entry(one: Member) -> bytes:
    """A member's header, after a PAX header where it needs one, and its content."""
    records = dict(one.records) | {b"SCHILY.xattr." + name: value for name, value in one.xattrs.items()}
    name, link = one.name, one.link
    if len(name) > 100:
        records, name = {b"path": name} | records, name[:100]
    if len(link) > 100:
        records, link = {b"linkpath": link} | records, link[:100]
    if one.kind == "global":
        return block(name, b"g", pax(records))
    before = block(b"PaxHeaders/x", b"x", pax(records)) if records else b""
    return before + block(
        name,
        KINDS.get(one.kind, one.kind.encode()),
        one.content,
        link=link,
        numbers=(one.mode, one.uid, one.gid),
        rdev=one.rdev,
    )


def block(
    name: bytes,
    kind: bytes,
    content: bytes,
    *,
    link: bytes = b"",
    numbers: tuple[int, int, int] = (0o644, 0, 0),
    rdev: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
) -> bytes:
    fields = b"".join(number(value, 8) for value in numbers)
    head = name.ljust(100, b"\0") + fields + number(len(content), 12) + number(0, 12)
    tail = kind + link.ljust(100, b"\0") + magic + bytes(64) + number(rdev[0], 8) + number(rdev[1], 8)
    checksum = b"%06o\0 " % (sum(head) + sum(tail) + 8 * 0x20)
    return (head + checksum + tail).ljust(512, b"\0") + content + bytes(-len(content) % 512)


def number(value: int, size: int) -> bytes:
    """Octal digits, or base 256 as GNU tar and Go write what they cannot hold."""
    if 0 <= value < 8 ** (size - 1):
        return b"%0*o\0" % (size - 1, value)
    data = (value % (1 << 8 * size)).to_bytes(size)
    return bytes([data[0] | 0x80]) + data[1:]


def pax(records: Mapping[bytes, bytes]) -> bytes:
    lines = []
    for key, value in records.items():
        rest = b" " + key + b"=" + value + b"\n"
        size = len(rest)
        while size != len(rest) + len(str(size)):
            size = len(rest) + len(str(size))
        lines.append(str(size).encode() + rest)
    return b"".join(lines)


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Layout:
    """An OCI image layout that is being made: ``files`` by their names."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.algorithm = algorithm
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def put(self, data: bytes, kind: str = "", **more: Any) -> dict[str, Any]:
        """Add a blob; return its descriptor."""
        named = digest(data, self.algorithm)
        self.files[f"blobs/{named.replace(':', '/')}"] = data
        return ({"mediaType": f"{OCI}.{kind}"} if kind else {}) | {"digest": named, "size": len(data)} | more

    def image(
        self, layers: Sequence[bytes], *, arch: str = "amd64", plain: Sequence[bytes] = (), **more: Any
    ) -> dict[str, Any]:
        """Add an image; return its manifest's descriptor. ``plain``: the layers as they are not compressed."""
        diffs = [digest(one) for one in plain or layers]
        config = {"architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.put(json.dumps(config).encode(), "config.v1+json"),
            "layers": [self.put(one, f"layer.v1.tar{suffix(one)}") for one in layers],
        }
        return self.put(json.dumps(manifest).encode(), "manifest.v1+json", **more)

    def index(self, manifests: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """Add an index; return its descriptor."""
        made = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
        return self.put(json.dumps(made).encode(), "index.v1+json", **more)

    def end(self, manifests: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Write the index of the layout; return all files."""
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        return self.files


def suffix(data: bytes) -> str:
    return {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}.get(data[:2], "")


def oci(layers: Sequence[bytes], **more: Any) -> dict[str, bytes]:
    """The files of the layout of one image."""
    layout = Layout()
    return layout.end([layout.image(layers, **more)])


def docker(layers: Sequence[bytes], *, tag: str = "localhost/x:latest") -> dict[str, bytes]:
    """The files of an archive by ``docker save``, before version 25."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [*map(digest, layers)]}}
    data = json.dumps(config).encode()
    files = {f"{hashlib.sha256(data).hexdigest()}.json": data}
    names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    files |= dict(zip(names, layers, strict=True))
    listed = [{"Config": next(iter(files)), "RepoTags": [tag], "Layers": names}]
    return files | {"manifest.json": json.dumps(listed).encode()}


def transport_dir(layers: Sequence[bytes]) -> dict[str, bytes]:
    """The files of a directory by ``skopeo copy ... dir:DIRECTORY`` or ``podman save --format docker-dir``."""
    layout = Layout()
    descriptor = layout.image(layers)
    blobs = {name.rpartition("/")[2]: data for name, data in layout.files.items() if name.startswith("blobs/")}
    manifest = blobs.pop(descriptor["digest"].removeprefix("sha256:"))
    return blobs | {"manifest.json": manifest, "version": b"Directory Transport Version: 1.1\n"}


def write_tar(path: Path, files: Mapping[str, bytes], *, before: str = "", packed: bool = False) -> Path:
    """Write an archive; ``before``: what each name begins with."""
    data = tar(member(before + name, what=content, mode=0o644) for name, content in files.items())
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def write_dir(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path

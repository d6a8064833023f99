"""An OCI image archive whose bytes follow from its layers and the configuration.

After the OCI Image Format Specification 1.0 (``image-layout.md``, ``manifest.md``, ``config.md``). Layers are not
compressed, so a layer's digest is its diff id, and a store does not compress it again in another way.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import files

_TYPE = "application/vnd.oci.image"
_CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a container of the image starts unless told otherwise."""

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


def write_archive(layers: Sequence[Path], target: Path, *, name: str, config: Config) -> str:
    """Write an archive with the tar files ``layers``, the lowest first, to be loaded as ``name``.

    Returns the digest of the manifest as ``sha256:<hex>``.
    """
    diff_ids = [f"sha256:{files.file_digest(layer)}" for layer in layers]
    sizes = [layer.stat().st_size for layer in layers]
    configuration = _json(
        {
            "architecture": "amd64",
            "config": {"Cmd": list(config.cmd), "Env": list(config.env)},
            "created": _CREATED,
            "os": "linux",
            "rootfs": {"diff_ids": diff_ids, "type": "layers"},
        }
    )
    manifest = _json(
        {
            "config": _descriptor("config.v1+json", _digest(configuration), len(configuration)),
            "layers": [_descriptor("layer.v1.tar", digest, size) for digest, size in zip(diff_ids, sizes, strict=True)],
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "schemaVersion": 2,
        }
    )
    listed = _descriptor("manifest.v1+json", _digest(manifest), len(manifest))
    listed["annotations"] = {"org.opencontainers.image.ref.name": name}
    with tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as out:
        _add(out, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(out, "index.json", _json({"manifests": [listed], "schemaVersion": 2}))
        for blob in (manifest, configuration):
            _add(out, _blob(_digest(blob)), blob)
        # An archive has each blob once, an image may have a layer twice.
        for digest, layer in dict(zip(diff_ids, layers, strict=True)).items():
            with layer.open("rb") as file:
                info = tarfile.TarInfo(_blob(digest))
                info.size = layer.stat().st_size
                out.addfile(info, file)
    return _digest(manifest)


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"digest": digest, "mediaType": f"{_TYPE}.{kind}", "size": size}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))

"""An OCI image archive of one layer, whose bytes follow from the layer and the configuration.

After the OCI Image Format Specification 1.0 (``image-layout.md``, ``manifest.md``, ``config.md``). The layer is not
compressed, so its digest is its diff id, and whoever stores it has nothing to compress again differently.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.lab import tarball

_TYPE = "application/vnd.oci.image"
_CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a container of the image starts unless told otherwise."""

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


def write_archive(layer: Path, target: Path, *, name: str, config: Config) -> str:
    """Write an archive with the tar file ``layer`` as its only layer, to be loaded as ``name``.

    Returns the digest of the manifest as ``sha256:<hex>``.
    """
    diff_id = f"sha256:{tarball.file_digest(layer)}"
    configuration = _json(
        {
            "architecture": "amd64",
            "config": {"Cmd": list(config.cmd), "Env": list(config.env)},
            "created": _CREATED,
            "os": "linux",
            "rootfs": {"diff_ids": [diff_id], "type": "layers"},
        }
    )
    manifest = _json(
        {
            "config": _descriptor("config.v1+json", _digest(configuration), len(configuration)),
            "layers": [_descriptor("layer.v1.tar", diff_id, layer.stat().st_size)],
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
        with layer.open("rb") as file:
            info = tarfile.TarInfo(_blob(diff_id))
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

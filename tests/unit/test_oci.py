"""The OCI archive: every digest in it is that of the bytes, and others can read it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from testbed import files
from testbed.lab.build import oci, tarball

CONFIG = oci.Config(env=("PATH=/bin",), cmd=("/bin/sh", "-l"))


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    tarball.merge(tmp_path / "layer.tar", [], tree=tmp_path / "tree")
    return tmp_path / "layer.tar"


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        read = {info.name: tar.extractfile(info) for info in tar}
        return {name: file.read() for name, file in read.items() if file}


def test_every_digest_is_that_of_the_bytes(layer: Path) -> None:
    archive = layer.with_name("image.tar")
    digest = oci.write_archive([layer], archive, name="localhost/x:latest", config=CONFIG)
    files = blobs(archive)

    def follow(descriptor: dict[str, Any]) -> bytes:
        data = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert descriptor["size"] == len(data)
        return data

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(files["index.json"])["manifests"]
    assert listed["digest"] == digest
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": "localhost/x:latest"}
    manifest = json.loads(follow(listed))
    configuration = json.loads(follow(manifest["config"]))
    (listed_layer,) = manifest["layers"]
    assert follow(listed_layer) == layer.read_bytes()
    assert configuration["rootfs"]["diff_ids"] == [listed_layer["digest"]]
    assert configuration["config"] == {"Cmd": ["/bin/sh", "-l"], "Env": ["PATH=/bin"]}
    assert len(files) == 5


def test_one_layer_gives_one_archive(layer: Path) -> None:
    first = oci.write_archive([layer], layer.with_name("1.tar"), name="n", config=CONFIG)
    second = oci.write_archive([layer], layer.with_name("2.tar"), name="n", config=CONFIG)
    assert first == second
    assert layer.with_name("1.tar").read_bytes() == layer.with_name("2.tar").read_bytes()


def test_the_name_is_not_part_of_the_digest_and_the_command_is(layer: Path) -> None:
    out = layer.with_name("image.tar")
    plain = oci.write_archive([layer], out, name="n", config=CONFIG)
    assert oci.write_archive([layer], out, name="m", config=CONFIG) == plain
    assert oci.write_archive([layer], out, name="n", config=oci.Config(cmd=("/bin/true",))) != plain


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="no skopeo on this machine")
def test_skopeo_reads_it(layer: Path) -> None:
    archive = layer.with_name("image.tar")
    digest = oci.write_archive([layer], archive, name="localhost/x:latest", config=CONFIG)
    said = subprocess.run(["skopeo", "inspect", f"oci-archive:{archive}"], capture_output=True, check=True)
    told = json.loads(said.stdout)
    assert told["Digest"] == digest
    assert told["Env"] == ["PATH=/bin"]
    assert told["Layers"] == [f"sha256:{files.file_digest(layer)}"]

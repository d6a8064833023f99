"""``testbed image-digest``: what it prints, of which formats, and what it says of what it cannot read."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evidence as b
import pyarrow as pa
import pytest
import storage
from click.testing import CliRunner, Result
from image_files import (
    REF_NAME,
    Layout,
    Member,
    docker,
    entry,
    member,
    oci,
    tar,
    transport_dir,
    write_dir,
    write_tar,
)
from test_tree import parse
from test_truth import archive, layer

from testbed import cli, shell
from testbed.attest.image import digested
from testbed.attest.image.tree import measure_tree, tree_digest
from testbed.attest.image.verity import digests_of
from testbed.errors import EvidenceError

VECTORS = {name: fields for name, fields in b.page_vectors().items() if name.startswith("tree: ")}


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["image-digest", *map(str, args)])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return archive(tmp_path / "image.tar", [layer({"dev": None, "etc/hosts": b"", "usr/a": b"abc", "usr/b": b"de"})])


def test_an_archive(image: Path) -> None:
    done = call(image, image)
    line = f"sha256:{digest_of('usr/a', 'usr/b')}  files 4 bytes 5  {image}\n"
    assert (done.exit_code, done.stdout) == (0, 2 * line)


def digest_of(*names: str) -> str:
    files = {f"/{name}": f"file 0755 0 0 {content}" for name, content in zip(names, ("616263", "6465"), strict=True)}
    return tree_digest(parse({"/usr": "dir 0755 0 0"} | files)).hex()


def test_json_and_nodes(image: Path) -> None:
    told = json.loads(call(image, "--json", "--nodes").stdout)
    assert (told["schema"], told["tree_version"]) == (1, 2)
    (one,) = told["images"]
    assert (one["path"], one["files"], one["bytes"]) == (str(image), 4, 5)
    assert (one["driver"], one["platform"], one["others"]) == ("overlay", "", {})
    assert list(one["nodes"]) == ["/", "/usr", "/usr/a", "/usr/b"]
    assert "nodes" not in json.loads(call(image, "--json").stdout)["images"][0]
    lines = call(image, "--nodes").stdout.splitlines()
    assert lines[1:] == [f"  {digest}  {path}" for path, digest in one["nodes"].items()]


def test_a_directory_is_the_same_tree(tmp_path: Path) -> None:
    (tmp_path / "top" / "dev").mkdir(parents=True)
    (tmp_path / "top" / ".dockerenv").touch()
    done = call(tmp_path / "top")
    assert done.stdout == f"sha256:{VECTORS['tree: empty']['digest']}  files 1 bytes 0  {tmp_path / 'top'}\n"


def test_what_is_counted_is_what_is_covered() -> None:
    """Of the page's trees: the root, and no file that is left out."""
    counts = {name: measure_tree(parse(fields)) for name, fields in VECTORS.items()}
    assert {name: (len(tree.nodes), tree.size) for name, tree in counts.items()} == {
        "tree: empty": (1, 0),
        "tree: one file": (2, 6),
        "tree: mixed": (13, 8),
        "tree: at the places": (11, 1),
    }
    for name, tree in counts.items():
        assert tree.nodes[b""].hex() == VECTORS[name]["root"]
        assert tree.digest.hex() == VECTORS[name]["digest"]
    node = counts["tree: one file"].nodes[b"hello"].hex()
    assert node == VECTORS["tree: one file"]["node /hello"]


# ---- formats ----

FILES = [member("usr", "dir"), member("usr/a", what="abc"), member("usr/b", what="de")]
MORE = [member("tmp", "dir", mode=0o1777), member("usr/.wh.b"), member("usr/c", what="c" * 9000)]
LAYERS = [tar(FILES), tar(MORE)]
OTHER = [tar([member("other")])]
EMPTY = b""


def printed(path: Path, *args: str) -> str:
    """The digest of the one line that is printed."""
    done = call(path, *args)
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    (line,) = done.stdout.splitlines()
    return line.partition(" ")[0]


@pytest.fixture
def wanted(tmp_path: Path) -> str:
    """The digest of ``LAYERS`` in the simplest format."""
    return printed(write_tar(tmp_path / "simple.tar", oci(LAYERS)))


Fields = dict[str, Any]
ATTESTED: Fields = {"platform": {"os": "unknown", "architecture": "unknown"}}
REFERENCE: Fields = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
AMD: Fields = {"platform": {"os": "linux", "architecture": "amd64"}}
ARM: Fields = {"platform": {"os": "linux", "architecture": "arm64"}}


def buildx() -> dict[str, bytes]:
    """An index in the index: two platforms and an attestation of each."""
    layout = Layout()
    statement = [b'{"_type": "https://in-toto.io/Statement/v0.1"}']
    listed = [layout.image(OTHER, arch="arm64", **ARM), layout.image(LAYERS, **AMD)]
    listed += [layout.image(statement, **ATTESTED, **REFERENCE), layout.image(statement, **ATTESTED)]
    return layout.end([layout.index(listed)])


def save_25() -> dict[str, bytes]:
    """``docker save`` since version 25: a layout that is also an archive of the old format."""
    layout = Layout()
    files = layout.end([layout.image(LAYERS, annotations={REF_NAME: "latest"})])
    names = list(files)
    listed = {"Config": names[1], "RepoTags": ["x:latest"], "Layers": names[2:4]}
    return files | {"manifest.json": json.dumps([listed]).encode()}


def with_artifact() -> dict[str, bytes]:
    layout = Layout()
    signature = layout.put(b"{}", "manifest.v1+json", artifactType="application/vnd.dev.cosign.artifact.sig.v1+json")
    return layout.end([signature, layout.image(LAYERS)])


def tagged_twice() -> dict[str, bytes]:
    layout = Layout()
    one = layout.image(LAYERS)
    return layout.end([one | {"annotations": {REF_NAME: name}} for name in ("a", "b")])


def sha512() -> dict[str, bytes]:
    layout = Layout("sha512")
    return layout.end([layout.image(LAYERS)])


def compressed(pack: Callable[[bytes], bytes]) -> Callable[[], dict[str, bytes]]:
    def made() -> dict[str, bytes]:
        layout = Layout()
        return layout.end([layout.image([pack(one) for one in (*LAYERS, EMPTY)], plain=[*LAYERS, EMPTY])])

    return made


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def halves(data: bytes) -> bytes:
    """Several streams, one after the other, as parallel and seekable compressors write."""
    return gzip.compress(data[:512]) + gzip.compress(data[512:])


FORMATS: dict[str, Callable[[], dict[str, bytes]]] = {
    "several layers": lambda: oci(LAYERS),
    "layers of zero bytes": lambda: oci([*LAYERS, EMPTY, EMPTY]),
    "layers of zeros only": lambda: oci([bytes(512), *LAYERS, bytes(1024), bytes(10240)]),
    "gzip, also of nothing": compressed(gzip.compress),
    "gzip in several streams": compressed(halves),
    "zstd": compressed(zstd),
    "xz": compressed(lzma.compress),
    "bzip2": compressed(bz2.compress),
    "index in the index": buildx,
    "docker save": lambda: docker(LAYERS),
    "docker save since 25": save_25,
    "an artifact beside the image": with_artifact,
    "two names of one image": tagged_twice,
    "blobs by SHA-512": sha512,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format(tmp_path: Path, wanted: str, name: str) -> None:
    """The archive, its names with `./`, the archive compressed, and the files in a directory."""
    files = FORMATS[name]()
    several = ("  linux/amd64",) if name == "index in the index" else ("",)
    for path in (
        write_tar(tmp_path / "plain.tar", files),
        write_tar(tmp_path / "dot.tar", files, before="./"),
        write_tar(tmp_path / "packed.tar.gz", files, packed=True),
        write_dir(tmp_path / "directory", files),
    ):
        assert printed(path) == wanted, path
        assert call(path).stdout.endswith(f"{path}{several[0]}\n")


def test_a_directory_of_the_transport_dir(tmp_path: Path, wanted: str) -> None:
    assert printed(write_dir(tmp_path / "x", transport_dir(LAYERS))) == wanted


def test_layers_that_are_links(tmp_path: Path, wanted: str) -> None:
    """Old versions of ``docker save`` store a layer once, and the second time as a symbolic link."""
    files = docker([*LAYERS, LAYERS[1]])
    link = member("2/layer.tar", "link", "../1/layer.tar")
    packed_twice = b"".join(entry(member(name, what=data)) for name, data in files.items() if name != "2/layer.tar")
    (tmp_path / "a.tar").write_bytes(packed_twice + tar([link]))
    assert printed(tmp_path / "a.tar") == printed(write_tar(tmp_path / "b.tar", oci([*LAYERS, LAYERS[1]])))


def test_the_samples_of_formats_are_read_by_skopeo(tmp_path: Path, wanted: str) -> None:
    """Other people's program unpacks the same tree of each, so the samples are what tools write."""
    storage.needs("skopeo")
    if not storage.ROOT:
        pytest.skip("only root can unpack owners")
    for name, made in FORMATS.items():
        if name in {"an artifact beside the image", "two names of one image"}:
            continue  # skopeo wants to be told which
        transport = "docker-archive" if name == "docker save" else "oci-archive"
        path = write_tar(tmp_path / "a.tar", made())
        with storage.scratch() as work:
            unpacked = storage.unpack(f"{transport}:{path}", work, "vfs")
            if name == "blobs by SHA-512" and unpacked.top is None:
                continue  # some versions know SHA-256 alone
            assert unpacked.top is not None, (name, unpacked.said)
            assert printed(unpacked.top, "--tree") == wanted, name


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive", "oci", "dir"])
def test_what_skopeo_writes(tmp_path: Path, wanted: str, transport: str) -> None:
    storage.needs("skopeo")
    source, target = write_tar(tmp_path / "a.tar", oci(LAYERS)), tmp_path / "copy"
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci-archive:{source}"]
    name = ":name:latest" if transport == "docker-archive" else ""
    shell.run([*copy, f"{transport}:{target}{name}"], timeout=120)
    assert printed(target) == wanted


def test_the_tree_in_a_layout_if_it_is_asked_for(tmp_path: Path, wanted: str) -> None:
    layout = write_dir(tmp_path / "layout", oci(LAYERS))
    assert printed(layout) == wanted
    forced = json.loads(call(layout, "--tree", "--json", "--nodes").stdout)["images"][0]
    assert "/index.json" in forced["nodes"]
    done = call(write_tar(tmp_path / "a.tar", oci(LAYERS)), "--tree")
    assert (done.exit_code, "--tree expects a directory" in done.stderr) == (2, True)


def test_a_tree_with_files_of_these_names_is_a_tree(tmp_path: Path) -> None:
    top = write_dir(tmp_path / "top", {"manifest.json": b'{"name": "app"}', "index.json": b"{}", "version": b"1"})
    assert list(json.loads(call(top, "--json", "--nodes").stdout)["images"][0]["nodes"])[1:] == [
        "/index.json",
        "/manifest.json",
        "/version",
    ]


def test_platforms(tmp_path: Path, wanted: str) -> None:
    path = write_tar(tmp_path / "a.tar", buildx())
    assert printed(path) == printed(path, "--platform", "linux/amd64") == printed(path, "--platform", "linux/x86_64")
    arm = call(path, "--platform", "linux/arm64/v8").stdout
    assert arm.startswith(printed(write_tar(tmp_path / "other.tar", oci(OTHER))))
    assert arm.endswith("  linux/arm64\n")
    assert json.loads(call(path, "--json").stdout)["images"][0]["platform"] == "linux/amd64"
    done = call(path, "--platform", "linux/riscv64")
    assert done.exit_code == 2
    assert "expected an image for linux/riscv64, got: linux/arm64, linux/amd64" in done.stderr
    assert "--platform" in done.stderr
    assert call(path, "--platform", "amd64").exit_code == 2


def test_one_image_of_another_platform_is_digested_and_says_so(tmp_path: Path, wanted: str) -> None:
    path = write_tar(tmp_path / "a.tar", oci(LAYERS, arch="arm64"))
    assert call(path).stdout == f"{wanted}  files 5 bytes 9003  {path}  linux/arm64\n"
    done = call(path, "--platform", "linux/amd64")
    assert (done.exit_code, "for linux/amd64, got: linux/arm64" in done.stderr) == (2, True)


def test_platforms_that_only_the_configurations_name(tmp_path: Path, wanted: str) -> None:
    layout = Layout()
    files = layout.end([layout.image(OTHER, arch="arm64"), layout.image(LAYERS)])
    assert printed(write_tar(tmp_path / "a.tar", files)) == wanted


def test_variants(tmp_path: Path, wanted: str) -> None:
    layout = Layout()
    arm = {"os": "linux", "architecture": "arm"}
    listed = [layout.image([tar([member(v)])], platform=arm | {"variant": v}) for v in ("v6", "v7")]
    path = write_tar(tmp_path / "a.tar", layout.end([layout.index(listed)]))
    assert call(path, "--platform", "linux/arm/v7").stdout.endswith("  linux/arm/v7\n")
    done = call(path, "--platform", "linux/arm")
    assert (done.exit_code, "got: linux/arm/v6, linux/arm/v7" in done.stderr) == (2, True)


# ---- storage drivers ----

IMPLIED = [tar([member("d", "dir", mode=0o700), member("d/a")]), tar([member("d/b")])]


def test_trees_that_depend_on_the_storage_driver_are_both_printed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", oci(IMPLIED))
    overlay, vfs = (printed(path, "--driver", driver) for driver in ("overlay", "vfs"))
    assert overlay != vfs
    done = call(path)
    count = f"  files 4 bytes 0  {path}  (storage driver "
    assert done.stdout == f"{overlay}{count}overlay)\n{vfs}{count}vfs)\n"
    told = json.loads(call(path, "--json").stdout)["images"][0]
    assert f"sha256:{told['digest']}" == overlay
    assert f"sha256:{told['others']['vfs']['digest']}" == vfs


def test_what_overlay_cannot_unpack_is_said(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", oci([tar([member("a")]), tar([member("b", "hard", "a")])]))
    done = call(path)
    assert (done.exit_code, done.stdout.split()[0]) == (0, printed(path, "--driver", "vfs"))
    assert "overlay cannot unpack it: layer 2, entry 'b': no such file or directory" in done.stderr
    assert call(path, "--driver", "overlay").exit_code == 2


# ---- errors ----


def no_manifest() -> dict[str, bytes]:
    return {name: data for name, data in oci(LAYERS).items() if b'"layers"' not in data}


def without(part: bytes) -> dict[str, bytes]:
    return {name: data for name, data in oci(LAYERS).items() if data != part}


def two_images() -> dict[str, bytes]:
    layout = Layout()
    listed = [layout.image(one, annotations={REF_NAME: name}) for name, one in (("a", LAYERS), ("b", OTHER))]
    return layout.end(listed)


def with_layer(**more: object) -> dict[str, bytes]:
    layout = Layout()
    manifest = {"schemaVersion": 2, "layers": [layout.put(LAYERS[0], "layer.v1.tar") | more]}
    return layout.end([layout.put(json.dumps(manifest).encode(), "manifest.v1+json")])


def index(text: str) -> dict[str, bytes]:
    return {"index.json": text.encode()}


def damaged_docker() -> dict[str, bytes]:
    return docker(LAYERS) | {"1/layer.tar": OTHER[0]}


def saved(*changes: dict[str, Any]) -> dict[str, bytes]:
    """An archive by ``docker save`` of as many images as there are changes of their entries."""
    files = docker(LAYERS)
    (entry,) = json.loads(files["manifest.json"])
    copies = {f"{number}.json": files[entry["Config"]] for number, _ in enumerate(changes)}
    listed = [entry | {"Config": name} | change for name, change in zip(copies, changes, strict=True)]
    return files | copies | {"manifest.json": json.dumps(listed).encode()}


def artifact() -> dict[str, bytes]:
    layout = Layout()
    config = layout.put(b"{}") | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
    return layout.end([layout.put(json.dumps({"config": config, "layers": []}).encode(), "manifest.v1+json")])


BAD: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "a tree's archive": (lambda: {"etc/passwd": b"root"}, "neither index.json nor manifest.json"),
    "no image": (lambda: index('{"manifests": []}'), "lists no image"),
    "index is a list": (lambda: index("[]"), "index.json: expected an object, got \\[\\]"),
    "index is not JSON": (lambda: index("{"), "index.json: not JSON"),
    "index is too deep": (lambda: index("[" * 100_000), "index.json: not JSON"),
    "digest": (lambda: index('{"manifests": [{"digest": "md5:00"}]}'), "expected a digest"),
    "digest that leads out": (lambda: index('{"manifests": [{"digest": "sha256:../x"}]}'), "expected a digest"),
    "manifest is missing": (no_manifest, "is missing in it"),
    "layer is missing": (lambda: without(LAYERS[1]), "layer 2, sha256:[0-9a-f]+, is missing in it"),
    "two images": (two_images, "expected one image, got 2: 'a', 'b'"),
    "layer is no tar": (lambda: with_layer(mediaType="application/vnd.erofs"), "layer 1 is of type .*erofs"),
    "layer is encrypted": (
        lambda: with_layer(mediaType="application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        "not encrypted",
    ),
    "layer of docker save": (damaged_docker, "layer 2 is damaged"),
    "two images of docker save": (
        lambda: saved({"RepoTags": ["a:1"]}, {"RepoTags": None}),
        r"expected one image for linux/amd64, got 2: \['a:1'\], '1.json'",
    ),
    "no configuration of docker save": (lambda: saved({"Config": "x"}), "the configuration 'x' is missing"),
    "no layer of docker save": (lambda: saved({"Layers": ["0/layer.tar", "\ud800"]}), "layer 2, .* is missing in it"),
    "fewer layers of docker save": (lambda: saved({"Layers": ["0/layer.tar"]}), "expected 2 layers, .* got 1"),
    "schema 1": (lambda: {"manifest.json": b'{"schemaVersion": 1, "fsLayers": []}'}, "schema 1"),
    "artifact": (artifact, "got an artifact of type .application/vnd.cncf.helm"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_one_image(tmp_path: Path, name: str) -> None:
    made, what = BAD[name]
    path = write_tar(tmp_path / "a.tar", made())
    done = call(path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"error: {path}: the image cannot be read: " in done.stderr
    assert "hint: " in done.stderr
    assert re.search(what, done.stderr)


def test_what_cannot_be_read_is_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 300)
    spoilt = archive(tmp_path / "spoilt", [layer({"a": b"a"})], spoil=True)
    os.mkfifo(tmp_path / "pipe")
    cut = tmp_path / "cut"
    cut.write_bytes(write_tar(tmp_path / "whole", oci(LAYERS), packed=True).read_bytes()[:-9])
    for path in (tmp_path / "junk", spoilt, tmp_path / "pipe", cut):
        done = call(path)
        assert done.exit_code == 2, path
        assert f"{path}: the image cannot be read" in done.stderr
        assert "hint: " in done.stderr
    for path in (tmp_path / "absent", tmp_path / "junk/below"):
        done = call(path)
        assert (done.exit_code, f"{path}: the image cannot be read: no such file" in done.stderr) == (2, True)


def test_a_directory_on_two_file_systems_is_a_wrong_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise EvidenceError("x is on another file system", "unmount it")

    monkeypatch.setattr(digested, "read_directory", refuse)
    done = call(tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path}: the image cannot be read" in done.stderr
    assert "hint: unmount it" in done.stderr


def test_a_directory_that_the_user_may_not_read_is_the_hosts_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/shadow")

    monkeypatch.setattr(digested, "read_directory", refuse)
    done = call(tmp_path)
    assert done.exit_code == 3
    assert f"{tmp_path}/shadow: cannot be read on this machine: Permission denied" in done.stderr
    assert "hint: make it readable" in done.stderr


@pytest.mark.parametrize("command", ["image-digest", "policy from-image"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_is_the_hosts_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, command: str
) -> None:
    path = write_tar(tmp_path / "a.tar", oci(LAYERS))

    def refuse(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pread", refuse)
    done = CliRunner().invoke(cli.main, [*command.split(), str(path)])
    assert done.exit_code == 3
    assert f"{path}: cannot be read on this machine: {os.strerror(number)}" in done.stderr
    assert "archive" not in done.stderr


def test_a_directory_that_cannot_be_entered_is_the_hosts_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path.name == "a.tar":
            raise PermissionError(errno.EACCES, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    for command in (["image-digest"], ["policy", "from-image"]):
        done = CliRunner().invoke(cli.main, [*command, str(tmp_path / "a.tar")])
        assert (done.exit_code, "a.tar: cannot be read on this machine" in done.stderr) == (3, True)


@pytest.mark.skipif(storage.ROOT, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", oci(LAYERS))
    path.chmod(0)
    done = call(path)
    assert (done.exit_code, "cannot be read on this machine: Permission denied" in done.stderr) == (3, True)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress, bz2.compress])
def test_a_full_disk_is_the_hosts_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    path = write_tar(tmp_path / "a.tar", compressed(pack)())
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - the command closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    done = call(path)
    assert done.exit_code == 3
    assert "a compressed layer cannot be unpacked there: No space left on device" in done.stderr
    assert "TMPDIR" in done.stderr


def test_no_temporary_directory_is_the_hosts_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", compressed(gzip.compress)())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    done = call(path)
    assert (done.exit_code, f"{tmp_path}/absent" in done.stderr) == (3, True)


def test_sparse_blobs_are_refused(tmp_path: Path) -> None:
    """Content of a blob is read where it lies, so it has to be there."""
    files = oci([tar([Member(name=b"zeros", content=bytes(2048))])])
    name = max(files, key=lambda name: len(files[name]))
    head = b"1\n0\n%d\n" % len(files[name])
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": name.encode()}
    records |= {b"GNU.sparse.realsize": b"%d" % len(files[name])}
    sparse = Member(name=b"x", content=head.ljust(512, b"\0") + files.pop(name), records=records)
    rest = b"".join(entry(member(one, what=data)) for one, data in files.items())
    (tmp_path / "a.tar").write_bytes(rest + tar([sparse]))
    done = call(tmp_path / "a.tar")
    assert (done.exit_code, "--sparse" in done.stderr) == (2, True)


def test_call_without_an_image() -> None:
    assert call().exit_code == 2


def test_both_digests_of_each_file_are_printed(image: Path) -> None:
    done = call(image, "--files")
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(row[2], row[3]) for row in rows] == [("0", "/etc/hosts"), ("3", "/usr/a"), ("2", "/usr/b")]
    abc = digests_of(io.BytesIO(b"abc"))
    assert rows[1][:2] == [f"sha256:{abc.sha256}", f"verity:sha256:{abc.verity}"]
    (as_json,) = json.loads(call(image, "--files", "--json").stdout)["images"]
    assert as_json["contents"]["/usr/a"] == {"sha256": abc.sha256, "verity": abc.verity, "size": 3}
    assert call(image, "--files", "--nodes").exit_code == 2

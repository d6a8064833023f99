"""``testbed image-digest``: what it prints, of what, and what it says of what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import evidence as b
import pytest
from click.testing import CliRunner, Result
from test_tree import parse
from test_truth import archive, layer

from testbed import cli
from testbed.attest.image.tree import measure_tree, tree_digest
from testbed.commands import image_digest
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


def test_what_cannot_be_read_is_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 300)
    spoilt = archive(tmp_path / "spoilt", [layer({"a": b"a"})], spoil=True)
    for path in (tmp_path / "junk", spoilt):
        done = call(path)
        assert done.exit_code == 2, path
        assert f"{path}: the image cannot be read" in done.stderr
        assert "hint: " in done.stderr
    assert call(tmp_path / "absent").exit_code == 2


@pytest.mark.parametrize(
    "error", [EvidenceError("x is on another file system", "unmount it"), PermissionError(13, "no")]
)
def test_a_directory_that_cannot_be_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: Path) -> None:
        raise error

    monkeypatch.setattr(image_digest, "read_directory", refuse)
    done = call(tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path}: the image cannot be read" in done.stderr
    assert "hint: " in done.stderr


def test_call_without_an_image() -> None:
    assert call().exit_code == 2

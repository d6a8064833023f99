"""The disk of unpacked images: what is on it, and that it follows from the images alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from testbed.guest import Completed
from testbed.lab.build import ext4, oci, recipes, store
from testbed.lab.build.image import ContainerImage
from testbed.runtimes import STORE, _oci

GUEST = recipes.load_guests()["trixie"]


def layer(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:") as out:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            info.mode = 0o755
            info.pax_headers = {"SCHILY.xattr.user.mark": "kept", "mtime": "1.5"}
            out.addfile(info, io.BytesIO(text.encode()))
        hard = tarfile.TarInfo("hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, next(iter(files))
        out.addfile(hard)
    return path


def image(tmp_path: Path, name: str, layers: Sequence[Path]) -> ContainerImage:
    archive = tmp_path / f"{name}.oci.tar"
    config = oci.Config()
    digest = oci.write_archive(layers, archive, name=name, config=config)
    return ContainerImage(name=name, archive=archive, digest=digest, reference=f"localhost/{name}", config=config)


@pytest.fixture
def images(tmp_path: Path) -> list[ContainerImage]:
    low, high = layer(tmp_path / "low", {"a": "one"}), layer(tmp_path / "high", {"b": "two" * 5000})
    return [image(tmp_path, "both", [low, high]), image(tmp_path, "single", [low])]


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tarfile.TarInfo]]:
    """What each disk that was made has on it; nothing is entered."""
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    made: list[dict[str, tarfile.TarInfo]] = []

    def make(at: Path, _tools: Path, _command: Sequence[str]) -> None:
        with tarfile.open(at / "disk.tar") as tar:
            made.append({info.name: info for info in tar})
        (at / "disk.tar").rename(at / "disk.raw")

    monkeypatch.setattr(ext4, "make", make)
    monkeypatch.setattr(ext4, "tools", lambda *_: tmp_path)
    return made


def test_each_layer_is_there_once_and_each_image_names_its_own(
    images: list[ContainerImage], disks: list[dict[str, tarfile.TarInfo]]
) -> None:
    built = store.build_store(images, GUEST)
    (found,) = disks
    tops = {name.split("/")[1] for name in found if name.startswith("layers/")}
    assert len(tops) == 2
    with tarfile.open(built.disk) as tar:
        both, single = (
            tar.extractfile(f"images/{one.digest.removeprefix('sha256:')}").read().decode().split()  # type: ignore[union-attr]
            for one in images
        )
    assert {*both} == tops
    assert single == both[1:], "the topmost comes first"
    low = f"layers/{single[0]}"
    assert found[low].isdir()
    assert found[f"{low}/a"].mode == 0o755
    assert found[f"{low}/a"].pax_headers["SCHILY.xattr.user.mark"] == "kept"
    assert found[f"{low}/hard"].linkname == f"{low}/a"
    names = list(found)
    assert all(str(Path(name).parent) in (".", *names[: names.index(name)]) for name in names), "parents first"


def test_it_is_made_once_for_the_same_images_in_any_order(
    images: list[ContainerImage], disks: list[dict[str, tarfile.TarInfo]]
) -> None:
    assert store.build_store(images, GUEST) == store.build_store(images[::-1], GUEST)
    assert len(disks) == 1
    assert store.build_store(images[:1], GUEST) != store.build_store(images, GUEST)


def test_another_layout_has_the_same_files_in_another_order(
    tmp_path: Path, disks: list[dict[str, tarfile.TarInfo]]
) -> None:
    images = [image(tmp_path, "many", [layer(tmp_path / "many", {name: name for name in "abcdefgh"})])]
    built = [store.build_store(images, GUEST, layout=layout) for layout in range(6)]
    assert len({one.disk for one in built}) == 6
    plain, *others = ({name: (info.size, info.linkname) for name, info in disk.items()} for disk in disks)
    assert all(other == plain for other in others)
    assert len({tuple(other) for other in others}) > 1
    for disk in disks[1:]:
        order = list(disk)
        for name, info in disk.items():
            assert str(Path(name).parent) in (".", *order[: order.index(name)]), "parents first"
            assert not info.islnk() or info.linkname in order[: order.index(name)], "a link after its target"


class Guest:
    """Answers ``cat`` with what the store lists, and knows no podman."""

    def __init__(self, listed: dict[str, str]) -> None:
        self.listed = listed

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        text = self.listed.get(argv[-1])
        if check and text is None:
            raise AssertionError(argv)
        return Completed(argv=tuple(argv), code=int(text is None), out=(text or "").encode(), err=b"", seconds=0.0)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        raise AssertionError(path)

    def get(self, path: str) -> bytes:
        raise AssertionError(path)


def test_a_runtime_takes_the_layers_from_the_store() -> None:
    guest = Guest({f"{STORE}/images/ab12": "top\nlow\n"})
    assert _oci.locate(guest, "localhost/x@sha256:ab12") == f"{STORE}/layers/top:{STORE}/layers/low"
    with pytest.raises(AssertionError, match="podman"):
        _oci.locate(guest, "localhost/x@sha256:cd34")

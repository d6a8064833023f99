"""Disks and container images: what goes into them, in which order, and when they are made again."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import BuildError, CommandError, HostError, SpecError
from testbed.files import file_digest, tree_digest
from testbed.lab import repository
from testbed.lab.build import cache, debian, image, recipes, tarball
from testbed.lab.build.kernel import Kernel
from testbed.lab.build.recipes import IMAGES

EPOCH = 1000


def pack(target: Path, members: Sequence[tuple[str, bytes | str | None]]) -> Path:
    """Write a tar: bytes are a file, text a symbolic link, ``None`` a directory; newer than EPOCH."""
    with tarfile.open(target, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(f"./{name}")
            info.mtime = EPOCH + 5
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o700
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return target


def read(path: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(path) as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name] = file.read() if file else (info.linkname or None)
    return found


def test_later_files_replace_earlier_ones_and_order_is_of_names(tmp_path: Path) -> None:
    one = pack(tmp_path / "1", [("z", b"1"), ("b", None), ("b/x", b"1"), ("b-x", b"1")])
    two = pack(tmp_path / "2", [("b/x", b"2"), ("a", "z")])
    tarball.merge(tmp_path / "out", [one, two], epoch=EPOCH)
    assert list(read(tmp_path / "out").items()) == [("a", "z"), ("b", None), ("b/x", b"2"), ("b-x", b"1"), ("z", b"1")]


def test_another_layout_has_the_same_files_in_another_order_and_directories_first(tmp_path: Path) -> None:
    names = [f"d{n}/{m}/f{k}" for n in range(3) for m in range(3) for k in range(3)]
    one = pack(tmp_path / "1", [(name, name.encode()) for name in names])
    made = [tmp_path / f"out{layout}" for layout in range(3)]
    for layout, path in enumerate(made):
        tarball.merge(path, [one], layout=layout)
    first, *others = map(read, made)
    assert list(first) == sorted(first, key=lambda name: name.split("/"))
    assert tarball.merge(tmp_path / "again", [one], layout=1) == file_digest(made[1]) != file_digest(made[2])
    for other in others:
        assert other == first
        order = list(other)
        assert order != list(first)
        assert all(str(Path(name).parent) in (".", *order[: order.index(name)]) for name in order), "parents first"


def test_one_content_gives_one_file_whatever_the_order_and_the_times(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | str | None]] = [("d", None), ("d/f", b"x"), ("l", "d/f")]
    one = pack(tmp_path / "1", members)
    two = pack(tmp_path / "2", members[::-1])
    first = tarball.merge(tmp_path / "out1", [one], epoch=EPOCH)
    second = tarball.merge(tmp_path / "out2", [two], epoch=EPOCH)
    assert first == second == file_digest(tmp_path / "out1")
    with tarfile.open(tmp_path / "out1") as tar:
        assert {info.mtime for info in tar} == {EPOCH}


def test_another_content_gives_another_file(tmp_path: Path) -> None:
    one = pack(tmp_path / "1", [("f", b"x")])
    two = pack(tmp_path / "2", [("f", b"y")])
    assert tarball.merge(tmp_path / "out1", [one]) != tarball.merge(tmp_path / "out2", [two])


def test_what_is_dropped_is_gone_with_all_below(tmp_path: Path) -> None:
    names: list[tuple[str, bytes | str | None]] = [("a", None), ("a/b", None), ("a/b/c", b""), ("ab", b""), ("k1", b"")]
    out = tmp_path / "out"
    tarball.merge(out, [pack(tmp_path / "1", names)], drop=("a", "k*"))
    assert list(read(out)) == ["ab"]
    tarball.merge(out, [pack(tmp_path / "1", names)], drop=("a/*",))
    assert list(read(out)) == ["a", "ab", "k1"]


def test_only_what_is_kept_is_there_and_can_be_dropped_again(tmp_path: Path) -> None:
    names: list[tuple[str, bytes | str | None]] = [("a", None), ("a/b", b""), ("a/c", b""), ("ab", b""), ("d", b"")]
    tarball.merge(tmp_path / "out", [pack(tmp_path / "1", names)], keep=("a", "x*"), drop=("*/c",), links={"d": "e"})
    assert read(tmp_path / "out") == {"a": None, "a/b": b"", "d": "e"}


def test_what_a_program_made_has_its_owner_and_its_permissions(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / ".hidden").mkdir(parents=True, mode=0o700)
    tree.chmod(0o750)
    (tree / "data").write_bytes(b"1")
    (tree / "data").chmod(0o600)
    (tree / "link").symlink_to("data")
    archive = pack(tmp_path / "1", [("var", None), ("var/x", b"")])
    tarball.merge(tmp_path / "out", [archive], made=tarball.MadeTree(tree=tree, at="var/lib/x", owner=70))
    with tarfile.open(tmp_path / "out") as tar:
        found = {info.name: (info.mode, info.uid, info.gid) for info in tar}
    assert found == {
        "var": (0o700, 0, 0),
        "var/lib": (0o755, 0, 0),
        "var/lib/x": (0o750, 70, 70),
        "var/lib/x/.hidden": (0o700, 70, 70),
        "var/lib/x/data": (0o600, 70, 70),
        "var/lib/x/link": (0o777, 70, 70),
        "var/x": (0o644, 0, 0),
    }
    assert read(tmp_path / "out")["var/lib/x/link"] == "data"


BLOBS = recipes.Blobs(count=3, size=4096, head="#!/bin/true\n", mode=0o711)


def test_blobs_have_their_size_their_beginning_and_contents_of_their_own(tmp_path: Path) -> None:
    archive = pack(tmp_path / "1", [("b", None), ("b/0.so", b"theirs")])
    tarball.merge(tmp_path / "out", [archive], blobs=BLOBS.files("b/{n}.so"), epoch=EPOCH)
    found = read(tmp_path / "out")
    assert list(found) == ["b", "b/0.so", "b/1.so", "b/2.so"]
    contents = [content for name, content in found.items() if name != "b"]
    assert all(isinstance(c, bytes) and len(c) == 4096 and c.startswith(b"#!/bin/true\n") for c in contents)
    assert len(set(contents)) == 3
    with tarfile.open(tmp_path / "out") as tar:
        assert {(i.mode, i.uid, i.mtime) for i in tar if i.isfile()} == {(0o711, 0, 0)}


def test_the_content_of_a_blob_is_for_ever_that_of_its_path() -> None:
    # A change would make other images of the same recipes: raise BUILDER then.
    blob = tarball.Blob(path="usr/lib/1", size=24, head=b"head")
    assert blob.content().hex() == "68656164bdc2a9d2de4be014e0bcdb106ecf99b19296400d"
    longer = replace(blob, size=20 << 20).content()
    assert len(longer) == 20 << 20
    assert longer.startswith(blob.content())
    assert tarball.Blob(path="usr/lib/2", size=24, head=b"head").content() != blob.content()
    assert tarball.Blob(path="empty", size=0).content() == b""


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('[blobs."a/{n}"]\nsize = 1', "a path has {n} if, and only if, there are several"),
        ('[blobs."a/1"]\nsize = 1\ncount = 2', "a path has {n} if, and only if, there are several"),
        ('[blobs."/a"]\nsize = 1', "a path has no leading slash"),
        ('[blobs."a"]\nsize = 2\nhead = "abc"', "size 2 is less than that of head, 3"),
        ('[blobs."a"]\nsize = 1\ncount = 0', "greater than or equal to 1"),
    ],
)
def test_blobs_that_cannot_be_are_a_mistake_of_the_recipe(tmp_path: Path, row: str, complaint: str) -> None:
    (tmp_path / "containers").mkdir()
    path = tmp_path / "containers/mine.toml"
    path.write_text(f'summary = ""\nsuite = "trixie"\npackages = []\ncmd = ["/x"]\n{row}\n')
    with pytest.raises(SpecError, match=re.escape(complaint)) as error:
        recipes.load_containers(tmp_path)
    assert str(path) in error.value.message


def test_a_recipe_has_the_files_of_all_its_blobs_and_another_name_for_other_blobs(asked: list[str]) -> None:
    one = CONTAINER.model_copy(update={"blobs": {"a/{n}": BLOBS, "b": recipes.Blobs(size=1)}})
    assert [file.path for file in one.blob_files()] == ["a/0", "a/1", "a/2", "b"]
    other = CONTAINER.model_copy(update={"blobs": {"a/{n}": BLOBS, "b": recipes.Blobs(size=2)}})
    digests = {image.build_container_image(recipe).digest for recipe in (CONTAINER, one, other)}
    assert len(digests) == 3
    assert "blobs" not in CONTAINER.canonical(), "images without them keep their key"


def test_one_directory_can_be_taken_and_its_parents_are_made(tmp_path: Path) -> None:
    archive = pack(tmp_path / "1", [("a/b/c", b"1"), ("a/bb/c", b"2")])
    tarball.merge(tmp_path / "out", [archive], only="a/b")
    assert read(tmp_path / "out") == {"a": None, "a/b": None, "a/b/c": b"1"}


def test_a_hard_link_becomes_a_copy(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "1", "w") as tar:
        first = tarfile.TarInfo("./z")
        first.size = 3
        tar.addfile(first, io.BytesIO(b"abc"))
        second = tarfile.TarInfo("./a")
        second.type, second.linkname = tarfile.LNKTYPE, "./z"
        tar.addfile(second)
    tarball.merge(tmp_path / "out", [tmp_path / "1"])
    assert read(tmp_path / "out") == {"a": b"abc", "z": b"abc"}


def test_files_of_ours_go_over_and_private_directories_stay_private(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "root").mkdir(parents=True)
    (tree / "root/f").write_text("ours")
    (tree / "run").write_text("#!/bin/sh")
    (tree / "run").chmod(0o770)
    (tree / "root/f").chmod(0o640)
    archive = pack(tmp_path / "1", [("root", None), ("root/f", b"theirs")])
    tarball.merge(tmp_path / "out", [archive], tree=tree, links={"etc/l": "/dev/null"})
    with tarfile.open(tmp_path / "out") as tar:
        modes = {info.name: (info.mode, info.uid, info.uname) for info in tar}
    assert modes == {
        "etc": (0o755, 0, ""),
        "etc/l": (0o777, 0, ""),
        "root": (0o700, 0, ""),
        "root/f": (0o644, 0, ""),
        "run": (0o755, 0, ""),
    }
    assert read(tmp_path / "out")["root/f"] == b"ours"


def test_the_digest_of_a_tree_sees_names_contents_and_the_execute_bit(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "f"
    file.write_text("1")
    seen = [tree_digest(tmp_path)]
    file.write_text("2")
    seen.append(tree_digest(tmp_path))
    file.chmod(0o755)
    seen.append(tree_digest(tmp_path))
    file.rename(tmp_path / "d" / "g")
    seen.append(tree_digest(tmp_path))
    assert len(set(seen)) == len(seen)
    (tmp_path / ".swp").write_text("an editor's")
    assert tree_digest(tmp_path) == seen[-1]


TREES = sorted(path for kind in ("containers", "guests") for path in (IMAGES / kind).iterdir() if path.is_dir())
TREES += [IMAGES / "initramfs", repository.BPF]


def test_the_list_of_programs_is_what_git_says() -> None:
    git = ["git", "-C", f"{repository.ROOT}", "ls-files", "-s", "images", "bpf", "benchmarks"]
    said = subprocess.run(git, capture_output=True, text=True, check=False).stdout.splitlines()
    if not said:
        pytest.skip("no git here: an unpacked archive")
    listed = {path for path in repository.PROGRAMS.read_text().splitlines() if not path.startswith("#")}
    assert {line.partition("\t")[2] for line in said if line.startswith("100755")} == listed


@pytest.mark.parametrize("mode", [0o644, 0o755], ids=["no program", "all programs"])
def test_an_archive_that_lost_its_modes_gives_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    digests = [tree_digest(tree, repository.programs(tree)) for tree in TREES]
    modes = _modes(tmp_path / "one.tar", IMAGES / "containers/pod")
    root, unpacked = repository.ROOT, tmp_path / "unpacked"
    for name in ("images", "bpf"):
        shutil.copytree(root / name, unpacked / name)
    for path in unpacked.rglob("*"):
        path.chmod(0o755 if path.is_dir() else mode)
    monkeypatch.setattr(repository, "ROOT", unpacked)
    moved = [unpacked / tree.relative_to(root) for tree in TREES]
    assert [tree_digest(tree, repository.programs(tree)) for tree in moved] == digests
    assert _modes(tmp_path / "two.tar", unpacked / "images/containers/pod") == modes
    assert modes["opt/client"] == 0o755
    # Somebody else's tree has the modes that it has.
    assert repository.programs(root / "images/containers/pod") is None


def _modes(target: Path, tree: Path) -> dict[str, int]:
    tarball.merge(target, [], tree=tree, programs=repository.programs(tree))
    with tarfile.open(target) as tar:
        return {info.name: info.mode for info in tar}


GUEST = recipes.GuestRecipe(name="trixie", summary="", suite="trixie", packages=("a",), tools=("t",), disk_mib=64)
CONTAINER = recipes.ContainerRecipe(name="mine", summary="", suite="trixie", packages=("a",), cmd=("/bin/sh",))


@pytest.fixture
def kernel(kernel: Kernel, tmp_path: Path) -> Kernel:
    modules = pack(tmp_path / "modules.tar", [("usr/lib/modules/6.0/m.ko", b"module")])
    return replace(kernel, modules=modules)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for mmdebstrap and mke2fs; returns what they were asked for."""
    calls: list[str] = []

    def bootstrap(_suite: str, packages: Sequence[str], target: Path, **_: object) -> None:
        calls.append(",".join(packages))
        status = b"Package: a\nVersion: 1\n\n"
        pack(target, [("var/lib/dpkg/status", status), ("etc/hostname", b"builder"), ("etc/f", b"1")])

    def enter(_root: Path, argv: Sequence[str], *, write: Mapping[Path, str]) -> None:
        calls.append(argv[0])
        (at,) = write
        (at / "disk.raw").write_bytes((at / "disk.tar").read_bytes())

    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "_NEEDED", 0)
    monkeypatch.setattr(image, "_NEEDED_CONTAINER", 0)
    monkeypatch.setattr(debian, "bootstrap", bootstrap)
    monkeypatch.setattr(debian, "enter", enter)
    return calls


def test_a_disk_has_packages_modules_and_files_of_ours(asked: list[str], kernel: Kernel) -> None:
    recipe = GUEST.model_copy(update={"wants": {"multi-user.target": ("ssh.service",)}, "drop": ("var",)})
    made = image.build_image(recipe, kernel)
    files = read(made.disk)
    assert files["usr/lib/modules/6.0/m.ko"] == b"module"
    assert files["etc/f"] == b"1"
    assert files["etc/hostname"] == (recipes.IMAGES / "guests/trixie/etc/hostname").read_bytes()
    assert files["etc/systemd/system/multi-user.target.wants/ssh.service"] == "../ssh.service"
    assert "var/lib/dpkg/status" not in files
    assert made.digest == file_digest(made.disk)
    assert not made.disk.with_name("disk.tar").exists()


def test_a_disk_is_made_once_and_packages_are_kept_apart(asked: list[str], kernel: Kernel) -> None:
    assert image.cached_image(GUEST, kernel) is None
    first = image.build_image(GUEST, kernel)
    assert image.build_image(GUEST, kernel) == image.cached_image(GUEST, kernel) == first
    assert asked == ["a", "t", "mke2fs"]
    image.build_image(GUEST.model_copy(update={"disk_mib": 65}), kernel)
    assert asked == ["a", "t", "mke2fs", "mke2fs"]


def test_another_layout_means_another_disk_of_the_same_packages(asked: list[str], kernel: Kernel) -> None:
    first, second = (image.build_image(GUEST, kernel, layout=layout) for layout in (0, 1))
    assert first == image.build_image(GUEST, kernel)
    assert first.digest != second.digest
    assert read(first.disk) == read(second.disk)
    assert asked == ["a", "t", "mke2fs", "mke2fs"]


def test_another_kernel_means_another_disk(asked: list[str], kernel: Kernel) -> None:
    assert image.build_image(GUEST, kernel).disk != image.build_image(GUEST, replace(kernel, digest="d2")).disk


def test_a_disk_that_is_too_small_is_a_build_error(
    asked: list[str], kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("mke2fs: Could not allocate block in ext2 filesystem")

    monkeypatch.setattr(debian, "enter", fail)
    with pytest.raises(BuildError, match="Could not allocate") as error:
        image.build_image(GUEST, kernel)
    assert "disk_mib" in error.value.hint


def test_a_full_disk_is_not_a_build_error(asked: list[str], kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("mke2fs: No space left on device while writing")

    monkeypatch.setattr(debian, "enter", fail)
    with pytest.raises(HostError, match="no space left while building disk"):
        image.build_image(GUEST, kernel)


@pytest.mark.parametrize(("layout", "digits"), [(0, "0000"), (1, "0001"), (15, "000f")])
def test_the_command_of_mke2fs_leaves_nothing_to_chance(layout: int, digits: str) -> None:
    argv = image.disk_argv(GUEST, layout)
    assert argv[argv.index("-U") + 1] == f"6d1b9a4e-0f5a-4d0e-9a53-7c1f{digits}0001"
    assert f"hash_seed=6d1b9a4e-0f5a-4d0e-9a53-7c1f{digits}0002" in argv[argv.index("-E") + 1]
    assert "lazy_itable_init=0" in argv[argv.index("-E") + 1]
    assert argv[argv.index("-O") + 1] == "verity", "files of an image may have it enabled"
    assert argv[-1] == "64M"


def test_each_unit_of_ours_is_wanted_by_something() -> None:
    recipe = recipes.load_guests()["trixie"]
    tree = recipes.IMAGES / "guests/trixie"
    units = {path.name for path in (tree / "etc/systemd/system").glob("*.service")}
    wanted = {unit for several in recipe.wants.values() for unit in several}
    required = "".join(path.read_text() for path in (tree / "etc/systemd/system").glob("*.d/*.conf"))
    assert {unit for unit in units if unit not in wanted and f"Requires={unit}" not in required} == set()


def test_no_ssh_host_key_and_nothing_of_the_builders_host_is_in_a_guest() -> None:
    drop = recipes.load_guests()["trixie"].drop
    for name in ("etc/ssh/ssh_host_rsa_key", "etc/resolv.conf", "etc/hostname", "etc/apt/sources.list"):
        assert tarball._matches(name, drop), name


def test_a_container_image_is_made_once(asked: list[str]) -> None:
    first = image.build_container_image(CONTAINER)
    assert image.build_container_image(CONTAINER) == image.cached_container_image(CONTAINER) == first
    assert asked == ["a"]
    assert first.reference == "localhost/testbed/mine"
    with tarfile.open(first.archive) as tar:
        names = tar.getnames()
        file = tar.extractfile("index.json")
        assert file
        index = json.load(file)
    assert index["manifests"][0]["digest"] == first.digest
    assert f"blobs/{first.digest.replace(':', '/')}" in names
    assert {entry.kind for entry in cache.entries()} == {"container"}


def test_a_container_image_follows_its_recipe(asked: list[str]) -> None:
    other = CONTAINER.model_copy(update={"cmd": ("/bin/true",)})
    assert image.build_container_image(CONTAINER).digest != image.build_container_image(other).digest


PREPARED = CONTAINER.model_copy(
    update={"prepare": recipes.Prepare(argv=("initdb",), makes="var/db", owner=70), "keep": ("etc/f",)}
)


def test_what_a_recipe_prepares_is_made_in_all_of_the_files_and_is_in_the_image(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(root: Path, argv: Sequence[str], *, write: Mapping[Path, str], owner: int) -> None:
        assert (argv, owner) == (("initdb",), 70)
        assert (root / "etc/hostname").read_bytes() == b"builder", "what is not kept is there"
        assert (root / "etc/ours").read_bytes() == b"2", "what the command reads of ours is there"
        assert (root / "var/db").is_dir(), "bubblewrap makes no directory in a root that is read-only"
        ((at, where),) = write.items()
        assert where == "/var/db"
        (at / "made").write_bytes(b"1")

    (tmp_path / "containers/mine/etc").mkdir(parents=True)
    (tmp_path / "containers/mine/etc/ours").write_bytes(b"2")
    monkeypatch.setattr(image, "IMAGES", tmp_path)
    monkeypatch.setattr(debian, "enter", enter)
    monkeypatch.setattr(image, "_NEEDED_PREPARED", 0)
    made = image.build_container_image(PREPARED)
    with tarfile.open(made.archive) as tar:
        layer = max((info for info in tar if info.isfile()), key=lambda info: info.size)
        file = tar.extractfile(layer)
        assert file
        with tarfile.open(fileobj=file) as inner:
            owners = {info.name: info.uid for info in inner}
    assert owners == {"etc": 0, "etc/f": 0, "etc/ours": 0, "var": 0, "var/db": 70, "var/db/made": 70}
    assert sorted(path.name for path in made.archive.parent.iterdir()) == ["image.tar", "meta.json"]


def test_a_preparation_that_fails_is_a_build_error(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("initdb: no such locale")

    monkeypatch.setattr(debian, "enter", fail)
    monkeypatch.setattr(image, "_NEEDED_PREPARED", 0)
    with pytest.raises(BuildError, match="no such locale"):
        image.build_container_image(PREPARED)
    assert cache.entries() == []

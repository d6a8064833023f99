"""The dump of a tree for ``mkcomposefs``, and ``testbed image-digest --composefs``.

The golden digests are what the real program (composefs 1.0.8) printed for a directory with the same tree:
`tests/golden/composefs/README.md` has the commands.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from image_files import Member, docker, member, oci, tar, write_tar

from testbed import cli, shell
from testbed.attest.image.archive import open_image
from testbed.attest.image.composefs import INLINE, Composed, compose, object_path
from testbed.attest.image.tree import Node, read_directory, verity_digest
from testbed.errors import BuildError
from testbed.guest import Completed
from testbed.lab.build import cache, composefs, debian, ext4

GOLDEN = Path(__file__).parents[1] / "golden" / "composefs"
DIGESTS: dict[str, str] = json.loads((GOLDEN / "digests.json").read_text(encoding="utf-8"))
TIME = {b"mtime": b"981173106.789"}


def timed(name: str | bytes, kind: str = "file", what: bytes | str = b"", **more: object) -> Member:
    return member(name, kind, what, records=TIME, **more)


# Each rule of the dump once: inline or object, links, devices, odd names, attributes, owners, times.
LAYERS: Sequence[Sequence[Member]] = (
    (
        timed("./", "dir", mode=0o755),
        timed("bin/", "dir"),
        timed("bin/tool", what=b"tool" * 4096),
        timed("bin/again", "hard", "bin/tool"),
        timed("bin/sh", "link", "tool"),
        timed("dash", "link", "-"),
        timed("old", what=b"hidden by the next layer" * 10),
        timed("small", what=b"hello\nback\\slash=eq", mode=0o644, uid=1000, gid=2000),
        timed("-", what=b"-"),
        timed("empty", mode=0o600),
        timed("inline", what=b"i" * INLINE),
        timed("object", what=b"o" * (INLINE + 1), mode=0o4755, xattrs={b"user.a=b": b"bar baz", b"user.none": b""}),
        timed("null", "chr", rdev=(1, 3), mode=0o666),
        timed("disk", "blk", rdev=(259, 70000), mode=0o660),
        timed("fifo", "fifo", mode=0o600),
        timed(b"sp ace\n\xff", what=b"x"),
    ),
    (timed("./.wh.old", what=b""), timed("./", "dir", mode=0o755), timed("bin/", "dir", mode=0o2755)),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "image.tar", oci([tar(layer) for layer in LAYERS]))


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> list[Composed]:
    """What the real program printed for the golden dumps; for another it is asked nothing."""
    asked: list[Composed] = []
    known = {(GOLDEN / name).read_bytes(): digest for name, digest in DIGESTS.items()}

    def digest(composed: Composed, _: cache.Progress) -> str:
        asked.append(composed)
        return known[composed.dump]

    monkeypatch.setattr(composefs, "digest", digest)
    return asked


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["image-digest", *map(str, args)])


def test_the_dump_is_the_one_that_the_program_read(image: Path) -> None:
    with open_image(image) as opened:
        composed = compose(opened.nodes)
        assert composed.dump == (GOLDEN / "layers.dump").read_bytes()
        for digest, open_object in composed.objects.items():
            with open_object() as file:
                assert verity_digest(file).hex() == digest
    assert len(composed.objects) == 2, "bin/tool (one object of two names) and object"


def test_the_command_prints_what_the_program_prints(image: Path, tool: list[Composed]) -> None:
    done = call("--composefs", image)
    assert (done.exit_code, done.stdout) == (0, f"{DIGESTS['layers.dump']}\n")
    same = write_tar(image.parent / "docker.tar", docker([tar(layer) for layer in LAYERS]))
    assert call("--composefs", image, same).stdout == 2 * f"{DIGESTS['layers.dump']}\n"
    assert len(tool) == 3


def test_json(image: Path, tool: list[Composed]) -> None:
    done = call("--composefs", "--json", image)
    described = {"path": str(image), "composefs": DIGESTS["layers.dump"]}
    assert json.loads(done.stdout) == {"schema": 1, "images": [described]}
    assert tool


def test_a_policy_lists_it(image: Path, tool: list[Composed]) -> None:
    done = CliRunner().invoke(cli.main, ["policy", "from-image", "--composefs", f"one={image}"])
    made = json.loads(done.stdout)["images"]["one"]
    assert made["roots"] == {"composefs": [DIGESTS["layers.dump"]]}
    assert len(tool) == 1
    plain = CliRunner().invoke(cli.main, ["policy", "from-image", f"one={image}"])
    assert "roots" not in json.loads(plain.stdout)["images"]["one"]


def test_a_directory_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"b" * 100)
    nodes = read_directory(tmp_path)
    lines = compose(nodes).dump.splitlines()
    digest = verity_digest((tmp_path / "a" / "b").open("rb")).hex()
    assert [line.split()[0] for line in lines] == [b"/", b"/a", b"/a/b"]
    assert [line.split()[3] for line in lines] == [b"3", b"2", b"1"], "links: a directory's own directories, and two"
    assert lines[2].split()[-3:] == [object_path(digest).encode(), b"-", digest.encode()]
    seconds, _, rest = lines[2].split()[7].partition(b".")
    assert int(seconds) * 10**9 + int(rest) == (tmp_path / "a" / "b").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"mtime": 1}, 7), ({"uid": 1}, 4), ({"gid": 1}, 5), ({"mode": 0o100600}, 2), ({"xattrs": {b"user.a": b""}}, 11)],
)
def test_what_changes_a_line(changed: dict[str, object], field: int) -> None:
    plain = {"mode": 0o100644}
    before, after = (
        compose({b"": Node(mode=0o40755), b"a": Node(**made)}).dump.splitlines()[1].split()
        for made in (plain, plain | changed)
    )
    assert [at for at, one in enumerate(after) if at >= len(before) or one != before[at]] == [field]


def test_times_are_those_of_the_topmost_entry_and_never_the_present(tmp_path: Path) -> None:
    late, early = {b"mtime": b"7.000000005"}, {b"mtime": b"-9.5"}
    layers = (
        [member("d/", "dir", records=late), member("d/f", what=b"1", records=early), member("i/x", what=b"2")],
        [member("d/g", what=b"3", records=late)],
        [member("top/", "dir", records=late), member("top/late", what=b"4")],
    )
    image = write_tar(tmp_path / "image.tar", oci([tar(layer) for layer in layers]))
    with open_image(image) as opened:
        times = {path.decode(): node.mtime for path, node in opened.nodes.items()}
    at = 7 * 10**9 + 5
    assert times == {"": 0, "d": 0, "d/f": 0, "d/g": at, "i": 0, "i/x": 0, "top": at, "top/late": 0}


def test_options_that_exclude_each_other(image: Path) -> None:
    for args in (("--composefs", "--nodes"), ("--store", image.parent / "x"), ("--composefs", "--store", "x", image)):
        assert call(*args, image).exit_code == 2


def test_a_store_has_image_and_objects(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def enter(root: Path, argv: Sequence[str], *, write: dict[Path, str]) -> Completed:
        assert (root, argv[:3]) == (tmp_path / "root", ("mkcomposefs", "--print-digest", "--from-file"))
        (scratch,) = write
        assert (scratch / "dump").read_bytes() == (GOLDEN / "layers.dump").read_bytes()
        (scratch / composefs.IMAGE).write_bytes(b"the image")
        return Completed(argv=tuple(argv), code=0, out=f"{DIGESTS['layers.dump']}\n".encode(), err=b"", seconds=0)

    monkeypatch.setattr(ext4, "tools", lambda *_, **__: tmp_path)
    monkeypatch.setattr(debian, "enter", enter)
    store = tmp_path / "store"
    done = call("--composefs", "--store", store, image)
    assert (done.exit_code, done.stdout) == (0, f"{DIGESTS['layers.dump']}\n")
    assert (store / composefs.IMAGE).read_bytes() == b"the image"
    objects = {path.relative_to(store / composefs.OBJECTS) for path in (store / "objects").rglob("*") if path.is_file()}
    with open_image(image) as opened:
        assert objects == {Path(object_path(digest)) for digest in compose(opened.nodes).objects}
    assert call("--composefs", "--store", store, image).exit_code == 3, "it is there already"


def test_a_build_that_fails_is_not_the_images_fault(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Path:
        raise BuildError("no mirror", "check it")

    monkeypatch.setattr(ext4, "tools", fails)
    for args in (["image-digest"], ["policy", "from-image"]):
        done = CliRunner().invoke(cli.main, [*args, "--composefs", str(image)])
        assert done.exit_code == 3
        assert "no mirror" in done.output


def test_no_digest_is_an_error(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ext4, "tools", lambda *_, **__: tmp_path)
    monkeypatch.setattr(debian, "enter", lambda *_, **__: Completed(argv=(), code=0, out=b"", err=b"", seconds=0))
    with open_image(image) as opened, pytest.raises(BuildError, match="expected a digest"):
        composefs.digest(compose(opened.nodes))


@pytest.mark.skipif(not shutil.which("mkcomposefs"), reason="no mkcomposefs on this host")
@pytest.mark.parametrize("name", DIGESTS)
def test_the_golden_digests_are_those_of_this_hosts_program(name: str) -> None:
    done = shell.run(("mkcomposefs", "--print-digest-only", "--from-file", GOLDEN / name), timeout=60)
    assert done.out.decode().strip() == DIGESTS[name]

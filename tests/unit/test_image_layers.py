"""How layers become a tree: each rule by an example, and all of them against containers/storage, which podman uses."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import storage
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from image_files import Member, block, entry, member, oci, pax, tar, write_dir, write_tar

from testbed.attest.image.archive import OpenImage, open_image
from testbed.attest.image.filesystem import split
from testbed.attest.image.tree import DIRECTORY, Node, read_directory, tree_digest
from testbed.errors import BuildError

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
CAPABILITY = b"\1\0\0\2\4" + bytes(15)
NOBODY = 2**32 - 2
Listing = Mapping[str, str]


def acl(*entries: tuple[int, ...]) -> bytes:
    """An access control list as the kernel returns it: tag, permissions, and who it is for, if it is for one."""
    whole = [(tag, bits, *(who or (2**32 - 1,))) for tag, bits, *who in entries]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in whole)


USR = [member("usr", "dir"), member("usr/bin", "dir")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Layers and their tree, a line for each file; ``None``: they cannot be unpacked. ``vfs``: where that differs.

    ``umoci``: the driver with which umoci agrees, or what it does where it agrees with none; empty: with both.
    """

    layers: Sequence[Sequence[Member]]
    tree: Listing | None
    vfs: Listing | None = field(default_factory=lambda: {"": "as overlay"})
    umoci: str = ""


SAME = {"": "as overlay"}
CASES: dict[str, Case] = {
    "a link in the layer is followed": Case(
        layers=[[*USR, member("bin", "link", "usr/bin"), member("bin/tool", what="x")]],
        tree={"usr": "dir 755", "usr/bin": "dir 755", "bin": "link usr/bin", "usr/bin/tool": "file 755 x"},
    ),
    "a link of a lower layer is not, with overlay": Case(
        layers=[[*USR, member("bin", "link", "usr/bin")], [member("bin/tool", what="x")]],
        tree={"usr": "dir 755", "usr/bin": "dir 755", "bin": "dir 755", "bin/tool": "file 755 x"},
        vfs={"usr": "dir 755", "usr/bin": "dir 755", "bin": "link usr/bin", "usr/bin/tool": "file 755 x"},
        umoci="vfs",
    ),
    "a link out of the tree stays in it": Case(
        layers=[
            [*USR, member("up", "link", "../../usr"), member("root", "link", "/"), member("up/a"), member("root/b")]
        ],
        tree={
            "usr": "dir 755",
            "usr/bin": "dir 755",
            "up": "link ../../usr",
            "root": "link /",
            "usr/a": "file 755",
            "b": "file 755",
        },
    ),
    "a link that leads nowhere": Case(
        layers=[[member("bin", "link", "usr/bin"), member("bin/tool")]],
        tree=None,
        vfs=None,
        umoci="makes the directories to which it leads",
    ),
    "a hard link through a link": Case(
        layers=[[*USR, member("bin", "link", "usr/bin"), member("usr/bin/a", what="a"), member("b", "hard", "bin/a")]],
        tree={
            "usr": "dir 755",
            "usr/bin": "dir 755",
            "bin": "link usr/bin",
            "usr/bin/a": "file 755 a",
            "b": "file 755 a",
        },
    ),
    "a hard link to a link": Case(
        layers=[[member("a", what="a"), member("l", "link", "a"), member("h", "hard", "l", uid=9)]],
        tree={"a": "file 755 a", "l": "link a 9:0", "h": "link a 9:0"},
        umoci="leaves the link's owner",
    ),
    "a hard link's attributes go to the file": Case(
        layers=[
            [
                member("a", what="a", mode=0o4755, uid=3, xattrs={b"security.capability": CAPABILITY}),
                member("b", "hard", "a", mode=0o640, uid=4),
            ]
        ],
        tree={"a": "file 640 4:0 a", "b": "file 640 4:0 a"},
        umoci="leaves the file's attributes",
    ),
    "a hard link to a lower layer, and a whiteout of its file": Case(
        layers=[[member("a", what="a")], [member("b", "hard", "a"), member(".wh.a")]],
        tree=None,
        vfs={"b": "file 755 a"},
        umoci="vfs",
    ),
    "a whiteout, then the file, then a hard link to it": Case(
        layers=[[member("a", what="1")], [member(".wh.a"), member("a", what="2"), member("b", "hard", "a")]],
        tree={"a": "file 755 2", "b": "file 755 2"},
    ),
    "a whiteout of a file of its own layer": Case(
        layers=[[member("a", what="a"), member("b", "hard", "a"), member(".wh.a")]],
        tree=None,
        vfs={"b": "file 755 a"},
        umoci="keeps the file",
    ),
    "a whiteout of a directory, and of a file in it": Case(
        layers=[[member("d", "dir"), member("d/a")], [member(".wh.d"), member("d/.wh.a")]],
        tree={},
        vfs={"d": "dir 755"},
        umoci="overlay",
    ),
    "a whiteout of what is not there": Case(
        layers=[[member("a")], [member("d", "dir"), member("d/.wh.x"), member("d/b")]],
        tree={"a": "file 755", "d": "dir 755", "d/b": "file 755"},
    ),
    "opaque, wherever it stands": Case(
        layers=[
            [member("d", "dir"), member("d/a"), member("d/e", "dir"), member("d/e/a")],
            [member("d", "dir"), member("d/b"), member("d/.wh..wh..opq")],
        ],
        tree={"d": "dir 755", "d/b": "file 755"},
    ),
    "opaque root": Case(
        layers=[[member("a")], [member(".wh..wh..opq"), member("b")]],
        tree={"a": "file 755", "b": "file 755"},
        vfs={"b": "file 755"},
        umoci="vfs",
    ),
    "a directory that only an upper layer's path implies": Case(
        layers=[[member("d", "dir", mode=0o700, uid=5), member("d/a")], [member("d/b")]],
        tree={"d": "dir 755", "d/a": "file 755", "d/b": "file 755"},
        vfs={"d": "dir 700 5:0", "d/a": "file 755", "d/b": "file 755"},
        umoci="vfs",
    ),
    "an implied directory in one with the set-group-id bit": Case(
        layers=[[member("d", "dir", mode=0o2775, gid=50), member("d/e/a"), member("d/f", gid=2**32 - 1)]],
        tree={"d": "dir 2775 0:50", "d/e": "dir 2755", "d/e/a": "file 755", "d/f": "file 755 0:50"},
        vfs={"d": "dir 2775 0:50", "d/e": "dir 2755 0:50", "d/e/a": "file 755", "d/f": "file 755 0:50"},
        umoci="vfs",
    ),
    "a directory in a link's place, a link in a file's": Case(
        layers=[
            [member("usr", "dir"), member("l", "link", "usr"), member("m")],
            [member("l", "dir"), member("m", "link", "l")],
        ],
        tree={"usr": "dir 755", "l": "dir 755", "m": "link l"},
    ),
    "a file where a directory is needed": Case(
        layers=[[member("a")], [member("a/b")]],
        tree={"a": "dir 755", "a/b": "file 755"},
        vfs=None,
        umoci="vfs",
    ),
    "owners modulo 2^32, -1 changes nothing": Case(
        layers=[[member("a", uid=-2, gid=2**33 + 7), member("b", uid=-1, gid=2**32 - 1), member("c", uid=2**40 + 1)]],
        tree={"a": f"file 755 {NOBODY}:7", "b": "file 755", "c": "file 755 1:0"},
    ),
    "what AUFS left": Case(
        layers=[
            [
                *(member(".wh..wh.aufs"), member(".wh..wh.orph", "dir"), member(".wh..wh.plnk", "dir")),
                *(member(".wh..wh.plnk/1.2", what="p"), member("a", "hard", ".wh..wh.plnk/1.2"), member("b")),
            ]
        ],
        tree={".wh..wh.plnk": "dir 755", ".wh..wh.plnk/1.2": "file 755 p", "a": "file 755 p", "b": "file 755"},
        vfs={".wh..wh.plnk": "dir 755", "a": "file 755 p", "b": "file 755"},
        umoci="overlay",
    ),
    "device 0/0": Case(
        layers=[[member("d", "dir"), member("d/a"), member("e")], [member("d", "dir"), member("d/a", "chr")]],
        tree={"d": "dir 755", "e": "file 755"},
        vfs={"d": "dir 755", "d/a": "chr 755 (0, 0)", "e": "file 755"},
        umoci="vfs",
    ),
    "an attribute that makes overlay hide the lower directory": Case(
        layers=[
            [member("d", "dir"), member("d/a")],
            [member("d", "dir", xattrs={b"trusted.overlay.opaque": b"y"}), member("d/b")],
        ],
        tree={"d": "dir 755", "d/b": "file 755"},
        vfs={"d": "dir 755", "d/a": "file 755", "d/b": "file 755"},
        umoci="vfs",
    ),
    "an attribute that makes overlay take a file from elsewhere": Case(
        layers=[[member("a", xattrs={b"trusted.overlay.redirect": b"/b"}), member("b")]],
        tree=None,
        vfs={"a": "file 755", "b": "file 755"},
        umoci="vfs",
    ),
    "vfs does not copy all attributes": Case(
        layers=[
            [member("a", xattrs={b"user.x": b"1", b"security.x": b"2", b"security.capability": CAPABILITY})],
            [member("b")],
        ],
        tree={"a": f"file 755 security.capability={CAPABILITY!r} security.x=b'2' user.x=b'1'", "b": "file 755"},
        vfs={"a": f"file 755 security.capability={CAPABILITY!r} user.x=b'1'", "b": "file 755"},
        umoci="overlay",
    ),
    "attributes that Linux refuses": Case(
        layers=[[member("a", "link", "b", xattrs={b"user.x": b"1"})]],
        tree=None,
        vfs=None,
    ),
    "attributes that nobody knows": Case(
        layers=[[member("a", xattrs={b"other": b"1", b"system.x": b"2", b"security.selinux": b"3"})]],
        tree={"a": "file 755"},
    ),
    "an access control list": Case(
        layers=[
            [
                member(
                    "d",
                    "dir",
                    mode=0o700,
                    xattrs={
                        b"system.posix_acl_access": b"\2\0\0\0\1\0\7\0\0\0\0\0\4\0\5\0\0\0\0\0 \0\5\0\0\0\0\0",
                    },
                )
            ]
        ],
        tree={"d": "dir 755"},
    ),
    "an access control list for more users, and a hard link that changes the mode": Case(
        layers=[
            [member("a", xattrs={ACCESS: acl((1, 7), (2, 7, 9), (4, 5), (16, 7), (32, 0))}), member("b", "hard", "a")]
        ],
        tree=dict.fromkeys(
            ("a", "b"), f"file 755 {ACCESS.decode()}={acl((1, 7), (2, 7, 9), (4, 5), (16, 5), (32, 5))!r}"
        ),
        umoci="leaves the file's attributes",
    ),
    "a default access control list": Case(
        layers=[[member("d", "dir", xattrs={DEFAULT: acl((1, 7), (4, 5), (32, 0))}), member("a")]],
        tree={"d": f"dir 755 {DEFAULT.decode()}={acl((1, 7), (4, 5), (32, 0))!r}", "a": "file 755"},
    ),
    "an access control list that Linux refuses": Case(
        layers=[[member("a", xattrs={ACCESS: acl((1, 7))})]], tree=None, vfs=None
    ),
    "special files": Case(
        layers=[
            [member("c", "chr", rdev=(5000, 5)), member("b", "blk", rdev=(8, 1)), member("p", "fifo", mode=0o4600)]
        ],
        tree={"c": "chr 755 (904, 5)", "b": "blk 755 (8, 1)", "p": "fifo 4600"},
    ),
    "names are cleaned": Case(
        layers=[
            [member("./a"), member("/b"), member("d//e/", "dir"), member("x/../f"), member(".", "dir", mode=0o700)]
        ],
        tree={"a": "file 755", "b": "file 755", "d": "dir 755", "d/e": "dir 755", "f": "file 755"},
    ),
    "a global header applies to nothing": Case(
        layers=[[member("g"), member("pax_global_header", "global", records={b"uid": b"7"}), member("a")]],
        tree={"g": "file 755", "a": "file 755"},
        umoci="refuses it",
    ),
    "layers without entries": Case(layers=[[], [member("a")], []], tree={"a": "file 755"}),
}
DRIVERS = ("overlay", "vfs")


def expected(case: Case, driver: str) -> Listing | None:
    return case.tree if driver == "overlay" or case.vfs == SAME else case.vfs


def listing(nodes: Mapping[bytes, Node]) -> dict[str, str]:
    """A line for each file: kind, mode, owners unless they are root, device, attributes, content or target."""
    names = {1: "fifo", 2: "chr", 4: "dir", 6: "blk", 8: "file", 10: "link"}
    lines = {}
    for path, (kind, mode, uid, gid, rdev, xattrs, target, content) in storage.described(nodes).items():
        assert isinstance(xattrs, dict)
        assert isinstance(kind, int)
        words = [names[kind], mode.removeprefix("0o") if isinstance(mode, str) else ""]
        words += [target.decode() if isinstance(target, bytes) else "", f"{uid}:{gid}" if uid or gid else ""]
        words += [f"{rdev}" if rdev else "", *(f"{name.decode()}={value!r}" for name, value in sorted(xattrs.items()))]
        words += [content.decode() if isinstance(content, bytes) else ""]
        lines[path.decode()] = " ".join(filter(None, words))
    return lines


@contextmanager
def opened(path: Path, layers: Sequence[Sequence[Member]], driver: str | None = None) -> Iterator[OpenImage]:
    with open_image(write_tar(path, oci([tar(one) for one in layers])), driver=driver) as image:
        yield image


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", CASES)
def test_a_rule(tmp_path: Path, name: str, driver: str) -> None:
    case = CASES[name]
    wanted = expected(case, driver)
    if wanted is None:
        with pytest.raises(BuildError, match="cannot unpack it"), opened(tmp_path / "a.tar", case.layers, driver):
            pass
        return
    with opened(tmp_path / "a.tar", case.layers, driver) as image:
        assert listing(image.nodes) == wanted


def test_overlay_counts_and_vfs_where_overlay_fails(tmp_path: Path) -> None:
    """The runtimes of the testbed start from overlays; what they cannot unpack can still be digested."""
    implied = CASES["a directory that only an upper layer's path implies"]
    with opened(tmp_path / "a.tar", implied.layers) as image:
        assert (image.driver, listing(image.nodes), image.notes) == ("overlay", implied.tree, ())
        assert [(driver, listing(nodes)) for driver, nodes in image.other_trees()] == [("vfs", implied.vfs)]
    removed = CASES["a whiteout of a file of its own layer"]
    with opened(tmp_path / "a.tar", removed.layers) as image:
        assert (image.driver, listing(image.nodes)) == ("vfs", removed.vfs)
        (note,) = image.notes
        assert "overlay cannot unpack it: layer 1, entry '.wh.a': the file exists; this is the tree of vfs" in note
        assert list(image.other_trees()) == []


def raw(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes(1024)


def described(record: bytes, *, of: bytes, content: bytes = b"") -> bytes:
    return raw(block(b"x", b"x", record), block(of, b"0", content))


LONG = b"d/" * 60 + b"n"
SPARSE = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"a", b"GNU.sparse.realsize": b"9"}
ONE = {b"GNU.sparse.numblocks": b"1", b"GNU.sparse.size": b"4"}
HEADERS: dict[str, tuple[bytes, bytes, bytes]] = {
    "GNU long name": (raw(block(b"././@LongLink", b"L", LONG + b"\0"), block(LONG[:100], b"0", b"c")), LONG, b"c"),
    "GNU magic": (raw(block(b"a", b"0", b"c", magic=b"ustar  \0")), b"a", b"c"),
    "old format": (raw(block(b"a", b"\0", b"c", magic=bytes(8))), b"a", b"c"),
    "PAX name": (described(pax({b"path": LONG}), of=b"x", content=b"c"), LONG, b"c"),
    "PAX, an empty record changes nothing": (described(pax({b"path": b"", b"uid": b""}), of=b"a"), b"a", b""),
    "PAX, of several the last": (described(pax({b"path": b"x"}) + pax({b"path": b"a"}), of=b"q"), b"a", b""),
    "PAX sparse 1.0": (
        described(pax(SPARSE), of=b"GNUSparseFile/a", content=b"1\n3\n2\n".ljust(512, b"\0") + b"xy"),
        b"a",
        b"\0\0\0xy\0\0\0\0",
    ),
    "PAX sparse 0.1": (
        described(pax(ONE | {b"GNU.sparse.map": b"1,2"}), of=b"a", content=b"xy"),
        b"a",
        b"\0xy\0",
    ),
    "PAX sparse 0.0": (
        described(
            pax(ONE | {b"GNU.sparse.offset": b"1", b"GNU.sparse.numbytes": b"2"}),
            of=b"a",
            content=b"xy",
        ),
        b"a",
        b"\0xy\0",
    ),
    "no blocks of zeros at the end": (entry(member("a", what="c")), b"a", b"c"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header(tmp_path: Path, name: str) -> None:
    layer, path, content = HEADERS[name]
    with open_image(write_tar(tmp_path / "a.tar", oci([layer]))) as image:
        files = {path: node for path, node in image.nodes.items() if node.open}
        assert list(files) == [path]
        assert image.read(path) == content


DAMAGED: dict[str, tuple[bytes, str]] = {
    "checksum": (raw(entry(member("a")), b"x" + entry(member("b"))[1:]), "checksum"),
    "cut in a header": (entry(member("a")) + entry(member("b"))[:300], "ends in the header at byte 512"),
    "cut in a content": (entry(member("a", what="x" * 900))[:-600], "900 bytes of content"),
    "one block of zeros": (entry(member("a")) + bytes(512) + entry(member("b")), "one block of zeros"),
    "PAX length": (described(b"99 path=a\n", of=b"a"), "damaged PAX record"),
    "PAX name with a zero byte": (described(pax({b"path": b"a\0b"}), of=b"a"), "zero byte"),
    "PAX owner": (described(pax({b"uid": b"1_0"}), of=b"a"), "not a number"),
    "PAX time": (described(pax({b"mtime": b"now"}), of=b"a"), "not a number"),
    "PAX size": (described(pax({b"size": b"-1"}), of=b"a"), "-1 bytes"),
    "octal": (raw(entry(member("a")).replace(b"0000755\0", b"0000788\0", 1)), "checksum|octal"),
    "sparse fragments overlap": (
        described(pax(ONE | {b"GNU.sparse.numblocks": b"2", b"GNU.sparse.map": b"0,2,1,1"}), of=b"a", content=b"xyz"),
        "overlap",
    ),
    "sparse and too short": (
        described(pax(ONE | {b"GNU.sparse.map": b"0,2"}), of=b"a", content=b"x"),
        "not as long",
    ),
    "old sparse format": (raw(block(b"a", b"S", b"")), "type b'S' cannot be unpacked"),
    "contiguous file": (raw(block(b"a", b"7", b"")), "type b'7' cannot be unpacked"),
    "a directory whose files inherit a list": (
        tar([member("d", "dir", xattrs={DEFAULT: acl((1, 7), (4, 5), (32, 0))}), member("d/a")]),
        "default access control list is not supported",
    ),
    "out of the layer": (tar([member("d/../../a")]), "leads out of its layer"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_layer_is_no_shorter_layer(tmp_path: Path, name: str) -> None:
    layer, what = DAMAGED[name]
    archive = write_tar(tmp_path / "a.tar", oci([tar([member("low")]), layer]))
    with (
        pytest.raises(BuildError, match=f"(?s)a.tar: the image cannot be read.*layer 2.*({what})"),
        open_image(archive),
    ):
        pass


# ---- against other people's programs ----

ROOTS_WORK = pytest.mark.skipif(not storage.ROOT, reason="only root can give files any owner and make devices")


def theirs(archive: Path, driver: str) -> Mapping[bytes, Node] | None:
    """The tree that skopeo unpacks; ``None`` if it cannot."""
    with storage.scratch() as work:
        unpacked = storage.unpack(f"oci-archive:{archive}", work, driver)
        if unpacked.top is None:
            return None
        return storage.kept(unpacked.top)


def all_theirs(directory: Path, images: Sequence[Sequence[bytes]], driver: str) -> list[Mapping[bytes, Node] | None]:
    """The trees that skopeo unpacks of several images, some at a time: it waits more than it works."""
    archives = [write_tar(directory / f"{number}.tar", oci(layers)) for number, layers in enumerate(images)]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(partial(theirs, driver=driver), archives))


@ROOTS_WORK
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_rules_are_those_of_containers_storage(tmp_path: Path, driver: str) -> None:
    storage.needs("skopeo")
    # The kernel's own rules for these attributes are not modelled.
    skipped = {"an attribute that makes overlay take a file from elsewhere"} if driver == "overlay" else set()
    names = [name for name in CASES if name not in skipped]
    layers = [[tar(one) for one in CASES[name].layers] for name in names]
    for name, nodes in zip(names, all_theirs(tmp_path, layers, driver), strict=True):
        assert (None if nodes is None else listing(nodes)) == expected(CASES[name], driver), name


@ROOTS_WORK
def test_headers_are_read_as_containers_storage_reads_them(tmp_path: Path) -> None:
    storage.needs("skopeo")
    layers = [[layer] for layer, _, _ in HEADERS.values()]
    for name, nodes in zip(HEADERS, all_theirs(tmp_path, layers, "vfs"), strict=True):
        assert nodes is not None, name
        with open_image(write_tar(tmp_path / "a.tar", oci([HEADERS[name][0]]))) as image:
            assert storage.described(image.nodes) == storage.described(nodes), name
    layers = [[layer] for layer, _ in DAMAGED.values()]
    unpacked = [nodes is not None for nodes in all_theirs(tmp_path, layers, "vfs")]
    only_ours = {"out of the layer": True, "a directory whose files inherit a list": True}
    assert dict(zip(DAMAGED, unpacked, strict=True)) == dict.fromkeys(DAMAGED, False) | only_ours


@ROOTS_WORK
def test_umoci_differs_where_it_is_listed(tmp_path: Path) -> None:
    storage.needs("umoci")
    for name, case in CASES.items():
        layout = write_dir(tmp_path / name, oci([tar(one) for one in case.layers], annotations=storage.UMOCI_NAME))
        got = storage.umoci(layout, tmp_path / f"{name}.bundle")
        same = [driver for driver in DRIVERS if (None if got is None else listing(got)) == expected(case, driver)]
        wanted = {"": [*DRIVERS], "overlay": ["overlay"], "vfs": ["vfs"]}.get(case.umoci, [])
        assert same == wanted, (name, got and listing(got))


NAMES = (
    *(b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"l", b"l/a", b"m", b"m/e/b", b"usr"),
    *(b"usr/bin", b"usr/bin/t", b"bin", b"bin/t", b"lib/x", b"b/c", b"./a", b"/d/b", b"x/../b"),
)
TARGETS = (b"a", b"d", b"usr/bin", b"/d", b"../d", b"../../usr", b"l", b"m", b"nowhere", b"e", b".", b"/", b"..")
WHITEOUTS = (
    *(b".wh.a", b".wh.d", b"d/.wh.a", b"d/.wh.e", b"usr/.wh.bin", b"l/.wh.a", b".wh.l", b"b/.wh.c", b"d/.wh..wh..opq"),
    *(b".wh..wh..opq", b"usr/.wh..wh..opq", b"l/.wh..wh..opq", b".wh..wh.plnk", b".wh..wh.plnk/1", b".wh..wh.aufs"),
    *(b"d/.wh.", b"d/.wh..wh.x", b"d/e/.wh..."),
)
# containers/storage waits for ever for a writer when it removes a file "below" a FIFO.
PIPES = (b"a", b"m", b"d/e/a", b"bin/t")
BASE = [*USR, member("d", "dir"), member("d/e", "dir"), member("d/a", what="low"), member("a", what="low")]


def members() -> st.SearchStrategy[Member]:
    """One entry: of every kind, with odd owners, modes and attributes now and then."""
    names, whiteouts, targets = map(st.sampled_from, (NAMES, WHITEOUTS, TARGETS))
    plain: st.SearchStrategy[dict[bytes, bytes]] = st.just({})
    xattrs = st.sampled_from(
        [
            *({b"user.x": b"1"}, {b"trusted.x": b"a\0\n=b"}, {b"security.x": b"1"}, {b"other": b"1"}),
            *({b"security.capability": CAPABILITY}, {b"trusted.overlay.opaque": b"y"}),
        ]
    )
    more = st.fixed_dictionaries(
        {
            "mode": st.sampled_from((0o755, 0o755, 0o644, 0o4755, 0o2775, 0o1777, 0o100600)),
            "uid": st.sampled_from((0, 0, 0, 1000, -2, -1, 2**32 + 5)),
            "gid": st.sampled_from((0, 0, 0, 50, 2**32 - 1)),
            "xattrs": st.one_of(plain, plain, plain, xattrs),
        }
    )
    links = st.sampled_from((*NAMES, b"./a", b"../a", b"l/a", b".wh..wh.plnk/1"))
    numbers = st.sampled_from(((0, 0), (1, 3), (5000, 2**20 - 1)))

    def made(
        kind: str, name: st.SearchStrategy[bytes], **special: st.SearchStrategy[object]
    ) -> st.SearchStrategy[Member]:
        fields = st.fixed_dictionaries(special)
        return st.builds(lambda one, a, b: member(one, kind, **a, **b), name, more, fields)

    file = made("file", names, what=st.sampled_from((b"", b"1", b"x" * 5000)))
    kinds = [file, file, made("dir", names), made("dir", names), made("link", names, what=targets)]
    kinds += [made("hard", names, what=links), made("file", whiteouts), made("file", whiteouts)]
    kinds += [made("chr", names, rdev=numbers), made("fifo", st.sampled_from(PIPES))]
    kinds += [st.builds(lambda name: member(name, "global", records={b"uid": b"7"}), names)]
    return st.one_of(kinds)


def layered() -> st.SearchStrategy[list[list[Member]]]:
    """One to three layers. containers/storage refuses two entries of one name in a layer, before it unpacks them."""
    one = st.lists(members(), max_size=7, unique_by=lambda one: tuple(split(one.name)))
    # An opaque root also removes the directory in which vfs keeps the files of AUFS.
    one = one.filter(lambda layer: not {b".wh..wh..opq", b".wh..wh.plnk"} <= {entry.name[:12] for entry in layer})
    bases: st.SearchStrategy[list[Member]] = st.one_of(st.just(BASE), st.just([]), one)
    return st.builds(lambda base, more: [base, *more], bases, st.lists(one, min_size=1, max_size=2))


def disagreement(layers: Sequence[Sequence[Member]], driver: str, directory: Path) -> str:
    """What is different between our tree and the one that skopeo unpacks; nothing if they agree."""
    archive = write_tar(directory / "a.tar", oci([tar(one) for one in layers]))
    try:
        with open_image(archive, driver=driver) as image:
            ours, digested = storage.described(image.nodes), tree_digest(image.nodes)
    except BuildError as error:
        return "" if theirs(archive, driver) is None else f"only we refuse it: {error}"
    nodes = theirs(archive, driver)
    if nodes is None:
        return f"only {driver} refuses it"
    wanted = storage.described(nodes)
    different = [f"{path!r}: {ours.get(path)} for {wanted.get(path)}" for path in ours.keys() | wanted.keys()]
    same = ours == wanted and digested == tree_digest(nodes)
    return "" if same else "; ".join(line for line in different)


# Without coverage: most of the time goes into skopeo.
@pytest.mark.no_cover
@ROOTS_WORK
@pytest.mark.parametrize("driver", DRIVERS)
def test_any_layers_against_containers_storage(driver: str) -> None:
    storage.needs("skopeo")

    @settings(
        max_examples=10,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(layered())
    def run(layers: list[list[Member]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            assert disagreement(layers, driver, Path(directory)) == ""

    run()


def test_a_tree_that_was_read_is_the_tree_of_its_layer(tmp_path: Path) -> None:
    """The same without another program: what anybody can unpack, written to a directory."""
    (tmp_path / "top/d").mkdir(parents=True)
    (tmp_path / "top/d/a").write_bytes(b"x" * 9000)
    (tmp_path / "top/l").symlink_to("d")
    nodes = read_directory(tmp_path / "top")
    owner: dict[str, Any] = {"uid": nodes[b"d"].uid, "gid": nodes[b"d"].gid}
    modes = {path: node.mode & 0o7777 for path, node in nodes.items()}
    layer = [
        *(member("d", "dir", mode=modes[b"d"], **owner), member("l", "link", "d", **owner)),
        member("l/a", what="x" * 9000, mode=modes[b"d/a"], **owner),
    ]
    with opened(tmp_path / "a.tar", [layer]) as image:
        assert tree_digest(image.nodes) == tree_digest(nodes | {b"": DIRECTORY})

"""The image tree digest: the vectors of docs/formats.md, and each thing that must change it or must not."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence as b
import pytest

from testbed import shell
from testbed.attest.image.tree import (
    DIRECTORY,
    Node,
    content_digest,
    node_digest,
    read_directory,
    tree_digest,
    verity_digest,
)
from testbed.errors import EvidenceError

TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "link": stat.S_IFLNK, "chr": stat.S_IFCHR, "fifo": stat.S_IFIFO}
VECTORS = b.page_vectors()


def file(content: bytes, mode: int = 0o644, **more: Any) -> Node:
    return Node(mode=stat.S_IFREG | mode, open=lambda: io.BytesIO(content), **more)


def parse(vector: dict[str, str]) -> dict[bytes, Node]:
    """Read the lines of a vector that are files."""
    nodes = {b"": DIRECTORY}
    last = b""
    for key, value in vector.items():
        if key.startswith("xattr "):
            more = {key.removeprefix("xattr ").encode(): bytes.fromhex(value)}
            nodes[last] = replace(nodes[last], xattrs=dict(nodes[last].xattrs) | more)
        elif key.startswith("/"):
            last = key[1:].encode()
            kind, mode, uid, gid, *rest = value.split()
            one = Node(mode=TYPES[kind] | int(mode, 8), uid=int(uid), gid=int(gid))
            if kind == "file":
                one = replace(one, open=file(bytes.fromhex(rest[0] if rest else "")).open)
            elif kind == "link":
                one = replace(one, target=rest[0].encode())
            elif kind == "chr":
                one = replace(one, rdev=(int(rest[0]), int(rest[1])))
            nodes[last] = one
    return nodes


@pytest.mark.parametrize("name", ["empty", "one file", "mixed", "at the places"])
def test_vectors_of_the_page(name: str) -> None:
    vector = VECTORS[f"tree: {name}"]
    assert tree_digest(parse(vector)).hex() == vector["digest"]
    final = hashlib.sha256(b"TBID" + struct.pack("<H", 2) + bytes.fromhex(vector["root"])).hexdigest()
    assert final == vector["digest"]


def test_node_vector_of_the_page() -> None:
    vector = VECTORS["tree: one file"]
    node = parse(vector)[b"hello"]
    assert node_digest(node, content_digest(node, {})).hex() == vector["node /hello"]


@pytest.mark.parametrize(("size", "digest"), VECTORS["fs-verity"].items())
def test_fs_verity_vectors_of_the_page(size: str, digest: str) -> None:
    assert verity_digest(io.BytesIO(b"a" * int(size))).hex() == digest


@pytest.mark.skipif(shell.which("fsverity") is None, reason="no fsverity on this machine (package fsverity)")
@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 2_100_000])
def test_fsverity_agrees(tmp_path: Path, size: int) -> None:
    content = hashlib.shake_128(b"content").digest(size)
    (tmp_path / "file").write_bytes(content)
    said = shell.run(["fsverity", "digest", "--compact", tmp_path / "file"], timeout=30).text.strip()
    assert verity_digest(io.BytesIO(content)).hex() == said


MIXED = parse(VECTORS["tree: mixed"])
SU = b"usr/bin/su"


def with_(path: bytes, node: Node | None) -> bytes:
    nodes = dict(MIXED) | ({path: node} if node is not None else {})
    if node is None:
        del nodes[path]
    return tree_digest(nodes)


@pytest.mark.parametrize(
    "changed",
    [
        with_(SU, replace(MIXED[SU], mode=stat.S_IFREG | 0o755)),
        with_(SU, replace(MIXED[SU], uid=1)),
        with_(SU, replace(MIXED[SU], gid=1)),
        with_(SU, replace(MIXED[SU], xattrs={})),
        with_(SU, replace(MIXED[SU], xattrs=dict(MIXED[SU].xattrs) | {b"user.x": b""})),
        with_(SU, replace(MIXED[SU], xattrs={b"security.capability": b"other"})),
        with_(SU, replace(MIXED[SU], open=file(b"sv\n").open)),
        with_(SU, replace(MIXED[SU], open=file(b"su\n\0").open)),
        with_(b"usr/bin/sh", replace(MIXED[b"usr/bin/sh"], target=b"sv")),
        with_(b"srv/null", replace(MIXED[b"srv/null"], rdev=(1, 5))),
        with_(b"srv/null", replace(MIXED[b"srv/null"], mode=stat.S_IFBLK | 0o666)),
        with_(b"tmp", None),
        with_(b"empty", DIRECTORY),
        with_(b"etc/passwd", None),
        with_(b"etc/hosts", replace(DIRECTORY)),
        with_(b"dev/null", MIXED[b"srv/null"]),
        with_(b"run/secrets", DIRECTORY),
        with_(b"sys", Node(mode=stat.S_IFLNK | 0o777, target=b"usr")),
        with_(b"usr/dev", DIRECTORY),
        with_(b"usr/bin/null", MIXED[b"srv/null"]),
        with_(SU, replace(MIXED[SU], xattrs=dict(MIXED[SU].xattrs) | {b"user.overlay.payload": b"echo"})),
    ],
)
def test_what_changes_the_digest(changed: bytes) -> None:
    assert changed != tree_digest(MIXED)


@pytest.mark.parametrize(
    "same",
    [
        with_(b"", replace(DIRECTORY, mode=stat.S_IFDIR | 0o700, uid=5)),
        with_(b"sys", DIRECTORY),
        with_(b"dev", None),
        with_(b"etc/hosts", None),
        with_(b"etc/mtab", None),
        with_(b"run/.containerenv", None),
        with_(b".dockerenv", file(b"")),
        with_(SU, replace(MIXED[SU], xattrs=dict(MIXED[SU].xattrs) | {b"trusted.overlay.opaque": b"y"})),
        tree_digest(dict(sorted(MIXED.items(), reverse=True))),
    ],
)
def test_what_does_not(same: bytes) -> None:
    assert same == tree_digest(MIXED)


FILES = (
    *(b".dockerenv", b"run/.containerenv", b"dev/console"),
    *(b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"etc/mtab"),
)
DIRECTORIES = (b"dev", b"proc", b"sys", b"etc", b"run", b"dev/pts", b"dev/shm")
PLAIN = {b"": DIRECTORY, b"dev": DIRECTORY, b"etc": DIRECTORY, b"run": DIRECTORY, b"usr": DIRECTORY}
EMPTY = tree_digest(PLAIN)


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_a_runtime_makes_is_left_out_only_if_it_holds_nothing(path: bytes) -> None:
    digests = {
        "empty": tree_digest(PLAIN | {path: file(b"", 0o4700, uid=7)}),
        "labelled": tree_digest(PLAIN | {path: file(b"", xattrs={b"security.selinux": b"x"})}),
        "byte": tree_digest(PLAIN | {path: file(b"x")}),
        "other byte": tree_digest(PLAIN | {path: file(b"y")}),
        "zero": tree_digest(PLAIN | {path: file(b"\0")}),
        "attribute": tree_digest(PLAIN | {path: file(b"", xattrs={b"user.x": b""})}),
        "link": tree_digest(PLAIN | {path: Node(mode=stat.S_IFLNK | 0o777, target=b"/proc/kmsg")}),
        "directory": tree_digest(PLAIN | {path: DIRECTORY}),
        "pipe": tree_digest(PLAIN | {path: Node(mode=stat.S_IFIFO)}),
    }
    assert {name for name, digest in digests.items() if digest == EMPTY} == {"empty", "labelled"}
    assert len(set(digests.values())) == len(digests) - 1


@pytest.mark.parametrize("path", DIRECTORIES)
def test_a_directory_that_a_runtime_makes_is_left_out_only_if_it_holds_nothing(path: bytes) -> None:
    digests = {
        "empty": tree_digest(PLAIN | {path: replace(DIRECTORY, mode=stat.S_IFDIR | 0o1777, uid=7)}),
        "child": tree_digest(PLAIN | {path: DIRECTORY, path + b"/x": file(b"")}),
        "child with a byte": tree_digest(PLAIN | {path: DIRECTORY, path + b"/x": file(b"x")}),
        "child directory": tree_digest(PLAIN | {path: DIRECTORY, path + b"/x": DIRECTORY}),
        "attribute": tree_digest(PLAIN | {path: replace(DIRECTORY, xattrs={b"user.x": b""})}),
        "file": tree_digest(PLAIN | {path: file(b"")}),
    }
    assert {name for name, digest in digests.items() if digest == EMPTY} == {"empty"}
    assert len(set(digests.values())) == len(digests)
    assert tree_digest(PLAIN | {b"usr/dev": DIRECTORY, b"usr/" + path: DIRECTORY}) != EMPTY


@pytest.mark.parametrize(
    ("target", "left_out"),
    [
        (b"/proc/mounts", True),
        (b"/proc/self/mounts", True),
        (b"../proc/mounts", True),
        (b"../proc/self/mounts", True),
        (b"/proc/1/mounts", False),
        (b"/proc/mounts/", False),
        (b"proc/mounts", False),
        (b"/usr/payload", False),
    ],
)
def test_a_link_of_known_target_is_left_out_as_mtab_alone(target: bytes, left_out: bool) -> None:
    link = Node(mode=stat.S_IFLNK | 0o777, target=target)
    assert (tree_digest(PLAIN | {b"etc/mtab": link}) == EMPTY) == left_out
    assert tree_digest(PLAIN | {b"etc/mtab": replace(link, xattrs={b"trusted.x": b""})}) != EMPTY
    assert tree_digest(PLAIN | {b"etc/hosts": link}) != EMPTY
    assert tree_digest(PLAIN | {b"run/mtab": link}) != EMPTY


def test_two_names_swapped() -> None:
    nodes = dict(MIXED)
    nodes[b"usr/bin/su"], nodes["usr/bin/é".encode()] = nodes["usr/bin/é".encode()], nodes[b"usr/bin/su"]
    assert tree_digest(nodes) != tree_digest(MIXED)


def test_last_of_a_thousand_files() -> None:
    nodes = {b"": DIRECTORY} | {b"%d" % n: file(b"%d" % n) for n in range(1000)}
    assert tree_digest(nodes | {b"999": file(b"x")}) != tree_digest(nodes)


def test_very_deep() -> None:
    nodes = {b"/".join([b"d"] * depth): DIRECTORY for depth in range(1, 3000)}
    assert tree_digest({b"": DIRECTORY} | nodes) != tree_digest({b"": DIRECTORY, b"d": DIRECTORY})


@pytest.mark.parametrize(
    "nodes", [{b"": DIRECTORY, b"a/b": DIRECTORY}, {b"": DIRECTORY, b"a": file(b""), b"a/b": DIRECTORY}]
)
def test_files_below_no_directory(nodes: dict[bytes, Node]) -> None:
    with pytest.raises(EvidenceError, match="'a'"):
        tree_digest(nodes)


def test_directory_on_disk(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tool").write_bytes(b"content")
    (tmp_path / "usr/bin/tool").chmod(0o751)
    xattrs = {b"user.note": b"x"}
    try:
        os.setxattr(tmp_path / "usr/bin/tool", "user.note", b"x")
    except OSError:
        xattrs = {}  # a tmpfs before Linux 6.6 has none
    (tmp_path / "bin").symlink_to("usr/bin")
    os.mkfifo(tmp_path / "usr/pipe", 0o600)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/1").write_bytes(b"")
    (tmp_path / "dev").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").touch()
    (tmp_path / "etc/mtab").symlink_to("/proc/mounts")
    owner: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid()}
    directory = replace(DIRECTORY, **owner)
    expected = {
        b"": directory,
        b"usr": directory,
        b"usr/bin": directory,
        b"usr/bin/tool": file(b"content", 0o751, xattrs=xattrs, **owner),
        b"proc": directory,
        b"proc/1": file(b"", 0o644, **owner),
        b"bin": Node(mode=stat.S_IFLNK, target=b"usr/bin", **owner),
        b"usr/pipe": Node(mode=stat.S_IFIFO | 0o600, **owner),
    }
    for path in (tmp_path / "usr", tmp_path / "usr/bin", tmp_path / "proc"):
        path.chmod(0o755)
    (tmp_path / "proc/1").chmod(0o644)
    assert tree_digest(read_directory(tmp_path)) == tree_digest(expected)

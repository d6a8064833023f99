"""Ground truth: images put together from layers, libraries found as the loader would, logs compared with claims."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import evidence as b
import pyarrow as pa
import pytest
from evidence import GOLDEN

from testbed import plugins
from testbed.attest.finding import Container
from testbed.attest.image.archive import open_image
from testbed.attest.image.ground_truth import arguments, executed, image_tree
from testbed.attest.image.loader import executed_files
from testbed.attest.image.tree import tree_digest
from testbed.attest.log.ima import Entry, read_entries
from testbed.attest.truth import compare
from testbed.attest.verify import attested_entries, verify
from testbed.errors import BuildError
from testbed.measurers import Claimed, Executed, Launched

Members = dict[str, bytes | str | tarfile.TarInfo | None]


def layer(members: Members) -> bytes:
    """A layer: bytes are a file, text a symbolic link, `None` a directory, a `TarInfo` itself."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, content, 0o777
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def archive(path: Path, layers: Iterable[bytes], *, spoil: bool = False) -> Path:
    """An OCI archive of these layers, as they are."""
    blobs = list(layers)
    manifest = json.dumps({"schemaVersion": 2, "layers": [{"digest": digest(one)} for one in blobs]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest(manifest)}]}).encode()
    files = {"index.json": index} | {f"blobs/{digest(one).replace(':', '/')}": one for one in (manifest, *blobs)}
    if spoil:
        files |= {name: one + bytes(512) for name, one in files.items() if one == blobs[0]}
    path.write_bytes(layer(dict(files)))
    return path


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_layers_and_whiteouts(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    hard = tarfile.TarInfo("hard")
    hard.type, hard.linkname = tarfile.LNKTYPE, "dir/kept"
    lower = layer(
        {"dir/gone": b"1", "dir/kept": b"2", "opaque/old": b"3", "file": b"4", "tree/deep/x": b"5", "link": "dir"}
    )
    upper = layer(
        {
            "opaque/new": b"6",
            "opaque/.wh..wh..opq": b"",
            "dir/.wh.gone": b"",
            "./file": b"7",
            ".wh.tree": b"",
            "link/inside": b"8",
            "dir/kept": b"9",
            "hard": hard,
        }
    )
    with open_image(archive(tmp_path / "image", [pack(lower), pack(upper)])) as image:
        files = {path.decode(): image.read(b"/" + path) for path, node in image.nodes.items() if node.open is not None}
    assert files == {"dir/kept": b"9", "hard": b"9", "opaque/new": b"6", "file": b"7", "link/inside": b"8"}
    assert b"tree/deep" not in image.nodes


def test_same_tree_in_other_layers(tmp_path: Path) -> None:
    """How files are spread over layers is in no digest."""
    one = archive(tmp_path / "one", [layer({"usr": None, "usr/a": b"a", "usr/b": b"b"})])
    two = archive(
        tmp_path / "two", [layer({"usr/b": b"x", "c": b"c"}), layer({"usr/b": b"b", "usr/a": b"a", ".wh.c": b""})]
    )
    with open_image(one) as first, open_image(two) as second:
        assert tree_digest(first.nodes) == tree_digest(second.nodes)


def test_binary_xattr(tmp_path: Path) -> None:
    info = tarfile.TarInfo("su")
    info.pax_headers = {"SCHILY.xattr.security.capability": b"\x01\x00\xff\n".decode(errors="surrogateescape")}
    with open_image(archive(tmp_path / "image", [layer({"su": info})])) as image:
        assert image.nodes[b"su"].xattrs == {b"security.capability": b"\x01\x00\xff\n"}


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 300)
    good = layer({"a": b"a"})
    for path in (
        tmp_path / "absent",
        tmp_path / "junk",
        archive(tmp_path / "spoilt", [good], spoil=True),
        archive(tmp_path / "outside", [layer({"../a": b"a"})]),
        archive(tmp_path / "cut", [gzip.compress(good)[:-20]]),
    ):
        with pytest.raises(BuildError, match=path.name), open_image(path):
            pass


def elf(
    needed: Iterable[str] = (),
    *,
    interpreter: str = "",
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    machine: int = 62,
    salt: bytes = b"",
) -> bytes:
    """A file with the headers that a loader reads, and nothing to run."""
    strings, tags = bytearray(b"\0"), []
    for tag, texts in ((1, needed), (14, [soname]), (15, [rpath]), (29, [runpath])):
        for text in filter(None, texts):
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    at = 64 + 3 * 56
    asked = interpreter.encode() + b"\0" if interpreter else b""
    dynamic_at = at + len(asked)
    strings_at = dynamic_at + 16 * (len(tags) + 3)
    tags += [(5, strings_at), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    total = strings_at + len(strings)
    segments = [(1, 0, total), (3 if asked else 0, at, len(asked)), (2, dynamic_at, len(dynamic))]
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 5, off, off, off, size, size, 1) for kind, off, size in segments)
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    return head + table + asked + dynamic + bytes(strings) + salt


LOADER = "/lib64/ld-linux-x86-64.so.2"
BASE: Members = {
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "bin": "usr/bin",
    "usr/lib64/ld-linux-x86-64.so.2": "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": elf(soname="ld-linux-x86-64.so.2"),
    "usr/lib/x86_64-linux-gnu/libc.so.6": elf(["ld-linux-x86-64.so.2"], soname="libc.so.6"),
    "usr/bin/sh": "dash",
    "usr/bin/dash": elf(["libc.so.6"], interpreter=LOADER),
}
SHELL = {"/usr/bin/dash", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libc.so.6"}
LIB = "/usr/lib/x86_64-linux-gnu"


def mapped(tmp_path: Path, program: str, more: Members) -> set[str]:
    with open_image(archive(tmp_path / "image", [layer(BASE | more)])) as image:
        return {f"/{path.decode()}" for path in (how[0] for how in executed_files(image, program.encode()))}


def program(needed: Iterable[str], **more: Any) -> bytes:
    return elf([*needed, "libc.so.6"], interpreter=LOADER, **more)


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (("/bin/sh", "-c", "/script"), ("/bin/sh", "-c", "/script")),
        (("/script", "a b", ""), ("/bin/sh", "/script", "a b", "")),
        (("/one", "x"), ("/bin/sh", "-e -u", "/one", "x")),
        (("/outer", "x"), ("/bin/sh", "-e -u", "/one", "-v", "/outer", "x")),
        (("/nothing", "x"), ("/nothing", "x")),
    ],
)
def test_a_scripts_interpreter_finds_the_scripts_arguments_after_its_own(
    tmp_path: Path, argv: tuple[str, ...], found: tuple[str, ...]
) -> None:
    scripts: Members = {"script": b"#!/bin/sh\n", "one": b"#! /bin/sh  -e -u \n", "outer": b"#!/one -v"}
    assert arguments(archive(tmp_path / "image", [layer(BASE | scripts)]), argv) == found


A, B = elf(["libc.so.6"], soname="liba.so"), elf(soname="libb.so")


@pytest.mark.parametrize(
    ("path", "more", "found"),
    [
        ("/bin/sh", {}, set()),
        ("/bin/static", {"usr/bin/static": elf()}, {"/usr/bin/static"}),
        ("/bin/script", {"usr/bin/script": b"#! /bin/sh -e\n"}, {"/usr/bin/script"}),
        ("/bin/outer", {"usr/bin/outer": b"#!/bin/s\n", "usr/bin/s": b"#!/bin/sh"}, {"/usr/bin/outer", "/usr/bin/s"}),
        ("/p", {"p": program(["liba.so"]), "usr/lib/liba.so": A}, {"/p", "/usr/lib/liba.so"}),
        (
            "/p",  # the library's own library, through a symbolic link
            {
                "p": program(["liba.so"]),
                "usr/lib/liba.so": elf(["b"]),
                "usr/lib/b": "b.1",
                "usr/lib/b.1": B,
            },
            {"/p", "/usr/lib/liba.so", "/usr/lib/b.1"},
        ),
        (
            "/p",  # another machine's library is passed over
            {"p": program(["a"]), "usr/lib/x86_64-linux-gnu/a": elf(machine=3), "usr/lib/a": A},
            {"/p", "/usr/lib/a"},
        ),
        (
            "/opt/p",
            {"opt/p": program(["a"], runpath="$ORIGIN/lib"), "opt/lib/a": A, "usr/lib/a": A},
            {"/opt/p", "/opt/lib/a"},
        ),
        (
            "/p",  # RUNPATH is not for libraries of libraries
            {"p": program(["a"], runpath="/r"), "r/a": elf(["b"]), "r/b": B, "usr/lib/b": B},
            {"/p", "/r/a", "/usr/lib/b"},
        ),
        (
            "/p",  # RPATH is
            {"p": program(["a"], rpath="/r"), "r/a": elf(["b"]), "r/b": B, "usr/lib/b": B},
            {"/p", "/r/a", "/r/b"},
        ),
        (
            "/p",  # and RUNPATH turns it off
            {"p": program(["a"], rpath="/r", runpath="/s"), "r/a": A, "s/a": A},
            {"/p", "/s/a"},
        ),
        (
            "/p",  # the settings count where ldconfig was run
            {
                "p": program(["a"]),
                "usr/lib/a": A,
                "srv/lib/a": A,
                "etc/ld.so.cache": b"x",
                "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf # all\n",
                "etc/ld.so.conf.d/x.conf": b"# mine\n/srv/lib/\n",
            },
            {"/p", "/srv/lib/a"},
        ),
        (
            "/p",  # and not where it was not
            {"p": program(["a"]), "usr/lib/a": A, "srv/lib/a": A, "etc/ld.so.conf": b"/srv/lib\n"},
            {"/p", "/usr/lib/a"},
        ),
        ("/p", {"p": program([]), "etc/ld.so.preload": b"/usr/lib/a", "usr/lib/a": A}, {"/p", "/usr/lib/a"}),
        ("/p", {"p": program(["a", "liba.so"]), "usr/lib/a": A}, {"/p", "/usr/lib/a"}),
    ],
)
def test_what_a_program_maps(tmp_path: Path, path: str, more: Members, found: set[str]) -> None:
    base = set() if path == "/bin/static" else SHELL if path.startswith("/bin") else SHELL - {"/usr/bin/dash"}
    assert mapped(tmp_path, path, more) == base | found


@pytest.mark.parametrize(
    ("path", "more", "what"),
    [
        ("/bin/absent", {}, "/bin/absent"),
        ("bin/sh", {}, "absolute path"),
        ("/usr", {}, "/usr"),
        ("/p", {"p": b"text"}, "neither"),
        ("/p", {"p": program(["liba.so"])}, "liba.so"),
        ("/p", {"p": elf(interpreter="/lib/none.so")}, "none.so"),
        ("/p", {"p": b"#!/q", "q": "q"}, "/q"),
        ("/p", {"p": b"#! \n"}, "no file ''"),
        ("/p", {"p": program(["a"], runpath="/$LIB")}, "cannot be expanded"),
    ],
)
def test_what_cannot_run(tmp_path: Path, path: str, more: Members, what: str) -> None:
    with pytest.raises(BuildError, match=what):
        mapped(tmp_path, path, more)


def test_executed(tmp_path: Path) -> None:
    image = archive(tmp_path / "image", [layer(BASE)])
    truth = {str(one.path): one for one in executed(image, "c1", ["/bin/sh"])}
    assert set(truth) == SHELL
    content = BASE["usr/bin/dash"]
    assert isinstance(content, bytes)
    expected = hashlib.sha256(content).hexdigest()
    path = PurePosixPath("/usr/bin/dash")
    assert truth["/usr/bin/dash"] == Executed(
        container="c1", path=path, digest=expected, size=len(content), of_image=True
    )


C1, C2 = f"{1:064x}", f"{2:064x}"
CONTAINERS = {
    key: Container(seq=int(key), mntns=0, cgroup=0, started=0, runtime_id=name) for key, name in (("1", C1), ("2", C2))
}


def files(*said: tuple[int, str, bytes]) -> list[Entry]:
    lines = [b.ima_buf("ctr-start", b.ctr_start(b.libpod(C1), seq=1))]
    lines += [b.ima_buf("ctr-file", b.ctr_file(path.encode(), content, seq=seq)) for seq, path, content in said]
    return list(read_entries(b"".join(lines)))


def claim(container: str | None, path: str, content: bytes, pcr: int = 11) -> Claimed:
    return Claimed(pcr=pcr, container=container, path=path, digest=hashlib.sha256(content).hexdigest())


def found(entries: list[Entry], *claims: Claimed) -> list[tuple[str, str | None]]:
    findings = compare(entries, frozenset(claims), CONTAINERS)
    return sorted((finding.kind.value, finding.container) for finding in findings)


def test_as_claimed() -> None:
    log = files((1, "/a", b"a"), (2, "/a", b"a"), (2, "/b", b"b"))
    assert found(log, claim(C1, "/a", b"a"), claim(C2, "/a", b"a"), claim(C2, "/b", b"b")) == []


@pytest.mark.parametrize(
    ("log", "claims", "expected"),
    [
        ([(2, "/a", b"a")], [claim(C1, "/a", b"a"), claim(C2, "/a", b"a")], [("missing", None)]),
        ([(1, "/a", b"a")], [claim(C1, "/a", b"a"), claim(C1, "/b", b"b")], [("missing", "1")]),
        ([(1, "/a", b"x")], [claim(C1, "/a", b"a")], [("wrong-digest", "1")]),
        ([(1, "/a", b"a"), (1, "/a", b"x")], [claim(C1, "/a", b"a")], [("wrong-digest", "1")]),
        ([(1, "/a", b"a"), (1, "/x", b"x")], [claim(C1, "/a", b"a")], [("ghost", "1")]),
        ([(1, "/a", b"a"), (2, "/a", b"a")], [claim(C1, "/a", b"a")], [("ghost", "2")]),
        ([(3, "/x", b"x")], [], [("ghost", "3")]),
        ([(2, "/a", b"a")], [claim(C1, "/a", b"a")], [("misattributed", "2")]),
        (
            [(1, "/a", b"2"), (2, "/a", b"1")],
            [claim(C1, "/a", b"1"), claim(C2, "/a", b"2")],
            [("misattributed", "1"), ("misattributed", "2")],
        ),
    ],
)
def test_against_claims_of_containers(
    log: list[tuple[int, str, bytes]], claims: list[Claimed], expected: list[tuple[str, str | None]]
) -> None:
    assert found(files(*log), *claims) == expected


I1, I2, I3 = (hashlib.sha256(name).digest() for name in (b"one", b"two", b"three"))
SH = (b"/bin/sh", b"-c", b"exit 0")
CLAIM = plugins.measurer("container-image").claim


def launches(*said: tuple[int, bytes], images: Iterable[bytes] = (), **more: Any) -> list[Entry]:
    lines = [b.ima_buf("ctr-image", b.ctr_image(one)) for one in images]
    return list(
        read_entries(
            b"".join([*lines, *(b.ima_buf("ctr-launch", b.ctr_launch(i, SH, seq=s, **more)) for s, i in said)])
        )
    )


def launched(
    *said: tuple[str, bytes], argv: tuple[str, ...] | None = ("/bin/sh", "-c", "exit 0")
) -> frozenset[Claimed]:
    return CLAIM(Launched(container=who, image=image.hex(), argv=argv) for who, image in said)


BOTH = launched((C1, I1), (C2, I2))


@pytest.mark.parametrize(
    ("log", "claims", "expected"),
    [
        (launches((1, I1), (2, I2), images=(I1, I2)), BOTH, []),
        (launches((1, I1), (2, I1), images=(I1,)), launched((C1, I1), (C2, I1)), []),
        (launches((1, I1), images=(I1,)), launched((C1, I1), argv=None), []),
        (launches((1, I1), images=(I1, I2)), BOTH, [("missing", None)]),
        (launches((1, I1), (2, I2), images=(I1,)), BOTH, [("missing", None)]),
        (launches((1, I1), images=(I1,)), launched((C1, I2)), [("wrong-digest", "1"), ("wrong-digest", None)]),
        (launches((1, I1), images=(I1, I2)), launched((C1, I1)), [("ghost", None)]),
        (launches((1, I1), (2, I1), images=(I1,)), launched((C1, I1)), [("ghost", "2")]),
        (launches((1, I1), (1, I2), images=(I1,)), launched((C1, I1)), [("wrong-digest", "1")]),
        (launches((1, I2), (2, I1), images=(I1, I2)), BOTH, [("misattributed", "1"), ("misattributed", "2")]),
        (launches((3, I1), images=(I1,)), launched((C1, I1)), [("misattributed", "3")]),
        (launches((1, I3), (2, I2), images=(I3, I2)), BOTH, [("wrong-digest", "1"), ("wrong-digest", None)]),
        # Another program of the right image: what was promised is not there, what is there was not.
        (launches((1, I1), images=(I1,)), launched((C1, I1), argv=("/bin/true",)), [("ghost", "1"), ("missing", "1")]),
        (launches((1, I1), images=(I1,), runtime=bytes(32)), launched((C1, I1)), [("missing", "1")]),
        # A measurer of files alone promises none.
        (launches((1, I1), images=(I1,)), frozenset(), [("ghost", "1"), ("ghost", None)]),
    ],
)
def test_against_claims_of_launches(
    log: list[Entry], claims: frozenset[Claimed], expected: list[tuple[str, str | None]]
) -> None:
    findings = compare(log, claims, CONTAINERS)
    assert sorted(((one.kind.value, one.container) for one in findings), key=str) == sorted(expected, key=str)


def test_a_launch_with_cut_arguments_is_as_claimed() -> None:
    argv = ("/bin/sh", "-c", "x" * 5000)
    said = b"".join(one.encode() + b"\0" for one in argv)[:4096]
    line = b.ima_buf("ctr-launch", b.ctr_launch(I1, SH, arguments=said, flags=1))
    log = list(read_entries(b.ima_buf("ctr-image", b.ctr_image(I1)) + line))
    assert compare(log, launched((C1, I1), argv=argv), CONTAINERS) == []
    (missing, ghost) = compare(log, launched((C1, I1), argv=(*argv, "y")), CONTAINERS)
    assert (missing.kind, ghost.kind) == ("missing", "ghost")
    assert len(missing.where) < 400


def test_the_words_about_a_launch() -> None:
    (image, launch) = compare(launches((1, I2), images=(I2,)), launched((C1, I1)), CONTAINERS)
    assert image.where == "PCR 11: image"
    assert (image.expected, image.got) == (I1.hex(), I2.hex())
    assert launch.where == f"PCR 11: launch of \"/bin/sh -c 'exit 0'\" in container {C1}"
    (ghost,) = compare(launches(images=(I2,)), frozenset(), CONTAINERS)
    assert ghost.got == f"image, {I2.hex()}"


def test_an_images_tree_is_that_of_its_archive(tmp_path: Path) -> None:
    with open_image(archive(tmp_path / "image", [layer(BASE)])) as image:
        assert image_tree(tmp_path / "image") == tree_digest(image.nodes).hex()


def test_a_claim_that_only_a_former_content_meets_is_stale() -> None:
    """By path: the file is of the image; another digest that it never had is as wrong as ever."""
    old = Executed(container=C1, path=PurePosixPath("/a"), digest=hashlib.sha256(b"old").hexdigest(), size=3)
    for content, kind in ((b"old", "stale"), (b"evil", "wrong-digest")):
        log = files((1, "/a", content))
        findings = compare(log, frozenset([claim(C1, "/a", b"a")]), CONTAINERS, former=[old])
        assert [(finding.kind.value, finding.container) for finding in findings] == [(kind, "1")]
        log = list(read_entries(b.ima_ng("/a", content)))
        findings = compare(log, frozenset([claim(None, "/a", b"a", 10)]), CONTAINERS, former=[old])
        assert [finding.kind.value for finding in findings] == [kind]


def test_against_claims_by_path() -> None:
    """On IMA's own PCR other processes have their entries too, and a space is an underscore."""
    log = list(
        read_entries(b.ima_ng("/a", b"a") + b.ima_ng("/host", b"h") + b.ima_ng("/b_c", b"b") + b.violation("/v"))
    )
    assert found(log, claim(None, "/a", b"a", 10), claim(None, "/b c", b"b", 10)) == []
    assert found(log, claim(None, "/a", b"x", 10)) == [("wrong-digest", None)]
    assert found(log, claim(None, "/x", b"a", 10)) == [("missing", None)]
    assert found(log, claim(None, "/v", bytes(32), 10)) == [("missing", None)]
    assert found(log, claim(None, "/a", b"a", 11)) == [("missing", None)]


def namespaced(path: str, bound: bytes, namespace: int = 4026532981) -> bytes:
    """A line as the rule `prototype-file` has it: a digest of eight bytes, the namespace only in the name."""
    data = b.digest_field(hashlib.sha256(bound).digest()) + b.field(f"{namespace}:{path}\0".encode())
    return b.entry(11, b"ima-ng", data)


def weak(*lines: bytes, truth: Iterable[Executed] = ()) -> list[str]:
    findings = compare(list(read_entries(b"".join(lines))), frozenset(), CONTAINERS, list(truth))
    return [finding.kind.value for finding in findings]


def ran(path: str, content: bytes) -> Executed:
    return Executed(
        container=C1, path=PurePosixPath(path), digest=hashlib.sha256(content).hexdigest(), size=len(content)
    )


def test_against_claims_of_any_namespace() -> None:
    lines = [b.ima_ng("4026532981:/a", b"a", pcr=11), b.ima_ng("4026532981", b"image", pcr=11)]
    log = list(read_entries(b"".join(lines)))
    assert found(log, claim(None, "*:/a", b"a"), claim(None, "*", b"image")) == []
    assert found(log, claim(None, "*:/a", b"x")) == [("wrong-digest", None)]
    # Only a whole number at the beginning is a namespace.
    for name in ("/4026532981", "4026532981:a", "x4026532981:/a", "/a.so.6"):
        (other,) = read_entries(b.ima_ng(name, b"a", pcr=11))
        assert found([other], claim(None, "*:/a", b"a"), claim(None, "*", b"a"))[0][0] == "missing"


def test_weak_binding() -> None:
    benign, evil = ((GOLDEN / f"collision_{name}.bin").read_bytes() for name in "ab")
    eight = hashlib.sha256(benign).digest()[:8]
    assert hashlib.sha256(evil).digest()[:8] == eight
    lines = namespaced("/benign", eight), namespaced("/evil", eight)
    assert weak(*lines, truth=[ran("/benign", benign), ran("/evil", evil)]) == ["weak-binding"]
    assert weak(*lines, truth=[ran("/benign", benign), ran("/evil", benign)]) == []
    assert weak(namespaced("/a", eight), namespaced("/a", eight, 4026532982)) == ["weak-binding"]
    assert weak(b.ima_ng("/a", b"a"), b.ima_ng("/b", b"a")) == []


def test_our_entries_bind_file_and_container() -> None:
    benign, evil = ((GOLDEN / f"collision_{name}.bin").read_bytes() for name in "ab")
    log = files((1, "/s", benign), (1, "/s", evil), (2, "/s", benign))
    claims = [claim(C1, "/s", benign), claim(C1, "/s", evil), claim(C2, "/s", benign)]
    assert found(log, *claims) == []


def test_from_bundle_to_findings() -> None:
    """The whole way: a bundle, its verdict, its attested entries, compared with claims."""
    bundle = GOLDEN / "bundle-synthetic"
    nonce = bytes.fromhex("d1ce5eed00112233445566778899aabb")
    verdict = verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=nonce)
    claims = [claim(f"{seq:064x}", f"/usr/lib/file-{n}", b"%d" % n) for seq in (1, 2) for n in range(3)]
    claims += [claim(C2, "/usr/bin/last", b"last"), claim(None, "/usr/bin/host-1-0", b"host 1 0", 10)]
    entries = list(attested_entries(bundle, verdict))
    assert compare(entries, frozenset(claims), verdict.containers) == []
    late = replace(claims[-1], path="/usr/bin/later-0", digest=hashlib.sha256(b"later").hexdigest())
    (finding,) = compare(entries, frozenset([*claims, late]), verdict.containers)
    assert finding.kind == "missing"  # it is in the log, past the quoted state


def test_the_judge_sees_no_lab() -> None:
    """Importing every module of `testbed.attest` must not bring in `testbed.lab`."""
    root = Path(__file__).parents[2]
    modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in root.glob("testbed/attest/**/*.py")]
    assert len(modules) > 50
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]"
    code += "; sys.exit(any(name.startswith('testbed.lab') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

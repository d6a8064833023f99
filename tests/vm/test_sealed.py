"""Roots whose tree one digest of the kernel binds: composefs, and EROFS or squashfs on dm-verity.

What the log says of a root is compared with what the tools say off-line. Roots that only look like these are walked.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booted import Booted, Saves, changes, complaints, hold
from test_image import COMMON, layer, off_line, specials, static_program

from testbed import plugins
from testbed.attest.entries.launch import COMPOSEFS, DM_VERITY, TREE_2, ImageEntry, LaunchEntry
from testbed.attest.image.archive import open_image
from testbed.attest.image.composefs import compose
from testbed.attest.image.tree import verity_digest
from testbed.lab.block import Parts
from testbed.lab.build import composefs, debian, ext4, oci

KERNEL = "debian-6.12"  # 6.1 has no overlay with layers of data
MEASURER = plugins.measurer("container-image")
TOOLS = ("trixie", ("base-files", "dash", "erofs-utils", "squashfs-tools", "cryptsetup-bin"))
SCRIPT = "/root/sealed_roots.py"
STORE, OTHER, DEVICES = "/root/store", "/root/other", "/root/devices"
OVERLAY, LAX = "metacopy=on,redirect_dir=on,verity=require", "metacopy=on,redirect_dir=on,verity=on"
ROOT_HASH = re.compile(rb"Root hash:\s+([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made on the host: digests of the two images, hex, and of the devices by their file systems."""

    archive: Path
    digest: str
    other: str
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed(Booted):
    def sh(self, command: str) -> str:
        return self.guest.run(("sh", "-ec", command), timeout=180).text.strip()

    def start(self, name: str, root: str, **linux: object) -> tuple[int | None, str, LaunchEntry]:
        """Start a container; return what the log says of its image: kind (``None``: a tree known already), digest."""
        before = len(self.log())
        self.guest.run(("python3", SCRIPT, "start", name, root, json.dumps(linux)), timeout=300)
        new = self.log()[before:]
        kinds = {one.digest: one.tree_version for one in self.log() if isinstance(one, ImageEntry)}
        (launch,) = (one for one in new if isinstance(one, LaunchEntry))
        return kinds.get(launch.image), launch.image.hex(), launch

    def composefs(self, at: str, *, store: str = STORE, names: str = "", options: str = "") -> str:
        """Mount a composefs; ``names``: where the names are mounted already; ``options``: instead of the usual ones."""
        names = names or self.names(f"{at}.names", store)
        options = options or f"lowerdir={names}::{store}/objects,{OVERLAY}"
        self.sh(f"mkdir -p {at} && mount -t overlay -o {options} composefs {at}")
        return at

    def names(self, at: str, store: str = STORE) -> str:
        """Mount an EROFS image as a file, without a loop device."""
        self.sh(f"mkdir -p {at} && mount -t erofs -o ro {store}/{composefs.IMAGE} {at}")
        return at

    def upper(self, at: str, lower: str, prepare: str = "true", options: str = "") -> str:
        """Lay a new upper layer over a root; ``prepare``: what is done in it before; ``options``: with a comma."""
        self.sh(f"mkdir -p {at} {at}.upper {at}.work && cd {at}.upper && {prepare}")
        layers = f"lowerdir={lower},upperdir={at}.upper,workdir={at}.work{options}"
        self.sh(f"mount -t overlay -o {layers} overlay {at}")
        return at

    def device(self, name: str, kind: str, made: Made, words: str = "") -> str:
        """Mount a file system on dm-verity; ``words``: further arguments of the target."""
        data, tree = (self.sh(f"losetup -r -f --show {DEVICES}/{kind}{end}") for end in ("", ".tree"))
        size = int(self.sh(f"stat -c %s {DEVICES}/{kind}"))
        table = f"1 {data} {tree} 4096 4096 {size // 4096} 1 sha256 {made.hashes[kind]} - {words}".strip()
        path = self.guest.run(("python3", SCRIPT, "device", name, "verity", f"{size // 512}", table)).text.strip()
        at = f"/root/mounts/{name}"
        self.sh(f"mkdir -p {at} && mount -t {kind} -o ro {path} {at}")
        return at


def tree(directory: Path, name: str, more: dict[str, tuple[bytes, int]]) -> tuple[Path, Path]:
    """Write a tree with each kind of file as a layer and as an archive; it has what runtimes put a mount on."""
    files = {"bin/": (b"", 0o755), "bin/program": (static_program(), 0o755)} | dict.fromkeys(COMMON, (b"", 0o755))
    files |= {"srv/": (b"", 0o700), "srv/big": (hashlib.shake_128(b"big").digest(1_000_001), 0o600)} | more
    made = layer(directory / f"{name}.tar", files, more=specials())
    oci.write_archive([made], directory / f"{name}.oci", name=f"localhost/{name}:latest", config=oci.Config())
    return made, directory / f"{name}.oci"


def store(archive: Path, to: Path) -> str:
    to.mkdir()
    with open_image(archive) as image:
        return composefs.write(compose(image.nodes), to, print)


def devices(made: Path, to: Path) -> dict[str, str]:
    """Make an EROFS and a squashfs of a layer, and the hash tree of each as `veritysetup` does; return root hashes."""
    root = ext4.tools(*TOOLS, print) / "root"
    commands = {
        "erofs": ("mkfs.erofs", "--quiet", "--tar=f", "-T0", "-Uclear", "/out/erofs", f"/src/{made.name}"),
        "squashfs": ("sh", "-c", f"mksquashfs - /out/squashfs -tar -quiet -no-progress < /src/{made.name}"),
    }
    hashes = {}
    for kind, command in commands.items():
        debian.enter(root, command, read={made.parent: "/src"}, write={to: "/out"})
        size = (to / kind).stat().st_size
        with (to / kind).open("ab") as file:
            file.write(bytes(-size % 4096))
        verity = ("veritysetup", "format", "--salt=-", f"/out/{kind}", f"/out/{kind}.tree")
        done = debian.enter(root, verity, write={to: "/out"})
        (found,) = ROOT_HASH.findall(done.out)
        hashes[kind] = found.decode()
    return hashes


def prepare(subject: Sealed, directory: Path) -> Made:
    """Bring two composefs stores and the devices into the guest. The modules are loaded before anything is attached."""
    made, archive = tree(directory, "one", {})
    _, second = tree(directory, "two", {"srv/more": (b"m" * 100, 0o644)})
    (directory / "devices").mkdir()
    result = Made(
        archive=archive,
        digest=store(archive, directory / "store"),
        other=store(second, directory / "other"),
        hashes=devices(made, directory / "devices"),
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for name in ("store", "other", "devices"):
            out.add(directory / name, name)
    subject.guest.put(packed.getvalue(), "/root/roots.tar")
    subject.guest.put((Path(__file__).parent / "sealed_roots.py").read_bytes(), SCRIPT)
    subject.sh("tar -C /root -xf /root/roots.tar && mkdir -p /root/mounts")
    subject.sh("modprobe -a erofs squashfs overlay loop dm-mod dm-verity")
    subject.guest.run(("python3", SCRIPT, "verity", STORE, OTHER))
    return result


@pytest.fixture(scope="module")
def subject(saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with hold(saves, parts[KERNEL], tmp_path_factory.mktemp(KERNEL)) as booted:
        yield Sealed.of(booted)


@pytest.fixture(scope="module")
def made(subject: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    result = prepare(subject, tmp_path_factory.mktemp("roots"))
    with MEASURER.attach(MEASURER, subject.guest):
        yield result


def test_composefs_has_the_digest_that_mkcomposefs_prints(subject: Sealed, made: Made) -> None:
    root = subject.composefs("/root/mounts/plain")
    assert subject.start("plain", root)[:2] == (COMPOSEFS, made.digest)
    assert subject.start("plain-again", root)[:2] == (COMPOSEFS, made.digest)
    images = [one for one in subject.log() if isinstance(one, ImageEntry)]
    (entry,) = (one for one in images if one.digest.hex() == made.digest)
    assert (entry.files, entry.size, entry.outcome) == (0, 0, 0)


def test_a_first_start_reads_nothing_of_the_image(subject: Sealed, made: Made) -> None:
    root = subject.composefs("/root/mounts/other", store=OTHER)
    with changes(MEASURER, subject.guest) as changed:
        assert subject.start("other", root)[:2] == (COMPOSEFS, made.other)
    # Of the image, only the program may have been hashed, for its own entry; the runtime is known.
    assert changed.get("bytes_hashed", 0) <= len(static_program())


def test_the_log_is_trusted_and_a_policy_decides(subject: Sealed, made: Made) -> None:
    _, verdict = subject.judged()
    assert not [one for one in verdict.findings if not one.informative]


def test_the_same_root_walked_has_the_tree_digest(subject: Sealed, made: Made) -> None:
    root = subject.composefs("/root/mounts/walked", options=f"lowerdir=/root/mounts/plain.names::{STORE}/objects,{LAX}")
    assert subject.start("walked", root)[:2] == (TREE_2, off_line(made.archive).hex())


def test_an_upper_layer_that_adds_nothing(subject: Sealed, made: Made) -> None:
    lower = subject.composefs("/root/mounts/lower")
    root = subject.upper("/root/mounts/upper", lower)
    assert subject.start("upper", root)[:2] == (COMPOSEFS, made.digest)
    made_by_runtimes = "mkdir -p dev/pts proc sys run && touch .dockerenv run/.containerenv"
    root = subject.upper("/root/mounts/places", lower, f"{made_by_runtimes} && mkdir etc && touch etc/hosts")
    assert subject.start("places", root)[:2] == (COMPOSEFS, made.digest)
    root = subject.upper("/root/mounts/metacopy", lower, options=",metacopy=on")
    assert subject.start("metacopy", root)[0] == TREE_2, "an empty file could have another content"


# The guest has no setfattr.
SET = "python3 -c 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2], b\"y\")'"
# By a name, how an upper layer is changed.
ADDS = {
    "file": "mkdir srv && echo x > srv/x",
    "empty-file": "touch x",
    "whiteout": "mknod srv c 0 0",
    "hosts": "mkdir etc && echo 1.2.3.4 x > etc/hosts",
    "opaque": f"mkdir etc && {SET} etc trusted.overlay.opaque",
    "opaque-root": f"{SET} . trusted.overlay.opaque",
    "mode": "mkdir -m 777 etc",
    "owner": "mkdir etc && chown 1 etc",
    "attribute": f"mkdir etc && {SET} etc user.x",
    "not-a-directory": "touch run",
}


@pytest.mark.parametrize("name", ADDS)
def test_an_upper_layer_that_adds_something_is_walked(subject: Sealed, made: Made, name: str) -> None:
    lower = subject.composefs(f"/root/mounts/lower-{name}")
    root = subject.upper(f"/root/mounts/adds-{name}", lower, ADDS[name])
    kind, digest, launch = subject.start(f"adds-{name}", root)
    assert kind == TREE_2 or launch.outcome
    assert digest != made.digest


def test_only_a_whole_composefs_that_checks_all_is_one(subject: Sealed, made: Made) -> None:
    names, more = subject.names("/root/mounts/names"), subject.names("/root/mounts/more", OTHER)
    objects = f"{STORE}/objects"
    subject.sh("mkdir -p /root/mounts/evil/srv && echo evil > /root/mounts/evil/srv/evil")
    lowers = {
        "on": f"lowerdir={names}::{objects},{LAX}",
        "above": f"lowerdir=/root/mounts/evil:{names}::{objects},{OVERLAY}",
        "below": f"lowerdir={names}:/root/mounts/evil::{objects},{OVERLAY}",
        "two": f"lowerdir={names}:{more}::{objects}::{OTHER}/objects,{OVERLAY}",
    }
    for name, options in lowers.items():
        kind, digest, _ = subject.start(name, subject.composefs(f"/root/mounts/only-{name}", options=options))
        assert (kind, digest in {made.digest, made.other}) == (TREE_2, False), name
    whole = subject.composefs("/root/mounts/whole", names=names)
    subject.sh(f"mkdir -p /root/mounts/part && mount --bind {whole} /root/mounts/part")
    assert subject.start("bound", "/root/mounts/part")[:2] == (COMPOSEFS, made.digest), "all of it by another name"
    maps = [{"containerID": 0, "hostID": 0, "size": 65536}]
    spaces = [{"type": kind} for kind in ("pid", "mount", "user")]
    kind, _, _ = subject.start("user", whole, namespaces=spaces, uidMappings=maps, gidMappings=maps)
    assert kind == TREE_2, "owners as another user namespace sees them"


def test_an_image_without_verity_is_walked(subject: Sealed, made: Made) -> None:
    subject.sh(f"mkdir -p /root/bare && cp {STORE}/{composefs.IMAGE} /root/bare && ln -s {STORE}/objects /root/bare")
    root = subject.composefs("/root/mounts/bare", store="/root/bare")
    assert subject.start("bare", root)[0] == TREE_2


def test_an_object_of_another_content_does_not_run(subject: Sealed, made: Made) -> None:
    """The overlay refuses it: nothing of that is the measurer's work."""
    subject.sh(
        f"cp -r {STORE} /root/changed && find /root/changed/objects -type f -exec sh -c 'echo x > $1' - {{}} \\;"
    )
    subject.guest.run(("python3", SCRIPT, "verity", "/root/changed"))
    root = subject.composefs("/root/mounts/changed", store="/root/changed")
    assert subject.guest.run(("cat", f"{root}/bin/program"), check=False).code
    assert subject.guest.run(("python3", SCRIPT, "start", "changed", root), check=False).code


def test_a_loop_device_is_asked_for_its_file_at_each_start(subject: Sealed, made: Made) -> None:
    loop = subject.sh(f"losetup -r -f --show {STORE}/{composefs.IMAGE}")
    subject.sh(f"mkdir -p /root/mounts/loop.names && mount -t erofs -o ro {loop} /root/mounts/loop.names")
    root = subject.composefs("/root/mounts/loop", names="/root/mounts/loop.names")
    assert subject.start("loop", root)[:2] == (COMPOSEFS, made.digest)
    # Another name of the volume: the same files, and an image of another digest.
    subject.sh(f"cp {STORE}/{composefs.IMAGE} /root/named")
    subject.sh("printf x | dd of=/root/named bs=1 seek=1088 conv=notrunc status=none")
    subject.guest.run(("python3", SCRIPT, "verity", "/root/named"))
    subject.guest.run(("python3", SCRIPT, "change-fd", loop, "/root/named"))
    kind, digest, _ = subject.start("loop-changed", root)
    assert (kind, digest) == (COMPOSEFS, verity_digest(io.BytesIO(subject.guest.get("/root/named"))).hex())
    assert digest != made.digest
    subject.sh(f"(head -c 4096 /dev/zero; cat {STORE}/{composefs.IMAGE}) > /root/shifted")
    subject.guest.run(("python3", SCRIPT, "verity", "/root/shifted"))
    part = subject.sh("losetup -r -f --show --offset 4096 /root/shifted")
    subject.sh(f"mkdir -p /root/mounts/shifted && mount -t erofs -o ro {part} /root/mounts/shifted")
    root = subject.composefs("/root/mounts/loop-part", names="/root/mounts/shifted")
    assert subject.start("loop-part", root)[0] == TREE_2, "a part of a file is not the file"


@pytest.mark.parametrize("kind", ["erofs", "squashfs"])
def test_dm_verity_has_the_root_hash(subject: Sealed, made: Made, kind: str) -> None:
    root = subject.device(f"whole-{kind}", kind, made)
    assert subject.start(f"whole-{kind}", root)[:2] == (DM_VERITY, made.hashes[kind])
    upper = subject.upper(f"/root/mounts/upper-{kind}", root)
    assert subject.start(f"upper-{kind}", upper)[:2] == (DM_VERITY, made.hashes[kind])


def test_dm_verity_that_checks_less_is_walked(subject: Sealed, made: Made) -> None:
    for name, words in {"logging": "1 ignore_corruption", "once": "1 check_at_most_once"}.items():
        root = subject.device(name, "erofs", made, words)
        kind, digest, _ = subject.start(name, root)
        assert (kind, digest) == (TREE_2, off_line(made.archive).hex())


def test_the_kernel_does_not_complain(subject: Sealed, made: Made) -> None:
    assert complaints(subject.guest) == []

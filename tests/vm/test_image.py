"""Images and launches of live containers: one digest for one tree, in a guest and off-line, another for another."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booted import Booted, changes

from testbed import measurers, plugins
from testbed.attest import archive
from testbed.attest.entries import StartEntry
from testbed.attest.finding import FindingKind
from testbed.attest.launch import ARGS_CUT, CONFIG, OUTCOMES, IdRange, ImageEntry, LaunchEntry
from testbed.attest.tree import tree_digest
from testbed.lab import oci
from testbed.runtimes import Start

MEASURER = plugins.measurer("container-image")
LOADER = f"{measurers.DEPLOYED}/measurer"
HERE = Path(__file__).parent
RUNTIMES = ("crun", "runc", "podman")
CAPS = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("latin1")
# What runtimes put a mount on is in the image, or a bundle's start would add it to the tree.
COMMON = ("dev/", "proc/", "sys/", "etc/", "run/")


def static_program(salt: bytes = b"") -> bytes:
    """Return an ELF program that ends at once: its header, one segment, `exit(0)`, and bytes that nobody runs."""
    code = b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05" + salt
    size = 120 + len(code)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000) + code


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    def launches(self) -> dict[str, LaunchEntry]:
        """Return the launches by the last part of the container's cgroup."""
        log = self.log()
        names = {one.container.seq: one.cgroup_path.decode() for one in log if isinstance(one, StartEntry)}
        found = [one for one in log if isinstance(one, LaunchEntry)]
        return {names[one.container.seq].rpartition("/")[2]: one for one in found}

    def images(self) -> list[ImageEntry]:
        return [one for one in self.log() if isinstance(one, ImageEntry)]

    def start(self, name: str, image: str, argv: tuple[str, ...], runtime: str) -> LaunchEntry:
        """Run one container as experiments do, and return its launch."""
        row = plugins.runtime(runtime)
        steps = row.steps(Start(id=name, image=row.locate(self.guest, image), argv=argv, cgroup="/images"))
        for path, text in steps.files.items():
            self.guest.put(text.encode(), path)
        for words in steps.before:
            self.guest.run(words)
        self.guest.run(steps.run, timeout=180)
        for words in steps.after:
            self.guest.run(words)
        return [one for one in self.log() if isinstance(one, LaunchEntry)][-1]

    def bundle(self, name: str, change: str = "") -> str:
        """Make a bundle of the guest's small tree; ``change`` is Python that changes its configuration ``c``."""
        script = (
            "import json; c = json.load(open('/root/trees/config.json')); c['root']['path'] = '/root/trees/rootfs'; "
        )
        script += f"c['linux']['cgroupsPath'] = '/trees/{name}'\n{change}\n"
        script += f"import os; os.makedirs('/root/{name}'); json.dump(c, open('/root/{name}/config.json', 'w'))"
        self.guest.run(("python3", "-c", script))
        return f"/root/{name}"

    def crun(self, name: str, change: str = "", *, check: bool = True, runtime: str = "crun") -> None:
        bundle = self.bundle(name, change)
        self.guest.run((runtime, "run", "--bundle", bundle, name), timeout=180, check=check)

    def make(self, call: str) -> None:
        """Call a function of ``stress`` in the guest."""
        words = f"import sys; sys.path.insert(0, '/root'); from stress import *; {call}"
        self.guest.run(("python3", "-c", words), timeout=300)

    def counters(self) -> dict[str, int]:
        return measurers.counters(MEASURER, self.guest)

    def counted(self, name: str) -> dict[str, int]:
        """Run one container as ``crun`` does, and return the counters that it raised, and by how much."""
        with changes(MEASURER, self.guest) as changed:
            self.crun(name)
        return changed


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    booted.guest.run(("mkdir", "-p", "/sys/fs/cgroup/images", "/root/trees"))
    booted.guest.put(static_program(), "/root/program", mode=0o755)
    for name in ("trees.py", "stress.py"):
        booted.guest.put((HERE / name).read_bytes(), f"/root/{name}")
    with MEASURER.attach(MEASURER, booted.guest):
        yield Subject.of(booted)


@pytest.fixture(scope="module")
def trees(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Start a container of each state of a tree; return what its tar file gives off-line, by the state's name."""
    names = json.loads(
        subject.guest.run(("python3", "/root/trees.py", "/root/program", "/root/trees"), timeout=300).out
    )
    directory = tmp_path_factory.mktemp("trees")
    for name in names:
        (directory / f"{name}.tar").write_bytes(subject.guest.get(f"/root/trees/{name}.tar"))
        layers = [directory / f"{name}.tar"]
        oci.write_archive(layers, directory / f"{name}.oci", name="localhost/tree:latest", config=oci.Config())
    return {name: off_line(directory / f"{name}.oci") for name in names}


def test_each_state_of_a_tree_has_the_digest_that_it_has_off_line(subject: Subject, trees: dict[str, bytes]) -> None:
    got = {name: one.image for name, one in subject.launches().items() if name in trees}
    assert got == trees


def test_any_change_gives_another_digest_and_what_is_no_change_does_not(trees: dict[str, bytes]) -> None:
    same = {name: digest for name, digest in trees.items() if name.startswith("same")}
    changed = [digest for name, digest in trees.items() if name not in same]
    assert len(set(same.values())) == 1, same
    assert len(set(changed)) == len(changed) >= 30
    assert same["same"] not in changed


def layer(path: Path, members: dict[str, tuple[bytes, int]], *, more: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    """Write a layer: names that end in a slash are directories."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as out:
        for name, (content, mode) in members.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size, info.mode = len(content), mode
            out.addfile(info, io.BytesIO(content))
        for info in more:
            out.addfile(info)
    return path


def specials() -> tuple[tarfile.TarInfo, ...]:
    """Return a link, a hard link, a device and a FIFO."""
    rows = (("srv/link", tarfile.SYMTYPE, "../bin/program"), ("srv/hard", tarfile.LNKTYPE, "bin/program"))
    rows += (("srv/null", tarfile.CHRTYPE, ""), ("srv/fifo", tarfile.FIFOTYPE, ""))
    found = []
    for name, kind, target in rows:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, 0o640
        info.devmajor, info.devminor, info.uid = 1, 3, 1000
        found.append(info)
    # A hard link is the file that it names.
    found[1].mode, found[1].uid = 0o755, 0
    return tuple(found)


def make_archives(directory: Path) -> dict[str, Path]:
    """Write three images: one file; all kinds of files; the same in three layers, which hide files of each other."""
    config = oci.Config(cmd=("/bin/program",))
    program = {"bin/": (b"", 0o755), "bin/program": (static_program(), 0o755)}
    common = dict.fromkeys(COMMON, (b"", 0o755))
    big = {"srv/": (b"", 0o700), "srv/big": (hashlib.shake_128(b"big").digest(1_000_001), 0o600)}
    odd = {"srv/caf\udce9 \n": (b"x", 0o4711), "srv/empty/": (b"", 0o1777)}
    one = layer(directory / "one.tar", common | program)
    kinds = layer(directory / "kinds.tar", common | program | big | odd, more=specials())
    low = layer(directory / "low.tar", common | program | {"srv/": (b"", 0o755), "srv/gone": (b"gone", 0o644)})
    middle = layer(directory / "middle.tar", big | {"srv/empty/": (b"", 0o1777), "srv/empty/gone": (b"gone", 0o644)})
    hidden = {"srv/.wh.gone": (b"", 0o644), "srv/empty/.wh.gone": (b"", 0o644), "srv/": (b"", 0o700)}
    high = layer(directory / "high.tar", program | hidden | odd, more=specials())
    made = {"one": [one], "kinds": [kinds], "split": [low, middle, high]}
    for name, layers in made.items():
        oci.write_archive(layers, directory / f"{name}.oci", name=f"localhost/{name}:latest", config=config)
    return {name: directory / f"{name}.oci" for name in made}


def off_line(path: Path) -> bytes:
    with archive.open_image(path) as image:
        return tree_digest(image.nodes)


@pytest.fixture(scope="module")
def archives(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    """Load images of several kinds; return what podman calls each, and its archive."""
    made = make_archives(tmp_path_factory.mktemp("archives"))
    for name, path in made.items():
        subject.guest.put(path.read_bytes(), f"/root/{name}.oci")
        subject.guest.run(("podman", "load", "--quiet", "--input", f"/root/{name}.oci"), timeout=180)
    return {name: (f"localhost/{name}:latest", path) for name, path in made.items()} | {
        "tools": (subject.image, subject.archive)
    }


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_have_the_digest_of_their_archives(
    subject: Subject, archives: dict[str, tuple[str, Path]], runtime: str
) -> None:
    for name, (image, path) in archives.items():
        program = "/usr/bin/true" if name == "tools" else "/bin/program"
        launch = subject.start(f"{runtime}-{name}", image, (program,), runtime)
        assert launch.image == off_line(path), name
        assert launch.arguments == (program.encode(),)
    assert off_line(archives["kinds"][1]) == off_line(archives["split"][1])
    # Each image is in the log once, however it was started.
    digests = [one.digest for one in subject.images()]
    assert len(digests) == len(set(digests))


def test_a_second_start_reads_nothing_of_the_image(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.crun("first")
    grown = subject.counted("second")
    assert grown.pop("bytes_hashed") == len(static_program())
    assert grown == {"files": 1, "starts": 1, "containers": 1, "launches": 1, "images_known": 1, "cache_hits": 1}


def test_a_launch_says_how(subject: Subject, trees: dict[str, bytes]) -> None:
    change = (
        "c['process'].update(args=['/bin/program', 'a b', '', 'é'], env=['HOME=/', 'B='], user={'uid': 7, 'gid': 8})\n"
    )
    change += "c['process']['capabilities'] = {'bounding': ['CAP_KILL', 'CAP_CHOWN'], 'inheritable': ['CAP_KILL']}\n"
    change += (
        "c['mounts'].append({'destination': '/srv', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['ro', 'nodev']})"
    )
    subject.crun("told", change)
    launch = subject.launches()["told"]
    assert launch.arguments == (b"/bin/program", b"a b", b"", "é".encode())
    assert launch.environment == hashlib.sha256(b"HOME=/\0B=\0").digest()
    assert launch.runtime.hex() == subject.guest.run(("sha256sum", "/usr/bin/crun")).text.split()[0]
    assert (launch.user, launch.group, launch.flags) == (7, 8, 0)
    assert (launch.cap_bounding, launch.cap_inheritable) == (1 << 5 | 1, 1 << 5)
    assert launch.uid_map == launch.gid_map == (IdRange(inside=0, outside=0, count=2**32 - 1),)
    mounts = {one.path: (one.type, one.flags & 0x47) for one in launch.mounts}
    assert mounts == {b"/proc": (b"proc", 0), b"/srv": (b"tmpfs", 0x42)}
    assert launch.image == trees["same"], "a mount hides nothing from the digest"


def test_arguments_beyond_the_limit_are_cut_and_counted(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.crun("long", "c['process']['args'] = ['/bin/program', *(['x' * 99] * 100)]")
    launch = subject.launches()["long"]
    assert launch.flags & ARGS_CUT
    assert launch.args == 101
    assert sum(len(one) for one in launch.arguments) + len(launch.arguments) in {4096, 4097}


def test_owners_are_told_as_the_container_sees_them(subject: Subject, trees: dict[str, bytes]) -> None:
    mapping = "[{'containerID': 0, 'hostID': 100000, 'size': 65536}]"
    shift = "import os\nos.chmod('/root', 0o755)\nos.system('cp -a /root/trees/rootfs /root/shifted')\n"
    shift += "for top, names, more in os.walk(b'/root/shifted'):\n  for name in names + more:\n"
    shift += "    path = os.path.join(top, name); s = os.lstat(path)\n"
    shift += "    if s.st_uid >= 100000: continue\n"
    shift += "    caps = [os.getxattr(path, x) for x in os.listxattr(path, follow_symlinks=False) if 'capab' in x]\n"
    shift += "    os.lchown(path, s.st_uid + 100000, s.st_gid + 100000)\n"
    shift += "    if s.st_mode & 0o170000 != 0o120000: os.chmod(path, s.st_mode & 0o7777)\n"
    shift += "    for x in caps:\n"
    shift += "      v3 = (0x03000001).to_bytes(4, 'little') + x[4:] + (100000).to_bytes(4, 'little')\n"
    shift += "      os.setxattr(path, 'security.capability', v3)\n"
    shift += "c['root']['path'] = '/root/shifted'; c['linux']['namespaces'].append({'type': 'user'})\n"
    shift += f"c['linux']['uidMappings'] = c['linux']['gidMappings'] = {mapping}"
    subject.crun("mapped", shift)
    launch = subject.launches()["mapped"]
    assert launch.uid_map == launch.gid_map == (IdRange(inside=0, outside=100000, count=65536),)
    assert (launch.user, launch.group) == (100000, 100000)
    assert launch.image == trees["same"]


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_hook_hands_in_the_digest_of_the_configuration(
    subject: Subject, trees: dict[str, bytes], runtime: str
) -> None:
    words = ["measurer", "claim", "--pin", measurers.PINS]
    hook = f"c['hooks'] = {{'createRuntime': [{{'path': '{LOADER}', 'args': {words}}}]}}"
    subject.crun(f"claimed-{runtime}", hook, runtime=runtime)
    launch = subject.launches()[f"claimed-{runtime}"]
    assert launch.flags & CONFIG
    assert launch.config == hashlib.sha256(subject.guest.get(f"/root/claimed-{runtime}/config.json")).digest()
    bad = subject.guest.run((LOADER, "claim", "--pin", measurers.PINS), input=b"{}", check=False)
    assert bad.code == 1
    assert b"want a container's state" in bad.err


def test_an_execve_that_fails_is_no_launch(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.guest.run(("sh", "-c", "echo no program >/root/trees/rootfs/bin/bad; chmod 755 /root/trees/rootfs/bin/bad"))
    subject.crun("failing", "c['process']['args'] = ['/bin/bad']", check=False)
    subject.guest.run(("rm", "/root/trees/rootfs/bin/bad"))
    assert "failing" not in subject.launches()
    subject.crun("after")
    assert subject.launches()["after"].image == trees["same"]


# What a runtime does, in few words: a mount namespace and a root of its own.
ENTER = """
import os, sys
os.unshare(os.CLONE_NEWNS)
program = os.open("/root/program", os.O_RDONLY)
os.chroot(sys.argv[1])
os.chdir("/")
"""
# The first execve fails; then two processes execute the container's first program.
TWICE = """
try:
    os.execv("/etc/hosts", ["/etc/hosts"])
except OSError:
    os.fork()
os.execv("/bin/program", ["/bin/program", "twice"])
"""


def test_a_container_has_one_launch(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.guest.run(("chmod", "0755", "/root/trees/rootfs/etc/hosts"))
    subject.guest.run(("python3", "-c", ENTER + TWICE, "/root/trees/rootfs"))
    assert [one.arguments for one in subject.log() if isinstance(one, LaunchEntry)].count(
        (b"/bin/program", b"twice")
    ) == 1


def test_a_root_that_is_no_tree_of_files_is_survived(subject: Subject) -> None:
    run = 'os.execve(program, ["/bin/program", "rootless"], {})'
    subject.guest.run(("python3", "-c", ENTER + run, "/proc/self/fd"))
    launch = [one for one in subject.log() if isinstance(one, LaunchEntry)][-1]
    assert launch.arguments == (b"/bin/program", b"rootless")
    assert OUTCOMES[launch.outcome] == "a file could not be read"


def test_limits_are_said_and_large_trees_are_survived(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.make("deep_tree('/root/trees/rootfs/srv/d', 5000)")
    subject.crun("deep")
    subject.guest.run(("rm", "-r", "/root/trees/rootfs/srv/d"), timeout=180)
    deep = subject.launches()["deep"]
    assert OUTCOMES[deep.outcome] == "over the limit of depth"
    assert deep.image == bytes(32)
    subject.make("wide_tree('/root/trees/rootfs/many', 20_000)")
    subject.crun("many")
    # With those of the images before, fewer than are remembered.
    again = subject.counted("many-again")
    subject.guest.run(("rm", "-r", "/root/trees/rootfs/many"), timeout=180)
    assert subject.launches()["many"].outcome == 0
    assert subject.images()[-1].files > 20_000
    assert again["images_known"] == 1
    assert again["bytes_hashed"] == len(static_program()), "files of a known image were read again"


def test_a_container_that_is_killed_meanwhile_says_so(subject: Subject, trees: dict[str, bytes]) -> None:
    bundle = subject.bundle("killed")
    script = f"truncate --size=32G /root/trees/rootfs/srv/sparse; crun run --bundle {bundle} killed & "
    script += "until grep -qs ^ /sys/fs/cgroup/trees/killed/cgroup.procs && [ -z $(cat /proc/$(head -1 "
    script += "/sys/fs/cgroup/trees/killed/cgroup.procs)/cmdline | tr -d '\\0' | grep crun) ]; do sleep 0.1; done; "
    script += "crun kill killed KILL; wait; rm /root/trees/rootfs/srv/sparse"
    subject.guest.run(("bash", "-c", script), timeout=60)
    assert OUTCOMES[subject.launches()["killed"].outcome] == "the container was killed meanwhile"


def test_nothing_was_missed(subject: Subject) -> None:
    lost = {name: n for name, n in subject.counters().items() if name.startswith("unmeasured_") and n}
    assert lost == {}
    _, verdict = subject.judged()
    # Two images have no digest: over a limit, and killed.
    assert {finding.kind for finding in verdict.findings} == {FindingKind.NO_CONTENT}
    assert verdict.attested[11] > 1
    assert b"BUG:" not in subject.guest.run(("dmesg",)).out

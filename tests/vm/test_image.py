"""Images and launches of live containers: one digest for one tree, in a guest and off-line, another for another."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booted import Booted, changes, complaints

from testbed import measurers, plugins
from testbed.attest.entries.launch import ARGS_CUT, CONFIG, MOUNTS_CUT, OUTCOMES, IdRange, ImageEntry, LaunchEntry, Root
from testbed.attest.entries.mounts import MOUNTS_NONE, OTHER_ROOT, Mount, MountsEntry
from testbed.attest.finding import FindingKind
from testbed.attest.image import archive
from testbed.attest.image.tree import tree_digest
from testbed.lab.build import oci
from testbed.runtimes import Start

MEASURER = plugins.measurer("container-image")
LOADER = f"{measurers.DEPLOYED}/measurer"
HERE = Path(__file__).parent
RUNTIMES = ("crun", "runc", "podman")
CAPS = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("latin1")
# What runtimes put a mount on.
COMMON = ("dev/", "proc/", "sys/", "etc/", "run/")
# What they make there. An image that has it has its own content covered by its digest.
PLACES = (
    *(".dockerenv", "run/.containerenv", "dev/console"),
    *("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"),
)


def static_program(salt: bytes = b"") -> bytes:
    """Return an ELF program that ends at once: its header, one segment, `exit(0)`, and bytes that nobody runs."""
    code = b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05" + salt
    size = 120 + len(code)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000) + code


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
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
    for name in ("trees.py", "stress.py", "served.py"):
        booted.guest.put((HERE / name).read_bytes(), f"/root/{name}")
    with MEASURER.attach(MEASURER, booted.guest):
        yield Subject.of(booted)


@pytest.fixture(scope="module")
def trees(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Start a container of each state of a tree; return what its tar file gives off-line, by the state's name."""
    names = json.loads(
        subject.guest.run(("python3", "/root/trees.py", "/root/program", "/root/trees"), timeout=600).out
    )
    directory = tmp_path_factory.mktemp("trees")
    for name in names:
        (directory / f"{name}.tar").write_bytes(subject.guest.get(f"/root/trees/{name}.tar"))
        layers = [directory / f"{name}.tar"]
        oci.write_archive(layers, directory / f"{name}.oci", name="localhost/tree:latest", config=oci.Config())
    # In a plain directory a device 0/0 is a file like others; to overlay it is a whiteout.
    return {name: off_line(directory / f"{name}.oci", "vfs") for name in names}


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
    rows = (
        ("srv/link", tarfile.SYMTYPE, "../bin/program"),
        ("srv/hard", tarfile.LNKTYPE, "bin/program"),
        ("srv/null", tarfile.CHRTYPE, ""),
        ("srv/fifo", tarfile.FIFOTYPE, ""),
    )
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
    """Write images: one file, with and without what runtimes make; all kinds of files, in one layer and in three.

    ``places`` and ``other`` differ in what they have where runtimes make files.
    """
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
    bare = layer(directory / "bare.tar", program)
    made = {"one": [one], "bare": [bare], "kinds": [kinds], "split": [low, middle, high]}
    for name, text in {"places": b"echo one", "other": b"echo two"}.items():
        files = dict.fromkeys((*PLACES, "dev/x", "proc/x", "sys/x"), (text, 0o644))
        made[name] = [layer(directory / f"{name}.tar", common | program | files)]
    for name, layers in made.items():
        oci.write_archive(layers, directory / f"{name}.oci", name=f"localhost/{name}:latest", config=config)
    return {name: directory / f"{name}.oci" for name in made}


def off_line(path: Path, driver: str | None = None) -> bytes:
    with archive.open_image(path, driver=driver) as image:
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
    digests = {name: off_line(path) for name, (_, path) in archives.items()}
    assert digests["kinds"] == digests["split"]
    assert digests["one"] == digests["bare"], "what a runtime makes is no difference"
    assert len({digests["one"], digests["places"], digests["other"]}) == 3
    # Each image is in the log once, however it was started.
    logged = [one.digest for one in subject.images()]
    assert len(logged) == len(set(logged))


def test_a_second_start_reads_nothing_of_the_image(subject: Subject, trees: dict[str, bytes]) -> None:
    subject.crun("first")
    grown = subject.counted("second")
    grown.pop("ended", None)  # of this container or the one before, whenever the kernel frees their last tasks
    # Nothing is hashed: neither the image nor its program, which a state of the tree gave fs-verity.
    events = ("files", "verity", "starts", "containers", "launches", "images_known", "cache_hits")
    assert grown == dict.fromkeys(events, 1)


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
    mounts = {one.target: (one.type, one.source, one.options[0]) for one in launch.mounts}
    assert mounts == {
        b"/": (b"ext4", b"/dev/vda", "rw"),
        b"/proc": (b"proc", b"proc", "rw"),
        b"/dev": (b"tmpfs", b"tmpfs", "rw"),
        b"/srv": (b"tmpfs", b"tmpfs", "ro"),
    }
    assert "nodev" in launch.mounts[-1].options
    assert launch.image == trees["same"], "a mount hides nothing from the digest"


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Read what a container finds in ``/proc/self/mountinfo`` of its own."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields, (kind, source, above) = left.split(b" "), right.split(b" ", 2)
        root, target, kind, source = (
            re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
            for field in (fields[3], fields[4], kind, source)
        )
        options, read_only = tuple(fields[5].decode().split(",")), above.split(b",")[0] == b"ro"
        one = Mount(target=target, type=kind, options=options, source=source, root=root, super_read_only=read_only)
        found.append(one)
    return found


def test_the_mounts_are_those_that_the_container_sees(subject: Subject) -> None:
    subject.guest.run(("mkdir", "-p", "/root/volume", "/root/a volume"))
    words = ("--network=none", "--pull=never", "--log-level=error", "--tmpfs=/scratch:noexec")
    volumes = ("--volume=/root/volume:/data:ro", "--volume=/root/a volume:/with space")
    run = ("podman", "run", "--rm", *words, *volumes, subject.image, "/usr/bin/cat", "/proc/self/mountinfo")
    said = subject.guest.run(run, timeout=180).out
    launch = [one for one in subject.log() if isinstance(one, LaunchEntry)][-1]
    assert list(launch.mounts) == parse_mountinfo(said)
    by_target = {one.target: one for one in launch.mounts}
    assert by_target[b"/data"].options[0] == "ro"
    assert by_target[b"/data"].root == b"/root/volume"
    assert not by_target[b"/data"].super_read_only
    assert by_target[b"/with space"].root == b"/root/a volume"
    assert by_target[b"/scratch"].type == b"tmpfs"
    assert "noexec" in by_target[b"/scratch"].options
    assert by_target[b"/"].type == b"overlay"


# What a runtime does, in few words: a mount namespace and a root of its own. The words after the root are commands.
ENTER = """
import ctypes, os, subprocess, sys
os.unshare(os.CLONE_NEWNS)
ctypes.CDLL(None).mount(b"none", b"/", None, 1 << 18 | 1 << 14, None)
for command in sys.argv[2:]:
    subprocess.run(["sh", "-c", command], check=True)
program = os.open("/root/program", os.O_RDONLY)
os.chroot(sys.argv[1])
os.chdir("/")
"""
RUN = 'os.execve(program, ["/bin/program", "entered"], {})'


def entered(subject: Subject, root: str, *commands: str) -> LaunchEntry:
    """Launch a program in ``root``, after commands in its mount namespace."""
    subject.guest.run(("python3", "-c", ENTER + RUN, root, *commands), timeout=120)
    launch = [one for one in subject.log() if isinstance(one, LaunchEntry)][-1]
    assert launch.arguments == (b"/bin/program", b"entered")
    return launch


# A root whose programs are the guest's, and which has next to nothing of its own. Then mounts change, and programs are
# executed as seen from it, from a directory in it, and from a mount that is in no namespace.
VIEWS = (
    "mkdir -p /root/viewed && cd /root/viewed && mkdir -p usr mnt media jail/bin && ln -s usr/bin usr/lib usr/lib64 .",
    "cp /root/program /root/viewed/jail/bin/program",
    "mount --bind /usr /root/viewed/usr",
)
CHANGE = """
import ctypes, os
libc = ctypes.CDLL(None)
def mount(at):
    assert libc.mount(b"later", at, b"tmpfs", 0, None) == 0
def run(program, root=None, tree=None):
    pid = os.fork()
    if not pid:
        if tree:
            os.fchdir(libc.syscall(428, -100, tree, 1))
        os.chroot(root or ".")
        os.chdir("/")
        os.execv(program, [program])
    assert os.waitpid(pid, 0)[1] == 0
run("/usr/bin/true", "/")
mount(b"/mnt")
run("/usr/bin/true", "/")
mount(b"/media")
run("/bin/program", "/jail")
run("/bin/program", tree=b"/jail")
run("/usr/bin/true", "/")
"""


def test_mounts_after_the_start_are_listed_as_each_root_sees_them(subject: Subject) -> None:
    execute = f"os.execv('/usr/bin/python3', ['/usr/bin/python3', '-c', {CHANGE!r}])"
    subject.guest.run(("python3", "-c", ENTER + execute, "/root/viewed", *VIEWS), timeout=120)
    log = subject.log()
    launch = [one for one in log if isinstance(one, LaunchEntry)][-1]
    assert {one.target for one in launch.mounts} == {b"/", b"/usr"}
    later = [one for one in log if isinstance(one, MountsEntry) and one.container.seq == launch.container.seq]
    assert [(one.flags, {it.target for it in one.mounts}) for one in later] == [
        (0, {b"/", b"/usr", b"/mnt"}),
        (OTHER_ROOT, {b"/"}),
        (OTHER_ROOT | MOUNTS_NONE, set()),
        (0, {b"/", b"/usr", b"/mnt", b"/media"}),
    ]


def test_a_root_that_is_no_mount_is_listed_too(subject: Subject) -> None:
    subject.guest.run(("mkdir", "-p", "/root/plain/a b/c", "/root/plain/d", "/root/hidden"))
    launch = entered(
        subject,
        "/root/plain",
        "mount -t tmpfs '' '/root/plain/a b'",
        "mkdir '/root/plain/a b/c'",
        "mount -t tmpfs 'odd #\\name' '/root/plain/a b/c'",
        "mount --bind -o ro,nosuid /root/volume /root/plain/d",
        "mount -t tmpfs elsewhere /root/hidden",
    )
    listed = [(one.target, one.type, one.source, one.root, one.options) for one in launch.mounts]
    assert listed == [
        (b"/", b"ext4", b"none", b"/root/plain", ("rw", "relatime")),
        (b"/a b", b"tmpfs", b"", b"/", ("rw", "relatime")),
        (b"/a b/c", b"tmpfs", b"odd #\\name", b"/", ("rw", "relatime")),
        (b"/d", b"ext4", b"/dev/vda", b"/root/volume", ("ro", "nosuid", "relatime")),
    ]


def test_a_long_line_is_read_whole(subject: Subject) -> None:
    """An overlay prints its layers, more than a page of them; the mount after it must be listed."""
    layers = [f"/root/layers/{'x' * 80}-{number}" for number in range(60)]
    subject.guest.run(("mkdir", "-p", *layers, "/root/layers/merged", f"{layers[0]}/sub"))
    mount = (
        f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay long -o lowerdir={':'.join(layers[:40])} /root/layers/merged"
    )
    launch = entered(subject, "/root/layers/merged", mount, "mount -t tmpfs after /root/layers/merged/sub")
    assert [(one.target, one.source) for one in launch.mounts] == [(b"/", b"long"), (b"/sub", b"after")]


def test_mounts_beyond_the_limit_are_cut(subject: Subject) -> None:
    at = "/root/crowd/mount-with-a-name-of-some-length"
    every = f"for n in $(seq 300); do mkdir -p {at}-$n; mount -t tmpfs t {at}-$n; done"
    launch = entered(subject, "/root/crowd", "mkdir -p /root/crowd", every)
    assert launch.flags & MOUNTS_CUT
    assert 150 < len(launch.mounts) < 300
    assert launch.mounts[0].target == b"/"
    assert [one.target.rpartition(b"-")[2] for one in launch.mounts[1:]] == [
        b"%d" % number for number in range(1, len(launch.mounts))
    ]


def test_the_root_itself_is_told_and_not_digested(subject: Subject, trees: dict[str, bytes]) -> None:
    change = "import os; r = '/root/trees/rootfs'; os.chmod(r, 0o1751); os.chown(r, 3, 4)\n"
    change += "os.setxattr(r, 'user.note', b'of the root'); os.setxattr(r, 'security.selinux', b'x')"
    subject.crun("rooted", change)
    launch = subject.launches()["rooted"]
    note = b"".join(len(part).to_bytes(4, "little") + part for part in (b"user.note", b"of the root"))
    # chown() keeps the sticky bit.
    assert launch.root == Root(mode=0o1751, user=3, group=4, xattrs=hashlib.sha256(note).digest())
    assert launch.image == trees["same"]
    back = "import os; r = '/root/trees/rootfs'; os.removexattr(r, 'user.note'); os.chmod(r, 0o755); os.chown(r, 0, 0)"
    subject.crun("rooted-again", back)
    assert subject.launches()["rooted-again"].root == Root(mode=0o755, user=0, group=0, xattrs=bytes(32))


def test_a_tree_that_a_server_may_change_has_no_digest(subject: Subject) -> None:
    """Also where the server has a layer of an overlay, with directories alone: it may show files later."""
    layers = "lowerdir=/root/served/top:/root/served/fuse,upperdir=/root/served/upper,workdir=/root/served/work"
    subject.guest.run(("mkdir", "-p", *(f"/root/served/{name}" for name in ("fuse", "top", "upper", "work", "over"))))
    subject.guest.run(("modprobe", "fuse"))
    subject.guest.run(("python3", "/root/served.py", "/root/served/fuse"))
    subject.guest.run(("mount", "-t", "overlay", "overlay", "-o", layers, "/root/served/over"))
    for root, kind in (("fuse", b"fuse"), ("over", b"overlay")):
        launch = entered(subject, f"/root/served/{root}")
        assert OUTCOMES[launch.outcome] == "a file could not be read", root
        assert [(one.target, one.type) for one in launch.mounts] == [(b"/", kind)]
    subject.guest.run(("umount", "/root/served/over", "/root/served/fuse"))


def test_an_error_of_a_file_system_is_no_limit(subject: Subject) -> None:
    """An overlay says ELOOP of a layer that was moved into another one."""
    make = "mkdir -p /root/loop/one/etc /root/loop/two/x /root/loop/merged"
    subject.guest.run(("sh", "-c", make))
    launch = entered(
        subject,
        "/root/loop/merged",
        "mount -t overlay overlay -o lowerdir=/root/loop/one:/root/loop/two /root/loop/merged",
        "mv /root/loop/two /root/loop/one/inside",
    )
    assert OUTCOMES[launch.outcome] == "a file could not be read"
    assert launch.image == bytes(32)


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
    shift += "os.lchown('/root/shifted', 100000, 100007)\n"
    shift += "c['root']['path'] = '/root/shifted'; c['linux']['namespaces'].append({'type': 'user'})\n"
    shift += f"c['linux']['uidMappings'] = c['linux']['gidMappings'] = {mapping}"
    subject.crun("mapped", shift)
    launch = subject.launches()["mapped"]
    assert launch.uid_map == launch.gid_map == (IdRange(inside=0, outside=100000, count=65536),)
    assert (launch.user, launch.group) == (100000, 100000)
    assert launch.root is not None
    assert (launch.root.user, launch.root.group) == (0, 7)
    # Who may make no devices has the host's mounted one by one.
    assert {one.target for one in launch.mounts} >= {b"/", b"/proc", b"/dev", b"/dev/null"}
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
    launch = entered(subject, "/proc/self/fd")
    assert OUTCOMES[launch.outcome] == "a file could not be read"
    assert [(one.target, one.type) for one in launch.mounts] == [(b"/", b"proc")]


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
    assert "bytes_hashed" not in again, "files of a known image were read again"


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
    # Some images have no digest: over a limit, killed, or a file could not be read.
    assert {finding.kind for finding in verdict.findings} == {FindingKind.NO_CONTENT}
    assert verdict.attested[11] > 1
    assert complaints(subject.guest) == []

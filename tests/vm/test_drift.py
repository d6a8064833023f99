"""One boot a kernel: the image's digest stands for the image's own files, and all other code has an entry.

Each container has a root of its own: an overlay of the image's layers and, on top of them, one of this module's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from booted import Booted, complaints
from stress import padded

from testbed import measurers, plugins
from testbed.attest.entries.launch import DRIFT, OUTCOMES, ImageEntry, LaunchEntry
from testbed.attest.entries.parse import (
    LAYER,
    NOT_BOUND,
    UNLINKED,
    FileEntry,
    JoinEntry,
    OfNone,
    Payload,
    StartEntry,
    ViolationEntry,
    runtime_id,
)
from testbed.attest.finding import FindingKind
from testbed.runtimes import Start

MEASURER = plugins.measurer("container-drift")
CRUN = plugins.runtime("crun")
PODMAN = "podman --cgroup-manager=cgroupfs"
CGROUP = "/drift"
HERE = "/root/drift"
# Programs of a page that end at once, all different, in the top layer of each root.
OLD, NEW, OTHER = (padded(tag) for tag in (b"old", b"new", b"other"))
PROGRAMS = {"opt/old": OLD, "opt/dir/old": OLD}
# Where containers get mounts; made in the layer, so that no runtime makes them in the upper one.
TARGETS = ("sync", "layer", "data", "scratch", "merged")
# What a container says and waits for, if something is to be changed meanwhile.
ASK = "echo >/sync/asked; cat /sync/release"
CHANGED = "echo changed >>{}/opt/old"
_SECONDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the log has of one container."""

    entries: tuple[Payload, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.entries if isinstance(one, kind)]

    @property
    def launch(self) -> LaunchEntry:
        (found,) = self.of(LaunchEntry)
        assert isinstance(found, LaunchEntry)
        return found

    @property
    def drift(self) -> bool:
        return bool(self.launch.flags & DRIFT)

    @property
    def files(self) -> dict[str, bytes]:
        """Return the digest of each file that has an entry, by its path; one file has one content here."""
        found = {one.path.decode(): one.digest for one in self.of(FileEntry)}
        assert len(found) == len({(one.path, one.digest) for one in self.of(FileEntry)})
        return found

    @property
    def violations(self) -> set[int]:
        return {one.violation for one in self.of(ViolationEntry)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """How a container's root is made.

    ``options``: further ones of its overlay. ``upper``: whether that has an upper layer. ``prepare``: shell in the
    root's directory before it is mounted, where ``lower`` is the layer. ``mounts``: further ones of the container.
    ``overlay``: if not, the root is a plain copy.
    """

    options: str = ""
    upper: bool = True
    overlay: bool = True
    prepare: str = ""
    mounts: tuple[Mapping[str, Any], ...] = ()


def bind(source: str, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": ["bind", *options]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Booted):
    """With its measurer attached. ``layers``: of the image, the topmost first, as an overlay wants them."""

    layers: str = ""
    programs: Mapping[str, bytes] = field(default_factory=dict)

    def log(self) -> list[Payload]:
        measurers.beat(MEASURER, self.guest)
        return Booted.log(self)

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.guest.run(("bash", "-c", script), timeout=_SECONDS, check=check).text

    def make(self, name: str, root: Root, script: str) -> str:
        """Make a root and a bundle; return the bundle's directory."""
        at = f"{HERE}/{name}"
        made = " ".join(
            (*(f"lower/{target}" for target in TARGETS), "lower/opt/dir", "upper", "work", "rootfs", "sync")
        )
        self.sh(f"mkdir -p {at}; cd {at}; mkdir -p {made}; mkfifo sync/asked sync/release")
        for path, content in PROGRAMS.items():
            self.guest.put(content, f"{at}/lower/{path}", mode=0o755)
        self.sh(f"cd {at}; {root.prepare or 'true'}; sync")
        upper = f",upperdir={at}/upper,workdir={at}/work" if root.upper else ""
        options = f"lowerdir={at}/lower:{self.layers}{upper}{root.options}"
        mount = f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o {options} {at}/rootfs"
        copy = f"for l in {' '.join(reversed(self.layers.split(':')))} lower; do cp -a $l/. rootfs/; done"
        self.sh(f"cd {at}; {mount if root.overlay else copy}")
        start = Start(id=name, image="", argv=("/usr/bin/bash", "-c", script), cgroup=CGROUP)
        (text,) = CRUN.steps(start).files.values()
        config = json.loads(text)
        config["root"]["readonly"] = not root.upper
        config["mounts"] += [bind(f"{at}/sync", "/sync"), *root.mounts]
        self.guest.put(json.dumps(config).encode(), f"{at}/config.json")
        return at

    def run(self, name: str, script: str, root: Root | None = None, *, meanwhile: str = "") -> Story:
        """Run a container; ``meanwhile``: shell on the host, in the root's directory, once the container asks."""
        at = self.make(name, root or Root(), script)
        crun = f"crun run --bundle {at} {name}"
        if meanwhile:
            self.sh(f"cd {at}; {crun} & cat sync/asked; {meanwhile}; sync; echo >sync/release; wait $!")
        else:
            self.sh(crun)
        self.sh(f"umount {at}/rootfs", check=False)
        return self.story(name)

    def story(self, name: str) -> Story:
        return _story(self.log(), name)

    def again(self, name: str) -> Story:
        """Start the container of a name once more, under another name; its layers are as they are by now."""
        at = f"{HERE}/{name}"
        self.sh(f"cd {at}; rm -rf upper work; mkdir upper work")
        options = f"lowerdir={at}/lower:{self.layers},upperdir={at}/upper,workdir={at}/work"
        self.sh(f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o {options} {at}/rootfs")
        config = json.loads(self.guest.get(f"{at}/config.json"))
        config["linux"]["cgroupsPath"] = f"{CGROUP}/{name}-again"
        self.guest.put(json.dumps(config).encode(), f"{at}/config.json")
        self.sh(f"crun run --bundle {at} {name}-again; umount {at}/rootfs")
        return self.story(f"{name}-again")


def _story(log: list[Payload], name: str) -> Story:
    starts = [one for one in log if isinstance(one, StartEntry)]
    (start,) = [
        one for one in starts if name in (one.cgroup_path.decode().rpartition("/")[2], runtime_id(one.cgroup_path))
    ]
    return Story(
        entries=tuple(one for one in log if not isinstance(one, OfNone) and one.container.seq == start.container.seq)
    )


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@pytest.fixture(scope="module")
def subject(booted: Booted) -> Iterator[Subject]:
    booted.guest.run(("mkdir", "-p", f"/sys/fs/cgroup{CGROUP}", HERE))
    with MEASURER.attach(MEASURER, booted.guest):
        yield replace(Subject.of(booted), layers=CRUN.locate(booted.guest, booted.image))


@pytest.fixture(scope="module")
def true(subject: Subject) -> bytes:
    """Return the digest of the image's `true`, which containers copy."""
    top = subject.sh(f"for l in {subject.layers.replace(':', ' ')}; do cat $l/usr/bin/true && break; done | sha256sum")
    return bytes.fromhex(top.split()[0])


def test_a_start_of_an_image_is_start_image_and_launch(subject: Subject) -> None:
    before = len(subject.log())
    story = subject.run("honest", "ls / >/dev/null; sha256sum /etc/passwd >/dev/null; /opt/old")
    assert story.drift
    assert [type(one) for one in story.entries] == [StartEntry, LaunchEntry]
    log = subject.log()[before:]
    (image,) = (one for one in log if isinstance(one, ImageEntry))
    assert image.digest == story.launch.image
    assert log.index(image) < log.index(story.launch)
    again = subject.again("honest")
    assert again.drift
    assert [type(one) for one in again.entries] == [StartEntry, LaunchEntry]
    assert again.launch.image == story.launch.image
    assert not [one for one in subject.log()[before + len(log) :] if isinstance(one, ImageEntry)]


def test_a_program_that_the_container_wrote(subject: Subject, true: bytes) -> None:
    story = subject.run("written", "cp /usr/bin/true /mine; /mine; /mine")
    assert story.drift
    assert story.files == {"/mine": true}
    assert story.entries.index(story.launch) < story.entries.index(story.of(FileEntry)[0])


def test_an_old_program_that_was_removed_and_is_still_open(subject: Subject) -> None:
    story = subject.run("removed", "exec 7</opt/old; rm /opt/old; /proc/self/fd/7")
    (file,) = story.of(FileEntry)
    assert (file.path, file.digest, file.flags & UNLINKED) == (b"/opt/old", sha(OLD), UNLINKED)


def test_a_file_of_the_image_that_the_container_overwrote(subject: Subject, true: bytes) -> None:
    story = subject.run("overwritten", "/opt/old; cp /usr/bin/true /opt/old; /opt/old")
    assert story.files == {"/opt/old": true}


def test_an_old_program_that_is_open_while_its_copy_is_overwritten(subject: Subject) -> None:
    """The descriptor leads to the lower file; execve opens the path again, and finds the upper one."""
    story = subject.run("copied-up", "exec 7</opt/old; chmod 700 /opt/old; /proc/self/fd/7")
    assert story.files == {"/opt/old": sha(OLD)}


@pytest.mark.parametrize("change", ["chmod 4755", "chown 1:1", "touch"])
def test_a_file_of_the_image_whose_metadata_changed(subject: Subject, change: str) -> None:
    story = subject.run(f"metadata-{change.split()[0]}", f"/opt/old; {change} /opt/old; /opt/old")
    assert story.files == {"/opt/old": sha(OLD)}


def test_a_layer_of_the_image_through_another_mount(subject: Subject) -> None:
    mounts = (bind(f"{HERE}/layer/lower", "/layer", "ro"),)
    story = subject.run("layer", "/opt/old; /layer/opt/old", Root(mounts=mounts))
    assert story.drift
    assert story.files == {"/layer/opt/old": sha(OLD)}


@pytest.mark.parametrize("redirect", ["on", "off"])
def test_a_directory_that_was_moved(subject: Subject, redirect: str) -> None:
    script = "/opt/dir/old; mv /opt/dir /opt/moved; /opt/moved/old"
    story = subject.run(f"moved-{redirect}", script, Root(options=f",redirect_dir={redirect}"))
    assert story.files == {"/opt/moved/old": sha(OLD)}


def test_a_directory_that_was_moved_over_another(subject: Subject) -> None:
    """The path is one of the image, where the image has another content."""
    root = Root(options=",redirect_dir=on", prepare="mkdir lower/opt/two; cp /usr/bin/true lower/opt/two/old")
    script = "mv /opt/two /opt/three; mv /opt/dir /opt/two; /opt/two/old"
    assert subject.run("swapped", script, root).files == {"/opt/two/old": sha(OLD)}


def test_volumes_and_memory(subject: Subject) -> None:
    subject.guest.put(OTHER, f"{HERE}/volume/it", mode=0o755)
    scratch = {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
    root = Root(mounts=(bind(f"{HERE}/volume", "/data"), scratch))
    story = subject.run("volumes", "/data/it; cp /opt/old /scratch/it; /scratch/it", root)
    assert story.files == {"/data/it": sha(OTHER), "/scratch/it": sha(OLD)}
    assert {one.path: one.flags & NOT_BOUND for one in story.of(FileEntry)} == {
        b"/data/it": 0,
        b"/scratch/it": NOT_BOUND,
    }


def test_a_file_of_the_image_that_is_mounted_over_another(subject: Subject) -> None:
    """From the root's own file system, but not through the root's mount."""
    root = Root(prepare=f"echo >lower/opt/place; cp lower/opt/old {HERE}/over-it; chmod 755 {HERE}/over-it")
    root = replace(root, mounts=(bind(f"{HERE}/over/rootfs/opt/dir", "/data"), bind(f"{HERE}/over-it", "/opt/place")))
    story = subject.run("over", "/data/old; /opt/place", root)
    assert story.files == {"/data/old": sha(OLD), "/opt/place": sha(OLD)}


def test_another_images_layer_that_is_mounted_in(subject: Subject) -> None:
    """It was a known image's: a container was started of it."""
    subject.run("second-image", "/opt/old", Root(prepare="echo second >lower/etc-of-the-second"))
    options = f"lowerdir={HERE}/second-image/lower:{subject.layers}"
    prepare = f"mkdir merged; LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o {options} merged"
    story = subject.run(
        "other-layer", "/merged/opt/old", Root(prepare=prepare, mounts=(bind(f"{HERE}/other-layer/merged", "/merged"),))
    )
    subject.sh(f"umount {HERE}/other-layer/merged")
    assert story.files == {"/merged/opt/old": sha(OLD)}


def test_a_read_only_root_without_an_upper_layer(subject: Subject) -> None:
    story = subject.run("read-only", "/opt/old", Root(upper=False))
    assert story.drift
    assert story.files == {}


def test_an_upper_layer_that_is_opaque_is_not_that_image(subject: Subject) -> None:
    """It hides a directory of the layers, so the walk finds another tree."""
    prepare = (
        "mkdir -p upper/opt/dir; cp lower/opt/old upper/opt/mine; setfattr -n trusted.overlay.opaque -v y upper/opt"
    )
    prepare += " || python3 -c \"import os; os.setxattr('upper/opt', 'trusted.overlay.opaque', b'y')\""
    first = subject.run("plain-upper", "/usr/bin/true")
    story = subject.run("opaque", "/opt/mine", Root(prepare=prepare))
    assert story.launch.image != first.launch.image
    assert story.files == {"/opt/mine": sha(OLD)}, "what is in the upper layer has an entry, also from the start"


def test_a_root_that_is_no_overlay_is_as_under_container_file(subject: Subject) -> None:
    story = subject.run("plain", "/opt/old", Root(overlay=False))
    assert not story.drift
    assert story.launch.outcome == 0
    assert story.files["/opt/old"] == sha(OLD)
    assert {"/usr/bin/bash", "/opt/old"} < story.files.keys()


def test_an_image_without_a_digest_is_as_under_container_file(subject: Subject) -> None:
    deep = "import os; os.chdir('lower/opt'); [(os.mkdir('d'), os.chdir('d')) for _ in range(5000)]"
    story = subject.run("deep", "/opt/old", Root(prepare=f'python3 -c "{deep}"'))
    subject.sh(f"rm -rf {HERE}/deep/lower/opt/d")
    assert not story.drift
    assert OUTCOMES[story.launch.outcome] == "over the limit of depth"
    assert {"/usr/bin/bash", "/opt/old"} < story.files.keys()


# Each is a change of the layer, by the host, after the launch.
CHANGES = {
    "content": CHANGED.format("lower"),
    "new-file": "echo >lower/opt/another",
    "removed": "rm lower/opt/dir/old",
    "renamed": "mv lower/opt/dir lower/opt/moved",
    "linked": "ln lower/opt/old lower/opt/link",
    "mode": "chmod 700 lower/opt/old",
    "attribute": "python3 -c \"import os; os.setxattr('lower/opt/old', 'user.x', b'x')\"",
    "outside": "echo changed >>outside",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_changes_after_the_launch_is_a_violation(subject: Subject, change: str) -> None:
    """Also by a hard link from outside, which was there before the launch."""
    root = Root(prepare="ln lower/opt/old outside")
    story = subject.run(f"after-{change}", f"{ASK}; /opt/old; true", root, meanwhile=CHANGES[change])
    assert story.drift
    assert story.violations == {LAYER}
    content = OLD + b"changed\n" if change in {"content", "outside"} else OLD
    assert story.files["/opt/old"] == sha(content), "after the change all code has an entry"


def test_each_container_on_a_changed_layer_has_the_violation(subject: Subject) -> None:
    at = subject.make("pair", Root(), ASK)
    options = f"lowerdir={at}/lower:{subject.layers},upperdir={at}/upper2,workdir={at}/work2"
    mount = f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o {options} {at}/two/rootfs"
    subject.sh(f"cd {at}; mkdir -p upper2 work2 two/rootfs two/sync; mkfifo two/sync/asked two/sync/release; {mount}")
    config = json.loads(subject.guest.get(f"{at}/config.json"))
    config["linux"]["cgroupsPath"] = f"{CGROUP}/pair-two"
    config["mounts"] = [
        one | {"source": f"{at}/two/sync"} if one["destination"] == "/sync" else one for one in config["mounts"]
    ]
    subject.guest.put(json.dumps(config).encode(), f"{at}/two/config.json")
    script = (
        f"cd {at}; crun run --bundle {at} pair & crun run --bundle {at}/two pair-two & cat sync/asked two/sync/asked; "
    )
    script += f"{CHANGES['new-file']}; sync; echo >sync/release; echo >two/sync/release; wait"
    subject.sh(script)
    subject.sh(f"umount {at}/rootfs {at}/two/rootfs")
    log = subject.log()
    assert [_story(log, name).violations for name in ("pair", "pair-two")] == [{LAYER}, {LAYER}]


def test_a_layer_that_changes_before_a_start_gives_another_digest(subject: Subject) -> None:
    first = subject.run("before", "/opt/old")
    subject.sh(CHANGED.format(f"{HERE}/before/lower"))
    again = subject.again("before")
    assert (first.drift, again.drift) == (True, True)
    assert again.launch.image != first.launch.image
    assert (again.files, again.violations) == ({}, set())


# Waits until the first program of a container has replaced the runtime: then the tree is walked.
WALKING = (
    "until grep -qs ^ /sys/fs/cgroup{0}/cgroup.procs && [ -z "
    "$(cat /proc/$(head -1 /sys/fs/cgroup{0}/cgroup.procs)/cmdline | tr -d '\\0' | grep crun) ]; do sleep 0.05; done"
)


def test_a_layer_that_changes_during_the_walk_is_seen(subject: Subject) -> None:
    at = subject.make("during", Root(prepare="truncate --size=192M lower/srv-sparse"), "/opt/old")
    script = (
        f"crun run --bundle {at} during & {WALKING.format(f'{CGROUP}/during')}; {CHANGED.format(f'{at}/lower')}; wait"
    )
    subject.sh(f"{script}; umount {at}/rootfs")
    story = subject.story("during")
    assert not story.drift or story.violations == {LAYER}
    assert story.files["/opt/old"] == sha(OLD + b"changed\n")


def test_a_container_that_is_killed_before_its_launch_leaves_no_promise(subject: Subject) -> None:
    at = subject.make("killed", Root(prepare="truncate --size=32G lower/srv-sparse"), "/opt/old")
    script = f"crun run --bundle {at} killed & {WALKING.format(f'{CGROUP}/killed')}; crun kill killed KILL; wait; true"
    subject.sh(f"{script}; umount {at}/rootfs; rm {at}/lower/srv-sparse")
    story = subject.story("killed")
    launches = story.of(LaunchEntry)
    # Killed during the walk it has a launch that says so, and is as under container-file: the first program is logged.
    assert [type(one) for one in story.entries][: 1 + len(launches)] == [StartEntry, *(type(one) for one in launches)]
    assert [(OUTCOMES[one.outcome], one.flags & DRIFT) for one in launches] in (
        [],
        [("the container was killed meanwhile", 0)],
    )
    begun = {"/usr/bin/bash", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}
    assert story.files.keys() <= (begun if launches else set())


def test_a_task_that_joins_gets_what_the_container_does(subject: Subject, true: bytes) -> None:
    wanted = f"{PODMAN} run --detach --network=none --name=joined {subject.image} /usr/bin/sleep 600"
    name = subject.sh(wanted).strip()
    subject.sh(f"{PODMAN} exec joined /usr/bin/true")
    story = subject.story(name)
    assert story.drift
    assert (len(story.of(JoinEntry)), story.files) == (1, {})
    subject.sh(f"{PODMAN} exec joined /usr/bin/bash -c 'cp /usr/bin/true /mine; /mine'")
    story = subject.story(name)
    subject.sh(f"{PODMAN} rm --force --time=0 joined")
    assert (len(story.of(JoinEntry)), story.files) == (2, {"/mine": true})


def test_nothing_was_missed(subject: Subject) -> None:
    """The log is as the verifier wants it, but for what these containers and their layers went through."""
    counted = measurers.counters(MEASURER, subject.guest)
    assert {name: n for name, n in counted.items() if name.startswith("unmeasured_") and n} == {}
    _, verdict = subject.judged()
    assert {finding.kind for finding in verdict.findings} <= {
        FindingKind.VIOLATION,
        FindingKind.NOT_BOUND,
        FindingKind.NO_CONTENT,
    }
    violated = {finding.container for finding in verdict.findings if finding.kind is FindingKind.VIOLATION}
    assert len(violated) >= len(CHANGES) + 2
    assert any(one.drift for one in verdict.containers.values())
    assert complaints(subject.guest) == []

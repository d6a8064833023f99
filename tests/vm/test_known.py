"""A container of a known image starts without a walk over its tree, unless anything could make its digest another."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest
from booted import Booted, changes
from test_image import static_program

from testbed import measurers, plugins
from testbed.attest.entries.launch import OUTCOMES, LaunchEntry
from testbed.attest.entries.parse import ViolationEntry

MEASURER = plugins.measurer("container-image")
HOME = "/root/known"
LAYER = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Booted):
    def sh(self, script: str) -> str:
        return self.guest.run(("sh", "-euc", script), timeout=300).text

    def tree(self, name: str, files: int = 3) -> None:
        """Make a layer: a program, files in two directories, a hard link, a symbolic link."""
        self.sh(
            f"mkdir -p {HOME}/{name} && cd {HOME}/{name} && mkdir -p bin etc dev proc sys run srv/in srv/empty && "
            f"cp /root/program bin/program && "
            f"for n in $(seq {files}); do echo {name} $n >srv/in/$n; done && "
            f"echo {name} >srv/own && echo linked >srv/one && ln srv/one srv/two && ln -s one srv/sym"
        )

    def mount(self, name: str, lower: str, *, options: str = "", upper: bool = True) -> None:
        above = f",upperdir={HOME}/{name}.upper,workdir={HOME}/{name}.work" if upper else ""
        self.sh(
            f"mkdir -p {HOME}/{name}.upper {HOME}/{name}.work {HOME}/{name}.root && "
            f"mount -t overlay overlay -o lowerdir={lower}{above}{options} {HOME}/{name}.root"
        )

    def configured(self, name: str, args: tuple[str, ...] = ("/bin/program",)) -> str:
        config = {
            "ociVersion": "1.0.0",
            "process": {"args": list(args), "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": f"{HOME}/{name}.root"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "cgroupsPath": f"/known/{name}"},
        }
        bundle = f"{HOME}/{name}.bundle"
        self.guest.run(("mkdir", "-p", bundle))
        self.guest.put(json.dumps(config).encode(), f"{bundle}/config.json")
        return bundle

    def run(self, name: str) -> dict[str, int]:
        """Start a container in a mounted overlay and return the counters that rose."""
        bundle = self.configured(name)
        with changes(MEASURER, self.guest) as changed:
            self.guest.run(("crun", "run", "--bundle", bundle, name), timeout=300)
        return changed

    def start(self, name: str, lower: str, *, options: str = "", upper: bool = True) -> dict[str, int]:
        """Mount a fresh overlay on layers of the home directory, and start a container in it."""
        self.mount(name, ":".join(f"{HOME}/{one}" for one in lower.split(":")), options=options, upper=upper)
        try:
            return self.run(name)
        finally:
            self.sh(f"umount {HOME}/{name}.root")

    def last(self) -> bytes:
        """Return the image's digest of the last launch."""
        return [one for one in self.log() if isinstance(one, LaunchEntry)][-1].image

    def digest(self, name: str) -> bytes:
        launch = self.launches()[name]
        assert OUTCOMES[launch.outcome] == "complete"
        return launch.image


@pytest.fixture(scope="module")
def known(booted: Booted) -> Iterator[Known]:
    booted.guest.run(("mkdir", "-p", HOME))
    booted.guest.put(static_program(), "/root/program", mode=0o755)
    with MEASURER.attach(MEASURER, booted.guest):
        yield Known.of(booted)


def some(names: Iterable[str], tested: tuple[str, ...]) -> list[object]:
    """Return parameters: `make test` runs those of ``tested``, `make holes` all."""
    return [name if name in tested else pytest.param(name, marks=pytest.mark.variant) for name in names]


def recalled(changed: dict[str, int]) -> bool:
    assert changed["launches"] == 1
    return changed.get("images_recalled", 0) == 1


def test_a_second_start_does_not_walk(known: Known) -> None:
    known.tree("same", 20)
    assert not recalled(known.start("same1", "same"))
    assert recalled(known.start("same2", "same"))
    assert recalled(known.start("same3", "same"))
    assert known.digest("same1") == known.digest("same2") == known.digest("same3")


def test_an_image_of_several_layers_is_known_by_their_order(known: Known) -> None:
    known.tree("low")
    known.tree("high")
    known.sh(f"mknod {HOME}/high/srv/gone c 0 0 && echo gone >{HOME}/low/srv/gone")
    assert not recalled(known.start("order1", "high:low"))
    assert not recalled(known.start("order2", "low:high"))
    assert recalled(known.start("order3", "high:low"))
    assert recalled(known.start("order4", "low:high"))
    assert not recalled(known.start("order5", "low"))
    assert known.digest("order1") == known.digest("order3") != known.digest("order2") == known.digest("order4")


def xattr(name: str, value: str, path: str) -> str:
    """Return the words that set an extended attribute; ``value`` is Python's."""
    return f"python3 -c \"import os; os.setxattr('{path}', '{name}', {value})\""


# A list of version 2: the owner, user 7, the group, a mask, others.
ACL = "bytes.fromhex('0200000001000600ffffffff020004000700000004000400ffffffff10000400ffffffff20000400ffffffff')"
# What changes a layer, and the digest: `{at}` is the layer.
CHANGES = {
    "content": "echo other >{at}/srv/own",
    "append": "echo more >>{at}/srv/own",
    "truncate": "truncate -s 1 {at}/srv/own",
    "mode": "chmod 0600 {at}/srv/own",
    "directory-mode": "chmod 0700 {at}/srv/in",
    "owner": "chown 7:8 {at}/srv/own",
    "link-owner": "chown -h 7:8 {at}/srv/sym",
    "xattr": xattr("user.a", "b'b'", "{at}/srv/own"),
    "xattr-directory": xattr("user.a", "b'b'", "{at}/srv/in"),
    "acl": xattr("system.posix_acl_access", ACL, "{at}/srv/own"),
    "opaque": xattr("trusted.overlay.opaque", "b'y'", "{at}/srv/in"),
    "create": "touch {at}/srv/in/new",
    "unlink": "rm {at}/srv/own",
    "symlink": "ln -s x {at}/srv/in/new",
    "mkdir": "mkdir {at}/srv/in/new",
    "rmdir": "rmdir {at}/srv/empty",
    "mknod": "mknod {at}/srv/in/new c 1 3",
    "fifo": "mkfifo {at}/srv/in/new",
    "rename": "mv {at}/srv/own {at}/srv/other",
    "rename-out": "mv {at}/srv/own {out}.out",
    "rename-in": "echo in >{out}.in && mv {out}.in {at}/srv/in/new",
    "rename-over": "echo over >{out}.over && mv {out}.over {at}/srv/own",
    "rename-directory": "mv {at}/srv/in {at}/srv/on",
    "link": "ln {at}/srv/own {at}/srv/in/new",
    "link-in": "echo in >{out}.link && ln {out}.link {at}/srv/in/new",
    "whiteout": "rm {at}/srv/own && mknod {at}/srv/own c 0 0",
    "another-mount": "mkdir {out}.at && mount --bind {at}/srv {out}.at && echo x >{out}.at/own; umount {out}.at",
    "by-a-link-of-before": "echo other >{out}",
    "mode-by-a-link-of-before": "chmod 0600 {out}",
}


CHANGES_TESTED = (
    *("content", "mode", "xattr", "acl", "create", "unlink", "rename", "rename-out", "link-in", "whiteout"),
    *("another-mount", "by-a-link-of-before"),
)


@pytest.fixture(scope="module")
def changed(known: Known) -> str:
    """Make an image with a directory for each change, on a layer that has files at the same paths."""
    for change in CHANGES:
        known.tree(f"all/{change}")
        known.sh(f"mkdir -p {HOME}/base/{change}/srv/in && echo base >{HOME}/base/{change}/srv/in/base")
        known.sh(f"ln {HOME}/all/{change}/srv/one {HOME}/out-{change}")
    known.sh(f"cp -r {HOME}/all/content/bin {HOME}/all/")
    known.start("all-0", "all:base")
    assert recalled(known.start("all-1", "all:base"))
    return "all:base"


@pytest.mark.parametrize("change", some(CHANGES, CHANGES_TESTED))
def test_a_change_of_a_layer_is_seen(known: Known, changed: str, change: str) -> None:
    before = known.last()
    known.sh(CHANGES[change].format(at=f"{HOME}/all/{change}", out=f"{HOME}/out-{change}"))
    assert not recalled(known.start(f"{change}-1", changed))
    assert recalled(known.start(f"{change}-2", changed)), "the changed image is known"
    assert known.digest(f"{change}-1") == known.digest(f"{change}-2") != before


def test_a_name_that_was_added_outside_is_seen(known: Known) -> None:
    known.tree("out")
    assert not recalled(known.start("out1", "out"))
    known.sh(f"ln {HOME}/out/srv/own {HOME}/out.link")
    assert not recalled(known.start("out2", "out")), "the layer changed: a file got a name outside of it"
    assert recalled(known.start("out3", "out"))
    known.sh(f"echo other >{HOME}/out.link")
    assert not recalled(known.start("out4", "out"))
    assert known.digest("out4") != known.digest("out3") == known.digest("out1")


def test_a_descriptor_of_a_name_that_is_gone_is_seen(known: Known) -> None:
    known.tree("gone")
    known.sh(f"ln {HOME}/gone/srv/own {HOME}/gone.link")
    script = (
        f"import os, time; fd = os.open('{HOME}/gone.link', os.O_RDONLY); os.unlink('{HOME}/gone.link')\n"
        f"open('{HOME}/gone.ready', 'w')\nwhile not os.path.exists('{HOME}/gone.go'): time.sleep(0.05)\n"
        f"os.fchmod(fd, 0o600); open('{HOME}/gone.done', 'w')"
    )
    known.sh(f"python3 -c {shlex.quote(script)} >/dev/null 2>&1 & while [ ! -e {HOME}/gone.ready ]; do sleep 0.1; done")
    assert not recalled(known.start("gone1", "gone"))
    assert recalled(known.start("gone2", "gone"))
    known.sh(f"touch {HOME}/gone.go; while [ ! -e {HOME}/gone.done ]; do sleep 0.1; done")
    assert not recalled(known.start("gone3", "gone"))
    assert known.digest("gone3") != known.digest("gone1")


# What is in the upper layer before the start: whether the image is still known, and has the digest that it had.
UPPERS = {
    "nothing": ("true", True, True),
    "made-file": ("mkdir {at}/etc && : >{at}/etc/hosts", True, True),
    "made-directory": ("mkdir -p {at}/dev/pts {at}/dev/shm && : >{at}/dev/console", True, True),
    "made-opaque": (
        "mkdir {at}/dev && " + xattr("trusted.overlay.opaque", "b'y'", "{at}/dev") + " && mkdir {at}/dev/pts",
        False,
        True,
    ),
    "made-link": ("mkdir {at}/etc && ln -s /proc/mounts {at}/etc/mtab", True, True),
    "file": ("echo x >{at}/x", False, False),
    "hosts": ("mkdir {at}/etc && echo x >{at}/etc/hosts", False, False),
    "mode": ("mkdir {at}/etc && chmod 0700 {at}/etc", False, False),
    "whiteout": ("mknod {at}/srv c 0 0", False, False),
    "opaque-root": (
        xattr("trusted.overlay.opaque", "b'y'", "{at}") + " && mkdir {at}/bin && cp /root/program {at}/bin/",
        False,
        None,
    ),
    "opaque": ("mkdir {at}/etc && " + xattr("trusted.overlay.opaque", "b'y'", "{at}/etc"), False, None),
    "xattr": ("mkdir {at}/etc && " + xattr("user.a", "b'b'", "{at}/etc"), False, False),
    "deep": ("mkdir -p {at}/dev/pts/x", False, False),
    "shadow": ("mkdir {at}/srv && cp /root/program {at}/srv/own", False, False),
}


UPPERS_TESTED = ("nothing", "made-file", "made-opaque", "hosts", "whiteout", "opaque-root", "shadow")


@pytest.mark.parametrize("upper", some(UPPERS, UPPERS_TESTED))
def test_what_is_in_the_upper_layer_counts(known: Known, upper: str) -> None:
    script, is_known, same = UPPERS[upper]
    if upper == "nothing":
        known.tree("uppers")
        known.sh(f"echo kept >{HOME}/uppers/etc/kept")
        known.start("uppers-0", "uppers")
    at = f"upper-{upper}"
    known.sh(f"mkdir {HOME}/{at}.upper && " + script.format(at=f"{HOME}/{at}.upper"))
    assert recalled(known.start(at, "uppers")) is is_known
    if same is not None:
        assert (known.digest(at) == known.digest("uppers-0")) is same


def test_an_image_without_mount_points_is_known(known: Known) -> None:
    """What crun makes for its mounts is marked as opaque by the overlay, and hides nothing."""
    known.sh(f"mkdir -p {HOME}/bare/bin && cp /root/program {HOME}/bare/bin/")
    assert not recalled(known.start("bare1", "bare"))
    assert known.sh(f"ls {HOME}/bare1.upper").split() == ["dev", "proc"]
    assert recalled(known.start("bare2", "bare"))
    assert known.digest("bare1") == known.digest("bare2")


def test_a_name_that_a_runtime_makes_hides_that_of_the_image(known: Known) -> None:
    known.tree("hides")
    known.sh(f"echo own >{HOME}/hides/etc/hosts")
    known.start("hides1", "hides")
    known.sh(f"mkdir -p {HOME}/hides2.upper/etc && : >{HOME}/hides2.upper/etc/hosts")
    assert not recalled(known.start("hides2", "hides"))
    assert known.digest("hides2") != known.digest("hides1")


def test_a_writer_of_before_keeps_a_layer_from_rest(known: Known) -> None:
    known.tree("writer")
    script = f"exec 9<>{HOME}/writer/srv/own; while [ ! -e {HOME}/writer.go ]; do sleep 0.05; done; echo late >&9"
    known.sh(f"({script}) >/dev/null 2>&1 & sleep 0.5")
    assert not recalled(known.start("writer1", "writer"))
    assert not recalled(known.start("writer2", "writer"))
    known.sh(f"touch {HOME}/writer.go; sleep 0.5; grep -q late {HOME}/writer/srv/own")
    assert not recalled(known.start("writer3", "writer"))
    assert known.digest("writer3") != known.digest("writer1")
    assert recalled(known.start("writer4", "writer"))


def test_other_options_are_another_image(known: Known) -> None:
    known.tree("options")
    known.start("options1", "options")
    assert not recalled(known.start("options2", "options", options=",redirect_dir=on"))
    for name, option in {"meta": "metacopy=on", "userxattr": "userxattr"}.items():
        for n in range(3):
            assert not recalled(known.start(f"options-{name}{n}", "options", options=f",{option}")), option
    known.sh(f"mkdir {HOME}/options.low && true")
    assert not recalled(known.start("options-ro1", "options:options.low", upper=False))
    assert recalled(known.start("options-ro2", "options:options.low", upper=False))


def test_an_overlay_from_before_is_walked(known: Known, detached: Callable[[], None]) -> None:
    known.tree("early")
    known.start("early0", "early")
    known.mount("early", f"{HOME}/early")
    detached()
    for _ in range(2):
        assert not recalled(known.run("early"))
    known.sh(f"umount {HOME}/early.root")
    assert not recalled(known.start("early1", "early"))
    assert recalled(known.start("early2", "early"))


@pytest.fixture
def detached(known: Known) -> Callable[[], None]:
    """Return a function that detaches the programs and attaches them again."""

    def again() -> None:
        loader = f"{measurers.DEPLOYED}/measurer"
        known.guest.run((loader, "detach", "--pin", measurers.PINS))
        known.guest.run((loader, "attach", "--mode", "image", "--pin", measurers.PINS))

    return again


def test_a_remount_forgets(known: Known) -> None:
    known.tree("remount")
    known.start("remount1", "remount")
    assert recalled(known.start("remount2", "remount"))
    known.sh("mount -o remount,rw /")
    assert not recalled(known.start("remount3", "remount"))


def test_a_layer_that_changes_below_a_container_is_a_violation(known: Known) -> None:
    known.tree("below")
    known.sh(
        f"cd {HOME}/below && cp --parents $(ldd /usr/bin/busybox | grep -o '/lib[^ ]*') . && cp /usr/bin/busybox bin/"
    )
    known.mount("below", f"{HOME}/below")
    bundle = known.configured("below", ("/bin/busybox", "sleep", "1000"))
    known.sh(f"crun run --detach --bundle {bundle} below >/dev/null 2>&1 </dev/null")
    try:
        # crun does not wait for the container's first instruction, before which the tree is walked.
        deadline = time.monotonic() + 60
        while "below" not in known.launches() and time.monotonic() < deadline:
            time.sleep(0.2)
        before = [one for one in known.log() if isinstance(one, ViolationEntry)]
        known.sh(f"echo other >{HOME}/below/srv/own; echo more >{HOME}/below/srv/in/1; sleep 1")
        found = [one for one in known.log() if isinstance(one, ViolationEntry)][len(before) :]
    finally:
        known.guest.run(("crun", "delete", "--force", "below"))
        known.sh(f"umount {HOME}/below.root")
    assert [(one.violation, one.path) for one in found] == [(LAYER, b"/srv/own")]
    assert found[0].container == known.launches()["below"].container

"""No false alarm: what containers do every day causes no violation, no loss and no unknown window.

All of it is a variant: ``make holes`` runs it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import robust
from attacks import KERNELS, attack, lost, payloads
from booted import Saves
from robust import CGROUP, Contained, Subject

from testbed import plugins, spec
from testbed.attest.entries.parse import LossEntry, StartEntry, ViolationEntry
from testbed.attest.finding import FindingKind
from testbed.lab import block, campaign
from testbed.lab.build import store
from testbed.lab.build.image import build_container_image
from testbed.lab.build.recipes import ContainerRecipe, load_containers
from testbed.record import Tier
from testbed.runtimes import Start

pytestmark = pytest.mark.variant
STARTS = {"crun": 80, "runc": 60, "podman": 60}
ROOTLESS = 10
SECONDS = 1500
# Programs that make code as they run, as Debian has them; and what rootless podman needs and the guest does not have.
JIT = ContainerRecipe(
    name="jit",
    summary="LuaJIT, Node and PyPy; newuidmap",
    suite="trixie",
    packages=("base-files", "luajit", "nodejs", "pypy3", "uidmap"),
    drop=("dev/*", "var", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/lib/x86_64-linux-gnu/gconv"),
    cmd=("/usr/bin/luajit",),
)
LUA = "local s = 0; for i = 1, 3000000 do s = (s + i) % 97 end; print(s)"
NODE = "let s = 0; for (let i = 1; i <= 3000000; i++) s = (s + i) % 97; console.log(s)"
PYPY = "s = 0\nfor i in range(1, 300001): s = (s + i) % 97\nprint(s)"
PROGRAMS = {"luajit": ("luajit", "-e", LUA), "node": ("node", "-e", NODE), "pypy": ("pypy3", "-c", PYPY)}
# Runs in the guest: one start after the other.
RUN = """
import json, os, subprocess, sys
for start in json.load(sys.stdin):
    for path, text in start["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text)
    for command in (*start["before"], start["run"], *start["after"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
"""
# A package that has a program and runs it when it is installed, in a container that is the guest's own files.
INSTALL = r"""
set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin
printf 'Package: quiet\nVersion: 1\nArchitecture: all\n' >/tmp/p/DEBIAN/control
printf 'Maintainer: x <x@localhost>\nDescription: x\n' >>/tmp/p/DEBIAN/control
printf '#!/bin/sh\nset -e\nquiet\n' >/tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
cp /usr/bin/true /tmp/p/usr/bin/quiet
dpkg-deb --build --root-owner-group /tmp/p /tmp/quiet.deb
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt
apt-get -o APT::Sandbox::User=root install -y /tmp/quiet.deb
quiet
apt-get -o APT::Sandbox::User=root install -y --reinstall /tmp/quiet.deb
apt-get -o APT::Sandbox::User=root purge -y quiet
"""
# Runs in the guest: a user who may start containers.
ROOTLESS_USER = """
cp {root}/usr/bin/newuidmap {root}/usr/bin/newgidmap /usr/bin/
cp -n {root}/usr/lib/x86_64-linux-gnu/libsubid.so.* /usr/lib/x86_64-linux-gnu/
chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap
useradd --create-home --shell /bin/sh someone
echo someone:100000:65536 | tee /etc/subuid >/etc/subgid
mkdir -p /run/user/someone
chown someone:someone /run/user/someone
chmod 644 {archive}
"""
EXPERIMENT = """
name = "quiet"
question = "is ordinary work quiet?"
tier = "tcg"
measurers = ["none", "container-image"]
workloads = ["archive", "compile", "mmap", "nginx", "postgres", "python-start", "redis", "shell-script"]
blocks = 1
warmups = 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Subject):
    """With podman's image ``tools``, and one of programs that make code as they run."""

    image: str
    jit: str

    @classmethod
    def of(cls, subject: Subject, image: str, jit: str) -> Quiet:
        return cls(
            **{field.name: getattr(subject, field.name) for field in dataclasses.fields(Subject)}, image=image, jit=jit
        )

    def start_each(self, runtime: str, count: int) -> None:
        """Start so many containers, one after the other."""
        found = plugins.runtime(runtime)
        where = found.locate(self.guest, self.image)
        ids = (Contained(argv=()).id for _ in range(count))
        starts = [Start(id=it, image=where, argv=("/usr/bin/sha256sum", "/etc/passwd"), cgroup=CGROUP) for it in ids]
        steps = [dataclasses.asdict(found.steps(start)) for start in starts]
        self.guest.run(("python3", "-c", RUN), input=json.dumps(steps).encode(), timeout=SECONDS)


@pytest.fixture(scope="module", params=KERNELS)
def subject(request: pytest.FixtureRequest, saves: Saves, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quiet]:
    wish = spec.Experiment(
        name="quiet", question="is it?", kernels=(request.param,), measurers=("none",), workloads=("tools",)
    )
    tools, jit = (build_container_image(one, print) for one in (load_containers()["tools"], JIT))
    parts = campaign.build_parts(request.param, (tools, jit), wish, Tier.TCG, print)
    with robust.subject(saves, parts, tmp_path_factory.mktemp(request.param)) as opened:
        for words in store.mount_words():
            opened.guest.run(words)
        block.load(opened.guest, "podman", tools)
        where = plugins.runtime("crun").locate(opened.guest, block.reference(jit))
        yield Quiet.of(opened, block.reference(tools), where)


@contextmanager
def quiet(subject: Subject, *, containers: int | None = None) -> Iterator[None]:
    """Check that there is neither a violation nor a loss meanwhile, and perhaps that so many containers started."""
    before, had = lost(subject), len(payloads(subject))
    yield
    assert lost(subject) == before
    added = payloads(subject)[had:]
    assert [it for it in added if isinstance(it, ViolationEntry | LossEntry)] == []
    assert containers in {None, len([it for it in added if isinstance(it, StartEntry)])}


@pytest.mark.parametrize("runtime", list(STARTS))
def test_starts(subject: Quiet, runtime: str) -> None:
    with quiet(subject, containers=STARTS[runtime]):
        subject.start_each(runtime, STARTS[runtime])


def test_rootless_starts(subject: Quiet) -> None:
    guest = subject.guest
    archive = "/var/tmp/tools.tar"
    guest.run(("podman", "save", "--quiet", "-o", archive, subject.image), timeout=300)
    guest.run(("sh", "-ec", ROOTLESS_USER.format(root=subject.jit, archive=archive)))
    podman = (
        "runuser",
        "-u",
        "someone",
        "--",
        "env",
        "--chdir=/home/someone",
        "HOME=/home/someone",
        "XDG_RUNTIME_DIR=/run/user/someone",
        "podman",
    )
    options = ("--cgroup-manager=cgroupfs",)
    guest.run((*podman, *options, "load", "--quiet", "-i", archive), timeout=300)
    image = guest.run((*podman, "images", "--quiet")).text.strip()
    with quiet(subject, containers=ROOTLESS):
        for _ in range(ROOTLESS):
            words = ("run", "--rm", "--network=none", "--cgroups=disabled", image, "/usr/bin/true")
            guest.run((*podman, *options, *words), timeout=120)


def test_a_package_is_installed(subject: Quiet) -> None:
    one = Contained(argv=("/bin/sh", "-c", INSTALL), rights=("CAP_SETFCAP",))
    with quiet(subject, containers=1):
        subject.start(one)
    ran = {it.path for it in subject.files(one)}
    assert {b"/usr/bin/apt-get", b"/usr/bin/dpkg", b"/usr/bin/quiet", b"/var/lib/dpkg/info/quiet.postinst"} <= ran


def plain(config: dict[str, Any]) -> None:
    """Ask for no language, as the image has none."""
    config["process"]["env"].append("LC_ALL=C")


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_that_make_code(subject: Quiet, name: str) -> None:
    program, *words = PROGRAMS[name]
    one = Contained(argv=(f"/usr/bin/{program}", *words), root=subject.jit, changes=(plain,))
    with quiet(subject, containers=1):
        said = subject.start(one).text
    assert 0 <= int(said) < 97
    assert subject.files(one)


@pytest.mark.parametrize(
    "call",
    [
        "quiet.profiled({place}, 20)",
        "quiet.shared_by_many({place}, 1030)",
        "quiet.read_meanwhile({place}, 20)",
        "quiet.opened_in_vain({place}, 200)",
        "memories.anonymous(200)",
    ],
)
def test_programs_that_look_at_code(subject: Quiet, call: str) -> None:
    place = subject.place(call.partition("(")[0])
    with quiet(subject, containers=1):
        subject.start(attack(call.format(place=repr(place))))


def test_it_is_all_believed(subject: Quiet) -> None:
    _, verdict = subject.judged()
    # What a container writes and runs in its own tree is in memory here: its upper layer is on a tmpfs.
    assert {it.kind for it in verdict.findings} <= {FindingKind.NOT_BOUND}
    assert subject.splats() == []


def test_workloads_are_quiet(lab: object, tmp_path: Path) -> None:
    experiment = tmp_path / "quiet.toml"
    experiment.write_text(EXPERIMENT)
    words = [sys.executable, "-m", "testbed.cli", "run", str(experiment), "--results", str(tmp_path / "results")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Correctness OK" in done.stdout

"""Kernels: what a recipe must say, what a configuration must have, and what is made of a bootstrapped root."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from testbed.errors import BuildError, CommandError, HostError, SpecError
from testbed.guest import Completed
from testbed.lab.build import debian, kernel, recipes

RECIPE = recipes.KernelRecipe(
    name="test",
    summary="a kernel",
    suite="trixie",
    image="linux-image",
    headers="linux-headers",
    packages=("make",),
    initramfs=("virtio_blk", "ext4"),
    options={"CONFIG_IMA": "y", "CONFIG_BPF_LSM": "y", "CONFIG_MODULE_SIG_FORCE": "n"},
    lsm=("bpf",),
)
CONFIG = """
# CONFIG_MODULE_SIG_FORCE is not set
CONFIG_IMA=y
CONFIG_BPF_LSM=y
CONFIG_LSM="landlock,lockdown,yama,integrity,bpf"
"""


def test_a_kernel_with_all_options_passes() -> None:
    kernel.check_options(RECIPE, "6.0", CONFIG)


@pytest.mark.parametrize(
    ("there", "instead", "complaint"),
    [
        ("CONFIG_IMA=y", "# CONFIG_IMA is not set", "CONFIG_IMA: expected y, got n"),
        ("CONFIG_IMA=y", "", "CONFIG_IMA: expected y, got n"),
        ("CONFIG_IMA=y", "CONFIG_IMA=m", "CONFIG_IMA: expected y, got m"),
        ("# CONFIG_MODULE_SIG_FORCE is not set", "CONFIG_MODULE_SIG_FORCE=y", "expected n, got y"),
    ],
)
def test_an_option_that_is_not_met_is_named(there: str, instead: str, complaint: str) -> None:
    with pytest.raises(BuildError) as error:
        kernel.check_options(RECIPE, "6.0", CONFIG.replace(there, instead))
    assert complaint in error.value.message
    assert "test (6.0)" in error.value.message
    assert "BPF" not in error.value.hint


@pytest.mark.parametrize(("there", "instead"), [("CONFIG_BPF_LSM=y", ""), (",bpf", ""), (",bpf", ",bpfx")])
def test_a_kernel_without_bpf_lsm_is_called_so(there: str, instead: str) -> None:
    with pytest.raises(BuildError) as error:
        kernel.check_options(RECIPE, "6.0", CONFIG.replace(there, instead))
    assert "a kernel without BPF LSM" in error.value.hint


def test_the_rows_of_this_repository_can_be_read() -> None:
    rows = recipes.load_kernels()
    assert rows["debian-6.1"].suite == "bookworm"
    assert rows["debian-6.12"].suite == "trixie"
    for row in rows.values():
        assert row.options["CONFIG_BPF_LSM"] == "y"
        assert "bpf" in row.lsm
    assert set(recipes.load_guests()) == {"trixie"}
    assert "tools" in recipes.load_containers()


def test_rows_that_move_take_their_kernel_from_a_suite_that_moves() -> None:
    rows = recipes.load_kernels()
    beside = rows["debian-backports"].beside
    assert beside is not None
    assert (rows["debian-backports"].suite, beside.suite) == ("trixie", "trixie-backports")
    assert rows["debian-forky"].suite == "forky"
    assert all(rows[name].outdated for name in ("debian-backports", "debian-forky"))
    assert not any(rows[name].outdated for name in ("debian-6.1", "debian-6.12"))


def test_on_what_a_kernel_boots_has_no_part_in_what_is_built() -> None:
    assert kernel._key(RECIPE.model_copy(update={"processor": ("cx16",)})) == kernel._key(RECIPE)


LINES = """deb [signed-by=/k] http://mirror/debian trixie main
deb http://mirror/debian trixie-updates main
"""
PARAGRAPHS = """Types: deb
URIs: http://mirror/debian
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: http://mirror/security
Suites: trixie-security
Components: main
"""


def set_up(tmp_path: Path, sources: dict[str, str], suite: str = "trixie") -> list[int]:
    """Run the setup as mmdebstrap does; return the exit statuses."""
    for name in ("sources.list.d", "preferences.d"):
        (tmp_path / "etc/apt" / name).mkdir(parents=True)
    for name, text in sources.items():
        (tmp_path / "etc/apt" / name).write_text(text)
    hooks = debian.suite_beside(suite, f"{suite}-backports", ("linux-*", "bpftool"))
    return [subprocess.run(["sh", "-c", hook, "hook", str(tmp_path)], check=False).returncode for hook in hooks]


def test_another_suite_is_added_where_the_first_is(tmp_path: Path) -> None:
    assert set_up(tmp_path, {"sources.list": LINES, "sources.list.d/0.sources": PARAGRAPHS}) == [0, 0, 0]
    apt = tmp_path / "etc/apt"
    first, *rest = LINES.splitlines()
    added = first.replace("trixie", "trixie-backports")
    assert (apt / "sources.list").read_text().splitlines() == [first, added, *rest]
    suites = "Suites: trixie trixie-updates"
    assert (apt / "sources.list.d/0.sources").read_text() == PARAGRAPHS.replace(suites, f"{suites} trixie-backports")
    assert (apt / "preferences.d/trixie-backports").read_text().splitlines() == [
        "Package: linux-* bpftool",
        "Pin: release n=trixie-backports",
        "Pin-Priority: 990",
    ]


def test_sources_that_lack_the_suite_are_no_silent_success(tmp_path: Path) -> None:
    assert set_up(tmp_path, {"sources.list": LINES.replace("trixie", "sid")})[1] == 1


def test_a_sentence_does_not_change_a_key_and_everything_else_does() -> None:
    told = RECIPE.model_copy(update={"summary": "another sentence", "name": "renamed"})
    assert kernel._key(told) == kernel._key(RECIPE)
    beside = recipes.Beside(suite="sid", packages=("linux-*",))
    changes: dict[str, object] = {
        "suite": "sid",
        "packages": ("gcc",),
        "options": {},
        "initramfs": (),
        "beside": beside,
        "outdated": True,
    }
    for name, value in changes.items():
        assert kernel._key(RECIPE.model_copy(update={name: value})) != kernel._key(RECIPE)


ROW = 'summary = "s"\nsuite = "trixie"\npackages = []\ninitramfs = []\noptions = {}\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("suite = ", "not TOML"),
        ('summary = "s"\nsuite = "trixie"', "initramfs: Field required"),
        (ROW, "image and headers: expected two packages, or local files in debs"),
        (f'{ROW}image = "i"\nheaders = "h"\ndebs = ["a.deb"]', "debs: expected no image and headers beside it"),
        ('suites = "trixie"', "suites: Extra inputs are not permitted, got 'trixie'"),
    ],
)
def test_a_wrong_row_is_told_with_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "mine.toml").write_text(text)
    with pytest.raises(SpecError) as error:
        recipes.load_kernels(tmp_path)
    assert complaint in error.value.message
    assert "mine.toml" in error.value.message


def pack(target: Path, files: dict[str, str]) -> None:
    with tarfile.open(target, "w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))


ROOT = {
    "boot/vmlinuz-6.0": "kernel",
    "boot/initrd.img-6.0": "initramfs",
    "boot/config-6.0": CONFIG,
    "usr/lib/modules/6.0/modules.dep.bin": "",
    "usr/lib/modules/6.0/kernel/a.ko": "module",
    "usr/lib/modules/6.0/build": "a link to the headers",
    "var/lib/dpkg/status": "Package: linux-image\nStatus: install ok installed\nVersion: 6.0-1\n\n",
}


@pytest.fixture
def bootstrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand in for mmdebstrap: what it packs can be changed by the test."""
    files = dict(ROOT)
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "_NEEDED", 0)
    monkeypatch.setattr(debian, "bootstrap", lambda _suite, _packages, target, **_: pack(target, files))
    return files


def test_a_kernel_is_taken_apart_and_kept(bootstrapped: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel.cached_kernel(RECIPE) is None
    steps: list[str] = []
    made = kernel.build_kernel(RECIPE, steps.append)
    assert made.release == "6.0"
    assert made.vmlinuz.read_text() == "kernel"
    assert made.initrd.read_text() == "initramfs"
    assert (made.build_root / "usr/lib/modules/6.0/build").exists()
    assert not (made.build_root.parent / "root.tar").exists()
    with tarfile.open(made.modules) as tar:
        assert [name for name in tar.getnames() if "6.0/" in name] == [
            "usr/lib/modules/6.0/kernel",
            "usr/lib/modules/6.0/kernel/a.ko",
            "usr/lib/modules/6.0/modules.dep.bin",
        ]
    assert steps
    monkeypatch.setattr(debian, "bootstrap", lambda *_, **__: pytest.fail("built again"))
    assert kernel.build_kernel(RECIPE) == kernel.cached_kernel(RECIPE) == made


@pytest.mark.parametrize("name", ["boot/vmlinuz-6.0", "boot/initrd.img-6.0", "usr/lib/modules/6.0/kernel/a.ko"])
def test_the_digest_covers_what_boots(bootstrapped: dict[str, str], name: str) -> None:
    before = kernel.build_kernel(RECIPE).digest
    bootstrapped[name] = "changed"
    assert kernel.build_kernel(RECIPE.model_copy(update={"packages": ("gcc",)})).digest != before


def test_the_build_digest_covers_the_versions(bootstrapped: dict[str, str]) -> None:
    before = kernel.build_kernel(RECIPE)
    bootstrapped["var/lib/dpkg/status"] += "Package: clang\nVersion: 20\n\n"
    after = kernel.build_kernel(RECIPE.model_copy(update={"packages": ("gcc",)}))
    assert after.digest == before.digest
    assert after.build_digest != before.build_digest


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"boot/vmlinuz-6.0": None}, "expected one kernel from linux-image, got []"),
        ({"boot/vmlinuz-7.0": "another"}, "got ['6.0', '7.0']"),
        ({"usr/lib/modules/6.0/modules.dep.bin": None}, "no modules.dep.bin"),
        ({"boot/config-6.0": ""}, "CONFIG_IMA: expected y, got n"),
    ],
)
def test_a_root_without_a_usable_kernel_is_refused(
    bootstrapped: dict[str, str], change: dict[str, str | None], complaint: str
) -> None:
    for name, text in change.items():
        bootstrapped.pop(name, None)
        if text is not None:
            bootstrapped[name] = text
    with pytest.raises(BuildError) as error:
        kernel.build_kernel(RECIPE)
    assert complaint in error.value.message
    assert kernel.cached_kernel(RECIPE) is None


def test_the_command_of_mmdebstrap() -> None:
    argv = debian.bootstrap_argv("trixie", ("a", "b"), Path("/x/root.tar"), variant="minbase", hooks=("hook",))
    assert argv[0] == "mmdebstrap"
    assert argv[-2:] == ("trixie", "/x/root.tar")
    assert {"--variant=minbase", "--include=a,b", "--essential-hook=hook", "--format=tar"} <= set(argv)
    assert not any(word.startswith("--extract-hook") for word in argv)
    # No mirror is named: the user's own, or Debian's default.
    assert not any("://" in word for word in argv)
    assert not any("Valid-Until" in word or word.startswith("--setup-hook") for word in argv)


def test_a_suite_that_moves_may_be_outdated_and_is_set_up_first() -> None:
    argv = debian.bootstrap_argv(
        "sid", ("a",), Path("/x/root.tar"), variant="minbase", hooks=("late",), setup=("early",), outdated=True
    )
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in argv
    assert argv.index("--setup-hook=early") < argv.index("--essential-hook=late")


def test_the_initramfs_gets_the_modules_and_our_files() -> None:
    hooks = kernel.initramfs_hooks(("virtio_blk", "ext4"))
    assert any(hook.startswith("copy-in ") and "initramfs/hooks" in hook for hook in hooks)
    assert any("virtio_blk ext4 >" in hook for hook in hooks)
    made = {path.relative_to(kernel.INITRAMFS).as_posix() for path in kernel.INITRAMFS.glob("hooks/*")}
    (chmod,) = [hook for hook in hooks if hook.startswith("chmod 0755 ")]
    assert made
    assert all(f'"$1/etc/initramfs-tools/{name}"' in chmod for name in made)


def test_a_clock_that_is_behind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise CommandError("E: Release file for trixie/InRelease is not valid yet (invalid for another 3h 2min)")

    monkeypatch.setattr("testbed.shell.run", refuse)
    with pytest.raises(BuildError, match="trixie") as error:
        debian.bootstrap("trixie", ("a",), tmp_path / "root.tar")
    assert error.value.hint.startswith("the clock of this machine is behind")


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.shell.which", lambda _: None)
    with pytest.raises(HostError) as error:
        debian.bootstrap("trixie", ("a",), tmp_path / "root.tar")
    assert error.value.hint == "sudo apt-get install mmdebstrap"
    with pytest.raises(HostError) as error:
        debian.enter(tmp_path, ("true",))
    assert error.value.hint == "sudo apt-get install bubblewrap"


def test_a_failed_bootstrap_keeps_what_mmdebstrap_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("exit status 25: mmdebstrap\nE: Unable to locate package nonsense")

    monkeypatch.setattr(debian, "_need", lambda _: None)
    monkeypatch.setattr("testbed.shell.run", fail)
    with pytest.raises(BuildError, match=r"trixie.*\n.*Unable to locate package nonsense"):
        debian.bootstrap("trixie", ("nonsense",), tmp_path / "root.tar")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"bwrap: No permissions to create a new namespace", HostError),
        (b"bwrap: execvp mke2fs: No such file or directory", CommandError),
        (b"cc: error", CommandError),
    ],
)
def test_the_sandbox_and_what_runs_in_it_fail_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, kind: type[Exception]
) -> None:
    def run(argv: Sequence[str], **_: object) -> Completed:
        return Completed(argv=tuple(argv), code=1, out=b"", err=said, seconds=0)

    monkeypatch.setattr(debian, "_need", lambda _: None)
    monkeypatch.setattr("testbed.shell.run", run)
    with pytest.raises(kind, match=said.decode()):
        debian.enter(tmp_path, ("sh",))


def test_what_runs_in_a_root_sees_no_network_and_writes_nowhere_else(tmp_path: Path) -> None:
    argv = debian.enter_argv(Path("/root"), ("make",), read={Path("/s"): "/src"}, write={Path("/o"): "/out"})
    text = " ".join(argv)
    assert "--unshare-all" in argv
    assert "--clearenv" in argv
    assert "--ro-bind /root /" in text
    assert "--ro-bind /s /src" in text
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "--bind"] == ["/o"]
    assert argv[-2:] == ("--", "make")
    assert "--uid" not in argv
    owned = debian.enter_argv(Path("/root"), ("make",), read={}, write={}, owner=70)
    assert "--unshare-user --uid 70 --gid 70" in " ".join(owned)


def test_an_unpacked_root_has_no_devices_and_no_setuid_programs(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        for name, kind, mode in (("./bin/su", tarfile.REGTYPE, 0o4755), ("./dev/null", tarfile.CHRTYPE, 0o666)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            tar.addfile(info)
    debian.unpack(tmp_path / "root.tar", tmp_path / "root")
    assert (tmp_path / "root/bin/su").stat().st_mode & 0o7777 == 0o755
    assert list((tmp_path / "root/dev").iterdir()) == []
    assert (tmp_path / "root/src").is_dir()

"""Kernels that a person built: what a directory must have, which options are missing, what is put into a root."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed import cli, shell
from testbed.errors import BuildError, SpecError
from testbed.guest import Completed
from testbed.lab import campaign
from testbed.lab.build import debian, kernel, local, recipes
from testbed.spec import Experiment

PATTERN = recipes.load_kernels()[local.PATTERN]
RELEASE = "6.13.0-mine"
DRIVERS = "".join(f"CONFIG_{name}=m\n" for name in ("VIRTIO_PCI", "VIRTIO_BLK", "VIRTIO_NET", "EXT4_FS", "OVERLAY_FS"))
CONFIG = "".join(f"{name}={value}\n" for name, value in PATTERN.options.items() if value != "n")
CONFIG += f'CONFIG_LSM="landlock,bpf"\n{DRIVERS}CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_LZ4=y\n'


def fill(at: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a compiled tree: what of it is looked at."""
    at = tmp_path / "My Kernel"
    fill(
        at,
        {
            ".config": CONFIG,
            "Kbuild": "",
            "include/config/kernel.release": f"{RELEASE}\n",
            "arch/x86/boot/bzImage": "image",
            "Module.symvers": "",
            "modules.order": "kernel/fs/a.o\ndrivers/b.ko\n",
            "kernel/fs/a.ko": "a",
            "drivers/b.ko": "b",
            "scripts/package/install-extmod-build": "",
        },
    )
    return at


@pytest.fixture
def debs(tmp_path: Path) -> Path:
    at = tmp_path / "out"
    names = ("image-6.13", "headers-6.13", "image-6.13-dbg", "libc-dev")
    fill(at, {f"linux-{name}_6.13-1_amd64.deb": name for name in names})
    return at


def unpack(archive: Path, to: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="fully_trusted")


class Host:
    """Stand in for make, dpkg-deb and mmdebstrap: notes their command lines and leaves what they would."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.last: tuple[str, ...] = ()
        self.packages: tuple[str, ...] = ()
        self.image = True
        self.initrd = True

    def run(self, argv: Sequence[str | Path], **_: object) -> Completed:
        words = tuple(map(str, argv))
        self.ran.append(words)
        if words[0] == "make" and words[-1] == "modules_install":
            to = Path(next(word for word in words if word.startswith("INSTALL_MOD_PATH=")).partition("=")[2])
            fill(to, {f"lib/modules/{RELEASE}/kernel/a.ko": "a", f"lib/modules/{RELEASE}/modules.dep.bin": ""})
            (to / f"lib/modules/{RELEASE}/build").symlink_to("/a/tree/of/this/host")
        elif words[-1] == "run-command":
            fill(Path(words[-2].split()[-1]), {".config": CONFIG, "Module.symvers": "", "scripts/mod/modpost": ""})
        elif words[0] == "dpkg-deb" and "image" in words[2] and self.image:
            boot = {f"boot/vmlinuz-{RELEASE}": "image", f"boot/config-{RELEASE}": CONFIG}
            fill(Path(words[3]), boot | {f"lib/modules/{RELEASE}/modules.dep.bin": ""})
        elif words[0] == "tar":
            with tarfile.open(words[-2], "w") as tar:
                tar.add(words[2], ".")
        return Completed(argv=words, code=0, out=b"", err=b"", seconds=0)

    def bootstrap(
        self, _suite: str, packages: tuple[str, ...], target: Path, *, last: tuple[str, ...], **_: object
    ) -> None:
        """Put the staged files and an initramfs into a root, as the hooks would."""
        self.packages, self.last = packages, last
        shutil.copyfile(last[0].split()[1], target)
        with tarfile.open(target, "a") as tar:
            made = {f"boot/initrd.img-{RELEASE}": "initrd"} if self.initrd else {}
            for name, text in (made | {"var/lib/dpkg/status": "Package: a\nVersion: 1\n\n"}).items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "_NEEDED", 0)
    monkeypatch.setattr(debian, "bootstrap", made.bootstrap)
    monkeypatch.setattr(debian, "unpack", unpack)
    monkeypatch.setattr(shell, "run", made.run)
    return made


def test_a_compiled_tree_is_built_into_a_kernel(tree: Path, host: Host) -> None:
    recipe = local.recipe(tree, PATTERN)
    assert (recipe.name, recipe.tree, recipe.image, recipe.local) == ("local-my-kernel", str(tree), "", True)
    made = kernel.build_kernel(recipe)
    assert (made.release, made.vmlinuz.read_text(), made.initrd.read_text()) == (RELEASE, "image", "initrd")
    assert (made.build_root / f"usr/lib/modules/{RELEASE}/build").readlink() == Path(
        f"/usr/src/linux-headers-{RELEASE}"
    )
    assert (made.build_root / f"usr/src/linux-headers-{RELEASE}/.config").read_text() == CONFIG
    with tarfile.open(made.modules) as tar:
        assert f"usr/lib/modules/{RELEASE}/kernel/a.ko" in tar.getnames()
        assert not any(name.endswith("/build") for name in tar.getnames())
    assert {"gcc", "clang"} <= set(host.packages)
    assert not any(package.startswith("linux-image") for package in host.packages)
    assert host.last[1:] == (f'chroot "$1" depmod {RELEASE}', f'chroot "$1" update-initramfs -c -k {RELEASE}')
    assert sorted(path.name for path in made.vmlinuz.parent.iterdir()) == sorted(
        ["config", "initrd", "meta.json", "modules.tar", "root", "vmlinuz"]
    )
    assert kernel.package_version(made).startswith("local ")


def test_a_kernel_without_an_initramfs_gets_an_empty_one(tree: Path, host: Host) -> None:
    config = CONFIG.replace("=m", "=y").replace("CONFIG_BLK_DEV_INITRD=y\n", "")
    (tree / ".config").write_text(config)
    host.initrd = False
    made = kernel.build_kernel(local.recipe(tree, PATTERN))
    assert len(host.last) == 2
    archive = made.initrd.read_bytes()
    # The header of newc has a magic number and 13 fields of 8 digits; the last archive member is called so.
    assert (archive[:6], archive[110:121], int(archive[94:102], 16)) == (b"070701", b"TRAILER!!!\0", 11)
    assert int(archive[54:62], 16) == 0, "no content"


def test_packages_of_bindeb_pkg_are_built_into_a_kernel(debs: Path, host: Host) -> None:
    recipe = local.recipe(debs, PATTERN)
    assert [Path(deb).name for deb in recipe.debs] == [
        "linux-image-6.13_6.13-1_amd64.deb",
        "linux-headers-6.13_6.13-1_amd64.deb",
    ]
    made = kernel.build_kernel(recipe)
    assert made.release == RELEASE
    assert (made.build_root / f"usr/lib/modules/{RELEASE}").is_dir()
    assert not (made.build_root / "lib").exists(), "the link of a merged /usr must stay one"
    assert kernel.build_kernel(recipe) == made
    host.image = False
    (debs / "linux-image-6.13_6.13-1_amd64.deb").write_text("another")
    with pytest.raises(BuildError, match=r"expected one boot/vmlinuz-\*, got \[\]"):
        kernel.build_kernel(recipe)


def test_the_content_decides_and_not_the_place(tree: Path, tmp_path: Path) -> None:
    before = kernel._key(local.recipe(tree, PATTERN))
    moved = tmp_path / "elsewhere"
    tree.rename(moved)
    recipe = local.recipe(moved, PATTERN)
    assert kernel._key(recipe) == before
    for name in ("arch/x86/boot/bzImage", "drivers/b.ko", "kernel/fs/a.ko", ".config"):
        text = (moved / name).read_text()
        (moved / name).write_text(f"{text}#")
        assert kernel._key(recipe) != before, name
        (moved / name).write_text(text)
    assert kernel._key(recipe) == before


@pytest.mark.parametrize(
    ("there", "instead", "complaint"),
    [
        ("CONFIG_BPF_LSM=y", "# CONFIG_BPF_LSM is not set", "CONFIG_BPF_LSM: expected y, got n"),
        ("CONFIG_TCG_CRB=y", "CONFIG_TCG_CRB=m", "CONFIG_TCG_CRB: expected y, got m"),
        ("CONFIG_VIRTIO_BLK=m\n", "", "CONFIG_VIRTIO_BLK: expected y or m, got n"),
        ("CONFIG_OVERLAY_FS=m\n", "", "CONFIG_OVERLAY_FS: expected y or m, got n"),
        ("CONFIG_RD_LZ4=y", "", "CONFIG_RD_LZ4 or CONFIG_RD_GZIP: expected y, got n"),
        ("CONFIG_BLK_DEV_INITRD=y", "", "CONFIG_EXT4_FS: expected y, as CONFIG_BLK_DEV_INITRD is not set, got m"),
        ('"landlock,bpf"', '"landlock"', "CONFIG_LSM: expected 'bpf' in it, got 'landlock'"),
    ],
)
def test_options_that_are_missing_are_named_before_anything_is_built(
    tree: Path, there: str, instead: str, complaint: str
) -> None:
    assert there in CONFIG
    (tree / ".config").write_text(CONFIG.replace(there, instead))
    with pytest.raises(BuildError) as caught:
        local.recipe(tree, PATTERN)
    assert complaint in caught.value.message
    assert RELEASE in caught.value.message
    assert "build the kernel again" in caught.value.hint


def test_a_tree_that_cannot_be_used_says_what_is_missing(tree: Path) -> None:
    (tree / "scripts/package/install-extmod-build").unlink()
    with pytest.raises(SpecError, match="its kernel has no scripts/package/install-extmod-build") as caught:
        local.recipe(tree, PATTERN)
    assert "make bindeb-pkg" in caught.value.hint
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(SpecError, match="expected a compiled kernel tree, got none: no arch/x86/boot/bzImage"):
        local.recipe(tree, PATTERN)


def test_a_directory_without_one_kernel_says_what_it_has(debs: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a directory, got none"):
        local.recipe(tmp_path / "absent", PATTERN)
    (debs / "linux-image-6.12_6.12-1_amd64.deb").touch()
    with pytest.raises(SpecError, match=r"got linux-image-6\.12_6\.12-1_amd64\.deb, linux-image-6\.13"):
        local.recipe(debs, PATTERN)
    (debs / "linux-headers-6.13_6.13-1_amd64.deb").unlink()
    (debs / "linux-image-6.12_6.12-1_amd64.deb").unlink()
    with pytest.raises(SpecError, match=r"expected one package linux-headers-\*\.deb, got none"):
        local.recipe(debs, PATTERN)


def test_a_row_names_packages_relative_to_itself(tmp_path: Path) -> None:
    row = 'summary = "s"\nsuite = "trixie"\npackages = ["kmod"]\ninitramfs = []\noptions = {}\ndebs = ["../a.deb"]\n'
    fill(tmp_path, {"kernels/mine.toml": row})
    recipe = recipes.load_kernels(tmp_path)["mine"]
    assert recipe.debs == (str(tmp_path / "kernels/../a.deb"),)
    assert kernel.cached_kernel(recipe) is None, "a list of what is built is no place to complain"
    with pytest.raises(SpecError, match=r"a\.deb: no such file"):
        kernel.build_kernel(recipe)
    (tmp_path / "a.deb").touch()
    assert kernel.cached_kernel(recipe) is None


def test_an_experiment_gets_the_kernel_instead_of_its_own(tree: Path) -> None:
    wish = Experiment(name="x", question="?", measurers=("none",), workloads=("tools",))
    chosen, known = campaign.with_kernel(wish, tree)
    assert chosen.kernels == ("local-my-kernel",)
    assert known["local-my-kernel"].tree == str(tree)
    assert campaign.with_kernel(wish, None)[0] == wish


def test_the_command_takes_a_kernel(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\nquestion = "?"\nmeasurers = ["none"]\nworkloads = ["tools"]\n')
    words = ["plan", str(path), "--tier", "tcg", "--order", "--results", str(tmp_path)]
    done = CliRunner().invoke(cli.main, [*words, "--kernel-path", str(tree)])
    assert "(local-my-kernel)" in done.stdout, done.output
    (tree / "Module.symvers").unlink()
    done = CliRunner().invoke(cli.main, [*words, "--kernel-path", str(tree)])
    assert (done.exit_code, "no Module.symvers" in done.stderr) == (2, True)
